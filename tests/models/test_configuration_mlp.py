import pytest

from topographic.models import PixelMLPConfig


def test_defaults_are_the_demonstration():
    config = PixelMLPConfig()
    assert (config.image_size, config.num_channels, config.hidden_size, config.num_labels) == (28, 1, 256, 10)


def test_classes(tmp_path):
    assert PixelMLPConfig(num_labels=3).num_labels == 3
    named = PixelMLPConfig(id2label={0: "cat", 1: "dog"}, hidden_size=12)
    named.save_pretrained(tmp_path)
    loaded = PixelMLPConfig.from_pretrained(tmp_path)
    assert (loaded.num_labels, loaded.hidden_size, loaded.id2label) == (2, 12, {0: "cat", 1: "dog"})


@pytest.mark.parametrize("name", ["image_size", "num_channels", "hidden_size"])
def test_refuses(name):
    with pytest.raises(ValueError, match=f"{name}=0; expected at least 1"):
        PixelMLPConfig(**{name: 0})


def test_a_width_that_makes_a_strip_is_said():
    with pytest.warns(UserWarning, match=r"hidden_size=62: .*strip of 2 x 31.*; choose 60 \(6 x 10\) or 63 \(7 x 9\)"):
        PixelMLPConfig(hidden_size=62)
