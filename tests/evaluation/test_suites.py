from dataclasses import fields

import pytest

from topographic.evaluation import Choices, Shown, published_numbers
from topographic.evaluation.subject import PUBLISHED_SETS
from topographic.evaluation.suites import SUITES, suite_for

MATERIAL = {
    "language": {
        *PUBLISHED_SETS,
        "pairs",
        "text",
        "syntaxgym",
        "weight_sheets",
        "published",
        "corpora",
        "assemblies",
        "other_layout",
    },
    "vision": {"categories", "test", "weight_sheets", "published"},
}
PARTS = [
    (suite, kind, name, part)
    for suite, kinds in SUITES.items()
    for kind, found in kinds.items()
    for name, part in found.parts.items()
]
IDS = [f"{suite}-{kind}-{name}" for suite, kind, name, _ in PARTS]


@pytest.mark.parametrize(("suite", "kind", "name", "part"), PARTS, ids=IDS)
def test_every_part_names_choices_and_material_that_exist(suite, kind, name, part):
    assert set(part.choices) <= {field.name for field in fields(Choices)}
    assert set(part.material) <= MATERIAL[kind]
    assert part.material
    assert part.option is None or part.option in {field.name for field in fields(Shown)}


def test_every_suite_has_a_paper_and_parts_of_its_own():
    assert all(suite.paper for kinds in SUITES.values() for suite in kinds.values())
    names = [name for kinds in SUITES.values() for name in kinds["language"].parts]
    assert len(names) == len(set(names)), "two suites may share a folder"
    for kinds in SUITES.values():
        assert set(kinds.get("vision", kinds["language"]).parts) <= set(kinds["language"].parts), (
            "a report puts parts of one name side by side"
        )


def test_every_choice_and_every_set_decides_some_part():
    # a quick look changes other choices, which are named
    assert {choice for *_, part in PARTS for choice in part.choices} == {field.name for field in fields(Choices)} - {
        "quick"
    }
    for kind, material in MATERIAL.items():
        assert {role for _, of, _, part in PARTS for role in part.material if of == kind} == material


def test_a_suite_is_for_a_kind_of_model():
    assert suite_for("vision", "toponets") is SUITES["toponets"]["vision"]
    with pytest.raises(ValueError, match="runs/a is a vision model and suite='topolm' for others; use suite=toponets"):
        suite_for("vision", "topolm", "runs/a")
    with pytest.raises(ValueError, match=r"suite='topography'; expected one of topolm, toponets, .*, brain, layout"):
        suite_for("language", "topography")


class Asked:
    """The folder of published numbers, which remembers what was read in it."""

    def __init__(self, folder):
        self.folder, self.names = folder, set()

    def __truediv__(self, name):
        self.names.add(name)
        return self.folder / name


class Watched(Choices):
    """Choices that remember which of them were read."""

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if name in {field.name for field in fields(Choices)}:
            super().__getattribute__("__dict__").setdefault("read", set()).add(name)
        return value


@pytest.mark.parametrize(("suite", "kind", "name", "part"), PARTS, ids=IDS)
def test_what_a_part_reads_is_in_its_key(
    tiny_subject,
    net_subject,
    image_subject,
    turned_subject,
    show,
    suite_file,
    word_data,
    passages,
    monkeypatch,
    suite,
    kind,
    name,
    part,
):
    """Else a changed choice, or a mended published number, would leave old ones standing."""
    asked = Asked(published_numbers._FOLDER)
    monkeypatch.setattr(published_numbers, "_FOLDER", asked)
    published_numbers.published.cache_clear()
    subject = tiny_subject if SUITES[suite][kind].sites is None else net_subject
    if kind == "vision":
        subject = image_subject
    elif suite == "layout":
        subject = show(turned_subject, text=str(passages))
    else:
        subject = show(subject, syntaxgym=str(suite_file), data=str(word_data) if part.option == "data" else None)
    few = {"quick": True, "lesion_draws": 1, "lesion_pairs": 1, "permuted_draws": 2, "window_sequences": 1}
    choices = Watched(fwhm_mm=(2.0,), n_draws=19, lesion_fractions=(0.01,), removed=(0.5,), window_words=8, **few)
    vars(choices)["read"].clear()
    found = part.measure(subject, choices)
    assert vars(choices)["read"] == set(part.choices)
    assert asked.names == ({f"{suite}_{kind}.csv"} if "published" in part.material else set())
    assert found.tables
    # a report shows something of every part, and only columns that are there
    shown = [table for table in found.tables if table.headline]
    assert shown
    for table in shown:
        assert table.keys
        assert not table.rows or {*table.keys, *table.headline} <= set(table.columns), table.name
