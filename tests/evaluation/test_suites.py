import dataclasses
from dataclasses import fields

import pytest

from topographic.cli.evaluate import EvaluateCommand
from topographic.evaluation.subject import PUBLISHED_SETS, Choices
from topographic.evaluation.suites import IMAGE_PAPERS, IMAGE_SITES, IMAGE_SUITES, PAPERS, SITES, SUITES

MATERIAL = {*PUBLISHED_SETS, "pairs", "text", "syntaxgym"}
PARTS = [(suite, name, part) for suite, parts in SUITES.items() for name, part in parts.items()]


@pytest.mark.parametrize(("suite", "name", "part"), PARTS, ids=[f"{suite}-{name}" for suite, name, _ in PARTS])
def test_every_part_names_choices_and_material_that_exist(suite, name, part):
    assert set(part.choices) <= {field.name for field in fields(Choices)}
    assert set(part.material) <= MATERIAL
    # weights are shown nothing
    assert part.material or name == "weights"
    assert part.option is None or part.option in {field.name for field in fields(EvaluateCommand)}


def test_every_suite_has_a_paper_and_parts_of_its_own():
    assert set(PAPERS) == set(SUITES)
    assert set(SITES) <= set(SUITES)
    names = [name for parts in SUITES.values() for name in parts]
    assert len(names) == len(set(names)), "two suites may share a folder"


def test_every_choice_and_every_set_decides_some_part():
    parts = [part for _, _, part in PARTS]
    # the size of a batch decides the time, not the numbers
    assert {choice for part in parts for choice in part.choices} == {field.name for field in fields(Choices)} - {
        "batch_size"
    }
    assert {role for part in parts for role in part.material} == MATERIAL


IMAGE_PARTS = [(suite, name, part) for suite, parts in IMAGE_SUITES.items() for name, part in parts.items()]


def test_vision_models_have_the_same_suites_and_parts():
    assert set(IMAGE_SUITES) == set(IMAGE_PAPERS) == set(IMAGE_SITES) <= set(SUITES)
    for suite, name, part in IMAGE_PARTS:
        assert name in SUITES[suite], "a report puts parts of one name side by side"
        assert set(part.choices) <= {field.name for field in fields(Choices)}
        assert set(part.material) <= {"categories", "test"}


class Watched(Choices):
    """Choices that remember which of them were read."""

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if name in {field.name for field in fields(Choices)}:
            super().__getattribute__("__dict__").setdefault("read", set()).add(name)
        return value


@pytest.mark.parametrize(("suite", "name", "part"), PARTS, ids=[f"{suite}-{name}" for suite, name, _ in PARTS])
def test_what_a_part_reads_is_in_its_key(tiny_bench, net_bench, suite_file, suite, name, part):
    """Else a changed choice would leave old numbers standing."""
    bench = dataclasses.replace(net_bench if suite in SITES else tiny_bench, syntaxgym=str(suite_file))
    few = {"lesion_draws": 1, "lesion_pairs": 1, "permuted_draws": 2, "window_words": 8, "window_sequences": 1}
    choices = Watched(fwhm_mm=(2.0,), n_draws=19, lesion_fractions=(0.01,), removed=(0.5,), **few)
    check(part, part.measure(bench, choices), choices)


@pytest.mark.parametrize(
    ("suite", "name", "part"), IMAGE_PARTS, ids=[f"{suite}-{name}" for suite, name, _ in IMAGE_PARTS]
)
def test_what_a_part_for_vision_models_reads_is_in_its_key(image_bench, suite, name, part):
    choices = Watched(fwhm_mm=(0.0,), n_draws=19, removed=(0.5,), permuted_draws=2)
    check(part, part.measure(image_bench, choices), choices)


def check(part, found, choices):
    assert vars(choices)["read"] - {"batch_size"} == set(part.choices)
    assert found.tables
    # a report shows something of every part, and only columns that are there
    shown = [table for table in found.tables if table.headline]
    assert shown
    for table in shown:
        assert table.keys
        assert not table.rows or {*table.keys, *table.headline} <= set(table.columns), table.name
