"""A speech encoder with real weights: whether they are read right, what is in its blocks, and what hearing costs.

    python benchmarks/speech_encoder.py --model FOLDER --speech FOLDER --kept FOLDER
    python benchmarks/speech_encoder.py --quick        # random weights and a sound that is made up

--model is a folder with a Whisper of CTranslate2 (model.bin, tokenizer.json, config.json), --speech one with NAME.wav
and, to transcribe it, NAME.txt; NAME.phone.json of pocketsphinx says when which word and phone is spoken. Markdown
tables: word errors of greedy transcription; how well ridge regression predicts from each block, whole recordings held
out, what is in the last .1 s of sound, beside untrained weights and log-mel features; seconds per minute of sound.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from spatial_loss import machine
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from topographic.brain import beside_controls, delay, encode, significance, untrained
from topographic.models import load_whisper
from topographic.models.ctranslate2 import whisper_extractor
from topographic.recording import record_speech, sites_at_depths
from topographic.runs import load_speech_encoder
from topographic.stimuli import load_sound

STEP_S = 0.1
QUIETEST = 1e-5
CLASSES = {
    "vowel": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    "fricative": "CH DH F HH JH S SH TH V Z ZH",
    "stop": "B D G K P T",
    "sonorant": "L M N NG R W Y",
    "silence": "SIL",
}


@dataclass(frozen=True)
class Clip:
    """A recording, and what is said in it when."""

    name: str
    samples: np.ndarray
    rate_hz: int
    phones: tuple[tuple[float, float, str], ...] = ()
    word_onsets_s: tuple[float, ...] = ()
    text: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="without it a small one with random weights")
    parser.add_argument("--speech", type=Path, help="without it a sound that is made up")
    parser.add_argument("--kept", type=Path, help="folder for what was heard")
    parser.add_argument("--draws", type=int, default=199, help="of the null")
    parser.add_argument("--band-draws", type=int, default=50, help="weightings of two bands that are tried")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of untrained weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        vars(options).update(draws=19, band_draws=3, seeds=[0])
    model, extractor = load_speech_encoder(options.model, device="cpu") if options.model else small_encoder()
    clips = list(read_clips(options.speech) if options.speech else made_up_clips())
    seconds = sum(len(clip.samples) / clip.rate_hz for clip in clips)
    print(f"Machine: {machine('cpu')}\n\n{len(clips)} recordings, {seconds:.1f} s\n")
    if options.model and all(clip.text for clip in clips):
        transcribe(options.model, extractor, clips)
    window_s = min(16.0, extractor.n_samples / extractor.sampling_rate)
    compare(model, extractor, clips, window_s, options)
    costs(model, extractor, clips, window_s)


def small_encoder() -> tuple[nn.Module, Any]:
    """A Whisper of two small blocks that hears a second."""
    config = WhisperConfig(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16)
    config.max_source_positions, config.num_mel_bins = 50, 20
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return WhisperEncoder(config).eval(), whisper_extractor(config)


def made_up_clips() -> Iterator[Clip]:
    """Noise that swells and fades."""
    draw = np.random.default_rng(0)
    for name in ("first", "second", "third"):
        level = np.interp(np.arange(48000) / 16000, np.arange(0, 3.5, 0.5), draw.uniform(-3, 0, 7))
        yield Clip(name, (0.2 * draw.normal(size=48000) * 10**level).astype(np.float32), 16000)


def read_clips(folder: Path) -> Iterator[Clip]:
    for file in sorted(folder.glob("*.wav")):
        phones, onsets = [], []
        if (said := file.with_suffix(".phone.json")).is_file():
            for word in json.loads(said.read_text())["w"]:
                onsets += [] if word["t"].startswith("<") else [word["b"]]
                phones += [(phone["b"], phone["b"] + phone["d"], phone["t"]) for phone in word.get("w", ())]
        text = file.with_suffix(".txt")
        meant = text.read_text() if text.is_file() else None
        yield Clip(file.stem, *load_sound(file), tuple(phones), tuple(onsets), meant)


def transcribe(folder: Path, extractor: Any, clips: list[Clip]) -> None:
    """Greedy transcription beside what was read."""
    model = load_whisper(folder / "model.bin")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    about, special = json.loads((folder / "config.json").read_text()), tokenizer.convert_tokens_to_ids
    model.generation_config = GenerationConfig(
        decoder_start_token_id=special("<|startoftranscript|>"),
        eos_token_id=special("<|endoftext|>"),
        pad_token_id=special("<|endoftext|>"),
        no_timestamps_token_id=special("<|notimestamps|>"),
        suppress_tokens=about["suppress_ids"],
        begin_suppress_tokens=about["suppress_ids_begin"],
        is_multilingual=False,
        max_length=200,
    )
    print("| recording | seconds | words | wrong | heard |\n|---|---|---|---|---|")
    n_words = n_wrong = 0
    for clip in clips:
        given = extractor(clip.samples, sampling_rate=clip.rate_hz, return_tensors="pt")
        said = tokenizer.decode(model.generate(given.input_features)[0], skip_special_tokens=True)
        meant, found = words_of(clip.text or ""), words_of(said)
        wrong = word_errors(meant, found)
        n_words, n_wrong = n_words + len(meant), n_wrong + wrong
        length_s = len(clip.samples) / clip.rate_hz
        print(f"| {clip.name[-4:]} | {length_s:.1f} | {len(meant)} | {wrong} | {said.strip()} |", flush=True)
    print(f"\nWord error rate {n_wrong / n_words:.3f} ({n_wrong} of {n_words})\n")


def words_of(text: str) -> list[str]:
    """Without case and marks; "Mr." is read as it is spoken."""
    return re.findall(r"[a-z']+", text.lower().replace("mr.", "mister"))


def word_errors(meant: list[str], said: list[str]) -> int:
    """Fewest words put in, left out or replaced."""
    row = list(range(len(said) + 1))
    for count, word in enumerate(meant, 1):
        before, row[0] = row[0], count
        for place, other in enumerate(said, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]


def compare(model: nn.Module, extractor: Any, clips: list[Clip], window_s: float, options: argparse.Namespace) -> None:
    """Correlations of what is predicted of the last step of sound, block by block."""
    depths = np.linspace(0, 1, model.config.encoder_layers + 1)
    sites = sites_at_depths(model, depths)
    start = time.process_time()
    models = {"trained": model} | {f"untrained {seed}": untrained(model, seed) for seed in options.seeds}
    found, times = {}, []
    for name, one in models.items():
        found[name], times = heard(one, extractor, clips, sites, window_s, options.kept)
        print(f"{name}: heard, {time.process_time() - start:.0f} s of CPU so far", flush=True)
    runs = np.repeat(np.arange(len(clips)), [len(own) for own in times])
    targets = pd.concat([spoken(clip, own) for clip, own in zip(clips, times, strict=True)])
    targets = targets.loc[:, targets.nunique() > 1]
    bands = [log_mels(extractor, clip, own) for clip, own in zip(clips, times, strict=True)]
    mel, second = (np.concatenate([band[which] for band in bands]) for which in (0, 1))
    print(
        f"\n{len(runs)} windows. r, in parentheses p of {options.draws} circular shifts; of untrained weights the mean"
    )
    print(f"over {len(options.seeds)} seeds [smallest, largest]. Below: R2 added beside log-mels of a second.\n")
    columns = list(targets)
    print(f"| features | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    how = {"runs": runs, "progress": False}
    for name, band in (("log-mels, .1 s", mel), ("log-mels, 1 s", second)):
        print_row(name, with_p(band, targets.to_numpy(), options.draws, how))
    added = {}
    for site, depth in sites.items():
        tables = {name: of[site] for name, of in found.items()}
        print_row(f"depth {depth:.2f}", with_p(tables.pop("trained"), targets.to_numpy(), options.draws, how))
        print_row("untrained", spread([encode(one, targets.to_numpy(), **how).r for one in tables.values()]))
        for name in found:
            many = {"n_band_draws": options.band_draws, **how}
            beside, _ = beside_controls(found[name][site], {"log-mels": second}, targets.to_numpy(), **many)
            added.setdefault(site, {})[name] = beside["added by model"].to_numpy()
    print(f"\n| R2 added | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for site, rows in added.items():
        print_row(f"depth {sites[site]:.2f}", [f"{value:.3f}" for value in rows.pop("trained")])
        print_row("untrained", spread(list(rows.values())))
    print()


def heard(
    model: nn.Module, extractor: Any, clips: list[Clip], sites: dict[str, float], window_s: float, kept: Path | None
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """What each site answers to the windows of all recordings, and when these end in each."""
    parts: dict[str, list[np.ndarray]] = {site: [] for site in sites}
    times = []
    for clip in clips:
        how = {"window_s": window_s, "stride_s": STEP_S, "folder": kept, "run": clip.name, "progress": False}
        found = record_speech(model, extractor, clip.samples, clip.rate_hz, list(sites), **how)
        times.append(np.array(next(iter(found.values())).stimuli.onset_s))
        for site, one in found.items():
            parts[site].append(one.values)
    return {site: np.concatenate(one) for site, one in parts.items()}, times


def spoken(clip: Clip, times_s: np.ndarray) -> pd.DataFrame:
    """Of the step that ends at each time: how loud it is, and the share of each class of phones."""
    rows = []
    for end in times_s:
        step = clip.samples[round((end - STEP_S) * clip.rate_hz) : round(end * clip.rate_hz)].astype(np.float64)
        rms = np.sqrt(np.square(step).mean())
        row = {"RMS": rms, "level, dB": 20 * np.log10(max(rms, QUIETEST))}
        for name, members in CLASSES.items():
            spans = [(first, last) for first, last, phone in clip.phones if phone in members.split()]
            row[name] = sum(max(0.0, min(last, end) - max(first, end - STEP_S)) for first, last in spans) / STEP_S
        row["word begins"] = float(any(end - STEP_S < onset <= end for onset in clip.word_onsets_s))
        rows.append(row)
    return pd.DataFrame(rows)


def log_mels(extractor: Any, clip: Clip, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the step that ends at each time, and these of a whole second side by side."""
    given = extractor(clip.samples, sampling_rate=clip.rate_hz, return_tensors="np", truncation=False)
    mel, n_frames = given["input_features"][0], round(STEP_S * clip.rate_hz / extractor.hop_length)
    ends = np.rint(times_s * clip.rate_hz / extractor.hop_length).astype(int)
    steps = np.stack([mel[:, end - n_frames : end].mean(axis=1) for end in ends])
    return steps, delay(steps, list(range(10)))


def with_p(features: np.ndarray, targets: np.ndarray, n_draws: int, how: dict[str, Any]) -> list[str]:
    tested = significance(features, targets, n_draws=n_draws, **how)
    return [f"{r:.2f} ({p:.3f})" for r, p in zip(encode(features, targets, **how).r, tested.p, strict=True)]


def spread(rows: list[np.ndarray]) -> list[str]:
    values = np.stack(rows)
    middle, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    return [f"{m:.2f} [{a:.2f}, {b:.2f}]" for m, a, b in zip(middle, low, high, strict=True)]


def print_row(name: str, cells: list[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def costs(model: nn.Module, extractor: Any, clips: list[Clip], window_s: float) -> None:
    """CPU seconds per minute of sound, one recording after another."""
    sound, rate_hz = np.concatenate([clip.samples for clip in clips]), clips[0].rate_hz
    site = list(sites_at_depths(model, [1.0]))
    print("| windows | every | windows heard | CPU s per minute of sound | CPU s per window |\n|---|---|---|---|---|")
    for length_s, stride_s in ((window_s, 0.5), (window_s, 1.0), (window_s / 4, 1.0)):
        how = {"window_s": length_s, "stride_s": stride_s, "progress": False}
        start = time.process_time()
        found = record_speech(model, extractor, sound, rate_hz, site, **how)
        spent, n_windows = time.process_time() - start, len(found[site[0]].values)
        minute = spent / (n_windows * stride_s) * 60
        print(f"| {length_s:g} s | {stride_s:g} s | {n_windows} | {minute:.1f} | {spent / n_windows:.3f} |", flush=True)


if __name__ == "__main__":
    main()
