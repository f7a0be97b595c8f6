"""`topo trajectory`: how models grow, checkpoint by checkpoint."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from topographic.evaluation.choices import Choices, Shown

__all__ = ["TrajectoryCommand", "trajectory"]


@dataclass(frozen=True)
class TrajectoryCommand:
    """Measure every checkpoint of every series; the same command goes on where it was interrupted."""

    sources: list[str] = field(default_factory=list)
    """Runs that were trained with training.save_at; or, with revisions, names on the hub or folders that hold a folder
    for each revision. {size} in them stands for each of sizes. Names that differ in a last -NUMBER are seeds of one."""
    out: str = "runs/trajectory"
    """Folder for the page, its tables, and what is kept of every checkpoint."""
    sizes: list[str] | None = None
    """Put in the place of {size}, such as [70m, 160m]."""
    revisions: list[str] | None = None
    """Names of revisions in the order of training, each ending with its number of steps, such as step512."""
    tokens_per_step: int | None = None
    """Tokens of one step, where there are revisions."""
    n_units: int = 128
    """Language-selective units chosen at every checkpoint; a tenth of all where there are fewer than ten times as
    many."""
    text: str | None = None
    """File of held-out text, one passage a line, for perplexity and next-word accuracy; the good sentences of the
    minimal pairs by default."""
    pairs: str = "own"
    """Minimal pairs: "own", or a .jsonl file or a folder of them in BLiMP's layout."""
    pairs_per_paradigm: int | None = None
    """Only the first minimal pairs of each paradigm; all by default."""
    syntaxgym: str | None = None
    """SyntaxGym suites: a .json file or a folder of them; none by default."""
    data: str | None = None
    """Folder with corpora measured word by word or sentence by sentence: reading times, potentials, averages of fMRI;
    none by default."""
    functional: str | None = None
    """Folder of task definitions of lm-evaluation-harness on local files, for functional competence: arc_easy,
    arc_challenge, hellaswag, piqa, winogrande, social_iqa, as many of them as there are; none by default."""
    items_per_task: int | None = None
    """Only the first items of each of those tasks; all by default."""
    word_folds: int = 10
    """Sets of sentences that are held out in turn."""
    n_draws: int = 200
    """Draws of each null at every checkpoint."""
    n_bootstrap: int = 1999
    """Draws of blocks of checkpoints, for the intervals of R2."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Of nulls, untrained weights, random units and blocks."""

    def __post_init__(self) -> None:
        """Refuse what no series can be made of."""
        if not self.sources:
            raise ValueError("no series given; expected runs with checkpoints in time: topo trajectory runs/small-*")
        with_size = any("{size}" in source for source in self.sources)
        if with_size != (self.sizes is not None):
            raise ValueError(
                f"sizes={self.sizes} with sources={self.sources}; expected both {{size}} in a source and sizes=[...], "
                "or neither"
            )
        if self.n_bootstrap < 99:
            raise ValueError(f"n_bootstrap={self.n_bootstrap}; expected at least 99 draws")
        if self.n_units < 1:
            raise ValueError(f"n_units={self.n_units}; expected at least 1 unit")
        if self.items_per_task is not None and self.items_per_task < 1:
            raise ValueError(f"items_per_task={self.items_per_task}; expected at least 1 item, or none for all")
        self.shown(), self.choices()

    def named(self) -> list[str]:
        """Sources with every size in its place."""
        sized = [[one.replace("{size}", size) for size in self.sizes or [""]] for one in self.sources]
        return list(dict.fromkeys(name for names in sized for name in names))

    def shown(self) -> Shown:
        """What every checkpoint is shown."""
        names = ("text", "pairs", "pairs_per_paradigm", "syntaxgym", "data", "batch_size")
        return Shown(**{name: getattr(self, name) for name in names})

    def choices(self) -> Choices:
        """With which numbers."""
        return Choices(word_folds=self.word_folds, n_draws=self.n_draws, seed=self.seed)


def trajectory(command: TrajectoryCommand) -> Path:
    """Measure what is missing, write tables, figure and page."""
    print(f"reading {command.sources[0]}", flush=True)  # first of all: torch takes seconds to load
    from topographic.pages.findings import write_findings
    from topographic.sweeps.series import series_of
    from topographic.sweeps.trajectory import measure_trajectories
    from topographic.sweeps.trajectory_parts import Watched

    series = series_of(command.named(), command.revisions, tokens_per_step=command.tokens_per_step)
    watched = Watched(command.shown(), command.choices(), command.n_units, command.functional, command.items_per_task)
    lead, parts = measure_trajectories(series, command.out, watched, n_bootstrap=command.n_bootstrap)
    write = functools.partial(write_findings, name="trajectory_page")
    _, page = write(command.out, "Trajectories", lead, parts)
    print(page)
    print(f"next: open {page}")
    return page
