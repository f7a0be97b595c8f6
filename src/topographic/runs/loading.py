"""From any source, a run, a folder, a file or a name, to a model and what reads for it."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from topographic.diffusion import DiffusionConfig, DiffusionModel
from topographic.layouts import Adaptors, ModelSource, is_layout, rebase
from topographic.models import load_whisper, register, register_vision
from topographic.models.ctranslate2 import whisper_extractor
from topographic.recording import Preparation, own_layout, suggested_sites, weights_checksum
from topographic.runs.own_sheets import own_sections, trained_sites
from topographic.runs.sources import Source, ctranslate2_file, found_source, said_briefly
from topographic.sheets import LAYOUTS, Layout, Sheet
from topographic.storage import load_json

__all__ = [
    "kind_of",
    "load",
    "load_diffusion_model",
    "load_model",
    "load_speech_encoder",
    "load_tokenizer",
    "load_vision_model",
    "pretrained",
    "sites_and_layout",
]

# what transformers, safetensors and json raise because of a file, or of a package that reads it
_FILE_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, StrictDataclassError)


def load(
    source: str | Path,
    tokenizer: str | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> tuple[Any, Any]:
    """A model of either kind and what reads for it, from any source.

    Parameters
    ----------
    source : str or Path
        Run folder, model folder, hub name, or a .gguf file.
    tokenizer, device, dtype : optional
        As in `load_model`.

    Returns
    -------
    model, reader
        As `load_model` returns them, of a vision model as `load_vision_model` does.

    Raises
    ------
    ValueError, OSError, ImportError
        As `load_model` and `load_vision_model`; also if a tokenizer is named for a vision model.

    Examples
    --------
    >>> load("runs/absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at runs/absent; correct the name
    """
    if kind_of(source) == "language":
        return load_model(source, tokenizer, device=device, dtype=dtype)
    if tokenizer is not None:
        raise ValueError(f"{source} is a vision model, which reads no text; leave out tokenizer={tokenizer!r}")
    return load_vision_model(source, device=device, dtype=dtype)


def load_model(
    source: str | Path,
    tokenizer: str | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> tuple[Any, Any]:
    """Model and tokenizer of a run folder, or any Hugging Face causal model.

    Parameters
    ----------
    source : str or Path
        Run folder, model folder, hub name, or a .gguf file of a kind that transformers can read; or the folder of a
        layout, which gives the model it was fitted on, with its adaptors in place for good.
        A Topoformer that finds masked tokens or labels texts is loaded as such, an encoder that was saved without a
        head (``BertModel``, as sentence encoders are) as it is, any other model as a causal one.
    tokenizer : str, optional
        Name or folder of a tokenizer, for models that have none beside them.
    device : str or torch.device, optional
        Where the model goes; the accelerator if there is one by default.
    dtype : str or torch.dtype, optional
        Of the weights, such as "bfloat16"; float32 by default.

    Returns
    -------
    model, tokenizer
        The model in evaluation mode. Weights of a .gguf file are de-quantized: they are numbers of few bits, kept in
        many.

    Raises
    ------
    ValueError
        If the run is not finished, the folder holds no model or a damaged one, the model has no tokenizer, the
        tokenizer knows more tokens than the model, or a layout was fitted on other weights.
    OSError, ImportError
        If there is nothing of that name, or the extra that reads a .gguf file is missing.

    Examples
    --------
    >>> load_model("runs/absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at runs/absent; correct the name
    """
    register()
    if is_layout(source):
        adaptors, own = _layout(source)
        model, reader = load_model(own.model, own.tokenizer if tokenizer is None else tokenizer, device=device)
        return _laid_out(model, source, adaptors, own, dtype), reader
    if Path(source).suffix == ".gguf":
        _require_gguf(Path(source))
    found = found_source(source)
    model = pretrained(_language_class(found), found, dtype=_dtype(dtype)).eval()
    reader = _tokenizer(found) if tokenizer is None else load_tokenizer(tokenizer, model.config.vocab_size)
    return _moved(model, device), reader


def _language_class(source: Source) -> Any:
    """What loads a language model: a Topoformer attends both ways or one way, and encoders come without a head."""
    if "gguf_file" in source.options:
        return AutoModelForCausalLM
    try:
        config = AutoConfig.from_pretrained(source.name, trust_remote_code=False, **source.options)
    except _FILE_ERRORS:  # what loads the model says what is wrong with its configuration
        return AutoModelForCausalLM
    if config.model_type == "topoformer":
        for one in config.architectures or ():
            for ending, factory in _TOPOFORMERS.items():
                if one.endswith(ending):
                    return factory
    bare = [one for one in config.architectures or () if one.endswith("Model")]
    is_encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return AutoModel if bare and is_encoder else AutoModelForCausalLM


_TOPOFORMERS = {
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForSequenceClassification": AutoModelForSequenceClassification,
}


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
    OSError
        If there is nothing of that name.

    Examples
    --------
    >>> load_tokenizer("./absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at absent; correct the name
    """
    if is_layout(source):
        own = _layout(source)[1]
        return load_tokenizer(own.tokenizer or own.model, n_tokens, **options)
    found = found_source(source, needs_model=False)
    tokenizer = _tokenizer(Source(found.name, {**found.options, **options}, found.folder))
    if n_tokens is not None and len(tokenizer) > n_tokens:
        raise ValueError(
            f"tokenizer {source} knows {len(tokenizer)} tokens and the model {n_tokens}; give the one it was trained "
            "with"
        )
    return tokenizer


def load_vision_model(
    source: str | Path, *, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Model of a run folder, or any classifier of images that transformers can read, and how it takes images.

    Parameters
    ----------
    source : str or Path
        Run folder, model folder or hub name.
    device, dtype : optional
        As in `load_model`.

    Returns
    -------
    model : PreTrainedModel
        In evaluation mode.
    prepare : callable
        A `Preparation`, or the model's own image processor where that does more.

    Raises
    ------
    ValueError
        If the folder holds no model or a damaged one, or nothing says how it takes images.
    OSError
        If there is nothing of that name.

    Examples
    --------
    >>> load_vision_model("runs/absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at runs/absent; correct the name
    """
    register_vision()
    if is_layout(source):
        adaptors, own = _layout(source)
        model, preparation = load_vision_model(own.model, device=device)
        return _laid_out(model, source, adaptors, own, dtype), preparation
    found = found_source(source)
    model = pretrained(AutoModelForImageClassification, found, dtype=_dtype(dtype)).eval()
    try:
        prepare: Callable[[np.ndarray], Any] = Preparation.from_pretrained(found.name)
    except (FileNotFoundError, ValueError):
        prepare = _own_processor(found)
    return _moved(model, device), prepare


def load_speech_encoder(
    source: str | Path, *, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> tuple[Any, Any]:
    """A speech encoder and how it takes sound, as `record_speech` wants them.

    Parameters
    ----------
    source : str or Path
        Model folder or hub name: wav2vec 2.0, HuBERT, WavLM, or Whisper, of which the decoder is left away; or a folder
        with a Whisper that CTranslate2 has written (``model.bin``).
    device, dtype : optional
        As in `load_model`.

    Returns
    -------
    model : PreTrainedModel
        In evaluation mode.
    extractor : feature extractor
        With its ``sampling_rate``.

    Raises
    ------
    ValueError
        If the folder holds no model or a damaged one, or nothing says how it takes sound.
    OSError
        If there is nothing of that name.

    Examples
    --------
    >>> load_speech_encoder("runs/absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at runs/absent; correct the name
    """
    if (file := ctranslate2_file(source)) is not None:
        whisper = load_whisper(file)
        return _moved(nn.Module.to(whisper.get_encoder(), _dtype(dtype)), device), whisper_extractor(whisper.config)
    found = found_source(source)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(found.name, trust_remote_code=False, **found.options)
    except (*_FILE_ERRORS, TypeError) as error:  # a TypeError where it is of another kind
        raise ValueError(
            f"{source} does not say how it takes sound ({said_briefly(error)}); expected a readable "
            "preprocessor_config.json beside a speech encoder: copy it there, or give another model"
        ) from error
    if not isinstance(getattr(extractor, "sampling_rate", None), int):
        raise ValueError(f"{source} takes no sound ({type(extractor).__name__}); give a speech encoder")
    model = pretrained(AutoModel, found, dtype=_dtype(dtype), kind="speech encoder")
    heard = model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model
    return _moved(heard.eval(), device), extractor


def load_diffusion_model(
    source: str | Path, *, device: str | torch.device | None = None
) -> tuple[DiffusionModel, Preparation]:
    """A diffusion model and how images were prepared for it.

    Parameters
    ----------
    source : str or Path
        Run folder or model folder.
    device : optional
        As in `load_model`.

    Returns
    -------
    model : DiffusionModel
        In evaluation mode.
    prepare : Preparation
        Its mean and scale lead back from samples to pixels.

    Raises
    ------
    ValueError
        If the folder holds another model, a damaged one, or one without its scheduler.
    OSError
        If there is nothing of that name.

    Examples
    --------
    >>> load_diffusion_model("runs/absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at runs/absent; correct the name
    """
    found = found_source(source)
    folder = Path(found.name)
    if not _is_diffusion(folder):
        raise ValueError(f"{source} holds no diffusion model; train one, as with recipes/protodiffusion/mnist.yaml")
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise ValueError(
            f"{source} has no scheduler/scheduler_config.json, which says how noise was added; copy the whole folder"
        )
    model = pretrained(DiffusionModel, found).eval()
    return _moved(model, device), Preparation.from_pretrained(found.name)


def _is_diffusion(folder: Path) -> bool:
    try:
        return load_json(folder / "config.json").get("model_type") == DiffusionConfig.model_type
    except (OSError, ValueError):  # what loads the model says what is wrong with its configuration
        return False


def kind_of(source: str | Path) -> Literal["language", "vision"]:
    """Whether a source is a language model or a vision model, without reading its weights.

    Parameters
    ----------
    source : str or Path
        As for `load_model` and `load_vision_model`.

    Returns
    -------
    {"language", "vision"}
        "vision" if it prepares images or is a classifier of images.

    Raises
    ------
    ValueError, OSError
        If there is no model of that name, as in `load_model`.

    Examples
    --------
    >>> kind_of("runs/absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder or file at runs/absent; correct the name
    """
    register_vision()
    if is_layout(source):
        return kind_of(_layout(source)[1].model)
    found = found_source(source)
    if "gguf_file" in found.options:
        return "language"
    if found.folder is not None and _is_diffusion(found.folder):
        raise ValueError(f"{source} is a diffusion model; `topo sample {source}` makes images with it")
    if found.folder is not None and (found.folder / "preprocessor_config.json").is_file():
        return "vision"
    try:
        architectures = AutoConfig.from_pretrained(found.name, trust_remote_code=False, **found.options).architectures
    except _FILE_ERRORS:  # what loads the model says what is wrong with its configuration
        return "language"
    return "vision" if any(one.endswith("ForImageClassification") for one in architectures or ()) else "language"


def pretrained(
    factory: Any,
    source: Source,
    *,
    dtype: torch.dtype = torch.float32,
    fresh_head: bool = False,
    kind: str | None = None,
    **options: Any,
) -> Any:
    """A model whose weights all come from its file; with ``fresh_head`` its last layer may be new.

    Nothing is read that could execute what is in it.
    """
    options |= {**source.options, "dtype": dtype, "trust_remote_code": False}
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    try:
        model, loaded = factory.from_pretrained(
            source.name, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    except SafetensorError as error:
        raise ValueError(
            f"the weights in {source.name} are truncated or no safetensors file ({said_briefly(error)}); copy or "
            "download them again"
        ) from error
    except _FILE_ERRORS as error:
        kinds = {AutoModelForImageClassification: "classifier of images", DiffusionModel: "diffusion model"}
        kind = kind or kinds.get(factory, "causal language model")
        raise ValueError(
            f"{source.name} cannot be read as a {kind} of transformers ({said_briefly(error)}); correct its files or "
            "give another model"
        ) from error
    if not fresh_head:
        _require_weights(model, loaded, source.name)
    return model


def _require_weights(model: nn.Module, loaded: Mapping[str, Any], name: str) -> None:
    """Refuse a model of which transformers has filled a part with random numbers."""
    misfits = sorted((key, tuple(in_file), tuple(wanted)) for key, in_file, wanted in loaded["mismatched_keys"])
    if misfits:
        key, in_file, wanted = misfits[0]
        more = f", as do {len(misfits) - 1} more" if len(misfits) > 1 else ""
        raise ValueError(
            f"{name}: {key} has shape {list(in_file)} in its file and {list(wanted)} by config.json{more}; they are of "
            "different models: copy both from one"
        )
    missing = sorted(set(loaded["missing_keys"]) & {key for key, _ in model.named_parameters()})
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} weights of a {type(model).__name__} are not in its file and would be random, the "
            f"first {missing[0]}; give the whole model"
        )


def _layout(folder: str | Path) -> tuple[Adaptors, ModelSource]:
    adaptors = Adaptors.load(folder)
    if adaptors.source is None:
        raise ValueError(
            f"the layout in {folder} names no model; save Adaptors(adaptors, ModelSource(...)), or load the model and "
            "use rebased(model, adaptors)"
        )
    return adaptors, adaptors.source


def _laid_out(model: Any, folder: str | Path, adaptors: Adaptors, own: ModelSource, dtype: Any) -> Any:
    """A model with its adaptors in place, and only then in the precision that is wanted."""
    if (found := weights_checksum(model)) != own.weights:
        raise ValueError(
            f"the layout in {folder} was fitted on other weights ({own.weights[:12]}) than {own.model} has now "
            f"({found[:12]}); give it that model back, or lay this one out: topo layout {own.model}"
        )
    return nn.Module.to(rebase(model, adaptors, any_weights=True), _dtype(dtype))


def _tokenizer(source: Source) -> Any:
    advice = "name the one that the model was trained with: --tokenizer FOLDER_OR_NAME"
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name, trust_remote_code=False, **source.options)
    except _FILE_ERRORS as error:  # what is raised depends on which files are missing
        raise ValueError(f"no tokenizer can be read from {source.name} ({said_briefly(error)}); {advice}") from error
    # without its files transformers makes one that knows no words
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ValueError(f"no tokenizer can be read from {source.name} (there are no files of one); {advice}")
    return tokenizer


def _own_processor(source: Source) -> Callable[[np.ndarray], Any]:
    """The image processor that comes with a model, which crops or resizes in ways of its own."""
    try:
        processor = AutoImageProcessor.from_pretrained(
            source.name, backend="pil", trust_remote_code=False, **source.options
        )
    except _FILE_ERRORS as error:
        raise ValueError(
            f"{source.name} does not say how it takes images ({said_briefly(error)}); expected a readable "
            "preprocessor_config.json beside the model: copy it there"
        ) from error

    def prepare(pixels: np.ndarray) -> Any:
        coloured = [image.repeat(3, axis=2) if image.shape[2] == 1 else image for image in pixels]
        return processor(coloured, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    return prepare


def _moved(model: Any, device: str | torch.device | None) -> Any:
    return nn.Module.to(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else torch.float32 if dtype is None else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype={dtype!r}; expected a type of weights, such as 'float32', 'bfloat16' or 'float16'")
    return found


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

    Examples
    --------
    >>> from topographic.models import TopoLMForCausalLM, preset
    >>> model = TopoLMForCausalLM(preset("tiny", n_layer=1))
    >>> sites, layout = sites_and_layout(model, "no run")
    >>> sites
    ['transformer.h.0.attn_sheet', 'transformer.h.0.mlp_sheet']
    >>> sites_and_layout(model, "no run", sites="transformer.h.*.mlp")[0]
    'transformer.h.*.mlp'
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
        f"sites='{suggested_sites(model)}' layout=grid"
    )
