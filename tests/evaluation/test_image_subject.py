import dataclasses

import numpy as np
import pytest
import torch
import yaml

from topographic.evaluation.image_subject import trained_on
from topographic.recording import record_images
from topographic.recording.checksum import weights_checksum
from topographic.stimuli import category_images, load_images


def test_what_is_recorded_is_recorded_once(image_bench, image_folders):
    found = image_bench.recorded("categories")
    assert image_bench.recorded("categories") is found
    shown = category_images(8, folders=image_folders)
    expected = record_images(image_bench.model, shown, "fc1", prepare=image_bench.prepare)["fc1"]
    np.testing.assert_allclose(found["fc1"].values, expected.values, atol=1e-5)
    assert found["fc1"].sheet == image_bench.sheets["fc1"]
    intact = image_bench.recorded("localizer")["fc1"]
    assert set(intact.stimuli.labels["version"]) == {"intact"}
    assert len(intact.stimuli) == 5 * 8
    assert list(image_bench.samples(0)) == ["images of five categories", "test images of mnist"]


def test_recording_options_arrive(image_bench):
    other = dataclasses.replace(image_bench, recording={"pooling": "max", "batch_size": 4}, _recorded={})
    assert other.recorded("test")["fc1"].provenance["pooling"] == "max"


def test_recognition_is_that_of_all_test_images(image_bench, image_folders):
    images = load_images("mnist", "test", folder=image_folders["mnist"])
    labels = torch.tensor([int(number) for number in images.stimuli.labels["class"]])
    with torch.no_grad():
        scores = image_bench.model(pixel_values=image_bench.prepare(images.pixels)).logits
    found = image_bench.recognised(image_bench.model)
    assert found["loss"] == pytest.approx(torch.nn.functional.cross_entropy(scores, labels).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((scores.argmax(1) == labels).float().mean().item())
    few = dataclasses.replace(image_bench, n_test_images=7)
    assert len(few.test) == 7
    assert few.recognised(few.model) != found


def test_without_test_images(image_bench):
    none = dataclasses.replace(image_bench, test_set=None)
    assert none.test is None
    assert list(none.material()) == ["categories"]
    assert list(none.samples(0)) == ["images of five categories"]
    for measure in (lambda: none.recorded("test"), lambda: none.recognised(none.model)):
        with pytest.raises(ValueError, match="no test images; name their set, for example test_set=cifar10"):
            measure()


def test_a_set_of_other_classes_is_refused(image_bench):
    image_bench.model.config.num_labels = 3
    with pytest.raises(ValueError, match=r"test_set='mnist' has 10 classes and the model 3; give the set"):
        _ = image_bench.test


def test_identity_and_material_follow_what_they_name(image_bench):
    assert image_bench.identity["weights"] == weights_checksum(image_bench.model)
    brighter = dataclasses.replace(image_bench, prepare=dataclasses.replace(image_bench.prepare, mean=0.2))
    assert brighter.identity["preparation"] != image_bench.identity["preparation"]
    material = image_bench.material()
    assert set(material) == {"categories", "test"}
    other = dataclasses.replace(image_bench, seed=1).material()
    assert (other["categories"] != material["categories"], other["test"]) == (True, material["test"])


def test_what_a_run_was_trained_on(tmp_path):
    assert trained_on(tmp_path) == (None, None)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"images": {"name": "cifar10", "folder": "somewhere"}}))
    assert trained_on(tmp_path) == ("cifar10", "somewhere")
    file.write_text(yaml.safe_dump({"data": {"text": "x"}}))
    assert trained_on(tmp_path) == (None, None)
