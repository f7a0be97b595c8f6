"""From any source, a run, a folder, a file or a name, to a model and what reads for it."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from topographic.recording import Preparation, own_layout
from topographic.runs.own_sheets import own_sections, trained_sites
from topographic.sheets import LAYOUTS, Layout, Sheet

__all__ = ["is_vision_model", "load_model", "load_tokenizer", "load_vision_model", "sites_and_layout"]


def load_model(run: str | Path, tokenizer: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a run folder, or any Hugging Face causal model.

    Parameters
    ----------
    run : str or Path
        Run folder, model folder, hub name, or a .gguf file of a kind that transformers can read.
    tokenizer : str, optional
        Name or folder of a tokenizer, for models that have none beside them.

    Returns
    -------
    model, tokenizer
        The model in float32 and evaluation mode, on the accelerator if there is one. Weights of a .gguf file are
        de-quantized: they are numbers of few bits, kept in many.

    Raises
    ------
    ValueError
        If the run is not finished, the folder holds no model, the model has no tokenizer, or the tokenizer knows more
        tokens than the model.
    FileNotFoundError, ImportError
        If the .gguf file is not there, or the extra that reads it is missing.
    """
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    from topographic.models import register

    register()
    run = Path(run)
    if run.is_dir() and not (run / "config.json").exists() and not (run / "model").is_dir():
        raise ValueError(f"{run} holds no model; finish its training first: topo train {run / 'config.yaml'} run={run}")
    source = str(run / "model") if (run / "model").is_dir() else str(run)
    options: dict[str, Any] = {}
    if run.suffix == ".gguf":
        _require_gguf(run)
        source, options = str(run.parent), {"gguf_file": run.name}
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options).eval()
    found = load_tokenizer(tokenizer, model.config.vocab_size) if tokenizer else load_tokenizer(source, **options)
    return nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu"), found


def load_tokenizer(source: str, n_tokens: int | None = None, **options: Any) -> Any:
    """A tokenizer, perhaps one that has to fit a model it does not come with.

    Parameters
    ----------
    source : str
        Name or folder of the tokenizer, or the folder of the model that it should lie in.
    n_tokens : int, optional
        How many tokens the model knows, for a tokenizer that does not come with it.
    **options
        For ``AutoTokenizer.from_pretrained``.

    Returns
    -------
    PreTrainedTokenizerBase
        The tokenizer.

    Raises
    ------
    ValueError
        If there is none, or it knows more tokens than the model.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError) as error:  # what is raised depends on which files are missing
        raise ValueError(
            f"no tokenizer can be read from {source} ({' '.join(str(error).split())[:120]} ...); name the one that the "
            "model was trained with: --tokenizer FOLDER_OR_NAME"
        ) from error
    if n_tokens is not None and len(tokenizer) > n_tokens:
        raise ValueError(
            f"tokenizer {source} knows {len(tokenizer)} tokens and the model {n_tokens}; give the one it was trained "
            "with"
        )
    return tokenizer


def _require_gguf(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"no file at {file}; expected a model in GGUF format")
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"reading {file.name} needs {' and '.join(missing)}; run `pip install 'topographic[gguf]'`")


def sites_and_layout(
    model: Any,
    run: str | Path,
    sites: list[str] | str | None = None,
    layout: str | None = None,
    *,
    default: Callable[[Any], list[str]] | None = None,
) -> tuple[str | list[str], Layout | Mapping[str, Sheet]]:
    """Sites and layout a command asks for, or the sheets the model carries, or those its run was trained with.

    Parameters
    ----------
    model : PreTrainedModel
        Any model.
    run : str or Path
        Where the model came from; a run folder's configuration says where its units lie.
    sites, layout : optional
        What was asked for.
    default : callable, optional
        Sites of a model for which nobody says.

    Returns
    -------
    sites : str or list of str
        Names or wildcards.
    layout : callable or mapping
        As `record` takes it.

    Raises
    ------
    ValueError
        If no sites are named, the model carries no sheets, its run names none and there is no default.
    """
    named = LAYOUTS[layout or "grid"]
    if sites is not None:
        return sites, own_layout(model, named)
    sheets = model.sheets() if hasattr(model, "sheets") else {}
    if sheets:
        return list(sheets), sheets
    own = trained_sites(model, own_sections(run))
    if own is not None:
        return own if layout is None else (own[0], named)
    if default is not None:
        return default(model), named
    raise ValueError(
        f"{type(model).__name__} carries no sheets; say which modules to lay out, for example "
        "sites='transformer.h.*.attn' layout=grid"
    )


def is_vision_model(run: str | Path) -> bool:
    """Whether it is a vision model."""
    folder = _model_folder(run)
    return (folder / "preprocessor_config.json").is_file() if folder.exists() else _is_classifier_on_hub(str(run))


def _is_classifier_on_hub(name: str) -> bool:
    from transformers import AutoConfig

    try:
        architectures = AutoConfig.from_pretrained(name).architectures
    except (OSError, ValueError):  # what loads the model says what is wrong with the name
        return False
    return any(one.endswith("ForImageClassification") for one in architectures or ())


def load_vision_model(run: str | Path) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Model of a run folder, or any classifier of images that transformers can read, and how it takes images.

    Parameters
    ----------
    run : str or Path
        Run folder, model folder or hub name.

    Returns
    -------
    model : PreTrainedModel
        In float32 and evaluation mode, on the accelerator if there is one.
    prepare : callable
        A `Preparation`, or the model's own image processor where that does more.
    """
    import torch
    from torch import nn
    from transformers import AutoModelForImageClassification

    from topographic.models import register_pixel_mlp

    register_pixel_mlp()
    folder = _model_folder(run)
    source = str(folder) if folder.is_dir() else str(run)
    model = AutoModelForImageClassification.from_pretrained(source, dtype=torch.float32).eval()
    try:
        prepare: Callable[[np.ndarray], Any] = Preparation.from_pretrained(source)
    except (FileNotFoundError, ValueError):
        prepare = _own_processor(source)
    return nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu"), prepare


def _own_processor(source: str) -> Callable[[np.ndarray], Any]:
    """The image processor that comes with a model, which crops or resizes in ways of its own."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(source, backend="pil")

    def prepare(pixels: np.ndarray) -> Any:
        coloured = [image.repeat(3, axis=2) if image.shape[2] == 1 else image for image in pixels]
        return processor(coloured, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    return prepare


def _model_folder(run: str | Path) -> Path:
    return Path(run) / "model" if (Path(run) / "model").is_dir() else Path(run)
