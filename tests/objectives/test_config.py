import pytest

from topographic.cli.arguments import parse_command
from topographic.objectives.config import (
    HasNeighborConfigs,
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WeightSheetConfig,
    WiringConfig,
    expect,
)
from topographic.runs.recipe import Recipe


def told(*words):
    return parse_command("train", Recipe, "", words).smoothness


def test_the_words_of_the_command_line():
    assert told("smoothness.factor=[3,2]").factor == (3.0, 2.0)
    assert told("smoothness.factor=4").factor == 4.0
    config = told(
        "smoothness.weight=1", "smoothness.sheets=[{sites: head, shape: [3, 4]}, {sites: [a, b], scale: null}]"
    )
    assert config.sheets == [WeightSheetConfig("head", shape=(3, 4)), WeightSheetConfig(["a", "b"], scale=None)]
    assert (config.is_on, config.watches) == (True, True)
    assert told().sheets == []
    pattern = "transformer.h.*.mlp.c_fc"
    for words in (f"sites={pattern}", f"sites=[{pattern}]"):
        config = told(f"smoothness.{words}", "smoothness.watched=*.c_proj")
        assert (config.sites, config.watched) == ([pattern], ["*.c_proj"])
    assert told("smoothness.sites=a", "smoothness.sites=null").sites is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("smoothness.factor=[3,2,1]", r"expected a number or \[a number, a number\]"),
        ("smoothness.sheets=[{site: head}]", r"did you mean smoothness\.sheets\[0\]\.sites\?"),
        ("smoothness.sheets=[{shape: [3, 4]}]", r"sheets\[0\]\.sites is missing"),
        ("smoothness.sheets=[{sites: a, blur: box}]", "blur"),
        ("smoothness.sheets=[{sites: a, scale: -1}]", r"smoothness\.sheets: scale=-1\.0; expected a number from 0 on"),
    ],
)
def test_words_that_are_none(words, message):
    with pytest.raises(ValueError, match=message) as caught:
        told(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: SpatialConfig(weight=-1.0),
            r"spatial.weight=-1.0; expected a number from 0 on: change it in the conf",
        ),
        (lambda: SpatialConfig(weight=float("nan")), r"spatial.weight=nan; expected a number from 0 on"),
        (lambda: SpatialConfig(sites=[]), r"spatial.sites=\[\]; expected patterns of names, or null"),
        (lambda: SpatialConfig(radius=0), r"spatial.radius=0; expected at least 1: change it in the configuration"),
        (lambda: SpatialConfig(k=2), r"spatial.k=2; expected at least 3 units"),
        (lambda: SpatialConfig(n_neighborhoods=0), r"spatial.n_neighborhoods=0; expected at least 1"),
        (lambda: SmoothnessConfig(weight=-1.0, sites=["a"]), "smoothness.weight=-1.0; expected a number from 0 on"),
        (lambda: SmoothnessConfig(weight=1.0), "smoothness.sites=None; expected layers, since a weight is set"),
        (lambda: SmoothnessConfig(schedule="linear", start_weight=1.0), "smoothness.sites=None; expected layers"),
        (
            lambda: SmoothnessConfig(weight=1.0, sheets=[WeightSheetConfig("a", scale=None)]),
            "expected layers, since a weight is set .or some in smoothness.sheets whose scale is not null",
        ),
        (lambda: SmoothnessConfig(watched=[]), "smoothness.watched=.*; expected patterns of names, or null"),
        (lambda: SmoothnessConfig(factor=0.5), "smoothness.factor=0.5; expected at least 1, or two such numbers"),
        (lambda: SmoothnessConfig(factor=(3.0, 0.0)), r"smoothness.factor=\(3.0, 0.0\); expected at least 1"),
        (lambda: SmoothnessConfig(factor=float("inf")), "smoothness.factor=inf; expected at least 1"),
        (lambda: SmoothnessConfig(factor=1.0), "smoothness.factor=1.0; expected more than 1 along one axis at least"),
        (lambda: WeightSheetConfig("a", factor=(1.0, 1.0)), r"smoothness.sheets: factor=\(1.0, 1.0\); expected more"),
        (lambda: SmoothnessConfig(schedule_steps=5), "schedule_steps=5; expected 1000 with schedule=constant, which"),
        (lambda: SmoothnessConfig(schedule_steps=0), "smoothness.schedule_steps=0; expected at least 1"),
        (
            lambda: SmoothnessConfig(weight=1.0, sites=["a"], start_weight=0.5),
            "smoothness.start_weight=0.5; expected 0, or schedule=linear or cosine to start from it",
        ),
        (lambda: WeightSheetConfig([]), r"smoothness.sheets: sites=\[\]; expected a name or wildcard"),
        (lambda: WeightSheetConfig("a", scale=float("nan")), "smoothness.sheets: scale=nan; expected a number from 0"),
        (lambda: WeightSheetConfig("a", factor=(1.0, 0.5)), r"smoothness.sheets: factor=\(1.0, 0.5\); expected at lea"),
        (lambda: WeightSheetConfig("a", shape=(0, 4)), r"smoothness.sheets: shape=\(0, 4\); expected numbers of rows"),
        (lambda: WeightSheetConfig("a", layout_seed=1), "layout_seed=1; expected 0 with layout=grid, which draws"),
        (
            lambda: NeighborWeightsConfig(weight=-1.0, sites="a"),
            "neighbor_weights.weight=-1.0; expected a number from 0",
        ),
        (
            lambda: NeighborActivationsConfig(weight=1.0),
            "neighbor_activations.sites=None; expected layers, since a wei",
        ),
        (lambda: NeighborWeightsConfig(sites=[]), r"neighbor_weights.sites=\[\]; expected patterns of names, or null"),
        (lambda: WiringConfig(weight=1.0), "wiring.sites=None; expected layers, since a weight is set"),
        (lambda: WiringConfig(between_mm=float("inf")), "wiring.between_mm=inf; expected a distance from 0 mm on"),
        (lambda: WiringConfig(swap=["a", "b"]), "wiring.swap=.*; expected null without wiring.weight, as nothing says"),
        (
            lambda: WiringConfig(weight=1.0, sites="a", swap=["a", "a"]),
            "wiring.swap=.*; expected two different patterns, of layers before and after the units, or null",
        ),
        (
            lambda: WiringConfig(swap_steps=5),
            "wiring.swap_steps=5; expected 200 without wiring.swap, or patterns there",
        ),
        (lambda: WiringConfig(swap_candidates=0), "wiring.swap_candidates=0; expected at least 1"),
    ],
)
def test_bad_values_are_refused_in_one_line(make, said):
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("metric", "l1"), ("contiguity", "bishop")])
@pytest.mark.parametrize("kind", [NeighborWeightsConfig, NeighborActivationsConfig])
def test_metrics_are_checked_without_the_command_line_too(kind, name, value):
    section = kind(weight=1.0, sites="a")
    setattr(section, name, value)
    with pytest.raises(ValueError, match=rf"^{kind.section}.{name}={value}; expected one of \[.*\]: change it"):
        section.__post_init__()


def test_sections_of_neighbours_are_read_as_the_others_are():
    words = ["neighbor_weights.weight=2", "neighbor_weights.sites=a", "wiring.weight=1", "wiring.sites=[a,b]"]
    recipe = parse_command("train", Recipe, "", [*words, "wiring.swap=[a,b]", "neighbor_activations.metric=cosine"])
    assert recipe.neighbor_weights == NeighborWeightsConfig(2.0, ["a"])
    assert recipe.wiring == WiringConfig(1.0, ["a", "b"], swap=["a", "b"])
    assert recipe.neighbor_activations == NeighborActivationsConfig(metric="cosine")
    assert isinstance(recipe, HasNeighborConfigs)
    with pytest.raises(ValueError, match=r"did you mean neighbor_weights\.metric"):
        parse_command("train", Recipe, "", ["neighbor_weights.metrik=cosine"])


@pytest.mark.parametrize(("name", "value"), [("neighborhoods", "round"), ("norm", "l3")])
def test_words_are_checked_without_the_command_line_too(name, value):
    section = SpatialConfig()
    setattr(section, name, value)  # past the run-time checks of annotations, which users do not have
    with pytest.raises(ValueError, match=rf"^spatial.{name}={value}; expected one of \[.*\]: change it"):
        section.__post_init__()


def test_what_may_stand_without_effect():
    assert SmoothnessConfig(factor=(1.0, 3.0)).factor == (1.0, 3.0)
    assert SmoothnessConfig(schedule_steps=1000) == SmoothnessConfig()  # as files of earlier runs have it


def test_what_is_on_and_what_is_watched():
    assert not SmoothnessConfig().is_on
    assert not SmoothnessConfig(sites=["a"], sheets=[WeightSheetConfig("b")]).watches
    assert SmoothnessConfig(weight=1.0, sheets=[WeightSheetConfig("b")]).is_on
    assert SmoothnessConfig(sheets=[WeightSheetConfig("b", scale=None)]).watches
    assert SmoothnessConfig(watched=["a"]).watches
    assert SmoothnessConfig(sites=["a"], schedule="linear", start_weight=5.0).is_on, "a decay to 0"


def test_says_what_was_received_what_was_expected_and_where():
    expect(True, "spatial.radius", 5, "at least 1")
    with pytest.raises(ValueError, match=r"^spatial\.radius=0; expected at least 1: change it in the configuration$"):
        expect(False, "spatial.radius", 0, "at least 1")
