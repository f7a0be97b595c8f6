import hashlib

import numpy as np
import pytest

from topographic.stimuli import ImageStimuli, StimulusSet, joined


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 3, 5, 1), np.uint8)


@pytest.fixture
def stimuli():
    return StimulusSet(
        "toy", ["a/0", "a/1", "a/2", "a/3"], ["cat", "dog", "cat", "cow"], labels={"side": list("lrrl")}, source="me"
    )


@pytest.fixture
def images(stimuli, pixels):
    return ImageStimuli(stimuli, pixels)


def test_the_checksum_covers_the_pixels(stimuli, pixels, images):
    digest = hashlib.sha256(b"(3, 5, 1)" + pixels[2].tobytes()).hexdigest()
    assert images.stimuli.labels["pixels"][2] == digest[:16]
    other = pixels.copy()
    other[2, 1, 1] ^= 1
    assert ImageStimuli(stimuli, other).stimuli.checksum != images.stimuli.checksum
    assert ImageStimuli(stimuli, pixels.copy()).stimuli == images.stimuli
    assert len(images) == 4
    assert repr(images) == "ImageStimuli(StimulusSet('toy': 2 cat, 1 dog, 1 cow), 3 x 5 x 1)"


def test_a_set_stays_with_its_images(images, pixels):
    assert ImageStimuli(images.stimuli, pixels).stimuli == images.stimuli
    with pytest.raises(ValueError, match=r"image 1 of 'toy' \('a/1'\) is not the one the set was made with"):
        ImageStimuli(images.stimuli, pixels[[0, 2, 1, 3]])


def test_take_and_select(images, pixels):
    taken = images.take([3, 0, 3])
    assert taken.stimuli.items == ("a/3", "a/0", "a/3")
    np.testing.assert_array_equal(taken.pixels, pixels[[3, 0, 3]])
    kept = images.select(condition=["cat", "cow"], side="l")
    assert kept.stimuli.items == ("a/0", "a/3")
    assert set(kept.stimuli.labels) == {"side", "pixels"}
    np.testing.assert_array_equal(kept.pixels, pixels[[0, 3]])
    with pytest.raises(ValueError, match="no item matches"):
        images.select(condition="cow", side="r")


def test_round_trip(images, tmp_path):
    images.save(tmp_path / "toy.safetensors")
    loaded = ImageStimuli.load(tmp_path / "toy.safetensors")
    assert loaded.stimuli.to_json() == images.stimuli.to_json()
    np.testing.assert_array_equal(loaded.pixels, images.pixels)


def test_joined(images, pixels):
    others = ImageStimuli(StimulusSet("b", ["b/0"], ["car"], labels={"side": ["l"]}, source="you"), pixels[:1])
    both = joined("both", [images, others])
    assert both.stimuli.name == "both"
    assert both.stimuli.items == (*images.stimuli.items, "b/0")
    assert both.stimuli.conditions[-1] == "car"
    assert both.stimuli.labels["side"] == tuple("lrrll")
    assert both.stimuli.source == "me; you"
    np.testing.assert_array_equal(both.pixels, np.concatenate([pixels, pixels[:1]]))


def test_joined_refuses(images, pixels):
    with pytest.raises(ValueError, match="no sets to join to 'x'; expected at least one"):
        joined("x", [])
    plain = StimulusSet("b", ["b/0"], ["car"])
    with pytest.raises(ValueError, match="different label columns"):
        joined("x", [images, ImageStimuli(plain, pixels[:1])])
    labelled = StimulusSet("b", ["b/0"], ["car"], labels={"side": ["l"]})
    with pytest.raises(ValueError, match="different sizes"):
        joined("x", [images, ImageStimuli(labelled, pixels[:1, :, :3])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pixels: pixels[:3], "images of 'toy': 3 for 4 items; give each item one"),
        (lambda pixels: pixels[..., 0], r"images of 'toy' are uint8 \(4, 3, 5\); expected uint8"),
        (lambda pixels: pixels / 255, r"images of 'toy' are float64 \(4, 3, 5, 1\); expected uint8"),
        (lambda pixels: pixels.repeat(2, axis=3), r"are uint8 \(4, 3, 5, 2\)"),
        (lambda pixels: pixels[:, :0], r"are uint8 \(4, 0, 5, 1\)"),
    ],
)
def test_refuses(stimuli, pixels, change, message):
    with pytest.raises(ValueError, match=message):
        ImageStimuli(stimuli, change(pixels))


def test_not_changeable(images, pixels):
    with pytest.raises(AttributeError):
        images.pixels = pixels


def test_as_a_table_and_in_one_line():
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5, 1)
    labels = {"place": ["x", "y", "y"]}
    images = ImageStimuli(StimulusSet("toy", ["a", "b", "c"], ["one", "two", "two"], labels=labels), pixels)
    frame = images.to_frame()
    assert frame["image"].tolist() == ["a", "b", "c"]
    assert frame["pixels"].nunique() == 3
    assert repr(images) == "ImageStimuli(StimulusSet('toy': 1 one, 2 two), 4 x 5 x 1)"
    assert images.select(place="y").stimuli.items == ("b", "c")  # a label of that name was once hidden
