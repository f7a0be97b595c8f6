import dataclasses
import doctest
import html
import html.parser
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from fixtures.written_runs import beside

from topographic.diffusion import save_grid
from topographic.pages import pictures, report, write_page
from topographic.pages.report import SECTIONS, Comparison, lead, section
from topographic.pages.run_folder import read_runs
from topographic.sheets import to_grid

CONTRAST = "sentences-nonwords"
QUESTIONS = {
    "organised": "Is the map smooth?",
    "beyond readout": "More than smoothing alone would make it?",
    "separates": "Do the units tell the conditions apart?",
    "about the contrast": "Is the smoothness about this contrast?",
    "caution": "A caution.",
}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Checker(html.parser.HTMLParser):
    """Balanced tags, no id twice, and everything that an attribute points at."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        for key, value in attrs:
            assert not key.startswith("on"), f"{tag} has {key}"
            self.ids += [value] if key == "id" else []
            self.targets += [(tag, key, value)] if key in ("src", "href", "srcset", "data", "action") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def check(page):
    checker = Checker()
    text = page.read_text(encoding="utf-8")
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    return checker, text


@pytest.fixture(scope="module")
def page(run_folders):
    return write_page(run_folders, run_folders[0].parent / "report.html")


def test_page_is_valid_and_whole(page, measured):
    checker, text = check(page)
    assert text.startswith("<!DOCTYPE html>")
    assert checker.tags[:2] == ["html", "head"]
    assert '<meta name="viewport"' in text
    for row in measured["topographic"].rows:
        assert f'<th scope="row">{row.site}</th>' in text
    assert len(re.findall("<h2>", text)) == 9
    assert page.stat().st_size < 3_000_000
    assert "<title>Report on topographic and control</title>" in text


def test_page_loads_nothing(page):
    checker, text = check(page)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(checker.tags)
    assert "@import" not in text
    assert "url(" not in text
    assert "http" not in text
    for tag, key, value in checker.targets:
        assert (tag, key) in (("img", "src"), ("a", "href"))
        if tag == "img":
            assert value.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,"))
        else:
            there = value[1:] in checker.ids if value[0] == "#" else (page.parent / unquote(value)).exists()
            assert there, value


def test_page_is_the_same_each_time(page, run_folders):
    first = page.read_bytes()
    assert write_page(run_folders, page) == page
    assert page.read_bytes() == first


@pytest.mark.usefixtures("no_ink")
def test_hostile_names_are_escaped(tmp_path, run_folders):
    hostile = tmp_path / "<script>alert(1)<&\"'"
    shutil.copytree(run_folders[0], hostile)
    config = hostile / "config.yaml"
    config.write_text(config.read_text().replace("preset: demo", "preset: '<img src=x onerror=alert(1)>'"))
    record = hostile / "run.json"
    record.write_text(record.read_text().replace("cpu (2 cores)", "</style><script>"))
    checker, text = check(write_page([hostile, run_folders[1]], tmp_path / "report.html", title="$title <script>"))
    assert "script" not in checker.tags
    assert "<script" not in text
    assert "onerror=alert(1)&gt;" in text
    assert "<h1>$title &lt;script&gt;</h1>" in text
    assert text.count("<style>") == text.count("</style>") == 1


@pytest.mark.usefixtures("no_ink")
def test_missing_folder_of_the_page_is_made_and_nothing_else_left(tmp_path, run_folders):
    out = write_page(run_folders[:1], tmp_path / "new" / "report.html", title="One run")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert "<title>One run</title>" in out.read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_ink")
def test_page_is_written_whole_or_not_at_all(tmp_path, run_folders, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("the old page")

    def full(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match=r"could not write .*report\.html: No space left"):
        write_page(run_folders, out)
    monkeypatch.undo()
    assert out.read_text() == "the old page"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_no_run_is_refused_and_no_page_written(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        write_page([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def text_of(made):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", made)))


def replaced(run, **changes):
    """A run whose summary is changed."""
    return dataclasses.replace(run, summaries={CONTRAST: dataclasses.replace(run.summaries[CONTRAST], **changes)})


def with_nulls(number, **p_of):
    """The same value with other p under its nulls."""
    found = dict(number.nulls)
    return beside(number, **found | {name: dataclasses.replace(found[name], p=p) for name, p in p_of.items()})


@pytest.fixture
def runs(run_folders, no_ink):
    return read_runs(run_folders)


def page_of(runs, heading):
    return section(heading, Comparison(runs, Path()))


def answers(runs):
    return re.findall(r'<li class="(\w+)"><strong>(.*?)</strong>', page_of(runs, "Maps"))


def test_verdicts_say_what_was_planted(runs):
    organised = QUESTIONS["organised"]
    assert [one for one in answers(runs) if organised in one[1]] == [
        ("holds", f"{organised} Yes."),
        ("fails", f"{organised} Not shown."),
    ]
    said = text_of(page_of(runs, "Maps"))
    assert "The topographic model has maps smoother than those of its units shuffled" in said
    assert "The control model's autocorrelation lies inside its unit null" in said


@pytest.mark.parametrize("question", ["organised", "about the contrast", "separates"])
def test_verdicts_flip_with_the_numbers(runs, question):
    summary = runs[0].summaries[CONTRAST]
    null = {"organised": "unit", "about the contrast": "label", "separates": "label"}[question]
    field = "mean_abs_t" if question == "separates" else "morans_i"
    found = {}
    for p in (0.01, 0.6):
        changed = replaced(runs[0], **{field: with_nulls(getattr(summary, field), **{null: p})})
        found[p] = dict(reversed(one) for one in answers([changed]))
    asked = QUESTIONS[question]
    assert found[0.01][f"{asked} Yes."] == "holds"
    assert found[0.6][f"{asked} Not shown."] == "fails"
    others = [{name for name in one if asked not in name} for one in found.values()]
    assert others[0] == others[1], "the other answers stay"


def test_every_verdict_has_a_question(runs):
    """Readout, cautions and maps without nulls have verdicts of their own."""
    provenance = {**runs[0].summaries[CONTRAST].provenance, "fwhm_mm": 2.0, "n_exchangeable": 4}
    asked = [question for _, question in answers([replaced(runs[0], provenance=provenance)])]
    assert any(QUESTIONS["beyond readout"] in one for one in asked)
    assert ("caution", f"{QUESTIONS['caution']} ") in answers([replaced(runs[0], provenance=provenance)])
    bare = beside(runs[0].summaries[CONTRAST].morans_i)
    assert answers([replaced(runs[0], morans_i=bare)]) == [("caution", f"{QUESTIONS['organised']} ")]


def test_lead_says_what_was_trained(runs):
    said = text_of(lead(runs))
    assert "topographic: TopoLM trained with the spatial loss (weight 0.25) on 409,600 tokens of movie-reviews." in said
    assert "control: TopoLM trained without the spatial loss on 409,600 tokens" in said
    assert "not trained here" in lead([dataclasses.replace(runs[0], record={})])


def spy(monkeypatch, name, action, module=report):
    """What a drawing function returned while the action ran."""
    kept, original = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: kept.append(original(*args, **kwargs)) or kept[-1])
    action()
    return kept


def test_one_colour_scale_for_all_maps(runs, monkeypatch):
    made = []
    kept = spy(monkeypatch, "draw_maps", lambda: made.append(page_of(runs, "Maps")), pictures)
    panels = [ax for figure in kept for ax in figure.axes if ax.images]
    assert len(panels) == 16
    (limits,) = {ax.images[0].get_clim() for ax in panels}
    assert limits[0] == -limits[1]
    values = np.concatenate([one.values for run in runs for one in run.summaries[CONTRAST].maps.values()])
    assert limits[1] == pytest.approx(np.percentile(np.abs(values), 99.5))
    assert (
        f"One colour scale on the whole page: white is t = 0, the darkest colours are t = ±{limits[1]:.1f}"
        in text_of(made[0])
    )


def test_contrasts_share_the_scale_too(runs, monkeypatch):
    summary = runs[0].summaries[CONTRAST]
    faint = {site: dataclasses.replace(one, values=one.values / 9) for site, one in summary.maps.items()}
    other = dataclasses.replace(summary, contrast="noun-verb", maps=faint)
    both = dataclasses.replace(runs[0], summaries={CONTRAST: summary, "noun-verb": other})
    kept = spy(monkeypatch, "draw_maps", lambda: page_of([both], "Maps"), pictures)
    assert len(kept) == 2
    assert len({ax.images[0].get_clim() for figure in kept for ax in figure.axes if ax.images}) == 1


@pytest.fixture
def with_null_maps(runs, measured):
    """The runs as they are where null maps were kept."""
    return [
        replaced(run, maps=dict(zip(run.summaries[CONTRAST].maps, measured[run.name].maps.values(), strict=True)))
        for run in runs
    ]


def test_one_draw_of_the_label_null_stands_beside_the_maps(with_null_maps, monkeypatch):
    made = []
    kept = spy(monkeypatch, "draw_maps", lambda: made.append(page_of(with_null_maps, "Maps")), pictures)
    assert made[0].count("<img") == 4
    assert text_of(made[0]).count("The same with shuffled labels: the first of 60 draws of the label null.") == 2
    maps = with_null_maps[0].summaries[CONTRAST].maps
    shown = [np.asarray(ax.images[0].get_array()) for ax in kept[2].axes if ax.images]
    expected = [to_grid(one.sheet, one.nulls["label"][0]) for one in maps.values()]
    np.testing.assert_array_equal(sorted(map(np.sum, shown)), sorted(map(np.sum, expected)))
    limits = {ax.images[0].get_clim() for figure in kept for ax in figure.axes if ax.images}
    assert len(limits) == 1


def test_maps_without_kept_nulls_say_what_keeps_them(runs):
    made = page_of(runs, "Maps")
    assert made.count("<img") == 2
    assert "the maps with shuffled labels were not kept" in text_of(made)
    assert "nulls=true" in made


def test_units_that_pass_are_outlined(runs, monkeypatch):
    first, *_ = spy(monkeypatch, "draw_maps", lambda: page_of(runs, "Maps"), pictures)
    lined = [bool(ax.collections and ax.collections[0].get_segments()) for ax in first.axes if ax.images]
    passing = [bool((one.q < 0.05).any()) for one in runs[0].summaries[CONTRAST].maps.values()]
    assert sum(lined) == sum(passing) > 0


def test_the_page_opens_with_one_sentence_and_the_maps(page):
    text = page.read_text(encoding="utf-8")
    headline, maps, numbers = text.index('class="headline"'), text.index("<img"), text.index("<table")
    assert headline < text.index("<nav") < maps < numbers
    above = text_of(text[headline:maps])
    assert re.search(
        r"the maps of topographic are smoother than those of shuffled units \(Moran's I \d\.\d\d, p = \.016\)", above
    )
    assert "those of control are not shown to be smoother than those of shuffled units" in above
    assert "Moran's I says how alike neighbouring units are on a map" in above, "explained where it appears first"
    assert text.index('class="verdicts"') < numbers


def test_no_picture_is_shown_twice(page):
    found = re.findall(r'<img src="([^"]+)"', page.read_text(encoding="utf-8"))
    assert len(found) == len(set(found)) > 5


def test_every_picture_can_be_enlarged_without_a_script(page):
    text = page.read_text(encoding="utf-8")
    assert text.count('<label class="zoom"><input type="checkbox"') == text.count("<img")
    assert ".zoom input:checked + img {" in text


def test_contents_lead_to_every_section(page):
    checker, text = check(page)
    contents = text[text.index("<nav") : text.index("</nav>")]
    links = re.findall(r'href="#([^"]+)"', contents)
    assert links == re.findall(r'<section id="([^"]+)"', text)
    assert set(links) <= set(checker.ids)
    assert "position: sticky" in text


def test_the_distance_curve_says_how_many_pairs_and_why_it_dips(runs):
    said = text_of(page_of(runs, "Correlation against distance"))
    pairs = np.concatenate([row.curve.n_pairs for run in runs for row in run.summaries[CONTRAST].rows])
    assert f"A point stands for {pairs[pairs > 0].min():,} to {pairs.max():,} pairs of a sheet." in said
    assert "Why a curve dips below zero" in said
    rows = runs[0].summaries[CONTRAST].rows
    mean = np.mean([np.average(row.curve.values, weights=row.curve.n_pairs) for row in rows])
    assert f"Mean over all pairs: topographic {mean:.2f}," in said.replace("\N{MINUS SIGN}", "-")


def test_null_figures_share_their_axis(runs, monkeypatch):
    first, second = kept = spy(monkeypatch, "draw_null_distribution", lambda: page_of(runs, "Statistics"))
    assert first.get_xlim() == second.get_xlim()
    dots = np.concatenate([np.asarray(ax.collections[0].get_offsets())[:, 0] for ax in kept])
    assert first.get_xlim()[0] < dots.min() < dots.max() < first.get_xlim()[1]
    assert [label.get_text() for label in first.get_yticklabels()][-2:] == ["layer 3 mlp", "mean"]


@pytest.mark.parametrize(
    ("name", "heading"),
    [("draw_training_curves", "Training"), ("draw_distance_curves", "Correlation against distance")],
)
def test_both_runs_are_drawn_in_the_same_axes(runs, monkeypatch, name, heading):
    (ax,) = spy(monkeypatch, name, lambda: page_of(runs, heading))
    labels = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert "topographic" in labels
    assert "control" in labels


def test_what_separates_best_comes_first(runs):
    strength = runs[0].summaries[CONTRAST].mean_abs_t
    weak = dataclasses.replace(strength, value=strength.value / 10)
    changed = dataclasses.replace(runs[0].summaries[CONTRAST], contrast="a-b", mean_abs_t=weak)
    both = dataclasses.replace(runs[0], summaries={"a-b": changed, **runs[0].summaries})
    assert list(Comparison([both], Path()).contrasts) == [CONTRAST, "a-b"]


def test_references_are_explained_in_plain_words(runs):
    said = text_of(page_of(runs, "Statistics"))
    for words in ("Kernel floor.", "Unit null.", "Label null.", "A high I alone is no evidence of anything."):
        assert words in said
    assert said.index("no evidence of anything") < said.index("transformer.h.0.attn")


@pytest.mark.parametrize("heading", list(SECTIONS))
def test_a_run_without_maps_or_metrics_is_told_what_makes_them(runs, heading):
    bare = dataclasses.replace(runs[0], summaries={}, stimuli={}, metrics=[])
    said = text_of(page_of([bare], heading))
    if heading in ("In numbers", "Maps", "Correlation against distance", "Statistics", "Stimuli and caveats"):
        assert "topographic has no maps yet" in said
        assert f"topo map {bare.folder}" in said
    if heading == "Evaluation":
        assert f"topographic has no evaluation yet: topo evaluate {bare.folder}" in said
    if heading == "Training":
        assert "topographic has logged nothing yet" in said
        assert f"topo train {bare.folder}/config.yaml" in said


@pytest.fixture
def image_makers(tmp_path, runs):
    """Two diffusion models that kept a grid at two steps."""
    made = []
    for name, condition in (("regular", "regular"), ("guided", "frozen")):
        folder = tmp_path / name
        (folder / "samples").mkdir(parents=True)
        diffusion = {
            "condition": condition,
            "samples_per_class": 3,
            "prototypes_as": "shuffled",
            "prototypes_scaled": True,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump({**runs[0].config, "diffusion": diffusion}))
        (folder / "run.json").write_text(json.dumps({"images_seen": 640, "model": "DiffusionModel"}))
        for step in (10, 20):
            save_grid(folder / "samples" / f"step-{step:06d}.png", np.zeros((6, 8, 8, 1), np.uint8), 3)
        made.append(folder)
    return read_runs(made)


def test_models_that_make_images_show_samples_in_place_of_maps(image_makers, tmp_path):
    page = write_page([run.folder for run in image_makers], tmp_path / "report.html")
    _, text = check(page)
    assert re.findall("<h2>(.*?)</h2>", text) == ["Samples", "Training", "What was run", "Versions, seeds and files"]
    assert 'alt="Samples of every class during the training of regular, guided"' in text
    said = text_of(text)
    assert "told the class by frozen prototypes of other classes, as long as random rows, on 640 images" in said
    assert "told the class by a table that starts at random, on 640 images" in said
    assert "topo map" not in said
    assert "spatial loss" not in text_of(section("Training", Comparison(image_makers, tmp_path)))


def test_samples_stand_beside_maps_and_their_lack_is_said(image_makers, runs):
    bare = dataclasses.replace(image_makers[0], samples={})
    assert "Samples" not in Comparison(runs, Path()).headings
    mixed = Comparison([bare, *runs], Path())
    assert mixed.headings == list(SECTIONS)
    assert f"regular has kept no samples yet: topo train {bare.folder}/config.yaml" in text_of(
        section("Samples", mixed)
    )


def test_a_contrast_that_one_run_lacks_is_named(runs):
    other = dataclasses.replace(runs[0].summaries[CONTRAST], contrast="noun-verb")
    both = dataclasses.replace(runs[0], summaries={**runs[0].summaries, "noun-verb": other})
    for heading in ("In numbers", "Maps", "Correlation against distance", "Statistics", "Stimuli and caveats"):
        made = page_of([both, runs[1]], heading)
        assert text_of(made).count("control has no maps of noun-verb yet") == 1
        assert re.findall("<h3>(.*?)</h3>", made)[:2] == [CONTRAST, "noun-verb"], "as their folders are called"
    assert page_of([both, runs[1]], "Maps").count("<img") == 3


def test_maps_whose_files_are_gone_are_counted(runs):
    kept = dict(list(runs[0].summaries[CONTRAST].maps.items())[:5])
    said = text_of(page_of([replaced(runs[0], maps=kept)], "Maps"))
    assert "3 of 8 maps are not drawn" in said
    assert page_of([replaced(runs[0], maps={})], "Maps").count("<img") == 0


def test_runs_without_the_spatial_loss_are_named(runs):
    made = page_of(runs, "Training")
    assert "Trained without it: control." in made
    assert made.count("<img") == 2
    made = page_of(runs[1:], "Training")
    assert "No run was trained with the spatial loss." in made
    assert made.count("<img") == 1


def test_three_runs_stand_side_by_side(runs):
    third = dataclasses.replace(runs[1], name="third")
    for heading in SECTIONS:
        absent = heading in ("Stimuli and caveats", "Samples")
        assert ("third" in page_of([*runs, third], heading)) == (not absent)
    assert page_of([*runs, third], "Maps").count("<img") == 3


def test_every_picture_has_words(runs):
    for heading in SECTIONS:
        for picture in re.findall(r"<img [^>]*>", page_of(runs, heading)):
            assert re.search(r'alt="[^"]{20,}"', picture)


def failed_run(folder, of, **record):
    """A copy of a run that died: no model, no maps, and losses that are no number at its end."""
    shutil.copytree(of, folder, ignore=shutil.ignore_patterns("model", "maps"))
    known = json.loads((folder / "run.json").read_text())
    del known["finished"], known["eval_loss"]
    (folder / "run.json").write_text(json.dumps({**known, "status": "failed", "steps": 110, **record}))
    lines = (folder / "metrics.jsonl").read_text().splitlines()[:12]
    lines += ['{"step": 120, "task_loss": null, "loss": null, "spatial/transformer.h.0.attn": null, "eval_loss": null}']
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    "record",
    [
        {"failure": {"type": "FloatingPointError", "message": "loss is NaN", "step": 120}},
        {"failure": "loss is NaN", "step": 120},
        {"step": 120, "reason": "loss is NaN"},
    ],
)
def test_a_run_that_failed_is_said_to_have_failed(tmp_path, run_folders, record):
    folder = failed_run(tmp_path / "dead", run_folders[0], **record)
    text = write_page([folder, run_folders[1]], tmp_path / "report.html").read_text(encoding="utf-8")
    said = "dead: training failed at step 120: loss is NaN"
    above, *_ = text.split("<nav ")
    assert said in text_of(above), "before anything else"
    for heading in ("What was run", "Training"):
        assert said in text_of(text.split(f"<h2>{heading}</h2>")[1].split("</section>")[0])
    assert "dead has not finished training" not in text_of(text)
    assert "control: training failed" not in text_of(text)


@pytest.mark.usefixtures("no_ink")
def test_a_failure_that_run_json_does_not_explain(tmp_path, run_folders):
    folder = failed_run(tmp_path / "dead", run_folders[0], steps=None)
    text = write_page([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "dead: training failed: run.json does not say why." in text_of(text)


def test_losses_that_are_no_number_are_gaps(tmp_path, run_folders, monkeypatch):
    dead = read_runs([failed_run(tmp_path / "dead", run_folders[0])])
    task, spatial = (
        spy(monkeypatch, name, lambda: page_of(dead, "Training"))[0]
        for name in ("draw_training_curves", "draw_spatial_curves")
    )
    assert np.isnan(task.lines[0].get_ydata()).tolist() == [False] * 11 + [True]
    assert np.isnan(spatial.lines[0].get_ydata()[-1])


def test_a_run_whose_process_lives_is_in_training(runs):
    halfway = dataclasses.replace(runs[0], record={**runs[0].record, "status": "running", "steps": 120}, is_held=True)
    said = text_of(page_of([halfway], "What was run"))
    assert "topographic is being trained right now" in said
    assert "has not finished" not in said
    assert "being trained" not in text_of(page_of([dataclasses.replace(halfway, is_held=False)], "What was run"))


def test_nulls_of_any_name_stand_in_tables_and_text(runs):
    """A map that carries a null which this room has never heard of."""

    def with_spin(number):
        return beside(number, **number.nulls, spin=number.nulls["unit"])

    runs = [
        replaced(
            run,
            morans_i=with_spin(run.summaries[CONTRAST].morans_i),
            rows=tuple(
                dataclasses.replace(row, morans_i=with_spin(row.morans_i)) for row in run.summaries[CONTRAST].rows
            ),
        )
        for run in runs
    ]
    made = page_of(runs, "Statistics")
    assert '<th colspan="3" scope="colgroup">spin null</th>' in made
    assert "Spin null." in text_of(made)
    assert "I against the spin null" in text_of(page_of(runs, "In numbers"))


def test_the_examples_run():
    assert doctest.testmod(report).failed == 0
