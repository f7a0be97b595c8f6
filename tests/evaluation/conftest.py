"""Corpora measured word by word, and passages without labels, made up for the tiny model."""

import numpy as np
import pandas as pd
import pytest

from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.evaluation.word_readings import word_surprisal


@pytest.fixture
def word_data(tiny_subject, save_assembly, tmp_path):
    """40 sentences: N400 after the surprisal of that subject, reading times and averages length, a recording none."""
    rng = np.random.default_rng(0)
    vocabulary = [f"{a}{b}" for a in ("ba", "do", "ki", "lum", "ra") for b in ("t", "nel", "rimo", "sa", "vun")]
    texts = [" ".join(rng.choice(vocabulary, 8)) + "." for _ in range(40)]
    surprisal = word_surprisal(tiny_subject.model, tiny_subject.tokenizer, texts, batch_size=64, progress=False)
    rows = []
    for index, text in enumerate(texts):
        for place, word in enumerate(text.split()):
            noise = rng.normal(size=8)
            row = {"sentence": text, "sent_id": index, "context_length": place, "word": word.strip(".")}
            row |= {name: noise[at] for at, name in enumerate(ERP_COMPONENTS)}
            row["N400"] = 3.0 * surprisal[index][place] + 0.5 * noise[2]
            row |= {"self_paced_reading_time": 250 + 10 * len(word) + 5 * noise[6], "Subtlex_log10": rng.normal()}
            row["s_GPT2"] = surprisal[index][place] + 0.1 * rng.normal()
            rows.append(row)
    folder = tmp_path / "data"
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "all_measures.csv", index=False)
    topics = [f"topic {index // 5}" for index in range(40)]
    pd.DataFrame({
        "experiment": "own", "story": topics, "sentence": texts, "effect_size": [len(text) for text in texts]
    }).to_csv(folder / "pereira2018_langnet_avg.csv", index=False)  # fmt: skip
    responses, items = rng.normal(size=(40, 3)), {"group": topics, "stimulus": texts}
    save_assembly(folder / "recorded.nc", responses, items, {"subject": ["s1", "s2", "s3"]}, kind="classic")
    return folder


@pytest.fixture
def topics():
    """Three topics and their words."""
    return {
        "rain": "rain falls cold clouds wind storm thunder umbrella",
        "music": "music plays loud drums violin singer concert melody",
        "bread": "bread bakes warm oven flour dough butter kitchen",
    }


@pytest.fixture
def passages(topics, tmp_path):
    """A file of 150 passages on these topics, one of them twice."""
    rng, lines = np.random.default_rng(0), []
    for number in range(150):
        words = list(topics.values())[number % 3].split()
        lines.append(" ".join([*rng.choice(words, 5, replace=False), f"number{number}"]))
    path = tmp_path / "passages.txt"
    path.write_text("\n".join([*lines, lines[0]]), encoding="utf-8")
    return path
