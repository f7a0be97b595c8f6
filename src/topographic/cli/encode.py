"""`topo encode`: layers of a model against scans of people who hear or read stories."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from topographic.brain import StoryEncoding

__all__ = ["EncodeCommand", "encode"]


@dataclass(frozen=True)
class EncodeCommand:
    """Hold layers of a model against brain data, each beside its controls and its null."""

    model: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face model with a fast tokenizer."""
    data: str = "synthetic"
    """Folder of a data set: arrays of your own, of one subject or a folder for each, LeBel (ds003020), Narratives
    (ds002345) or Le Petit Prince (ds003643); or synthetic, a made-up subject who understands as the middle layer of
    the model does."""
    task: str | None = None
    """Only this story, task or run; all by default."""
    subject: str | list[str] | None = None
    """Which subject of the folder; may be left out where there is but one. Several in brackets, or all: each is encoded
    into a folder of its own, kept there, and a page of the group beside these."""
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
    speech: str | None = None
    """Folder or name of a speech encoder (wav2vec 2.0, HuBERT, Whisper, also as CTranslate2 keeps it) whose layers are
    measured as well, where the data have the sound of every run as a WAV file."""
    speech_window_s: float = 16.0
    """Seconds of sound that it hears at once."""
    speech_stride_s: float = 0.1
    """Seconds from the end of one such window to that of the next."""
    speech_pooling: Literal["last", "mean"] = "last"
    """The last frame of a window, or the mean over its frames."""
    n_draws: int = 199
    """Draws of the null, in each of which everything is fitted again."""
    seed: int = 0
    """Of the untrained weights, the null and the synthetic subject."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""

    def __post_init__(self) -> None:
        """Refuse what nothing can be measured with."""
        if isinstance(self.subject, str) and self.subject.startswith("["):  # names that are numbers are left as text
            named = [one.strip() for one in self.subject.strip("[]").split(",")]
            object.__setattr__(self, "subject", [one for one in named if one])
        if not self.depths or not all(0 <= depth <= 1 for depth in self.depths):
            raise ValueError(f"depths={self.depths}; expected fractions from 0 (embedding) to 1 (last block)")
        if not self.delays:
            raise ValueError("delays=[]; expected delays in scans, such as [1,2,3,4]")
        if self.n_draws < 19:
            raise ValueError(f"n_draws={self.n_draws}; expected at least 19 draws (199 give p down to .005)")
        if self.speech is not None and self.data == "synthetic":
            raise ValueError("data=synthetic has no sound for a speech encoder; give a data set that has, or no speech")
        if self.is_group and self.data == "synthetic":
            raise ValueError(f"subject={self.subject} of data=synthetic, which is one subject; leave subject out")
        listed = self.subject if isinstance(self.subject, list) else ["all"]
        if not listed or len(set(listed)) < len(listed):
            raise ValueError(f"subject={self.subject}; expected subjects of the folder, each once, or all")

    @property
    def is_group(self) -> bool:
        """Whether several subjects are asked for."""
        return self.subject == "all" or isinstance(self.subject, list)


def encode(command: EncodeCommand) -> Path:
    """Read, fit, test, write tables and the page."""
    print(f"reading {command.model}", flush=True)  # first of all: torch takes seconds to load
    return _encode_group(command) if command.is_group else _encode_one(command)


def _encode_one(command: EncodeCommand) -> Path:
    from topographic.brain import encode_stories, load_story_data, synthetic_recording
    from topographic.pages.encoding import write_encoding
    from topographic.storage import locked

    out = Path(command.out)
    # data first: a folder that cannot be read is said before a model is loaded
    given = {"subject": command.subject, "task": command.task}
    recording = None if command.data == "synthetic" else load_story_data(command.data, **given)
    model, tokenizer, choices = _loaded(command)
    with locked(out):
        if recording is None:
            reading = {name: choices[name] for name in ("context", "n_tokens", "seed")}
            recording = synthetic_recording(model, tokenizer, folder=out / "states", **reading)
        print(recording)
        encoding = encode_stories(model, tokenizer, recording, folder=out / "states", **choices)
        encoding.save(out, command=asdict(command))
        page = write_encoding(out / "index.html", encoding, _title(command, recording.name))
    _print_layers(encoding)
    print(page)
    print(f"next: open {page}")
    return page


def _encode_group(command: EncodeCommand) -> Path:
    from topographic.brain import encode_once, group_encodings, load_story_data, story_subjects
    from topographic.maps import NotMeasurable
    from topographic.pages.encoding import write_encoding
    from topographic.pages.group import write_group
    from topographic.storage import locked, save_json

    out, there = Path(command.out), story_subjects(command.data, task=command.task)
    subjects = there if command.subject == "all" else list(command.subject or ())
    if unknown := [one for one in subjects if one not in there]:
        raise ValueError(f"subject={unknown[0]} is not among {', '.join(there[:12])}; give some of these, or all")
    model, tokenizer, choices = _loaded(command)
    encodings, left_out = {}, {}
    with locked(out):
        for subject in subjects:
            recording = load_story_data(command.data, subject=subject, task=command.task)
            place = out / subject
            try:
                found, was_kept = encode_once(model, tokenizer, recording, place, states=out / "states", **choices)
            except NotMeasurable as reason:
                print(f"{subject} is left out: {reason}")
                left_out[subject] = str(reason)
                continue
            print(f"{recording}{': kept' if was_kept else ''}")
            encodings[subject] = found
            if not was_kept or not (place / "index.html").is_file():
                write_encoding(place / "index.html", found, _title(command, recording.name))
            _print_layers(found)
        if not encodings:
            raise ValueError(f"no subject of {command.data} can be encoded; the first: {next(iter(left_out.values()))}")
        group = group_encodings(encodings, seed=command.seed, left_out=left_out)
        group.save(out)
        save_json(out / "group.json", {"command": asdict(command), "about": group.about, "notes": list(group.notes)})
        page = write_group(
            out / "index.html",
            group,
            _title(command, f"{len(encodings)} subjects of {Path(command.data).resolve().name}"),
            data=Path(command.data).resolve().name,
            pages={subject: f"{subject}/index.html" for subject in encodings},
            about=_shared(encodings),
        )
    print(f"group of {len(encodings)}: {group}")
    print(page)
    print(f"next: open {page}")
    return page


def _loaded(command: EncodeCommand) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer, and how stories are encoded."""
    from topographic.brain import SpeechEncoder
    from topographic.recording import load_vectors
    from topographic.runs.loading import load_model, load_speech_encoder

    model, tokenizer = load_model(command.model, command.tokenizer)
    speech = None
    if command.speech is not None:
        hearing = (command.speech_window_s, command.speech_stride_s, command.speech_pooling)
        speech = SpeechEncoder(*load_speech_encoder(command.speech), *hearing)
    return (
        model,
        tokenizer,
        {
            "depths": command.depths,
            "context": command.context,
            "n_tokens": command.n_tokens,
            "delays": command.delays,
            "method": command.downsampling,
            "trim_scans": (command.trim_start, command.trim_end),
            "vectors": None if command.vectors is None else load_vectors(command.vectors),
            "motion_parameters": command.motion_parameters,
            "censor_above_mm": command.censor_above_mm,
            "speech": speech,
            "n_draws": command.n_draws,
            "seed": command.seed,
        },
    )


def _title(command: EncodeCommand, of: str) -> str:
    return f"{Path(command.model).name} and {of}"


def _shared(encodings: "dict[str, StoryEncoding]") -> dict[str, Any]:
    """What is the same for all subjects."""
    first, *others = (one.about for one in encodings.values())
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _print_layers(encoding: "StoryEncoding") -> None:
    for _, row in encoding.layers.iterrows():
        print(
            f"depth {row['depth']:g}: r {row['r']:.3f} (untrained {row['r untrained']:.3f}, controls "
            f"{row['r controls']:.3f}), R2 added {row['R2 added by the layer']:+.3f}"
        )
    for _, row in () if encoding.speech is None else encoding.speech.iterrows():
        print(
            f"speech, depth {row['depth']:g}: r {row['r']:.3f} (untrained {row['r untrained']:.3f}, controls "
            f"{row['r controls']:.3f}), R2 added {row['R2 added by the layer']:+.3f}"
        )
