"""Our language models in transformers' Auto classes."""

from topographic.models.modeling_topoformer import register_topoformer
from topographic.models.modeling_topolm import register_topolm

__all__ = ["register"]


def register() -> None:
    """Teach transformers' Auto classes "topolm" and "topoformer"; calling it again changes nothing."""
    register_topolm()
    register_topoformer()
