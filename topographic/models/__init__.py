"""Our own decoder, in Hugging Face form."""
