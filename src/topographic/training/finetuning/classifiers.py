"""A causal model as a classifier: one linear map that reads whole texts off their last token."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from topographic.training.finetuning.glue import Task

__all__ = ["ensure_pad", "load_classifier"]

PAD = "<|pad|>"


def load_classifier(
    source: str | Path,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dropout: float | None = 0.1,
    seed: int = 0,
    random_weights: bool = False,
) -> Any:
    """Load a causal model with a new linear map in place of its output layer.

    Parameters
    ----------
    source : str or Path
        Folder or hub name of any causal model that transformers also knows as a sequence classifier. For a TopoLM
        call `models.register` first.
    task : Task
        Decides how many outputs there are, and whether they are labels or a score.
    tokenizer : PreTrainedTokenizerBase
        The model's own; it is given a pad token if it has none of its own (`ensure_pad`).
    dropout : float, optional
        Every dropout of the model; None leaves them as they are.
    seed : int
        Seed of the linear map, and of all weights if they are random.
    random_weights : bool
        Take only the architecture, and the sheets if it carries any: a control for what the weights contribute.

    Returns
    -------
    PreTrainedModel
        The classifier in float32, in evaluation mode.

    Raises
    ------
    ValueError
        If there is no such model, no such classifier, or no dropout to set.
    """
    try:
        config = AutoConfig.from_pretrained(source)
    except Exception as error:
        raise ValueError(f"no model at {source} ({_one_line(error)}); give a run, a folder or a hub name") from error
    config.num_labels = task.n_outputs
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {name: number for number, name in enumerate(task.labels)}
    if dropout is not None:
        _set_dropout(config, dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = AutoModelForSequenceClassification.from_pretrained(source, config=config, dtype=torch.float32)
        except Exception as error:
            raise ValueError(
                f"{source} cannot be made a classifier ({_one_line(error)}); give a causal model that "
                "transformers.AutoModelForSequenceClassification can load"
            ) from error
        ensure_pad(model, tokenizer)
        if random_weights:
            model = _with_random_weights(model)
    return model.eval()


def ensure_pad(model: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Give tokenizer and model a pad token that is not the end of a text, where they have none.

    transformers' classifiers read the last token that is not the pad token. Where end-of-text serves as pad, as is the
    custom with causal models, they would pass over the end of the text and read the word before it.
    """
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    pad: Any = tokenizer.pad_token_id
    model.config.pad_token_id = pad
    return pad


def _set_dropout(config: Any, dropout: float) -> None:
    known = [name for name in _DROPOUTS if isinstance(getattr(config, name, None), float | int)]
    if not known:
        raise ValueError(
            f"{type(config).__name__} names no dropout; expected one of {', '.join(_DROPOUTS)}: set model.dropout=null"
        )
    for name in known:
        setattr(config, name, dropout)


def _with_random_weights(model: Any) -> Any:
    """The same architecture anew, its units where they were."""
    fresh = type(model)(model.config)
    if hasattr(model, "set_sheets"):
        fresh.set_sheets(model.sheets())
    return fresh


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


_DROPOUTS = (
    "dropout",
    "attention_dropout",
    "hidden_dropout",
    "activation_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
)
