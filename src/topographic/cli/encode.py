"""`topo encode`: layers of a model against scans of people who hear or read stories."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["EncodeCommand", "encode"]


@dataclass(frozen=True)
class EncodeCommand:
    """Hold layers of a model against brain data, each beside its controls and its null."""

    model: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face model with a fast tokenizer."""
    data: str = "synthetic"
    """Folder of a data set: arrays of your own, LeBel (ds003020), Narratives (ds002345) or Le Petit Prince (ds003643);
    or synthetic, a made-up subject who understands as the model's middle layer does."""
    task: str | None = None
    """Only this story, task or run; all by default."""
    subject: str | None = None
    """Which subject of the folder; may be left out where there is but one."""
    out: str = "runs/encode"
    """Folder for the page, its tables and what is kept of the model's states."""
    depths: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0])
    """Layers as fractions of depth, from 0, the embedding layer, to 1, the last block."""
    context: Literal["half", "sliding", "restart", "word"] = "half"
    """What stands before a word when the model reads it."""
    n_tokens: int = 256
    """Length of that context in tokens."""
    delays: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    """Delays of features in scans."""
    downsampling: Literal["lanczos", "sinc", "rect", "average", "sum", "last"] = "lanczos"
    """How words become features of scans."""
    trim_start: int = 5
    """Scans left out at the beginning of every run."""
    trim_end: int = 5
    """Scans left out at its end."""
    motion_parameters: Literal[0, 6, 24] = 6
    """Columns of head motion among the controls, where the data have confounds."""
    censor_above_mm: float | None = None
    """Leave out scans of a larger framewise displacement; none by default."""
    vectors: str | None = None
    """Folder of static word vectors, measured by themselves beside the layers."""
    n_draws: int = 199
    """Draws of the null, in each of which everything is fitted again."""
    seed: int = 0
    """Of the untrained weights, the null and the synthetic subject."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""

    def __post_init__(self) -> None:
        """Refuse what nothing can be measured with."""
        if not self.depths or not all(0 <= depth <= 1 for depth in self.depths):
            raise ValueError(f"depths={self.depths}; expected fractions from 0 (embedding) to 1 (last block)")
        if not self.delays:
            raise ValueError("delays=[]; expected delays in scans, such as [1,2,3,4]")
        if self.n_draws < 19:
            raise ValueError(f"n_draws={self.n_draws}; expected at least 19 draws (199 give p down to .005)")


def encode(command: EncodeCommand) -> Path:
    """Read, fit, test, write tables and the page."""
    print(f"reading {command.model}", flush=True)  # first of all: torch takes seconds to load
    from topographic.brain import encode_stories, load_story_data, synthetic_recording
    from topographic.pages.encoding import write_encoding
    from topographic.recording import load_vectors
    from topographic.runs.loading import load_model
    from topographic.storage import locked, save_json, write_atomically

    out = Path(command.out)
    # data first: a folder that cannot be read is said before a model is loaded
    given = {"subject": command.subject, "task": command.task}
    recording = None if command.data == "synthetic" else load_story_data(command.data, **given)
    model, tokenizer = load_model(command.model, command.tokenizer)
    reading = {"context": command.context, "n_tokens": command.n_tokens, "folder": out / "states"}
    with locked(out):
        if recording is None:
            recording = synthetic_recording(model, tokenizer, seed=command.seed, **reading)
        print(recording)
        encoding = encode_stories(
            model,
            tokenizer,
            recording,
            depths=command.depths,
            delays=command.delays,
            method=command.downsampling,
            trim_scans=(command.trim_start, command.trim_end),
            vectors=None if command.vectors is None else load_vectors(command.vectors),
            motion_parameters=command.motion_parameters,
            censor_above_mm=command.censor_above_mm,
            n_draws=command.n_draws,
            seed=command.seed,
            **reading,
        )
        for name, table in (("layers", encoding.layers), ("alone", encoding.alone), ("targets", encoding.targets)):
            with write_atomically(out / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)
        for number, fitted in enumerate(encoding.encodings.values()):
            fitted.save(out / f"layer_{number:02}.safetensors")
        record = {"command": asdict(command), "about": encoding.about, "notes": list(encoding.notes)}
        save_json(out / "encoding.json", record)
        page = write_encoding(out / "index.html", encoding, f"{Path(command.model).name} and {recording.name}")
    for _, row in encoding.layers.iterrows():
        print(
            f"depth {row['depth']:g}: r {row['r']:.3f} (untrained {row['r untrained']:.3f}, controls "
            f"{row['r controls']:.3f}), R2 added {row['R2 added by the layer']:+.3f}"
        )
    print(page)
    print(f"next: open {page}")
    return page
