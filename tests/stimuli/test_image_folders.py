import io
import sys

import numpy as np
import pytest
from PIL import Image

from topographic.stimuli import load_images
from topographic.stimuli.image_folders import by_turns, class_folders, picture_pixels

DRAW = np.random.default_rng(0)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def colour(height=6, width=4):
    return DRAW.integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def pets(tmp_path):
    """Two classes of three and of one picture, and what lies about in folders."""
    shown = [save(tmp_path / "pets" / "cat" / f"{number}.png", colour()) for number in range(3)]
    shown.append(save(tmp_path / "pets" / "dog" / "further down" / "a.bmp", colour()))
    (tmp_path / "pets" / "notes.txt").write_text("no picture")
    (tmp_path / "pets" / ".hidden").mkdir()
    (tmp_path / "pets" / "cat" / ".thumb.png").write_bytes(b"")
    return tmp_path / "pets", np.stack(shown)


@pytest.mark.parametrize("how", ["by path", "by name"])
def test_a_folder_of_classes(pets, how):
    folder, pixels = pets
    images = load_images(str(folder)) if how == "by path" else load_images("pets", folder=folder)
    assert repr(images) == "ImageStimuli(StimulusSet('pets/all': 3 cat, 1 dog), 6 x 4 x 3)"
    np.testing.assert_array_equal(images.pixels, pixels)
    assert images.stimuli.items[-1] == "pets/dog/further down/a.bmp"
    assert images.stimuli.labels["class"] == ("0", "0", "0", "1")
    assert "pets (4 files)" in images.stimuli.source


def test_so_many_by_turns(pets):
    assert load_images("pets", n_images=2, folder=pets[0]).stimuli.conditions == ("cat", "dog")
    assert load_images("pets", n_images=3, folder=pets[0]).stimuli.conditions == ("cat", "cat", "dog")
    with pytest.raises(ValueError, match="n_images=5; pets/all has 4: ask for 1 to 4, or None"):
        load_images("pets", n_images=5, folder=pets[0])
    assert by_turns("x", [1, 0, 0, 1, 0], 3).tolist() == [0, 1, 2]
    assert by_turns("x", [1, 0, 0, 1, 0], 4).tolist() == [0, 1, 2, 3]
    assert by_turns("x", [2, 0], None).tolist() == [0, 1]


def test_splits_have_one_numbering(tmp_path):
    for split, names in {"training": "abc", "Val": "bc", "test": "c"}.items():
        for name in names:
            save(tmp_path / split / name / "1.png", colour())
    known = class_folders("mine", tmp_path)
    assert (set(known.splits), known.classes) == ({"train", "validation", "test"}, ("a", "b", "c"))
    assert load_images("mine", folder=tmp_path).stimuli.labels["class"] == ("2",)
    assert load_images("mine", "validation", folder=tmp_path).stimuli.conditions == ("b", "c")
    with pytest.raises(ValueError, match="'mine' has no split 'all'; expected one of 'train'"):
        load_images("mine", "all", folder=tmp_path)


def test_one_size_for_all(pets):
    folder, _ = pets
    save(folder / "dog" / "large.png", colour(12, 12))
    with pytest.raises(
        ValueError, match=r"pictures of 2 sizes, \(6, 4\) to \(12, 12\); say to which one .* images\.si"
    ):
        load_images("pets", folder=folder)
    images = load_images("pets", folder=folder, size=6)
    assert images.pixels.shape == (5, 6, 6, 3)
    save(folder / "dog" / "large.png", np.full((12, 12, 3), 7, np.uint8))
    assert (load_images("pets", folder=folder, size=6).pixels[4] == 7).all()


def test_gray_beside_colour(tmp_path):
    gray = save(tmp_path / "a" / "1.png", DRAW.integers(0, 256, (5, 5), np.uint8))
    assert load_images("gray", folder=tmp_path).pixels.shape == (1, 5, 5, 1)
    save(tmp_path / "b" / "1.png", colour(5, 5))
    np.testing.assert_array_equal(load_images("both", folder=tmp_path).pixels[0], np.stack([gray] * 3, -1))


def test_what_a_picture_is_said_to_show_is_shown(tmp_path):
    """Turned as its camera says, from a palette, and with an alpha channel that hides nothing."""
    pixels = colour(8, 4)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    out = io.BytesIO()
    turned.save(out, "PNG", exif=exif)
    np.testing.assert_array_equal(picture_pixels("x", Image.open(out)), np.rot90(pixels, -1))
    palette = Image.fromarray(np.where(pixels[..., :1] > 127, 255, [10, 20, 30]).astype(np.uint8)).quantize(4)
    np.testing.assert_array_equal(picture_pixels("x", palette), np.asarray(palette.convert("RGB")))
    opaque = Image.fromarray(np.dstack([pixels, np.full((8, 4), 255, np.uint8)]))
    np.testing.assert_array_equal(picture_pixels("x", opaque), pixels)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(np.full((4, 4), 40000, np.uint16)), r"1\.png has gray levels of more than 8 bits \(I;16\)"),
        (Image.fromarray(np.zeros((4, 4, 4), np.uint8)), r"1\.png is transparent in places; put it on the ground"),
        (None, r"1\.png is damaged or no picture"),
    ],
)
def test_pictures_that_would_not_show_what_they_hold(tmp_path, picture, message):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"\x89PNG, and no more")
    if picture is not None:
        picture.save(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=message) as refused:
        load_images("mine", folder=tmp_path)
    assert "\n" not in str(refused.value)


def test_a_film_is_no_picture(tmp_path):
    (tmp_path / "a").mkdir()
    frames = [Image.fromarray(colour()) for _ in range(2)]
    frames[0].save(tmp_path / "a" / "1.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"1\.gif holds 2 pictures; expected one"):
        load_images("mine", folder=tmp_path)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"image set 'mine': no folder at .*gone; pass one with a folder for e"):
        load_images("mine", folder=tmp_path / "gone")
    with pytest.raises(
        ValueError, match="holds 0 pictures beside its folders of classes and 0 of these; put every pic"
    ):
        load_images("mine", folder=tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"a holds no picture \(\.bmp, .*\); fill or remove the folder"):
        load_images("mine", folder=tmp_path)
    save(tmp_path / "loose.png", colour())
    with pytest.raises(ValueError, match="holds 1 pictures beside its folders of classes and 1 of these"):
        load_images("mine", folder=tmp_path)


def test_without_pillow(pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"reading a picture needs Pillow, .*pip install 'topographic\[images\]'"):
        load_images("pets", folder=pets[0])


def test_two_folders_of_one_split(tmp_path):
    for split in ("val", "validation"):
        save(tmp_path / split / "a" / "1.png", colour())
    with pytest.raises(ValueError, match="holds two folders of one split; expected train, validation, test"):
        load_images("mine", folder=tmp_path)
