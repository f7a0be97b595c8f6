import dataclasses
import html
import re
import shutil
from urllib.parse import unquote

import pytest

from topographic.pages.facts import model_name, repeat_commands
from topographic.pages.report import Comparison, section
from topographic.pages.run_folder import read_runs


def text_of(made):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", made)))


def what_was_run(runs):
    return section("What was run", Comparison(runs, runs[0].folder.parent))


def stimuli_of(*runs):
    return text_of(section("Stimuli and caveats", Comparison(runs, runs[0].folder.parent)))


def maps_of(run, summary):
    mapped = dataclasses.replace(run, summaries={summary.contrast: summary})
    return text_of(section("Maps", Comparison([mapped], run.folder.parent)))


def with_provenance(summary, **changes):
    return dataclasses.replace(summary, provenance={**summary.provenance, **changes})


@pytest.fixture
def runs(run_folders, no_ink):
    return read_runs(run_folders)


def test_what_was_run_says_model_text_length_machine_and_the_difference(runs):
    said = text_of(what_was_run(runs))
    for fact in ("TopoLM, preset demo", "1,234,567", "1,960,000 tokens in 9,800 documents", "400 of 400"):
        assert said.count(fact) == 2, fact
    for fact in ("409,600", "2 min 30 s", "2030-01-01 10:02 UTC", "cpu (2 cores)", "movie-reviews"):
        assert fact in said
    differing = said.split("Settings in which the runs differ")[1].split("Commands")[0].split()
    assert differing == ["topographic", "control", "spatial.weight", "0.25", "0.0"]


def test_every_loss_that_a_run_was_trained_with_is_named(runs):
    assert "neighbours" not in text_of(what_was_run(runs))
    with_wires = {**runs[0].config, "wiring": {"weight": 3.0}, "neighbor_weights": {"weight": 0.0}}
    said = text_of(what_was_run([dataclasses.replace(runs[0], config=with_wires)]))
    assert "weight of the length of wires 3" in said
    assert "neighbours" not in said


def test_runs_with_equal_settings_are_said_to_be(runs):
    twin = dataclasses.replace(runs[0], name="twin")
    assert "The settings of the runs do not differ." in what_was_run([runs[0], twin])
    assert "differ" not in what_was_run(runs[:1])


def test_an_unfinished_run_names_the_command_that_goes_on(runs):
    halfway = dataclasses.replace(runs[0], record={**runs[0].record, "status": "running", "steps": 120})
    del halfway.record["finished"]
    said = text_of(what_was_run([halfway]))
    assert "120 of 400" in said
    assert "topographic has not finished training" in said
    assert f"topo train {runs[0].folder}/config.yaml" in said
    assert "has not finished" not in what_was_run(runs)


def test_commands_repeat_training_maps_and_page(runs):
    lines = repeat_commands(runs)
    folder = runs[0].folder
    assert lines[0] == f"topo train {folder}/config.yaml run={folder}-again"
    assert lines[1] == (
        f"topo map {folder}-again fwhm_mm=0 n_draws=60 seed=0 'exchangeable=[run]' pooling=mean  # sentences-nonwords"
    )
    assert lines[-1] == f"topo report {folder}-again {runs[1].folder}-again"
    smoothed = with_provenance(runs[0].summaries["sentences-nonwords"], fwhm_mm=2.5, seed=7)
    other = dataclasses.replace(runs[0], summaries={"sentences-nonwords": smoothed})
    assert " fwhm_mm=2.5 n_draws=60 seed=7 " in repeat_commands([other])[1]


def test_model_is_named_from_the_maps_where_it_was_not_trained_here(runs):
    assert model_name(dataclasses.replace(runs[0], record={})) == "TopoLM"
    assert not model_name(dataclasses.replace(runs[0], record={}, summaries={}))


def test_contrast_in_words(runs, measured):
    summary = measured["topographic"]
    made = section("Maps", Comparison(runs, runs[0].folder.parent))
    assert "<h3>sentences-nonwords</h3>" in made
    said = maps_of(runs[0], summary)
    assert "40 items (sentences)" in said
    assert "Welch's t, without any smoothing." in said
    assert "Red units prefer sentences, blue units nonwords" in said
    assert "60 draws (seed 0)" in said
    assert "exchanged within run." in said
    said = maps_of(runs[0], with_provenance(summary, fwhm_mm=2.0, n_draws=0))
    assert "through a Gaussian readout of 2 mm FWHM." in said
    assert "No nulls were drawn." in said


def test_stimuli_are_shown_with_examples_of_every_condition(runs):
    summary = runs[0].summaries["sentences-nonwords"]
    said = stimuli_of(runs[0])
    for words in (
        "sentences (40 items)",
        "nonwords (40 items)",
        "The dog number 20 ran home.",
        "dralp sniv 20 torb wug.",
    ):
        assert words in said
    lengths = summary.provenance["n_tokens"]
    assert f"{lengths['condition']:.1f} tokens on average in sentences" in said
    assert "Written for the tests. Licence: CC0." in said


def test_stimuli_that_were_not_kept_are_said_to_be_missing(runs):
    said = stimuli_of(dataclasses.replace(runs[0], stimuli={}))
    assert "items themselves were not kept with topographic (maps/sentences-nonwords/stimuli.json)" in said
    assert f"topo map {runs[0].folder}" in said


def test_caveats_state_the_smallest_p(runs):
    def draws(run, n_draws):
        summary = with_provenance(run.summaries["sentences-nonwords"], n_draws=n_draws)
        return dataclasses.replace(run, summaries={"sentences-nonwords": summary})

    assert "With 60 draws no p can be smaller than .016" in stimuli_of(*runs)
    assert "With 19 draws no p can be smaller than .050" in stimuli_of(runs[0], draws(runs[1], 19))
    assert "With 60 draws" in stimuli_of(runs[0], draws(runs[1], 0))
    assert "draws" not in stimuli_of(draws(runs[0], 0))
    assert "one training with one seed" in stimuli_of(*runs)
    assert "one training with one seed" not in stimuli_of(runs[0])


def test_versions_seeds_and_checksums(runs):
    changed = {**runs[1].record, "git_commit": runs[1].record["git_commit"] + "+changes"}
    runs = [runs[0], dataclasses.replace(runs[1], record=changed)]
    said = text_of(section("Versions, seeds and files", Comparison(runs, runs[0].folder.parent)))
    for fact in ("version of torch 2.13.0 2.13.0", "seed of training 42 42", "seed of initial weights 0 0"):
        assert fact in said
    for fact in (
        "git commit 0123456789ab 0123456789ab with changes",
        "SHA-256 of text abab",
        "seed of nulls, sentences-nonwords 0 0",
    ):
        assert fact in said
    assert "seed of layout" not in said, "what is not given is not listed"


def test_links_lead_from_the_page_to_the_files(runs, tmp_path, run_folders):
    odd = tmp_path / 'od&d "name" %41'
    shutil.copytree(run_folders[0], odd)
    place = tmp_path / "pages"
    place.mkdir()
    made = section("Versions, seeds and files", Comparison(read_runs([odd]), place))
    targets = re.findall(r'href="([^"]*)"', made)
    assert len(targets) == 6 + 8
    for target in targets:
        assert target.startswith("../")
        assert (place / unquote(html.unescape(target))).exists(), target
