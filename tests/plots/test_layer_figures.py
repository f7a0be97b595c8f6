import numpy as np
import pytest

from topographic.interventions import CompressionEffect
from topographic.maps import NullReference
from topographic.plots.layer_figures import draw_by_layer, draw_compression


def test_one_line_per_layer_in_the_order_of_depth():
    lines = {f"layer {layer}": (np.arange(3), np.array([1.0, 0.5, layer])) for layer in range(3)}
    ax = draw_by_layer(lines, references={"permuted": ([0, 2], [0.1, 0.1])}, x_label="lag", y_label="change")
    drawn = {line.get_label(): line for line in ax.lines[1:]}
    assert list(drawn) == ["layer 0", "layer 1", "layer 2", "permuted"]
    for name, (x, y) in lines.items():
        np.testing.assert_array_equal(drawn[name].get_xydata(), np.stack([x, y], axis=1))
    brightness = [np.mean(drawn[name].get_color()[:3]) for name in lines]
    assert brightness == sorted(brightness)
    assert drawn["permuted"].get_linestyle() == "--"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lag", "change")
    assert draw_by_layer(lines, ax) is ax


def test_many_layers_are_named_first_middle_and_last():
    ax = draw_by_layer({f"layer {layer}": ([0, 1], [1, 0]) for layer in range(12)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["layer 0", "layer 6", "layer 11"]
    assert len(ax.lines) == 1 + 12


def effect(measure, method, fraction, n_parameters, value, null=None):
    reference = None if null is None else NullReference(*null, 0.0, 0.1, 9)
    return CompressionEffect(measure, method, fraction, n_parameters, value, reference)


def test_curves_start_at_the_whole_model_and_lose_parameters_to_the_right():
    effects = [
        effect("loss", "whole model", 0.0, 2_000_000, 3.0),
        effect("accuracy", "whole model", 0.0, 2_000_000, 0.8),
        effect("loss", "downsampling", 0.8, 1_000_000, 3.5, (5.0, 0.2)),
        effect("loss", "downsampling", 0.5, 1_500_000, 3.2, (4.0, 0.1)),
        effect("loss", "pruning", 0.5, 1_500_000, 3.1),
    ]
    loss, accuracy = draw_compression(effects, {"loss": "loss (nats)", "accuracy": "accuracy"}).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["smaller sheets"] == [[2.0, 3.0], [1.5, 3.2], [1.0, 3.5]]
    assert drawn["smallest weights pruned"] == [[2.0, 3.0], [1.5, 3.1]]
    assert drawn["smaller sheets, units permuted"] == [[2.0, 3.0], [1.5, 4.0], [1.0, 5.0]]
    band = loss.collections[0].get_paths()[0].vertices
    assert {(1.0, 4.6), (1.0, 5.4), (1.5, 3.8), (1.5, 4.2)} <= {(x, round(y, 9)) for x, y in band.tolist()}
    assert loss.get_xlim()[0] > loss.get_xlim()[1]
    assert loss.get_xlabel() == "parameters left (millions)"
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy")
    assert accuracy.lines[0].get_ydata()[0] == 0.8
    assert not accuracy.collections, "without a null there is no band"


def test_small_models_are_counted_in_thousands():
    (panel,) = draw_compression([effect("loss", "pruning", 0.5, 40_000, 3.0)], {"loss": "loss"}).axes
    assert panel.get_xlabel() == "parameters left (thousands)"
    assert [line.get_label() for line in panel.lines if len(line.get_xdata())] == ["smallest weights pruned"]


def test_what_figures_refuse():
    with pytest.raises(ValueError, match="no line to draw; expected one per layer"):
        draw_by_layer({})
    with pytest.raises(ValueError, match="0 effects, 1 measures; expected at least one of each"):
        draw_compression([], {"loss": "loss"})
