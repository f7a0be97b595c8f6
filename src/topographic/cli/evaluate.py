"""`topo evaluate`: everything a paper measures, on a trained run or on any Hugging Face causal model."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from topographic.evaluation.image_subject import AnyBench, ImageBench, trained_on
from topographic.evaluation.parts.windows import FEWEST_WINDOW_WORDS
from topographic.evaluation.results import load_findings, save_findings
from topographic.evaluation.subject import Bench, Choices
from topographic.evaluation.suites import IMAGE_PAPERS, IMAGE_SITES, IMAGE_SUITES, PAPERS, SITES, SUITES, Part
from topographic.objectives.config import SmoothnessConfig
from topographic.objectives.weight_terms import WeightSheet
from topographic.pages.findings import write_findings
from topographic.recording import find_sites, own_layout
from topographic.runs.folder import require_finished
from topographic.runs.loading import is_vision_model, load_model, load_vision_model, sites_and_layout
from topographic.runs.own_sheets import own_sections, own_weight_sheets, smooth_sites
from topographic.sheets import LAYOUTS, Layout, Sheet
from topographic.storage import save_json

__all__ = ["EvaluateCommand", "evaluate", "evaluation_folder"]

# a look at everything in about a minute on a small model; p values go down to 1 / 21 only
_QUICK_DRAWS, _QUICK_LESION_DRAWS, _QUICK_SEQUENCES = 20, 3, 3


@dataclass(frozen=True)
class EvaluateCommand:
    """Measure a model as the papers do, without the faults of their scripts, beside the published numbers."""

    run: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face causal model; or of a classifier of
    images, for the suite toponets."""
    suite: Literal["topolm", "toponets"] = "topolm"
    """What to measure; topolm: language network, clusters, profiles, word classes, minimal pairs, lesions; toponets:
    smooth weights and responses, dimensionality, pruning and downsampling, selectivity; integration windows of language
    models."""
    quick: bool = False
    """Few draws, one lesion, few sequences: a look, not a result."""
    stimuli: str | None = None
    """Folder of the published stimulus sets; our own sets by default."""
    pairs: str = "own"
    """Minimal pairs: "own", or a .jsonl file or a folder of them in BLiMP's layout."""
    pairs_per_paradigm: int | None = None
    """Only the first minimal pairs of each paradigm; all by default."""
    syntaxgym: str | None = None
    """SyntaxGym suites to measure as well: a .json file or a folder of them; none by default."""
    text: str | None = None
    """File with one passage a line for perplexity and word swaps; the good sentences of the pairs, and the sentences
    of the localizer, by default."""
    sites: list[str] | str | None = None
    """Wildcard over module names, or several in brackets; by default the sheets a topographic model carries, or those
    its run names; for the suite toponets the layers whose weights its run makes smooth or watches (smoothness.sites and
    sheets, also of a control), else the first layer of every MLP, or the convolutions of a ResNet."""
    layout: Literal["grid", "permuted_grid"] | None = None
    """Layout of sites for which the model carries no sheet; by default as the run was trained with, or grid where sites
    are named here."""
    fwhm_mm: list[float] = field(default_factory=lambda: [0.0, 2.0])
    """Gaussian readouts before the contrasts, full widths at half maximum; 0 for none, 2 in the paper."""
    n_draws: int = 200
    """Draws of each null."""
    cluster_threshold: float = 3.0
    """t above which units form the clusters that are tested; chosen before looking."""
    lesion_fractions: list[float] = field(default_factory=lambda: [0.01, 0.05])
    """Shares of all units that lesions silence, the most language-selective ones."""
    lesion_draws: int = 20
    """Control lesions of each kind."""
    lesion_mode: Literal["zero", "mean", "resample"] = "zero"
    """What takes the place of silenced activity."""
    lesion_pairs: int = 20
    """Minimal pairs per paradigm that are measured under lesions and after compression."""
    removed: list[float] = field(default_factory=lambda: [0.2, 0.5, 0.8])
    """Shares of the weights that pruning and downsampling take away."""
    permuted_draws: int = 20
    """Permutations of the units before downsampling: what it costs where units lie anywhere."""
    window_words: int = 40
    """Words in the sequences in which words are swapped."""
    window_sequences: int = 20
    """Sequences in which words are swapped, if there is as much text."""
    pooling: Literal["mean", "last", "sum", "max", "class"] = "mean"
    """How an item's tokens become one response: mean, last or sum; of an image's places mean, max, or class token."""
    n_images: int = 80
    """Images of each category that a vision model is shown."""
    test_set: str | None = None
    """Images that a vision model should recognise after compression: mnist, fashion_mnist or cifar10, or "none"; those
    it was trained on by default, if its run says so."""
    n_test_images: int = 2000
    """As many test images at most."""
    image_folders: dict[str, str] | None = None
    """For mnist, fashion_mnist, cifar10 and orl_faces, folders of their files in place of the packages."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Seed of nulls, samples and controls."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""
    out: str | None = None
    """Folder for the evaluation; RUN/evaluation, or RUN/evaluation_toponets, by default, needed for a model that is no
    run."""

    def __post_init__(self) -> None:
        """Refuse numbers nothing can be measured with."""
        if not self.fwhm_mm or not all(math.isfinite(width) and width >= 0 for width in self.fwhm_mm):
            raise ValueError(
                f"fwhm_mm={self.fwhm_mm}; expected widths in mm of 0 (no readout) or above, such as [0, 2]"
            )
        if len(set(self.fwhm_mm)) < len(self.fwhm_mm):
            raise ValueError(f"fwhm_mm={self.fwhm_mm} names a width twice; give each once")
        if self.n_draws < 19 or self.lesion_draws < 1 or self.lesion_pairs < 1:
            raise ValueError(
                f"n_draws={self.n_draws}, lesion_draws={self.lesion_draws}, lesion_pairs={self.lesion_pairs}; expected "
                "at least 19 draws of a null (with fewer no p reaches .05), 1 control lesion and 1 pair per paradigm"
            )
        if self.pairs_per_paradigm is not None and self.pairs_per_paradigm < 1:
            raise ValueError(
                f"pairs_per_paradigm={self.pairs_per_paradigm}; expected at least 1, or none for all pairs"
            )
        if not all(0 < fraction <= 0.5 for fraction in self.lesion_fractions):
            raise ValueError(
                f"lesion_fractions={self.lesion_fractions}; expected shares above 0 and at most 0.5, such as [0.01], "
                "because as many other units serve as controls"
            )
        if not self.removed or not all(0 < share < 1 for share in self.removed):
            raise ValueError(f"removed={self.removed}; expected shares above 0 and below 1, such as [0.2, 0.5, 0.8]")
        if self.permuted_draws < 2 or self.window_words < FEWEST_WINDOW_WORDS or self.window_sequences < 1:
            raise ValueError(
                f"permuted_draws={self.permuted_draws}, window_words={self.window_words}, window_sequences="
                f"{self.window_sequences}; expected at least 2 draws, {FEWEST_WINDOW_WORDS} words (a window has "
                "four lags or more) and 1 sequence"
            )
        if self.n_images < 2 or self.n_test_images < 1:
            raise ValueError(
                f"n_images={self.n_images}, n_test_images={self.n_test_images}; expected at least 2 images of each "
                "category and 1 to test with"
            )
        if not self.cluster_threshold > 0:
            raise ValueError(f"cluster_threshold={self.cluster_threshold}; expected a t above 0, such as 3")

    def choices(self) -> Choices:
        """The numbers that decide what is measured."""
        fractions = self.lesion_fractions[:1] if self.quick else self.lesion_fractions
        return Choices(
            fwhm_mm=tuple(self.fwhm_mm),
            n_draws=min(self.n_draws, _QUICK_DRAWS) if self.quick else self.n_draws,
            cluster_threshold=self.cluster_threshold,
            lesion_fractions=tuple(fractions),
            lesion_draws=min(self.lesion_draws, _QUICK_LESION_DRAWS) if self.quick else self.lesion_draws,
            lesion_mode=self.lesion_mode,
            lesion_pairs=self.lesion_pairs,
            removed=tuple(sorted(self.removed)),
            permuted_draws=min(self.permuted_draws, _QUICK_LESION_DRAWS) if self.quick else self.permuted_draws,
            window_words=self.window_words,
            window_sequences=min(self.window_sequences, _QUICK_SEQUENCES) if self.quick else self.window_sequences,
            batch_size=self.batch_size,
            seed=self.seed,
        )


def evaluate(command: EvaluateCommand) -> Path:
    """Measure every part that is not there yet, then write the page."""
    run = Path(command.run)
    require_finished(run)
    if command.out is None and not (run / "model").is_dir():
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where results go: --out FOLDER")
    folder = Path(command.out) if command.out is not None else run / evaluation_folder(command.suite)
    is_vision = is_vision_model(command.run)
    suites = IMAGE_SUITES if is_vision else SUITES
    if command.suite not in suites:
        raise ValueError(f"{command.run} is a vision model and suite={command.suite!r} for texts; use suite=toponets")
    smoothness = own_sections(command.run).smoothness
    bench = _image_bench(command, smoothness) if is_vision else _bench(command, folder, smoothness)
    choices = replace(command.choices(), weight_sheets=_own_weight_sheets(command, bench, smoothness))
    material, parts = bench.material(), {}
    wanted = {name: part for name, part in suites[command.suite].items() if not _is_left_out(part, command)}
    bar = tqdm(wanted.items(), desc="evaluate", unit="part", disable=None)
    for name, part in bar:
        bar.set_postfix_str(name)
        key = _key(bench, part, choices, material)
        findings = load_findings(folder / name, key)
        if findings is None:
            save_findings(folder / name, part.measure(bench, choices), key)
            findings = load_findings(folder / name, key)
        parts[name] = findings
    lead = _image_lead(command, bench) if isinstance(bench, ImageBench) else _lead(command, bench)
    if command.sites is None and command.suite in SITES and any(one.kind != "input" for one in choices.weight_sheets):
        lead += " The layers are the run's own: those its config.yaml names in the section smoothness."
    made = {"suite": command.suite, "lead": lead, "parts": list(parts), "command": asdict(command)}
    save_json(folder / "evaluation.json", {**made, **bench.identity, "material": material})
    title = f"Evaluation of {run.resolve().name if run.exists() else command.run}"
    _, page = write_findings(folder, title, lead, parts)
    print(page)
    return page


def evaluation_folder(suite: str) -> str:
    """Name of the folder of an evaluation in its run."""
    return "evaluation" if suite == "topolm" else f"evaluation_{suite}"


def _bench(command: EvaluateCommand, folder: Path, smoothness: SmoothnessConfig | None) -> Bench:
    model, tokenizer = load_model(command.run, command.tokenizer)
    sites, layout = _sites_and_layout(command, model, smoothness)
    return Bench(
        model=model,
        tokenizer=tokenizer,
        sites=sites,
        layout=layout,
        stimuli_folder=command.stimuli,
        pairs=command.pairs,
        text=command.text,
        n_pairs=command.pairs_per_paradigm,
        syntaxgym=command.syntaxgym,
        cache_folder=folder / "networks",
        recording={"pooling": command.pooling, "batch_size": command.batch_size},
    )


def _image_bench(command: EvaluateCommand, smoothness: SmoothnessConfig | None) -> ImageBench:
    model, prepare = load_vision_model(command.run)
    sites, layout = _smooth_layers(command, model, smoothness, IMAGE_SITES[command.suite])
    name, folder = trained_on(command.run)
    test_set = command.test_set or name
    folders = {**({name: folder} if name and folder else {}), **(command.image_folders or {})}
    return ImageBench(
        model=model,
        prepare=prepare,
        sites=sites,
        layout=layout,
        n_images=command.n_images,
        test_set=None if test_set == "none" else test_set,
        n_test_images=command.n_test_images,
        folders=folders,
        recording={"pooling": command.pooling, "batch_size": command.batch_size},
        seed=command.seed,
    )


def _sites_and_layout(
    command: EvaluateCommand, model: Any, smoothness: SmoothnessConfig | None
) -> tuple[str | list[str], Layout | Mapping[str, Sheet]]:
    if command.suite in SITES:
        return _smooth_layers(command, model, smoothness, SITES[command.suite])
    return sites_and_layout(model, command.run, command.sites, command.layout)


def _smooth_layers(
    command: EvaluateCommand,
    model: Any,
    smoothness: SmoothnessConfig | None,
    default: Callable[[Any], str | list[str]],
) -> tuple[str | list[str], Layout]:
    """The layers that are named, or whose weights the run makes smooth or watches, or those of the papers."""
    named = own_layout(model, LAYOUTS[command.layout or "grid"])
    if command.sites is not None:
        return command.sites, named
    own = None if smoothness is None else smooth_sites(model, smoothness)
    if own is None:
        return default(model), named
    return own if command.layout is None else (own[0], named)


def _own_weight_sheets(
    command: EvaluateCommand, bench: AnyBench, smoothness: SmoothnessConfig | None
) -> tuple[WeightSheet, ...]:
    """How the run lays out and blurs weights, at the layers that are looked at."""
    own = [] if smoothness is None else own_weight_sheets(bench.model, smoothness)
    wanted = None if command.sites is None else find_sites(bench.model, command.sites)
    return tuple(one for one in own if wanted is None or one.sites in wanted)


def _is_left_out(part: Part, command: EvaluateCommand) -> bool:
    return part.option is not None and getattr(command, part.option) is None


def _key(bench: AnyBench, part: Part, choices: Choices, material: dict[str, str]) -> dict[str, Any]:
    """Everything the numbers of a part depend on."""
    chosen = asdict(choices)
    return {
        **bench.identity,
        "pooling": bench.recording["pooling"],
        "sheets": {site: sheet.checksum for site, sheet in bench.sheets.items()},
        "choices": {name: chosen[name] for name in part.choices},
        "material": {role: material[role] for role in part.material if role in material},
    }


def _image_lead(command: EvaluateCommand, bench: ImageBench) -> str:
    sizes = sorted({sheet.n_units for sheet in bench.sheets.values()})
    tested = "no test images" if bench.test is None else f"{len(bench.test)} test images of {bench.test_set}"
    quick = " A quick look: few draws, so p values are coarse." if command.quick else ""
    return (
        f"{type(bench.model).__name__}, weights {bench.identity['weights'][:12]}, {len(bench.sheets)} sheets of "
        f"{' or '.join(map(str, sizes))} units, {bench.n_images} images of each of five categories, {tested}. "
        f"Published numbers are those of {IMAGE_PAPERS[command.suite]}.{quick}"
    )


def _lead(command: EvaluateCommand, bench: Bench) -> str:
    sizes = sorted({sheet.n_units for sheet in bench.sheets.values()})
    kind = "published stimulus sets" if command.stimuli else "this library's own stimulus sets"
    measured = SUITES[command.suite].items()
    left_out = [f"{name} (--{part.option})" for name, part in measured if _is_left_out(part, command)]
    pairs = f"minimal pairs: {command.pairs}"
    pairs += f", the first {command.pairs_per_paradigm} of each paradigm" if command.pairs_per_paradigm else ""
    sentences = [
        f"{type(bench.model).__name__}, weights {bench.identity['weights'][:12]}, {len(bench.sheets)} sheets of "
        f"{' or '.join(map(str, sizes))} units, {kind}, {pairs}.",
        "Its weights are numbers of few bits, read from a .gguf file." if command.run.endswith(".gguf") else "",
        f"Not measured, because not asked for: {', '.join(left_out)}." if left_out else "",
        f"Published numbers are those of {PAPERS[command.suite]}.",
        "A quick look: few draws, so p values are coarse." if command.quick else "",
    ]
    return " ".join(filter(None, sentences))
