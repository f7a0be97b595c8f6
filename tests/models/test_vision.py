import pytest
import torch
from transformers import AutoModelForImageClassification

from topographic.losses.weight_sheets import weight_sheets
from topographic.models import VISION_PRESETS, fresh_vision_model, vision_config
from topographic.recording import find_sites, vision_layers
from topographic.recording.sites import modules_by_site
from topographic.sheets import grid, grid_shape

CLASSES = [str(number) for number in range(10)]


def configured(name, **more):
    sizes = {"image_size": 32, **({"num_channels": 1} if name == "mnist_mlp" else {}), **more}
    return vision_config(name, classes=sizes.pop("classes", CLASSES), **sizes)


def on_meta(config):
    with torch.device("meta"):
        return AutoModelForImageClassification.from_config(config)


# torchvision's numbers for its models of the same names, 1000 classes; the network of the demonstration by hand
N_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "vit_b_32": 88_224_232,
    "mnist_mlp": 28 * 28 * 256 + 256 * 10,
}


@pytest.mark.parametrize("name", N_PARAMETERS)
def test_as_published(name):
    is_mlp = name == "mnist_mlp"
    classes = CLASSES if is_mlp else [str(number) for number in range(1000)]
    model = on_meta(configured(name, image_size=28 if is_mlp else 224, classes=classes))
    assert sum(parameter.numel() for parameter in model.parameters()) == N_PARAMETERS[name]


# sites and the sheets of the paper: every convolution of the residual blocks, the second MLP layer of every block
SHEETS = {
    "resnet18": {(8, 8): 4, (8, 16): 4, (16, 16): 4, (16, 32): 4},
    # the first two convolutions of a bottleneck are four times narrower than the third
    "resnet50": {(8, 8): 6, (16, 16): 15, (8, 16): 8, (16, 32): 10, (32, 32): 6, (32, 64): 3},
    "vit_b_32": {(24, 32): 12},
    "mnist_mlp": {(16, 16): 1},
    "resnet_demo": {(8, 8): 2, (8, 16): 2, (16, 16): 2},
    "vit_demo": {(12, 16): 4},
    "prototypes_demo": {(8, 16): 1},
}


@pytest.mark.parametrize("name", VISION_PRESETS)
def test_sites_and_sheets(name):
    model = on_meta(configured(name))
    found = find_sites(model, vision_layers(model))
    modules = modules_by_site(model)
    sheets = [weight_sheets(modules[site])["weight"] for site in found]
    shapes = [grid_shape(grid(len(sheet))) for sheet in sheets]
    assert {shape: shapes.count(shape) for shape in shapes} == SHEETS[name]
    if name == "vit_b_32":
        assert {sheet.shape[1] for sheet in sheets} == {3072}
    if name.startswith("resnet"):
        every = [site for site, module in modules.items() if isinstance(module, torch.nn.Conv2d)]
        left_out = set(every) - set(found)
        assert left_out == {"resnet.embedder.embedder.convolution", *(site for site in every if "shortcut" in site)}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet_demo", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}),
        ("vit_demo", {"hidden_size": 24, "num_hidden_layers": 1, "patch_size": 8}),
        ("mnist_mlp", {}),
    ],
)
def test_a_fresh_model_learns(name, changes):
    """It takes images and labels, returns its loss, and twenty steps on one batch lower that."""
    model = fresh_vision_model(configured(name, changes=changes), seed=0)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 1 if name == "mnist_mlp" else 3, 32, 32, generator=draw)
    labels = torch.arange(8)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = model(pixel_values=pixels, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert model.config.id2label[3] == "3"


def test_seeds():
    one, two, other = (fresh_vision_model(configured("mnist_mlp"), seed=seed).fc1.weight for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_changes_and_other_architectures():
    assert configured("resnet18", changes={"depths": [1, 1, 1, 1]}).depths == [1, 1, 1, 1]
    config = configured("convnext", changes={"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]})
    model = fresh_vision_model(config, seed=0)
    assert model(torch.zeros(2, 3, 32, 32)).logits.shape == (2, 10)
    with pytest.raises(
        ValueError,
        match=r"layers with sheets are known of resnet, vit, pixel_mlp, prototype_classifier, not of ConvNext.*name",
    ):
        vision_layers(model)


def test_refuses():
    with pytest.raises(ValueError, match="no classifier of images 'resnet81'; expected one of mnist_mlp, proto"):
        configured("resnet81")
    with pytest.raises(ValueError, match="model 'resnet18' has no field depth; the nearest are depths"):
        configured("resnet18", changes={"depth": 3})
    with pytest.raises(ValueError, match=r"model 'resnet18': .*layer_type") as wrong:
        configured("resnet18", changes={"layer_type": "wide"})
    assert "\n" not in str(wrong.value)
    with pytest.raises(ValueError, match="hidden_size=192 is not a multiple of num_attention_heads=5; choose a number"):
        configured("vit_demo", changes={"num_attention_heads": 5})
    broken = configured("vit_demo", changes={"patch_size": 0})
    with pytest.raises(ValueError, match="model_type 'vit' cannot be built like this"):
        fresh_vision_model(broken, seed=0)
