import dataclasses

import numpy as np
import pytest
import torch

from topographic.evaluation import NotMeasurable, subject
from topographic.evaluation.subject import PUBLISHED_SETS, SETS
from topographic.maps.localizer import localize
from topographic.objectives.weight_terms import WeightSheet
from topographic.recording import record, record_images
from topographic.recording.checksum import weights_checksum
from topographic.sheets import grid, permuted_grid
from topographic.stimuli import category_images, load_images, load_localizer

PROCESSORS = [lambda pixels, shift=shift: torch.as_tensor(pixels).float().mean(3) + shift for shift in (0, 1)]


def test_what_is_recorded_is_recorded_once(tiny_subject):
    found = tiny_subject.recorded("localizer")
    assert tiny_subject.recorded("profiles") is found, "one set in two roles"
    expected = record(
        tiny_subject.model, tiny_subject.tokenizer, load_localizer("language"), tiny_subject.sites, tiny_subject.layout
    )
    assert list(found) == list(expected) == list(tiny_subject.sheets)
    for site, one in expected.items():
        np.testing.assert_allclose(found[site].values, one.values, atol=1e-6)
        assert found[site].sheet == one.sheet == tiny_subject.sheets[site]


def test_a_recording_is_of_a_model_its_sites_their_sheets_and_a_pooling(tiny_subject, show):
    """Copies of a subject share what was recorded, as long as it is the same."""
    whole = tiny_subject.recorded("localizer")
    one = dataclasses.replace(tiny_subject, sites=tiny_subject.sites[:1])
    assert list(one.recorded("localizer")) == tiny_subject.sites[:1]
    site = "transformer.h.0.mlp"  # where the model carries no sheet
    first = dataclasses.replace(tiny_subject, sites=[site], layout=grid)
    moved = dataclasses.replace(first, layout={site: permuted_grid(36, site, seed=5)})
    assert first.recorded("localizer")[site].sheet == grid(36, site)
    assert moved.recorded("localizer")[site].sheet == permuted_grid(36, site, seed=5)
    last = show(tiny_subject, pooling="last").recorded("localizer")
    assert last[one.sites[0]].provenance["pooling"] == "last"
    with torch.no_grad():
        tiny_subject.model.transformer.wte.weight.mul_(2)
    trained_on = dataclasses.replace(tiny_subject).recorded("localizer")
    assert not np.array_equal(trained_on[one.sites[0]].values, whole[one.sites[0]].values)


def test_recording_options_arrive(tiny_subject, show):
    last = show(tiny_subject, pooling="last")
    assert next(iter(last.recorded("words").values())).provenance["pooling"] == "last"


def test_the_network_is_kept(tiny_subject, show, monkeypatch):
    found = tiny_subject.network(rule="top", level=0.05)
    expected = localize(tiny_subject.recorded("localizer"), "sentences", "nonwords", rule="top", level=0.05)
    empty = dataclasses.replace(tiny_subject, _recorded={})
    again = empty.network(rule="top", level=0.05)
    assert not empty._recorded, "nothing was recorded for a network that is there"
    for site, one in expected.items():
        np.testing.assert_array_equal(found[site].mask, one.mask)
        np.testing.assert_array_equal(again[site].mask, one.mask)
    other = dataclasses.replace(show(tiny_subject, pooling="last"), _recorded={})
    other.network(rule="top", level=0.05)
    assert other._recorded, "pooling decides the responses, so it is part of the key"
    monkeypatch.setattr(subject, "code_version", lambda module: f"another {module}")
    changed = dataclasses.replace(tiny_subject, _recorded={})
    changed.network(rule="top", level=0.05)
    assert changed._recorded, "so does the code that records"
    nowhere = dataclasses.replace(tiny_subject, cache_folder=None, _recorded={})
    for site, one in nowhere.network(rule="top", level=0.05).items():
        np.testing.assert_array_equal(one.mask, expected[site].mask)


def test_identity_and_material_follow_what_they_name(tiny_subject, show, tmp_path):
    assert tiny_subject.identity["weights"] == weights_checksum(tiny_subject.model)
    assert "0.1.0" not in tiny_subject.identity.values()
    before = tiny_subject.identity
    tiny_subject.model.config.sheet_point = "post_residual"
    after = dataclasses.replace(tiny_subject).identity
    assert {name for name in after if after[name] != before[name]} == {"architecture"}, (
        "the same weights otherwise used"
    )
    material = tiny_subject.material()
    assert set(material) == {*SETS, "pairs", "text"}
    assert material["words"] == load_localizer("nouns_verbs").checksum
    file = tmp_path / "passages.txt"
    file.write_text("One passage.\n\n  Another one. \n", encoding="utf-8")
    with_text = show(tiny_subject, text=str(file))
    changed = {role for role, checksum in with_text.material().items() if checksum != material[role]}
    assert changed == {"text"}


def test_fewer_pairs_and_given_suites_are_other_material(tiny_subject, show, suite_file):
    fewer = show(tiny_subject, pairs_per_paradigm=1)
    paradigms = tiny_subject.minimal_pairs().labels["paradigm"]
    assert len(fewer.minimal_pairs()) == 2 * len(set(paradigms))
    assert len(fewer.minimal_pairs(3)) > len(fewer.minimal_pairs())
    before = tiny_subject.material()
    assert {role for role, one in fewer.material().items() if one != before[role]} == {"pairs", "text"}
    assert tiny_subject.suites() == []
    assert "syntaxgym" not in before
    given = show(tiny_subject, syntaxgym=str(suite_file))
    assert [suite.name for suite in given.suites()] == ["number"]
    first = given.material()["syntaxgym"]
    suite_file.write_text(suite_file.read_text().replace("birds", "cats"))
    assert given.material()["syntaxgym"] != first


def test_passages_are_lines_or_good_sentences(tiny_subject, show, tmp_path):
    pairs = tiny_subject.minimal_pairs(2)
    assert tiny_subject.passages(pairs) == pairs.items[::2]
    file = tmp_path / "passages.txt"
    file.write_text("One passage.\n\n  Another one. \n", encoding="utf-8")
    assert show(tiny_subject, text=str(file)).passages(pairs) == ("One passage.", "Another one.")
    file.write_text("\n \n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no line; expected one passage per line"):
        show(tiny_subject, text=str(file)).passages(pairs)


def test_published_sets_take_the_place_of_ours(tiny_subject, show, shared):
    published = show(tiny_subject, stimuli=str(shared / "data" / "stimuli"))
    assert published.has_phrases
    assert not tiny_subject.has_phrases
    for role, name in PUBLISHED_SETS.items():
        assert published.stimuli(role).name == name
    assert set(published.material()) == {*PUBLISHED_SETS, "pairs", "text"}


def test_sentences_are_those_of_the_localizer_or_of_the_text(tiny_subject, show, tmp_path):
    sentences = tiny_subject.sentences()
    assert sentences == load_localizer("language").select(condition="sentences").items
    file = tmp_path / "passages.txt"
    file.write_text("One passage. It has two! \n\nAnother one? 3.5 is no end", encoding="utf-8")
    assert show(tiny_subject, text=str(file)).sentences() == (
        "One passage.",
        "It has two!",
        "Another one?",
        "3.5 is no end",
    )


def test_what_it_was_trained_with_is_material(tiny_subject):
    assert "weight_sheets" not in tiny_subject.material()
    seen = set()
    for one in (WeightSheet("a"), WeightSheet("a", factor=2.0), WeightSheet("a", sheet=grid(36, "a"))):
        seen.add(dataclasses.replace(tiny_subject, weight_sheets=(one,)).material()["weight_sheets"])
    assert len(seen) == 3


def test_it_is_told_in_one_line(tiny_subject, image_subject):
    assert repr(tiny_subject).startswith("LanguageSubject(TopoLMForCausalLM, sites=['transformer.h.0.attn_sheet'")
    assert repr(image_subject) == "VisionSubject(PixelMLPForImageClassification, sites='fc1')"


def test_samples_are_items_and_tokens(tiny_subject):
    items, tokens = tiny_subject.samples(0).values()
    assert items is tiny_subject.recorded("localizer")
    passages = tiny_subject.passages(tiny_subject.minimal_pairs())
    n_tokens = sum(len(tiny_subject.tokenizer(passage)["input_ids"]) for passage in passages)
    for site, sheet in tiny_subject.sheets.items():
        assert tokens[site].values.shape == (n_tokens, sheet.n_units)
        assert tokens[site].sheet == sheet


def test_images_are_recorded_once(image_subject, image_folders):
    found = image_subject.recorded("categories")
    assert image_subject.recorded("categories") is found
    shown = category_images(8, folders=image_folders)
    expected = record_images(image_subject.model, shown, "fc1", prepare=image_subject.prepare)["fc1"]
    np.testing.assert_allclose(found["fc1"].values, expected.values, atol=1e-5)
    assert found["fc1"].sheet == image_subject.sheets["fc1"]
    intact = image_subject.recorded("localizer")["fc1"]
    assert set(intact.stimuli.labels["version"]) == {"intact"}
    assert len(intact.stimuli) == 5 * 8
    assert list(image_subject.samples(0)) == ["images of five categories", "test images of mnist"]


def test_recording_options_arrive_for_images(image_subject, show):
    other = show(image_subject, pooling="max", batch_size=4)
    assert other.recorded("test")["fc1"].provenance["pooling"] == "max"


def test_recognition_is_that_of_all_test_images(image_subject, image_folders, show):
    images = load_images("mnist", "test", folder=image_folders["mnist"])
    labels = torch.tensor([int(number) for number in images.stimuli.labels["class"]])
    with torch.no_grad():
        scores = image_subject.model(pixel_values=image_subject.prepare(images.pixels)).logits
    found = image_subject.recognised(image_subject.model)
    assert found["loss"] == pytest.approx(torch.nn.functional.cross_entropy(scores, labels).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((scores.argmax(1) == labels).float().mean().item())
    few = show(image_subject, n_test_images=7)
    assert len(few.test) == 7
    assert few.recognised(few.model) != found


@pytest.mark.parametrize("test_set", [None, "none"])
def test_without_test_images(image_subject, show, test_set):
    none = show(image_subject, test_set=test_set)
    assert none.test is None
    assert list(none.material()) == ["categories"]
    assert list(none.samples(0)) == ["images of five categories"]
    for measure in (lambda: none.recorded("test"), lambda: none.loss_and_accuracy(1)):
        with pytest.raises(NotMeasurable, match="no test images are named; say test_set=cifar10, for example"):
            measure()


def test_a_set_of_other_classes_is_refused(image_subject):
    image_subject.model.config.num_labels = 3
    with pytest.raises(ValueError, match=r"test_set='mnist' has 10 classes and the model 3; give the set"):
        _ = image_subject.test


def test_identity_and_material_follow_the_images(image_subject):
    assert image_subject.identity["weights"] == weights_checksum(image_subject.model)
    brighter = dataclasses.replace(image_subject, prepare=dataclasses.replace(image_subject.prepare, mean=0.2))
    assert brighter.identity["preparation"] != image_subject.identity["preparation"]
    own = [dataclasses.replace(image_subject, prepare=one).identity["preparation"] for one in PROCESSORS]
    assert len(set(own)) == 2, "an image processor of the model's own is known by what it does"
    assert dataclasses.replace(image_subject, prepare=PROCESSORS[0]).identity["preparation"] == own[0]
    material = image_subject.material()
    assert set(material) == {"categories", "test"}
    other = dataclasses.replace(image_subject, seed=1).material()
    assert (other["categories"] != material["categories"], other["test"]) == (True, material["test"])
