import numpy as np
import pytest

from topographic.plots import draw_sample_grids


def grids(steps, channels=1, seed=0):
    draw = np.random.default_rng(seed)
    return {step: draw.integers(0, 256, (3, 4, 6, 6, channels), dtype=np.uint8) for step in steps}


def test_steps_go_down_and_models_to_the_right():
    figure = draw_sample_grids({"regular": grids([50, 1000]), "frozen": grids([1000], channels=3)})
    axes = np.array(figure.axes).reshape(2, 2)
    assert [ax.get_title() for ax in axes[0]] == ["regular", "frozen"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["50", "1,000"]
    assert [len(ax.images) for ax in axes.flat] == [1, 0, 1, 1], "a step that a model lacks stays empty"


def test_a_strip_holds_the_first_images_of_every_class():
    given = grids([10])
    (image,) = draw_sample_grids({"a": given}).axes[0].images
    shown = np.asarray(image.get_array())
    assert shown.shape == (2 * 7 - 1, 3 * 7 - 1, 3)
    np.testing.assert_array_equal(shown[7:13, 14:20, 0], given[10][2, 1, ..., 0])
    assert (shown[6] == 255).all()


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="no samples to draw"):
        draw_sample_grids({"a": {}})
