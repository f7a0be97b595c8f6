import dataclasses

import pytest

from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.sweeps.plan import plan_cells
from topographic.sweeps.rehearsal import rehearse_cells
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig

BASE = Recipe(
    model=ModelConfig("tiny"),
    data=DataConfig(sequence_length=16),
    spatial=SpatialConfig(weight=0.25, radius=2),
    training=TrainingConfig(max_steps=3, batch_size=4),
)
CONVOLUTIONS = "resnet.encoder.stages.*.layer.*.convolution"
SMALL = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
VISION = dataclasses.replace(
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
    rehearse_cells(plan_cells(VISION, [{"smoothness.weight": [0, 1, 10], "seed": [0, 1]}]))
    for name in ("mnist", "fashion_mnist"):
        images = ImageConfig(name, folder="nowhere")
        layer = SmoothnessConfig(weight=3.0, sites=["fc1"])
        net = dataclasses.replace(VISION, model=ModelConfig("mnist_mlp"), images=images, smoothness=layer)
        rehearse_cells(plan_cells(net, [{"smoothness.weight": [0, 3]}]))
    vit = ModelConfig("vit_demo", config={"num_hidden_layers": 1})
    blocks = SpatialConfig(weight=1.0, sites=["vit.layers.*.mlp.fc2"], radius=2)
    rehearse_cells(plan_cells(dataclasses.replace(VISION, model=vit, spatial=blocks, smoothness=OFF), [{"seed": [0]}]))
    # would have to be loaded
    rehearse_cells(plan_cells(dataclasses.replace(VISION, model=ModelConfig(pretrained="no/where")), [{"seed": [0]}]))


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
        rehearse_cells(plan_cells(dataclasses.replace(VISION, **change), [{"training.seed": [42]}]))
    assert str(raised.value).startswith("cell base: ")
    assert "\n" not in str(raised.value)
