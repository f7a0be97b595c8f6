import dataclasses

import pytest

from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.sweeps.choices import CONTROL
from topographic.sweeps.plan import (
    check_folder,
    find_reference,
    level_of,
    plan_cells,
    planned_exposure,
    rehearse_cells,
    short_name,
)
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig, save_config

BASE = Recipe(
    run="runs/x",
    model=ModelConfig("tiny"),
    data=DataConfig(sequence_length=16),
    spatial=SpatialConfig(weight=0.25, radius=2),
    training=TrainingConfig(max_steps=3, batch_size=4),
)


def names(*blocks, base=BASE):
    return [cell.name for cell in plan_cells(base, blocks)]


def test_a_block_is_the_product_of_its_lists_and_names_say_what_differs():
    assert names({"spatial.weight": [0, 0.25], "seed": [0, 1]}) == [
        "alpha_0-seed_0",
        "alpha_0-seed_1",
        "base-seed_0",
        "base-seed_1",
    ]
    assert names({"spatial.sites": [None, ["a.*", "b/c"]]}) == ["base", "spatial.sites_a.%2A+b%2Fc"]
    assert short_name("spatial.weight") == "alpha"
    assert short_name("training.learning_rate") == "training.learning_rate"


def test_cells_of_several_blocks_are_one_and_adding_blocks_renames_none():
    one = {"spatial.weight": [0, 0.25], "seed": [0]}
    two = {"spatial.radius": [2, 3], "seed": [0]}
    assert names(one, two) == ["alpha_0-seed_0", "base-seed_0", "radius_3-seed_0"]
    assert set(names(one)) <= set(names(one, two)) == set(names(two, one))


def test_what_does_nothing_makes_no_cell():
    assert names({"spatial.weight": [0], "spatial.radius": [2, 3]}) == ["alpha_0"]
    assert names({"spatial.neighborhoods": ["scattered"], "spatial.radius": [2, 3]}) == ["neighborhoods_scattered"]
    assert names({"spatial.neighborhoods": ["local"], "spatial.k": [3, 4]}) == ["base"]
    # leaving out and saying what the preset says is the same model
    assert names({"model.layout": ["permuted_grid", "grid"]}) == ["base", "layout_grid"]


def test_a_seed_sets_every_seed_of_a_replicate_but_that_of_the_text():
    cells = plan_cells(BASE, [{"seed": [7], "spatial.weight": [0, 1]}])
    for cell in cells:
        recipe = cell.recipe
        assert (recipe.model.seed, recipe.model.layout_seed, recipe.training.seed, cell.seed) == (7, 7, 7, 7)
        assert recipe.data == BASE.data
        assert cell.folder.as_posix() == f"runs/x/{cell.name}"
    assert [cell.setting for cell in cells] == ["alpha_0", "alpha_1"]
    assert [cell.levels for cell in cells] == [{"spatial.weight": 0.0}, {"spatial.weight": 1.0}]


def test_levels_of_the_recipe_are_those_of_its_preset_where_it_says_nothing():
    assert level_of(BASE, "model.layout") == "permuted_grid"
    assert level_of(BASE, "spatial.weight") == 0.25


def test_a_pretrained_model_keeps_its_weights():
    base = dataclasses.replace(BASE, model=ModelConfig(pretrained="gpt2"))
    (cell,) = plan_cells(base, [{"seed": [3]}])
    assert (cell.recipe.model, cell.recipe.training.seed) == (base.model, 3)


VISION = dataclasses.replace(
    BASE,
    model=ModelConfig("resnet_demo"),
    images=ImageConfig("cifar10"),
    spatial=SpatialConfig(weight=0.0),
    smoothness=SmoothnessConfig(weight=1.0, sites=["resnet.encoder.stages.*.convolution"]),
)


def test_cells_of_vision_models():
    cells = plan_cells(VISION, [{"smoothness.weight": [0, 1, 10], "seed": [0, 3]}])
    assert [cell.name for cell in cells] == [
        f"{setting}-seed_{seed}" for setting in ("tau_0", "base", "tau_10") for seed in (0, 3)
    ]
    for cell in cells:
        # weights and order of images; there is no sheet whose units could be permuted, and no text
        seeds = cell.recipe.model.seed, cell.recipe.model.layout_seed, cell.recipe.training.seed, cell.recipe.data
        assert seeds == (cell.seed, None, cell.seed, VISION.data)
        assert cell.recipe.images == VISION.images
        assert planned_exposure(cell.recipe) == 3 * 4
        reference = find_reference(cell, VISION, CONTROL, cells)
        assert reference == f"tau_0-seed_{cell.seed}"
    pretrained = dataclasses.replace(VISION, model=ModelConfig(pretrained="microsoft/resnet-18"))
    (cell,) = plan_cells(pretrained, [{"seed": [3]}])
    assert (cell.recipe.model.seed, cell.recipe.training.seed) == (3, 3), "its last layer is fresh"


def test_vision_models_see_equal_numbers_of_images():
    batches = {"training.max_steps": [6], "training.batch_size": [2]}
    assert len(plan_cells(VISION, [batches, {"seed": [0]}])) == 2
    with pytest.raises(ValueError, match=r"cell base sees 12 images and cell training.max_steps_6 24; expected equal"):
        plan_cells(VISION, [{"training.max_steps": [3, 6]}])
    with pytest.raises(ValueError, match="different steps have seen different numbers of images"):
        plan_cells(VISION, [{"training.early_stopping_patience": [3]}])


def test_presets_may_vary():
    one, two = plan_cells(BASE, [{"model.preset": ["tiny", "demo"]}])
    assert (one.recipe.model.n_embd, two.recipe.model.n_embd) == (36, 196)


def test_models_without_sheets_have_no_layout_to_permute():
    words = {"n_layer": 2, "n_embd": 24, "n_head": 2, "config": {"window_size": 8}}
    smoothness = SmoothnessConfig(weight=1.0, sites=["transformer.h.*.mlp.c_fc"])
    for model in (ModelConfig("gpt_neo", **words), ModelConfig(model_type="gpt_neo", **words)):
        base = dataclasses.replace(BASE, model=model, spatial=SpatialConfig(weight=0.0), smoothness=smoothness)
        cells = plan_cells(base, [{"smoothness.weight": [0, 1, 50], "seed": [4]}])
        assert [cell.name for cell in cells] == ["tau_0-seed_4", "base-seed_4", "tau_50-seed_4"]
        assert {(cell.recipe.model.seed, cell.recipe.model.layout_seed) for cell in cells} == {(4, None)}
    with pytest.raises(ValueError, match=r"block 1, cell model.config=\['x'\], seed=1: "):
        plan_cells(base, [{"model.config": [["x"]], "seed": [1]}])
    (cell,) = plan_cells(base, [{"model.preset": ["nanogpt_demo"], "model.model_type": [None], "model.config": [None]}])
    assert cell.recipe.model.sheet_point == "none", "what the preset says is spelt out"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "blocks is empty; expected at least one"),
        ([{}], "block 1 is {}; expected keys with lists"),
        ([{"seed": [0]}, {"spatial.weight": []}], r"block 2: spatial.weight is \[\]; expected a list"),
        (
            [{"spatial.weight": 0.5}],
            r"spatial.weight is 0.5; expected a list of values, also for a single one: \[0.5\]",
        ),
        ([{"spatial.wight": [1]}], r"block 1 varies spatial.wight \(unknown\)"),
        ([{"spatial": [{"weight": 1}]}], r"block 1 varies spatial \(unknown\)"),
        ([{"data.vocab_size": [300]}], "the text and its tokens are the same in all cells"),
        ([{"images.flip": [True]}], "the images are the same in all cells"),
        ([{"run": ["a"]}], r"varies run \(unknown\)"),
        ([{"seed": [0], "training.seed": [1]}], "varies seed and training.seed, which seed sets as well"),
        ([{"seed": ["a"]}], "seed 'a'; expected whole numbers"),
        ([{"seed": [True]}], "seed True; expected whole numbers"),
        ([{"spatial.weight": [[0, 1]]}], r"block 1, cell spatial.weight=\[0, 1\]: .*expected a number"),
        ([{"spatial.radius": [0]}], "cell spatial.radius=0: spatial.radius=0; expected at least 1"),
        ([{"model.layout": ["spiral"]}], "model.layout"),
        ([{"model.preset": ["huge"]}], "no preset 'huge'"),
        (
            [{"training.max_steps": [3, 6]}],
            "cell base sees 192 tokens and cell training.max_steps_6 384; expected equal",
        ),
        ([{"training.early_stopping_patience": [3]}], "early_stopping_patience=3; expected null in a sweep"),
    ],
)
def test_what_makes_no_sweep_is_one_line(blocks, message):
    with pytest.raises(ValueError, match=message) as raised:
        plan_cells(BASE, blocks)
    assert "\n" not in str(raised.value)


def test_batches_may_vary_where_tokens_do_not():
    cells = plan_cells(BASE, [{"training.max_steps": [6], "training.batch_size": [2]}, {"seed": [0]}])
    assert {planned_exposure(cell.recipe) for cell in cells} == {3 * 4 * 16}


def test_a_folder_with_another_configuration_is_refused(tmp_path):
    base = dataclasses.replace(BASE, run=str(tmp_path))
    (cell,) = plan_cells(base, [{"seed": [0]}])
    check_folder(cell)
    save_config(cell.folder / "config.yaml", cell.recipe)
    check_folder(cell)
    (other,) = plan_cells(dataclasses.replace(base, spatial=SpatialConfig(weight=1.0, radius=2)), [{"seed": [0]}])
    with pytest.raises(FileExistsError, match=r"another configuration \(spatial.weight was 0.25 and is 1.0\)"):
        check_folder(other)
    (cell.folder / "config.yaml").write_text("nonsense: 3")
    with pytest.raises(FileExistsError, match="cannot be read"):
        check_folder(cell)


CONVOLUTIONS = "resnet.encoder.stages.*.layer.*.convolution"
SMALL = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
RESNET = dataclasses.replace(
    BASE,
    model=ModelConfig("resnet_demo", config=SMALL),
    images=ImageConfig("cifar10", folder="nowhere"),
    spatial=SpatialConfig(weight=0.0),
    smoothness=SmoothnessConfig(weight=1.0, sites=[CONVOLUTIONS], factor=2.0),
)
OFF = SmoothnessConfig()
SECOND = "transformer.h.1.mlp.c_fc"


def test_a_neighbourhood_that_does_not_fit_is_named_before_anything_is_trained():
    rehearse_cells(plan_cells(BASE, [{"spatial.radius": [2], "seed": [0, 1]}]))
    with pytest.raises(ValueError, match=r"cell radius_3: n=5 neighbourhoods of 4"):
        rehearse_cells(plan_cells(BASE, [{"spatial.radius": [2, 3]}]))
    rehearse_cells(plan_cells(BASE, [{"spatial.weight": [0], "spatial.radius": [9]}]))


@pytest.mark.parametrize("word", ["preset", "model_type"])
def test_layers_whose_weights_do_not_fit_are_named(word):
    model = ModelConfig(**{word: "gpt_neo"}, n_layer=2, n_embd=24, n_head=2, config={"window_size": 8})
    smoothness = SmoothnessConfig(weight=1.0, sites=["transformer.h.*.mlp.c_fc"])
    base = dataclasses.replace(BASE, model=model, spatial=SpatialConfig(weight=0.0), smoothness=smoothness)
    rehearse_cells(plan_cells(base, [{"smoothness.weight": [0, 1, 50], "seed": [4]}]))
    for weight in (0, 1):
        with pytest.raises(ValueError, match=r"cell .*smoothness.factor_49: .*mlp\.c_fc"):
            rehearse_cells(plan_cells(base, [{"smoothness.weight": [weight], "smoothness.factor": [49]}]))


@pytest.mark.parametrize("words", [{"sheets": [WeightSheetConfig(SECOND)]}, {"watched": [SECOND]}, {"sites": [SECOND]}])
def test_layers_of_every_block_are_there_however_they_are_named(words):
    smoothness = SmoothnessConfig(weight=0.0 if "watched" in words else 1.0, **words)
    rehearse_cells(plan_cells(dataclasses.replace(BASE, smoothness=smoothness), [{"seed": [0]}]))


def test_vision_models_are_rehearsed_without_their_images():
    rehearse_cells(plan_cells(RESNET, [{"smoothness.weight": [0, 1, 10], "seed": [0, 1]}]))
    for name in ("mnist", "fashion_mnist"):
        images = ImageConfig(name, folder="nowhere")
        layer = SmoothnessConfig(weight=3.0, sites=["fc1"])
        net = dataclasses.replace(RESNET, model=ModelConfig("mnist_mlp"), images=images, smoothness=layer)
        rehearse_cells(plan_cells(net, [{"smoothness.weight": [0, 3]}]))
    vit = ModelConfig("vit_demo", config={"num_hidden_layers": 1})
    blocks = SpatialConfig(weight=1.0, sites=["vit.layers.*.mlp.fc2"], radius=2)
    rehearse_cells(plan_cells(dataclasses.replace(RESNET, model=vit, spatial=blocks, smoothness=OFF), [{"seed": [0]}]))
    # would have to be loaded
    rehearse_cells(plan_cells(dataclasses.replace(RESNET, model=ModelConfig(pretrained="no/where")), [{"seed": [0]}]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ModelConfig()}, "no classifier of images 'small'; expected one of mnist_mlp"),
        ({"model": ModelConfig("resnet_demo", n_layer=2)}, r"model\.n_layer is a word for language models"),
        ({"model": ModelConfig("resnet_demo", config={"depth": [1]})}, "has no field depth"),
        ({"images": ImageConfig("orl_faces")}, "images.name='orl_faces'; expected one of mnist"),
        ({"images": ImageConfig("cifar10", mean=[0.1, 0.2])}, "expected 1 or 3 channels, and one number or one per"),
        ({"smoothness": SmoothnessConfig(weight=1.0, sites=["fc9"])}, "site pattern 'fc9' matches no module"),
        ({"smoothness": SmoothnessConfig(sites=["fc9"])}, "site pattern 'fc9' matches no module"),
        ({"smoothness": SmoothnessConfig(weight=1.0, sites=["*.activation"])}, "cell base: site '.*activation'"),
        ({"spatial": SpatialConfig(weight=1.0, sites=[CONVOLUTIONS], radius=1)}, "gives feature maps of shape"),
        ({"spatial": SpatialConfig(weight=1.0)}, "carries no sheets and spatial.sites names none"),
        ({"model": ModelConfig(model_type="convnext"), "smoothness": OFF}, "layers with sheets are known of"),
    ],
)
def test_vision_models_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message) as raised:
        rehearse_cells(plan_cells(dataclasses.replace(RESNET, **change), [{"training.seed": [42]}]))
    assert str(raised.value).startswith("cell base: ")
    assert "\n" not in str(raised.value)


def test_named_blocks_call_their_cells_and_are_references():
    blocks = [{"name": "none", "spatial.weight": [0], "seed": [0, 1]}]
    blocks.append({"name": "like neighbours, strongly", "neighbor_weights.weight": [2.0], "seed": [0, 1]})
    blocks[1] |= {"neighbor_weights.sites": [["transformer.h.*.mlp.c_fc"]]}
    cells = plan_cells(BASE, blocks)
    assert [cell.name for cell in cells] == [
        "none-seed_0",
        "none-seed_1",
        "like_neighbours_strongly-seed_0",
        "like_neighbours_strongly-seed_1",
    ]
    assert [cell.label for cell in cells[::2]] == ["none", "like neighbours, strongly"]
    assert (cells[2].setting, cells[2].folder.as_posix()) == ("like_neighbours_strongly", f"runs/x/{cells[2].name}")
    assert cells[2].recipe.neighbor_weights.weight == 2.0
    assert find_reference(cells[3], BASE, {"name": "none"}, cells) == "none-seed_1"
    assert find_reference(cells[3], BASE, {"name": "none"}, cells[:1] + cells[2:]) is None
    assert find_reference(cells[1], BASE, {"spatial.weight": 0}, cells) == "none-seed_1", "by keys as well"
    with pytest.raises(ValueError, match=r"reference=.*; expected the name of a block alone: none, like neighbours"):
        find_reference(cells[0], BASE, {"name": "nothing"}, cells)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (
            [{"name": "a", "spatial.weight": [0, 1]}],
            "block 1 is called 'a' and varies spatial.weight; expected one value",
        ),
        ([{"name": "a", "seed": [0]}, {"name": "a", "spatial.weight": [0]}], "block 2: name 'a' is that of an earlier"),
        ([{"seed": [0]}, {"name": "a", "seed": [0]}], "block 2 is called 'a' and makes the cells of an earlier block"),
        ([{"name": "--", "seed": [0]}], "block 1: name is '--'; expected words, such as name: spatial loss"),
        ([{"name": 3, "seed": [0]}], "block 1: name is 3; expected words"),
    ],
)
def test_names_that_tell_no_cells_apart_are_refused(blocks, said):
    with pytest.raises(ValueError, match=said):
        plan_cells(BASE, blocks)


def test_swaps_that_cannot_be_are_refused_before_anything_is_trained():
    layers = ["transformer.h.*.mlp.c_fc", "transformer.h.*.attn.c_proj"]
    block = {"wiring.weight": [1.0], "wiring.sites": [layers], "wiring.swap": [layers]}
    with pytest.raises(ValueError, match=r"cell .*: wiring.swap: .* makes 144 units and .* reads 36"):
        rehearse_cells(plan_cells(BASE, [block]))
