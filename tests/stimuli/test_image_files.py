import gzip

import numpy as np
import pytest

from topographic.stimuli.image_files import read_cifar10, read_faces, read_idx, read_patches


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.fixture
def colour(draw):
    return draw.integers(0, 256, (5, 32, 32, 3), np.uint8), draw.integers(0, 10, 5)


def changed(files, change, made):
    """The files with some replaced, or left out where that is None; functions make what they return."""
    whole = {name: content(made) if callable(content) else content for name, content in {**files, **change}.items()}
    return {name: content for name, content in whole.items() if content is not None}


def test_idx(made, draw):
    pixels, classes = draw.integers(0, 256, (6, 5, 4, 1), np.uint8), np.array([3, 1, 4, 1, 5, 9])
    files = {f"package/data/{name}": content for name, content in made.idx_files(pixels, classes).items()}
    found = read_idx({**files, **made.idx_files(pixels[:2], classes[:2], "train")})
    np.testing.assert_array_equal(found["test"][0], pixels)
    np.testing.assert_array_equal(found["test"][1], classes)
    assert found["test"][1].dtype == np.int64
    assert found["train"][0].shape == (2, 5, 4, 1)


def test_idx_header_is_big_endian():
    """Written out by hand: two images of one row and three columns."""
    images = bytes.fromhex("00000803" + "00000002" + "00000001" + "00000003" + "010203040506")
    labels = bytes.fromhex("00000801" + "00000002" + "0709")
    pixels, classes = read_idx({"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels})["test"]
    assert pixels.tolist() == [[[[1], [2], [3]]], [[[4], [5], [6]]]]
    assert classes.tolist() == [7, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t10k-labels-idx1-ubyte": None}, "t10k-labels-idx1-ubyte is missing; expected it beside t10k-images-idx3"),
        ({"t10k-images-idx3-ubyte": b"\0\0"}, "t10k-images-idx3-ubyte is no idx file with 3 axes"),
        (
            {"t10k-images-idx3-ubyte": lambda made: made.idx(np.zeros(4, "u1"))},
            "is no idx file with 3 axes; get it again",
        ),
        ({"t10k-images-idx3-ubyte": gzip.compress(b"x")}, "is no idx file with 3 axes; get it again, unpacked or as"),
        (
            {"t10k-images-idx3-ubyte": lambda made: made.idx(np.zeros((6, 5, 4), "u1"))[:-1]},
            "has 135 bytes; its header says 136",
        ),
        (
            {"t10k-images-idx3-ubyte": lambda made: made.idx(np.zeros((6, 5, 4), "u1"))[:10]},
            "t10k-images-idx3-ubyte has 10 bytes",
        ),
        (
            {"t10k-labels-idx1-ubyte": lambda made: made.idx(np.zeros(5, "u1"))},
            "6 images and 5 labels; expected one each",
        ),
    ],
)
def test_idx_refuses(made, change, message):
    files = made.idx_files(np.zeros((6, 5, 4, 1), np.uint8), np.zeros(6, int))
    with pytest.raises(ValueError, match=message):
        read_idx(changed(files, change, made))


def test_cifar10_sheets_and_binary_batches_agree(made, colour):
    pixels, classes = colour
    from_png = read_cifar10(made.cifar10_png_files(pixels, classes))
    assert set(from_png) == {"test"}
    np.testing.assert_array_equal(from_png["test"][0], pixels)
    np.testing.assert_array_equal(from_png["test"][1], classes)
    from_binary = read_cifar10({"cifar-10-batches-bin/test_batch.bin": made.cifar10_batch(pixels, classes)})
    np.testing.assert_array_equal(from_binary["test"][0], pixels)
    np.testing.assert_array_equal(from_binary["test"][1], classes)


def test_cifar10_training_batches_follow_one_another(made, colour):
    pixels, classes = colour
    batches = {
        f"data_batch_{at + 1}.bin": made.cifar10_batch(pixels[at : at + 1], classes[at : at + 1]) for at in range(5)
    }
    np.testing.assert_array_equal(read_cifar10(batches)["train"][0], pixels)
    sheets = {f"data_batch_{at + 1}.png": made.png(pixels[at].reshape(1, 1024, 3)) for at in range(5)}
    labels = made.cifar10_png_files(pixels, classes)["test_lables.json"]
    found = read_cifar10({**sheets, "train_lables.json": labels})["train"]
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found[1], classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_lables.json": None}, "test_lables.json is missing; expected it beside test_batch.png"),
        ({"test_lables.json": b"[1, 2]"}, "5 images and 2 labels"),
        ({"test_lables.json": b"[[1]]"}, r"test_lables.json holds int64 \(1, 1\); expected one list of class numbers"),
        ({"test_lables.json": b"{"}, "test_lables.json is no JSON"),
        ({"test_batch.png": b"no"}, "test_batch.png is damaged or no PNG"),
        (
            {"test_batch.png": lambda made: made.png(np.zeros((5, 9, 3), np.uint8))},
            r"is 9 pixels wide \(RGB\); expected 1024 RGB, an image a row",
        ),
        (
            {"test_batch.png": lambda made: made.png(np.zeros((5, 1024), np.uint8))},
            r"is 1024 pixels wide \(L\); expected 1024 RGB",
        ),
        ({"test_batch.bin": b"12"}, "test_batch.bin has 2 bytes; expected a multiple of 3073"),
        ({"data_batch_1.png": lambda made: made.png(np.zeros((5, 1024, 3), np.uint8))}, "data_batch_2.png is missing"),
    ],
)
def test_cifar10_refuses(made, colour, change, message):
    with pytest.raises(ValueError, match=message):
        read_cifar10(changed(made.cifar10_png_files(*colour), change, made))


def test_truncated_png(made, colour):
    files = made.cifar10_png_files(*colour)
    with pytest.raises(ValueError, match=r"test_batch\.png is damaged or no PNG"):
        read_cifar10({**files, "test_batch.png": files["test_batch.png"][:-200]})


def test_png_without_pillow(colour, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"reading a PNG needs Pillow, .*pip install 'topographic\[images\]'"):
        read_cifar10({"test_batch.png": b"", "test_lables.json": b""})


def test_faces_by_person_and_picture(made, draw):
    pictures = draw.integers(0, 256, (4, 6, 5), np.uint8)
    names = ["s10/2.pgm", "s2/10.pgm", "s2/9.pgm", "s10/1.pgm"]
    files = {f"ORL_faces/{name}": made.pgm(picture) for name, picture in zip(names, pictures, strict=True)}
    pixels, classes = read_faces({**files, "s1/notes.txt": b""})["all"]
    np.testing.assert_array_equal(pixels[..., 0], pictures[[2, 1, 3, 0]])
    assert classes.tolist() == [0, 0, 1, 1]


def test_faces_written_out_as_text_are_restored(made, draw):
    """A conversion to Windows' line ends, undone; where it left a byte alone, the picture goes."""
    picture = draw.integers(0, 256, (20, 20), np.uint8)
    picture[picture == 13] = 14
    picture[3, :4] = [10, 10, 9, 10]
    alone = picture.copy()
    alone[5, :2] = [13, 10]  # already a line end: the conversion leaves it as it is

    def converted(content):
        return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    plain, changed = made.pgm(picture), converted(made.pgm(picture))
    assert len(changed) > len(plain) + 5
    pixels, _ = read_faces({"s1/1.pgm": changed, "s1/2.pgm": converted(made.pgm(alone)), "s1/3.pgm": made.pgm(alone)})[
        "all"
    ]
    np.testing.assert_array_equal(pixels[..., 0], [picture, alone])
    with pytest.raises(ValueError, match=r"s1/1\.pgm is damaged"):
        read_faces({"s1/1.pgm": changed + b"\r\n"})


def test_faces_with_a_comment_in_the_header(made):
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert read_faces({"s1/1.pgm": made.pgm(picture, "# made\n# by hand\n")})["all"][0][..., 0].tolist() == [
        picture.tolist()
    ]


def test_faces_refuse(made, draw):
    picture = made.pgm(np.zeros((4, 4), np.uint8))
    for broken in (picture[:-1], picture + b"x", b"P2\n1 1\n255\n0", b""):
        with pytest.raises(ValueError, match=r"s1/1\.pgm is damaged or no binary PGM with 256 levels"):
            read_faces({"s1/1.pgm": broken})
    with pytest.raises(ValueError, match=r"the \.pgm files have 2 sizes"):
        read_faces({"s1/1.pgm": picture, "s1/2.pgm": made.pgm(np.zeros((4, 5), np.uint8))})


def test_patches(made):
    patches = np.linspace(0, 1, 4 * 3 * 2).reshape(4, 3, 2)
    pixels, classes = read_patches({"skimage/data/lfw_subset.npy": made.npy(patches)})["all"]
    assert np.abs(pixels[..., 0] / 255 - patches).max() <= 0.5 / 255 + 1e-12
    assert classes.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no", "lfw_subset.npy is damaged or no array"),
        (
            lambda made: made.npy(np.array([{}], dtype=object)),
            "lfw_subset.npy is damaged or no array",
        ),  # a pickle is not opened
        (
            lambda made: made.npy(np.zeros((3, 2, 2))),
            r"lfw_subset.npy holds float64 \(3, 2, 2\); expected an even number of gray patches",
        ),
        (lambda made: made.npy(np.zeros((4, 2))), r"holds float64 \(4, 2\)"),
        (lambda made: made.npy(np.full((4, 2, 2), 2.0)), "expected an even number of gray patches from 0 to 1"),
        (lambda made: made.npy(np.full((4, 2, 2), -1.0)), "expected an even number of gray patches from 0 to 1"),
        (lambda made: made.npy(np.zeros((4, 2, 2), np.uint8)), "holds uint8"),
    ],
)
def test_patches_refuse(made, content, message):
    with pytest.raises(ValueError, match=message):
        read_patches(changed({}, {"lfw_subset.npy": content}, made))


@pytest.mark.parametrize("read", [read_idx, read_cifar10, read_faces, read_patches])
def test_nothing_to_read(read):
    with pytest.raises(ValueError, match=r"found readme\.txt; expected "):
        read({"readme.txt": b""})
