import dataclasses
import importlib
import multiprocessing

import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.evaluation import (
    Choices,
    Findings,
    NotMeasurable,
    Results,
    Table,
    evaluate_subject,
    subject_of,
)
from topographic.evaluation.results import load_findings
from topographic.evaluation.suites import SUITES, Part
from topographic.recording import first_mlp_layers
from topographic.sheets import grid, permuted_grid
from topographic.storage import HeldElsewhereError, code_version, load_json, locked, save_json

room = importlib.import_module("topographic.evaluation.evaluating")

FAST = Choices(quick=True, fwhm_mm=(2.0,), lesion_draws=1, lesion_pairs=1)
PARTS = ["network", "clusters", "profiles", "word_classes", "minimal_pairs", "lesions"]


@pytest.fixture
def measured(monkeypatch):
    """Names of the parts that are measured, of a suite whose parts cost nothing."""
    names = []

    def cheap(name, part):
        def measure(subject, choices):
            names.append(name)
            return Findings(name, "", [Table("numbers", "Numbers", [{"number": len(names)}])])

        measure.__module__ = part.measure.__module__
        return part._replace(measure=measure)

    suite = SUITES["topolm"]["language"]
    parts = {name: cheap(name, part) for name, part in suite.parts.items()}
    monkeypatch.setitem(SUITES["topolm"], "language", suite._replace(parts=parts))
    return names


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_summed_responses_cannot_fill_lesions_and_nothing_is_measured_before(tiny_subject, measured, mode):
    summed = dataclasses.replace(tiny_subject, shown=dataclasses.replace(tiny_subject.shown, pooling="sum"))
    with pytest.raises(ValueError, match=f"pooling='sum' with lesion_mode='{mode}': .*; use pooling='mean' or 'last'"):
        evaluate_subject(summed, "topolm", dataclasses.replace(FAST, lesion_mode=mode))
    assert measured == []
    evaluate_subject(summed, "topolm", FAST)
    assert "lesions" in measured


def test_a_live_model_is_measured_in_memory(tiny_subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = evaluate_subject(dataclasses.replace(tiny_subject, cache_folder=None), "topolm", FAST)
    assert isinstance(found, Results)
    assert list(found) == PARTS
    assert list(tmp_path.iterdir()) == [], "nothing is written"
    frame = found["lesions"]["lesions"].to_frame()
    assert {"perplexity", "accuracy"} < set(frame["measure"])
    assert found["lesions"].to_frame().equals(frame)
    assert found["network"].pictures[0].figure is not None
    assert found.lead.startswith("TopoLMForCausalLM, weights ")
    assert "4 sheets of 36 units" in found.lead
    assert "Not measured, because not asked for: syntaxgym (--syntaxgym)." in found.lead
    assert "A quick look" in found.lead
    found.save(tmp_path / "kept")
    assert list(Results.load(tmp_path / "kept")) == PARTS
    again = evaluate_subject(tiny_subject, "topolm", FAST, folder=tmp_path / "kept")
    assert again.replaced == {}, "what was saved is what would have been kept"


@pytest.mark.parametrize("progress", [True, False])
def test_what_is_read_is_shown_or_not(tiny_subject, monkeypatch, capfd, progress):
    suite = SUITES["topolm"]["language"]
    few = {name: suite.parts[name] for name in ("network", "minimal_pairs")}
    monkeypatch.setitem(SUITES["topolm"], "language", suite._replace(parts=few))
    evaluate_subject(dataclasses.replace(tiny_subject, _recorded={}), "topolm", FAST, progress=progress)
    assert ("record: " in capfd.readouterr().err) == progress


def test_an_unchanged_second_call_measures_nothing(tiny_subject, measured, tmp_path):
    first = evaluate_subject(tiny_subject, folder=tmp_path / "kept", progress=False)
    assert measured == PARTS
    second = evaluate_subject(tiny_subject, folder=tmp_path / "kept", progress=False)
    assert measured == PARTS
    assert second.keys == first.keys
    assert second.replaced == {}
    assert load_json(tmp_path / "kept" / "evaluation.json")["parts"] == PARTS
    evaluate_subject(tiny_subject, progress=False)
    assert measured == 2 * PARTS, "without a folder nothing is kept"


def test_changed_code_measures_the_parts_that_are_made_of_it(tiny_subject, measured, tmp_path, monkeypatch):
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    measured.clear()
    changed = "topographic.evaluation.parts.lesions"
    monkeypatch.setattr(room, "code_version", lambda name: "changed" if name == changed else code_version(name))
    found = evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    assert measured == ["lesions"]
    assert found.replaced == {"lesions": "code changed"}


@pytest.mark.parametrize(
    ("choice", "parts"),
    [
        ({"seed": 1}, ["network", "clusters", "profiles", "word_classes", "lesions"]),
        ({"cluster_threshold": 2.5}, ["clusters", "word_classes"]),
        ({"lesion_mode": "mean"}, ["lesions"]),
        ({"fwhm_mm": (0.0,)}, ["network", "clusters", "profiles", "word_classes"]),
        ({"window_words": 9}, []),
    ],
)
def test_a_changed_choice_measures_the_parts_that_read_it(tiny_subject, measured, tmp_path, choice, parts):
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    measured.clear()
    found = evaluate_subject(tiny_subject, "topolm", Choices(**choice), folder=tmp_path / "kept")
    assert measured == parts
    assert found.replaced == dict.fromkeys(parts, f"{next(iter(choice))} changed")


def test_other_weights_sheets_sites_pooling_or_numbers_to_stand_beside(
    tiny_subject, measured, tmp_path, show, monkeypatch
):
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")

    def reasons(subject):
        measured.clear()
        return set(evaluate_subject(subject, folder=tmp_path / "kept").replaced.values()), len(measured)

    fewer = dataclasses.replace(
        tiny_subject, sites=["transformer.h.*.mlp"], layout=permuted_grid
    )  # no sheet is carried there
    assert reasons(fewer) == ({"sites, sheets changed"}, 6)
    assert reasons(dataclasses.replace(fewer, layout=grid)) == ({"sheets changed"}, 6)
    assert reasons(show(dataclasses.replace(fewer, layout=grid), pooling="last")) == ({"pooling changed"}, 6)
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    monkeypatch.setattr(room, "published_checksum", lambda name: f"another {name}")
    assert reasons(tiny_subject) == ({"published changed"}, 5), "lesions stand beside no published number"
    with torch.no_grad():
        tiny_subject.model.transformer.wte.weight.mul_(2)
    assert reasons(tiny_subject) == ({"weights changed"}, 6), "the same subject, whose model was trained on"


def test_parts_of_an_earlier_version_are_read_and_never_mixed(tiny_subject, measured, tmp_path):
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    file = tmp_path / "kept" / "network" / "findings.json"
    content = load_json(file)
    content |= {"format": 2, "key": {**content.pop("made_of"), "version": "0.1.0"}}
    save_json(file, content)
    assert load_findings(file.parent) is not None
    with pytest.raises(ValueError, match="network is gone or of another evaluation"):
        Results.load(tmp_path / "kept")
    measured.clear()
    found = evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    assert measured == ["network"]
    assert found.replaced == {"network": "made by an earlier version"}


def test_a_lost_file_is_a_reason(tiny_subject, measured, tmp_path):
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    (tmp_path / "kept" / "network" / "numbers.csv").unlink()
    assert evaluate_subject(tiny_subject, folder=tmp_path / "kept").replaced == {"network": "a file of it was gone"}


def part_that(monkeypatch, *raised):
    """The suite has one part, which raises these one after another, then finds something."""
    errors = list(raised)

    def measure(subject, choices):
        if errors:
            raise errors.pop(0)
        return Findings("Windows", "", [Table("numbers", "Numbers", [{"number": 1}])])

    measure.__module__ = "topographic.evaluation.parts.windows"
    suite = SUITES["topolm"]["language"]._replace(parts={"integration_windows": Part(measure, (), ("text",))})
    monkeypatch.setitem(SUITES["topolm"], "language", suite)


@pytest.mark.parametrize("error", [ValueError("too short"), RuntimeError("no memory"), KeyboardInterrupt()])
def test_a_failure_is_never_kept(tiny_subject, tmp_path, monkeypatch, error):
    part_that(monkeypatch, error)
    with pytest.raises(type(error)):
        evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    found = evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    assert found["integration_windows"].to_frame()["number"].tolist() == [1]


def test_what_cannot_be_measured_says_why(tiny_subject, tmp_path, monkeypatch):
    part_that(monkeypatch, NotMeasurable("the text is too short"))
    found = evaluate_subject(tiny_subject, folder=tmp_path / "kept")["integration_windows"]
    assert (found.title, found.notes) == ("Integration windows", ["Not measured: the text is too short."])
    assert evaluate_subject(tiny_subject, folder=tmp_path / "kept")["integration_windows"].notes == found.notes


def test_old_parts_stay_until_new_ones_are_finished(tiny_subject, measured, tmp_path, monkeypatch):
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    before = (tmp_path / "kept" / "lesions" / "findings.json").read_bytes()
    suite = SUITES["topolm"]["language"]

    def stop(subject, choices):
        raise KeyboardInterrupt

    stop.__module__ = suite.parts["clusters"].measure.__module__
    broken = suite._replace(parts={**suite.parts, "clusters": suite.parts["clusters"]._replace(measure=stop)})
    with monkeypatch.context() as patch:
        patch.setitem(SUITES["topolm"], "language", broken)
        with pytest.raises(KeyboardInterrupt):
            evaluate_subject(tiny_subject, "topolm", Choices(seed=1), folder=tmp_path / "kept")
    assert (tmp_path / "kept" / "lesions" / "findings.json").read_bytes() == before
    with pytest.raises(ValueError, match="network is gone or of another evaluation"):
        Results.load(tmp_path / "kept")
    measured.clear()
    found = evaluate_subject(tiny_subject, "topolm", Choices(seed=1), folder=tmp_path / "kept")
    assert measured == ["clusters", "profiles", "word_classes", "lesions"]
    assert list(Results.load(tmp_path / "kept")) == list(found) == PARTS


def hold(folder, held, done):
    with locked(folder):
        held.set()
        done.wait(60)


def test_a_second_process_is_told_who_writes(tiny_subject, measured, tmp_path):
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "kept", held, done))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(HeldElsewhereError, match=rf"kept is being written by process {other.pid} on"):
            evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    finally:
        done.set()
        other.join()
    assert measured == []
    assert not (tmp_path / "kept").exists()
    evaluate_subject(tiny_subject, folder=tmp_path / "kept")
    assert measured == PARTS


def test_sites_are_those_the_model_carries_or_those_of_the_suite(tiny_subject):
    model, tokenizer = tiny_subject.model, tiny_subject.tokenizer
    carried = subject_of(model, tokenizer, batch_size=7)
    assert (carried.kind, carried.sites) == ("language", list(model.sheets()))
    assert carried.sheets == model.sheets()
    assert carried.shown.batch_size == 7
    of_suite = subject_of(model, tokenizer, suite="toponets")
    assert of_suite.sites == first_mlp_layers(model)
    named = subject_of(model, tokenizer, sites="transformer.h.*.mlp.c_fc", layout="permuted_grid")
    assert {site: one.checksum for site, one in named.sheets.items()} == {
        site: permuted_grid(144, site).checksum for site in named.sheets
    }
    assert len(named.sheets) == 2
    bare = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=4, n_layer=1, n_head=1, n_positions=8))
    with pytest.raises(ValueError, match="GPT2LMHeadModel carries no sheets; say which modules to lay out"):
        subject_of(bare, tokenizer)


def test_a_configuration_in_the_folder_one_stands_in_is_not_read(tiny_subject, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "config.yaml").write_text("spatial: {sites: [transformer.h.0.mlp]}\n")
    monkeypatch.chdir(tmp_path)
    bare = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=4, n_layer=1, n_head=1, n_positions=8))
    with pytest.raises(ValueError, match="carries no sheets"):
        subject_of(bare, tiny_subject.tokenizer)


def test_a_vision_model_comes_with_what_prepares_its_images(image_subject, tmp_path):
    shown = {"n_images": 8, "image_folders": image_subject.shown.image_folders}
    given = {"suite": "toponets", "sites": "fc1", **shown}
    found = subject_of(image_subject.model, image_subject.prepare, **given)
    assert (found.kind, found.test) == ("vision", None)
    (tmp_path / "model").mkdir()  # as every run has
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"images": {"name": "mnist", "folder": "elsewhere"}}))
    trained = subject_of(image_subject.model, image_subject.prepare, run=tmp_path, **given)
    assert trained.shown.test_set == "mnist"
    assert trained.shown.image_folders["mnist"] == shown["image_folders"]["mnist"], "those that are named come first"
    assert len(trained.test) == 30
    bare = subject_of(image_subject.model, image_subject.prepare, run=tmp_path, suite="toponets", sites="fc1")
    assert bare.shown.image_folders == {"mnist": "elsewhere"}
    with pytest.raises(ValueError, match="is a vision model and suite='topolm' for others; use suite=toponets"):
        subject_of(image_subject.model, image_subject.prepare, sites="fc1")
