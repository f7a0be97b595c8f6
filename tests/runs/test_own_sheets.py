import pytest
import torch
from torch import nn

from topographic.objectives.config import (
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WeightSheetConfig,
    WiringConfig,
)
from topographic.objectives.weight_terms import WeightSheet
from topographic.runs.own_sheets import (
    OwnSections,
    own_sections,
    own_weight_sheets,
    placed,
    smooth_sites,
    trained_sites,
)
from topographic.runs.recipe import Recipe, write_recipe
from topographic.sheets import grid, grid_cells, permuted_grid
from topographic.training.config import ImageConfig

SHEETS = [WeightSheetConfig("head", scale=0.5, shape=(3, 4)), WeightSheetConfig("b", "input", factor=2.0)]


@pytest.fixture
def net():
    sizes = {"a0": (6, 12), "a1": (12, 12), "b": (12, 6), "head": (6, 10)}
    return nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})


@pytest.fixture
def run(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path


def test_what_a_run_was_told(run):
    command = Recipe(
        spatial=SpatialConfig(weight=0.0, sites=["a*"]),
        smoothness=SmoothnessConfig(weight=1.0, sites=["a*"], factor=(3.0, 2.0), sheets=SHEETS),
        images=ImageConfig("cifar10", folder="there"),
    )
    write_recipe(run / "config.yaml", command)
    alike = NeighborActivationsConfig(), NeighborWeightsConfig(), WiringConfig()
    assert own_sections(run) == OwnSections(command.spatial, command.smoothness, command.images, *alike)


def test_a_file_from_before_a_field_existed_and_one_without_sections(run):
    (run / "config.yaml").write_text("smoothness: {weight: 2, sites: [a], factor: 4}\nmodel: {preset: small}\n")
    assert own_sections(run) == OwnSections(None, SmoothnessConfig(weight=2.0, sites=["a"], factor=4.0))
    (run / "config.yaml").write_text("start: {task: sst2}\ndata: {hub: nyu-mll/glue}\n")
    assert own_sections(run) == OwnSections(), "of a run that was told other things"


def test_what_is_no_run_says_nothing(tmp_path):
    assert own_sections("hub/name") == OwnSections()
    (tmp_path / "config.yaml").write_text("spatial: {colour: red}\n")
    assert own_sections(tmp_path) == OwnSections(), "of something else"
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match=r"config\.yaml: .*colour") as caught:
        own_sections(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_spatial_loss_says_first_where_units_lie(net):
    smoothness = SmoothnessConfig(sites=["a0"])
    sites, layout = trained_sites(net, OwnSections(SpatialConfig(weight=0.0, sites=["a*"]), smoothness)) or ()
    assert (sites, layout(12, "a0")) == (["a*"], permuted_grid(12, "a0"))
    sites, layout = trained_sites(net, OwnSections(SpatialConfig(), smoothness)) or ()
    assert (sites, layout(12, "a0")) == (["a0"], grid(12, "a0"))
    assert trained_sites(net, OwnSections(SpatialConfig(), SmoothnessConfig())) is None
    alike, weights = NeighborActivationsConfig(sites="a1"), NeighborWeightsConfig(sites=["a*"])
    sites, layout = trained_sites(net, OwnSections(SpatialConfig(), smoothness, None, alike, weights)) or ()
    assert sites == ["a0"], "smooth weights before like neighbours"
    sites, layout = trained_sites(net, OwnSections(SpatialConfig(), SmoothnessConfig(), None, alike, weights)) or ()
    assert (sites, layout(12, "a1")) == (["a1"], grid(12, "a1"))
    assert (trained_sites(net, OwnSections(neighbor_weights=weights)) or ())[0] == ["a0", "a1"]
    assert trained_sites(net, OwnSections()) is None


def test_layers_of_a_run_and_of_its_control(net):
    config = SmoothnessConfig(sites=["a*"], sheets=SHEETS, watched=["a0", "b"], kind="output")
    sites, layout = smooth_sites(net, config) or ()
    assert sites == ["a0", "a1", "head"], "neither input units nor what is only watched"
    assert layout(12, "a1") == grid(12, "a1")
    head = layout(10, "head")
    assert torch.equal(head.positions_mm, grid((3, 4)).positions_mm[:10])
    assert head.extent_mm == (3.0, 4.0)
    assert (smooth_sites(net, SmoothnessConfig(watched=["a1"])) or ())[0] == ["a1"], "where there is nothing else"
    assert smooth_sites(net, SmoothnessConfig(sites=["a*"], kind="input")) is None
    assert smooth_sites(net, SmoothnessConfig()) is None


def test_sheets_of_weights_layer_by_layer(net):
    config = SmoothnessConfig(sites=["a*", "a1"], sheets=SHEETS, blur="gaussian")
    assert own_weight_sheets(net, config) == [
        WeightSheet("a0", factor=3.0, blur="gaussian"),
        WeightSheet("a1", factor=3.0, blur="gaussian"),
        WeightSheet("head", scale=0.5, factor=3.0, blur="gaussian", shape=(3, 4)),
        WeightSheet("b", "input", factor=2.0, blur="gaussian"),
    ]
    with pytest.raises(ValueError, match="site pattern 'c' matches no module"):
        own_weight_sheets(net, SmoothnessConfig(sites=["c"]))


def test_places():
    assert placed(WeightSheet("a"), 12, "a") == grid(12, "a")
    order = tuple(grid_cells(permuted_grid(12, "a", seed=3))[1].tolist())
    assert placed(WeightSheet("a", order=order), 12, "a") == permuted_grid(12, "a", seed=3)
    shape, cells = grid_cells(placed(WeightSheet("a", shape=(3, 4)), 10, "a"))
    assert (shape, cells.tolist()) == ((3, 4), list(range(10)))
    with pytest.raises(ValueError, match=r"sheet 'a': 13 units and 3 x 4 cells; give a shape with as many"):
        placed(WeightSheet("a", shape=(3, 4)), 13, "a")
