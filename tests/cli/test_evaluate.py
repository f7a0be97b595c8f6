import csv
import dataclasses
import functools
import json
import math
import re
import shutil
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from topographic.cli import main
from topographic.cli.arguments import parse_command
from topographic.cli.convert import ConvertCommand, convert
from topographic.cli.evaluate import EvaluateCommand, evaluate, headlines
from topographic.evaluation import Choices, Findings, Results, Shown, Table
from topographic.evaluation.results import load_findings
from topographic.evaluation.suites import SUITES
from topographic.layouts import Adaptor, Adaptors, ModelSource
from topographic.losses import laplacian_pyramid_loss
from topographic.maps import Selection, UnitMap
from topographic.models import TopoLMForCausalLM
from topographic.objectives.config import SmoothnessConfig, WeightSheetConfig
from topographic.recording import weights_checksum
from topographic.runs import load_model
from topographic.sheets import grid, grid_cells, permuted_grid
from topographic.stimuli import load_localizer
from topographic.training.config import RunConfig, save_config

FAST = {"quick": True, "fwhm_mm": (2.0,), "lesion_draws": 1, "lesion_pairs": 1, "batch_size": 64}
PARTS = ["network", "clusters", "profiles", "word_classes", "minimal_pairs", "lesions"]


def run(model, out, **changes):
    return evaluate(EvaluateCommand(str(model), out=str(out), **{**FAST, **changes}))


@pytest.fixture(scope="module")
def evaluation(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    assert run(tiny_model, folder) == folder / "index.html"
    return folder


def tables(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("*/*.csv"))}


def only(monkeypatch, *names, suite="topolm", kind="language"):
    """The suite has these parts and no other."""
    whole = SUITES[suite][kind]
    monkeypatch.setitem(SUITES[suite], kind, whole._replace(parts={name: whole.parts[name] for name in names}))


def watch(monkeypatch, suite="topolm"):
    """Names of the parts that are measured from now on."""
    measured, whole = [], SUITES[suite]["language"]

    def watched(name, part):
        @functools.wraps(part.measure)
        def measure(subject, choices):
            measured.append(name)
            return part.measure(subject, choices)

        return part._replace(measure=measure)

    parts = {name: watched(name, part) for name, part in whole.parts.items()}
    monkeypatch.setitem(SUITES[suite], "language", whole._replace(parts=parts))
    return measured


def test_everything_the_paper_measures_is_on_the_page(evaluation):
    text = (evaluation / "evaluation.md").read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.M) == [
        "Language network",
        "Clusters",
        "Response profiles",
        "Nouns, verbs and concreteness",
        "Minimal pairs",
        "Lesions",
    ]
    assert "4 sheets of 36 units" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len([link for link in links if link.endswith(".png")]) >= 5
    assert all((evaluation / link).is_file() for link in links)
    page = (evaluation / "index.html").read_text()
    assert page.count("data:image/png;base64,") == len([link for link in links if link.endswith(".png")])
    record = json.loads((evaluation / "evaluation.json").read_text())
    assert record["command"]["quick"] is True
    assert set(record["material"]) == {"localizer", "profiles", "words", "suites", "pairs", "text"}
    assert len(record["weights"]) == 64
    assert record["command"]["out"] == str(evaluation)
    assert list(Results.load(evaluation)) == PARTS


def test_every_number_stands_beside_its_null_and_the_published_one(evaluation):
    with open(evaluation / "word_classes" / "means.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 4
    for row in rows:
        for column in ("I", "floor", "unit null", "p (unit)", "label null", "p (label)", "TopoLM (published)"):
            assert math.isfinite(float(row[column])), column
        assert 1 / 21 <= float(row["p (unit)"]) <= 1
        # an untrained model is as smooth as its readout makes it
        assert abs(float(row["I"]) - float(row["floor"])) < 0.25
    with open(evaluation / "lesions" / "lesions.csv", newline="") as opened:
        lesions = list(csv.DictReader(opened))
    assert {row["measure"] for row in lesions} >= {"perplexity", "accuracy"}
    assert all(float(row["p (connected)"]) >= 0.5 for row in lesions), "one draw cannot give a smaller p"


def test_maps_and_networks_are_kept_as_nouns(evaluation):
    # the clusters are those of four definitions, beside the map that was tested
    for part, kind, n_names in (("network", "maps", 1), ("clusters", "maps", 5), ("word_classes", "maps", 4)):
        files = sorted((evaluation / part / kind).glob("*/*.safetensors"))
        assert len(files) == n_names * 4, "one per sheet"
        kept = UnitMap.load(files[0])
        assert kept.sheet.is_readout
        assert kept.values.shape == (36,)
        assert kept.nulls == {}
    with open(evaluation / "network" / "rules.csv", newline="") as opened:
        q = next(csv.DictReader(opened))
    network = [Selection.load(file) for file in (evaluation / "network" / "selections" / "q_length_none").iterdir()]
    assert sum(one.n_selected for one in network) == int(q["units"])


def test_the_same_command_measures_nothing_again(evaluation, tiny_model, monkeypatch):
    measured, before = watch(monkeypatch), tables(evaluation)
    run(tiny_model, evaluation)
    assert measured == []
    assert tables(evaluation) == before


def test_elsewhere_and_in_other_batches_it_gives_the_same_numbers(evaluation, tiny_model, tmp_path):
    run(tiny_model, tmp_path / "again", batch_size=7)
    again = tables(tmp_path / "again")
    assert list(again) == list(tables(evaluation))
    for name, content in tables(evaluation).items():
        for row, other in zip(
            csv.reader(content.decode().splitlines()), csv.reader(again[name].decode().splitlines()), strict=True
        ):
            for cell, twin in zip(row, other, strict=True):
                try:
                    assert float(cell) == pytest.approx(float(twin), rel=1e-2, abs=1e-3), name
                except ValueError:
                    assert cell == twin


def test_the_seed_decides_what_is_drawn(evaluation, tiny_model, tmp_path, monkeypatch):
    only(monkeypatch, "network", "profiles")
    run(tiny_model, tmp_path, seed=1)
    for name, drawn in (("network/rules.csv", "r null"), ("profiles/profiles.csv", "low")):
        first, second = (list(csv.DictReader((folder / name).open(newline=""))) for folder in (evaluation, tmp_path))
        assert [row[drawn] for row in first] != [row[drawn] for row in second]
        fixed = "units" if name.startswith("network") else "mean"
        assert [row[fixed] for row in first if row.get("length") != "matched"] == [
            row[fixed] for row in second if row.get("length") != "matched"
        ]


def test_an_interrupted_evaluation_goes_on(evaluation, tiny_model, tmp_path, monkeypatch):
    whole = SUITES["topolm"]["language"]

    @functools.wraps(whole.parts["word_classes"].measure)
    def stop(subject, choices):
        raise KeyboardInterrupt

    broken = {**whole.parts, "word_classes": whole.parts["word_classes"]._replace(measure=stop)}
    with monkeypatch.context() as patch:
        patch.setitem(SUITES["topolm"], "language", whole._replace(parts=broken))
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path)
    assert not (tmp_path / "index.html").exists()
    measured = watch(monkeypatch)
    run(tiny_model, tmp_path)
    assert measured == ["word_classes", "minimal_pairs", "lesions"]
    assert tables(tmp_path) == tables(evaluation)


def test_only_what_a_choice_decides_is_measured_again(evaluation, tiny_model, tmp_path, monkeypatch, capsys):
    measured = watch(monkeypatch)
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in evaluation.rglob("*"):
        if file.is_file():
            target = copied / file.relative_to(evaluation)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    run(tiny_model, copied)
    assert measured == []
    assert "replaced" not in capsys.readouterr().out
    run(tiny_model, copied, lesion_pairs=2)
    assert measured == ["lesions"]
    assert f"replaced in {copied}: lesions (lesion_pairs changed)\n" in capsys.readouterr().out
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"sentence_good": "the dog runs", "sentence_bad": "the dog run"}) + "\n")
    measured.clear()
    run(tiny_model, copied, lesion_pairs=2, pairs=str(pairs))
    assert measured == ["minimal_pairs", "lesions"]
    assert "minimal_pairs, lesions (pairs, text changed)\n" in capsys.readouterr().out


def test_a_model_without_sheets_is_laid_out(tiny_model, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    folder = tmp_path / "gpt2"
    shape = {"n_embd": 36, "n_layer": 1, "n_head": 4, "n_positions": 64}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="carries no sheets; say which modules to lay out"):
        run(folder, tmp_path / "out")
    only(monkeypatch, "network", "lesions")
    run(folder, tmp_path / "out", sites="transformer.h.*.mlp")
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert "GPT2LMHeadModel" in text
    assert "1 sheet of 36 units" in text


def test_suites_of_syntax_are_measured_where_they_are_given(evaluation, tiny_model, tmp_path, suite_file, monkeypatch):
    lead = (evaluation / "evaluation.md").read_text().splitlines()[2]
    assert "Not measured, because not asked for: syntaxgym (--syntaxgym)." in lead
    assert not (evaluation / "syntaxgym").exists()
    only(monkeypatch, "minimal_pairs", "syntaxgym")
    run(tiny_model, tmp_path / "out", syntaxgym=str(suite_file), pairs_per_paradigm=2)
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert "## SyntaxGym" in text
    assert "Not measured" not in text
    assert "minimal pairs: own, the first 2 of each paradigm" in text
    with open(tmp_path / "out" / "minimal_pairs" / "paradigms.csv", newline="") as opened:
        assert {row["pairs"] for row in csv.DictReader(opened)} == {"2"}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["parts"] == ["minimal_pairs", "syntaxgym"]


def test_a_model_without_a_tokenizer_is_given_one(tiny_model, tmp_path, monkeypatch):
    only(monkeypatch, "minimal_pairs")
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare, ignore=shutil.ignore_patterns("*token*"))
    with pytest.raises(ValueError, match=r"no tokenizer can be read from .*bare .* --tokenizer FOLDER_OR_NAME"):
        run(bare, tmp_path / "out")
    run(bare, tmp_path / "out", tokenizer=str(tiny_model))
    run(tiny_model, tmp_path / "with_its_own")
    assert tables(tmp_path / "out") == tables(tmp_path / "with_its_own")


def test_a_converted_checkpoint_of_the_authors(shared, text, tmp_path):
    """Words as tokens, because its context of 32 tokens is short."""
    folder, tokenizer = shared / "golden" / "topolm_checkpoint_tiny", tmp_path / "tokenizer"
    counts = Counter(text.read_text(encoding="utf-8").split())
    known = dict.fromkeys(["<end>", *load_localizer("nouns_verbs").items, *(word for word, _ in counts.most_common())])
    words = {word: index for index, word in enumerate(list(known)[:300])}
    made = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<end>", eos_token="<end>").save_pretrained(tokenizer)
    convert(ConvertCommand(str(folder / "ckpt.pt"), positions=str(folder / "positions"), out=str(tmp_path / "model")))
    page = run(tmp_path / "model", tmp_path / "out", tokenizer=str(tokenizer))
    assert "4 sheets of 64 units" in page.read_text()
    kept = load_findings(tmp_path / "out" / "network")
    sheets = TopoLMForCausalLM.from_pretrained(tmp_path / "model").sheets()
    one = kept.selections["q_length_none/transformer.h.1.attn_sheet"]
    assert one.sheet == sheets[one.site], "their positions, not a layout of ours"
    for name in PARTS:
        assert load_findings(tmp_path / "out" / name).tables[0].rows, name


def test_run_folders_keep_their_evaluation(tiny_model, tmp_path, monkeypatch):
    only(monkeypatch, "minimal_pairs")
    (tmp_path / "model").symlink_to(tiny_model)
    assert evaluate(EvaluateCommand(str(tmp_path), **FAST)) == tmp_path / "evaluation" / "index.html"
    with pytest.raises(ValueError, match=r"is no run folder .* say where results go: --out FOLDER"):
        evaluate(EvaluateCommand(str(tiny_model), **FAST))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fwhm_mm=[-1.0]"], r"fwhm_mm=\[-1.0\]; expected widths in mm of 0"),
        (["fwhm_mm=[]"], r"fwhm_mm=\[\]; expected widths"),
        (["fwhm_mm=[2.0,2.0]"], "names a width twice"),
        (["pairs_per_paradigm=0"], "pairs_per_paradigm=0; expected a whole number of at least 1"),
        (["n_draws=18"], "n_draws=18; expected a whole number of at least 19"),
        (["n_draws=-1"], "n_draws=-1; expected a whole number of at least 19"),
        (["seed=-1"], "seed=-1; expected a whole number of at least 0"),
        (["fwhm_mm=[-2]"], r"fwhm_mm=\[-2.0\]; expected widths"),
        (["cluster_threshold=nan"], "nan"),
        (["lesion_draws=0"], "lesion_draws=0; expected a whole number of at least 99"),
        (["lesion_fractions=[0.6]"], r"lesion_fractions=\[0.6\]; expected shares above 0 and at most 0.5"),
        (["cluster_threshold=0"], "expected a t above 0"),
        (["suite=topography"], "suite"),
        (["removed=[0.5,1.0]"], r"removed=\[0.5, 1.0\]; expected shares above 0 and below 1"),
        (["removed=[]"], r"removed=\[\]; expected shares"),
        (["permuted_draws=1"], "permuted_draws=1; expected a whole number of at least 2"),
        (["window_words=7"], "window_words=7"),
        (["n_images=1"], "n_images=1; expected a whole number of at least 2"),
        (["window_sequences=0"], "window_sequences=0; expected a whole number of at least 1"),
        (["colour=red"], "`topo evaluate --help` lists every key"),
    ],
)
def test_what_nothing_can_be_measured_with(words, message):
    with pytest.raises(ValueError, match=message):
        parse_command("evaluate", EvaluateCommand, "", ["a_model", *words])


def test_the_command_line_fills_the_command(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("fwhm_mm: [0.0, 1.0]\nlesion_mode: mean\n")
    command = parse_command("evaluate", EvaluateCommand, "", ["a_model", str(recipe), "seed=3"])
    assert (command.run, command.fwhm_mm, command.lesion_mode, command.seed) == ("a_model", (0.0, 1.0), "mean", 3)
    assert command.part(Choices) == dataclasses.asdict(Choices(fwhm_mm=(0.0, 1.0), lesion_mode="mean", seed=3))
    assert command.part(Shown) == dataclasses.asdict(Shown())
    assert parse_command("evaluate", EvaluateCommand, "", ["a_model", "quick=true"]).quick


def test_every_choice_is_declared_once_and_helps_on_the_command_line(capsys):
    own = set(EvaluateCommand.__annotations__)
    assert not own & {field.name for of in (Choices, Shown) for field in dataclasses.fields(of)}
    with pytest.raises(SystemExit):
        parse_command("evaluate", EvaluateCommand, "", ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for text in ("Draws of each null.", "Folder of the published stimulus sets", "A run folder, or the name"):
        assert text in said


def test_published_sets_that_are_not_there(tiny_model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no langloc_fmri_run"):
        run(tiny_model, tmp_path / "out", stimuli=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no minimal pairs at"):
        run(tiny_model, tmp_path / "out", pairs=str(tmp_path / "blimp"))


def write_published(folder, *, baseline="N"):
    """The four published sets in their layout, with made up words."""
    header = ",".join(f"stim{place}" for place in range(1, 15))
    for number, run_and_set in enumerate((run, index) for run in (1, 2) for index in range(1, 6)):
        codes = ["S"] * 24 + [baseline] * 24
        rows = [
            f"x,{','.join(['the dog', f'w{number}', str(row), *['ran'] * 9])},{code}" for row, code in enumerate(codes)
        ]
        file = folder / "langloc_fmri_run{}_stim_set{}.csv".format(*run_and_set)
        file.write_text("\n".join([header, *rows]) + "\n")
    swjn = [f"the dog {row},{code}" for code in "SWJN" for row in range(160)]
    (folder / "fedorenko_stimuli.csv").write_text("\n".join(["sentence,condition", *swjn]) + "\n")
    phrases = [f"{row % 2},1,{name},animal,the {name} {row}" for name in ("noun", "verb") for row in range(288)]
    (folder / "elli_stimuli.csv").write_text("\n".join(["run,block,class,category,pair", *phrases]) + "\n")
    words = [
        f"{name}{row},{'abstract' if row < 40 else 'concrete'},{name}" for name in ("noun", "verb") for row in range(80)
    ]
    (folder / "moseley_stimuli.csv").write_text("\n".join(["word,category,class", *words]) + "\n")


def test_stimuli_with_one_condition_end_in_one_line(tiny_model, tmp_path, capsys):
    write_published(tmp_path, baseline="S")
    assert main(["evaluate", str(tiny_model), f"stimuli={tmp_path}", f"out={tmp_path / 'out'}", "quick=true"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("topo evaluate: ")
    assert "has no condition 'nonwords'; it has ['sentences']" in line
    assert not (tmp_path / "out" / "index.html").exists()


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("pairs", '{"sentence_good": "the dog runs"}', r"line 1 has no 'sentence_bad'; it has \['sentence_good'\]"),
        (
            "pairs",
            '{"sentence_good": "the dog runs", "sentence_bad": " "}',
            r"sentence_bad is ' '; expected a sentence",
        ),
        ("syntaxgym", "{}", r"file\.json"),
        ("text", "", "holds no line; expected one passage per line"),
    ],
)
def test_files_that_are_not_as_they_should_be_end_in_one_line(tiny_model, tmp_path, capsys, option, content, message):
    file = tmp_path / "file.json"
    file.write_text(content)
    assert main(["evaluate", str(tiny_model), f"{option}={file}", f"out={tmp_path / 'out'}", "quick=true"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("topo evaluate: ")
    assert re.search(message, line)
    assert not (tmp_path / "out").exists(), "nothing is measured before everything that is shown was read"


# the suite toponets

NETS = {"quick": True, "suite": "toponets", "fwhm_mm": (0.0,), "lesion_pairs": 1, "removed": (0.5,), "window_words": 12}


@pytest.fixture(scope="module")
def nets(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "model").symlink_to(tiny_model)
    assert evaluate(EvaluateCommand(str(folder), **NETS)) == folder / "evaluation_toponets" / "index.html"
    return folder / "evaluation_toponets"


def test_everything_toponets_measures_is_on_the_page(nets):
    text = (nets / "evaluation.md").read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.M) == [
        "Smooth weights",
        "Smooth responses",
        "Effective dimensionality",
        "Compression",
        "Selectivity",
        "Integration windows",
    ]
    assert "2 sheets of 144 units" in text, "the first MLP layers, without being named"
    assert "Deb et al. (TopoNets, ICLR 2025)" in text
    assert "Rathi" not in text
    assert "not measured" not in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all((nets / link).is_file() for link in links)
    page = (nets / "index.html").read_text()
    assert page.count("data:image/png;base64,") == len([link for link in links if link.endswith(".png")]) >= 15
    kept = sorted(file.stem for file in (nets / "windows" / "maps" / "c").iterdir())
    assert kept == [f"transformer.h.{layer}.mlp.c_fc" for layer in range(2)]


def test_only_the_windows_depend_on_their_words(nets, monkeypatch):
    measured, before = watch(monkeypatch, "toponets"), tables(nets)
    evaluate(EvaluateCommand(str(nets.parent), **NETS))
    assert measured == []
    assert tables(nets) == before
    evaluate(EvaluateCommand(str(nets.parent), **{**NETS, "window_words": 13}))
    assert measured == ["windows"]


def own_run(folder, model, **smoothness):
    """A run folder as far as an evaluation looks at it."""
    folder.mkdir(exist_ok=True)
    if not (folder / "model").exists():
        (folder / "model").symlink_to(model)
    save_config(folder / "config.yaml", RunConfig(smoothness=SmoothnessConfig(**smoothness)))
    return folder


def rows_of(folder, part="weights", table="layers"):
    with open(folder / "evaluation_toponets" / part / f"{table}.csv", newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_run_is_measured_on_its_own_sheets_and_the_page_says_so(tiny_model, tmp_path, monkeypatch):
    """Layers, kind, factor and blur of its config.yaml; a control has them too."""
    only(monkeypatch, "weights", "dimensionality", suite="toponets")
    named = {"sites": ["transformer.h.*.mlp.c_proj"], "factor": (2.0, 3.0), "blur": "antialias"}
    trained = own_run(tmp_path / "trained", tiny_model, weight=1.0, **named)
    control = own_run(tmp_path / "control", tiny_model, **{**named, "sites": None, "watched": named["sites"]})
    for run_folder in (trained, control):
        evaluate(EvaluateCommand(str(run_folder), **NETS))
        text = (run_folder / "evaluation_toponets" / "evaluation.md").read_text()
        assert "2 sheets of 36 units" in text
        assert "The layers are the run's own: those its config.yaml names in the section smoothness." in text
        assert "output units with a blur of factor 2 x 3 (antialias), as the run itself was told" in text
        assert len(rows_of(run_folder, "dimensionality")) == 4, "two layers, items and tokens"
    rows = rows_of(trained)
    assert rows == rows_of(control)
    model = TopoLMForCausalLM.from_pretrained(tiny_model)
    for layer, row in enumerate(rows):
        weight = model.transformer.h[layer].mlp.c_proj.weight
        expected = laplacian_pyramid_loss(weight, (2.0, 3.0), blur="antialias").item()
        assert float(row["loss"]) == pytest.approx(expected, abs=1e-5)


def test_other_words_of_the_run_measure_the_weights_again_and_nothing_else(tiny_model, tmp_path, monkeypatch):
    only(monkeypatch, "weights", "dimensionality", suite="toponets")
    sites, own = ["transformer.h.*.mlp.c_fc"], tmp_path / "run"
    measured = watch(monkeypatch, "toponets")
    seen = []
    for smoothness in (
        {},
        {"sites": sites},
        {"sites": sites, "weight": 1.0},
        {"sites": sites, "factor": 4.0},
        {"sites": sites, "factor": 4.0, "blur": "gaussian"},
        {"sites": sites, "kind": "input", "factor": 4.0},
        {"sheets": [WeightSheetConfig(sites[0], shape=(9, 16))]},
    ):
        measured.clear()
        evaluate(EvaluateCommand(str(own_run(own, tiny_model, **smoothness)), **NETS))
        seen.append([*measured])
    both = ["weights", "dimensionality"]
    assert seen == [both, ["weights"], [], ["weights"], ["weights"], ["weights"], both]
    assert {row["units"] for row in rows_of(own)} == {"9 x 16"}


def test_named_sites_lie_where_the_words_say_and_are_blurred_as_the_run_was(tiny_model, tmp_path, monkeypatch):
    only(monkeypatch, "weights", suite="toponets")
    own = own_run(tmp_path / "run", tiny_model, weight=1.0, sites=["transformer.h.0.mlp.c_fc"], factor=4.0)
    command = EvaluateCommand(str(own), **NETS, sites="transformer.h.*.mlp.c_fc", layout="permuted_grid")
    evaluate(command)
    first, second = rows_of(own)
    assert [(row["factor"], row["as"]) for row in (first, second)] == [("4", "the run's own"), ("3", "published")]
    text = (own / "evaluation_toponets" / "evaluation.md").read_text()
    assert "The layers are the run's own" not in text
    weight = TopoLMForCausalLM.from_pretrained(tiny_model).transformer.h[0].mlp.c_fc.weight
    order = grid_cells(permuted_grid(144, "transformer.h.0.mlp.c_fc"))[1]
    assert float(first["loss"]) == pytest.approx(laplacian_pyramid_loss(weight, 4.0, order=order).item(), abs=1e-5)
    evaluate(dataclasses.replace(command, sites=None))
    (row,) = rows_of(own)
    assert float(row["loss"]) == pytest.approx(float(first["loss"]), abs=1e-6), "permuted as a control of topography"
    evaluate(dataclasses.replace(command, sites=None, layout=None))
    assert float(rows_of(own)[0]["loss"]) == pytest.approx(laplacian_pyramid_loss(weight, 4.0).item(), abs=1e-5)


def test_any_model_is_laid_out_and_other_names_are_asked_for(tiny_model, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {"hidden_size": 36, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3}
    llama = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    LlamaForCausalLM(llama).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    only(monkeypatch, "weights", "compression", suite="toponets")
    options = {**NETS, "n_draws": 19}
    evaluate(EvaluateCommand(str(tmp_path / "llama"), out=str(tmp_path / "out"), **options))
    assert "2 sheets of 64 units" in (tmp_path / "out" / "evaluation.md").read_text()
    bert = BertConfig(vocab_size=len(tokenizer), is_decoder=True, **sizes)
    BertLMHeadModel(bert).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"not of BertLMHeadModel .*; name its sites, for example sites='bert.enc"):
        evaluate(EvaluateCommand(str(tmp_path / "bert"), out=str(tmp_path / "other"), **options))


def test_a_vision_run_is_evaluated_on_what_it_was_trained_on(image_folders, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = {
        "model.preset": "vit_demo",
        "model.config": "{hidden_size: 24, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 2}",
        "images.name": "cifar10",
        "images.folder": image_folders["cifar10"],
        "images.cache_folder": tmp_path / "cache",
        "spatial.weight": 0,
        "smoothness.sites": "[vit.layers.0.mlp.fc2]",
        "smoothness.factor": 2,
        "training.max_steps": 1,
        "training.batch_size": 4,
        "training.report_to": "none",
        "run": run,
    }
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 0
    folders = {name: str(folder) for name, folder in image_folders.items() if name != "cifar10"}
    options = {"suite": "toponets", "quick": True, "fwhm_mm": (0.0,), "removed": (0.5,), "n_images": 6}
    command = EvaluateCommand(str(run), image_folders=folders, **options)
    page = evaluate(command)
    assert page == run / "evaluation_toponets" / "index.html"
    text = (page.parent / "evaluation.md").read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.M) == [
        "Smooth weights",
        "Smooth responses",
        "Effective dimensionality",
        "Compression",
        "Selectivity",
    ]
    assert "1 sheet of 24 units, 6 images of each of five categories, 30 test images of cifar10" in text
    assert "ResNet-18, ResNet-50 and ViT-B/32" in text
    assert "The layers are the run's own" in text
    assert "factor 2 (toponets), as the run itself was told" in text
    assert "not measured" not in text.lower()
    record = json.loads((page.parent / "evaluation.json").read_text())
    assert set(record["material"]) == {"categories", "test", "weight_sheets"}
    with pytest.raises(ValueError, match=r"is a vision model and suite='topolm' for others; use suite=toponets"):
        evaluate(EvaluateCommand(str(run), image_folders=folders))
    only(monkeypatch, "compression", suite="toponets", kind="vision")
    evaluate(dataclasses.replace(command, test_set="none"))
    assert "no test images are named" in (page.parent / "evaluation.md").read_text()


def test_a_layout_is_measured_as_a_run_and_another_layout_anew(tiny_model, tmp_path, monkeypatch):
    """Into its own folder; two rotations onto one sheet have different results under different keys."""
    only(monkeypatch, "network")
    model, _ = load_model(tiny_model, device="cpu")
    seen = []
    for seed in (0, 1):
        layout = tmp_path / f"layout{seed}"
        rotation = torch.linalg.qr(torch.randn(36, 36, generator=torch.Generator().manual_seed(seed)))[0]
        adaptor = Adaptor("transformer.h.0", torch.zeros(36), torch.ones(36), rotation, grid(36, "shown"), "rotation")
        source = ModelSource(str(tiny_model), weights_checksum(model))
        Adaptors([adaptor], source).save(layout)
        page = evaluate(EvaluateCommand(str(layout), out=None if seed == 0 else str(tmp_path / "out"), **FAST))
        seen.append(tables(page.parent))
        if seed == 0:
            assert page == layout / "evaluation" / "index.html"
            shutil.copytree(page.parent, tmp_path / "out")
    assert seen[0] != seen[1]


def test_three_numbers_are_said_at_the_end():
    row = {"FWHM (mm)": 2.0, "clusters": 5, "I": 0.4321, "p": 0.005}
    about = {"keys": ("FWHM (mm)",), "headline": ("clusters", "I", "p")}
    parts = {name: Findings(name.capitalize(), "", [Table("main", "Main", [row], **about)]) for name in _PARTS}
    parts["lesions"] = Findings("Lesions", "", notes=["Not measured: no pairs."])
    lines = headlines(Results("topolm", "A model.", parts))
    assert lines == [
        "Clusters (2.0): clusters 5, I 0.432, p .005",
        "Minimal_pairs (2.0): clusters 5, I 0.432, p .005",
        "Network (2.0): clusters 5, I 0.432, p .005",
    ]


_PARTS = ("network", "clusters", "minimal_pairs", "lesions")
