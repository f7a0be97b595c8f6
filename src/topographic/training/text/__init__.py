"""Text: corpora, tokenizers, packed tokens."""
