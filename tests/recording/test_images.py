import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification, ViTModel

from topographic.losses.pyramid import sheet_shape
from topographic.recording import IMAGE_POOLINGS, Preparation, low_level_responses, record_images, tap
from topographic.sheets import grid, permuted_grid
from topographic.stimuli import ImageStimuli, StimulusSet

N_IMAGES = 7
CONVOLUTION = "resnet.encoder.stages.0.layers.0.layer.0.convolution"


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 16, 16, 3), np.uint8)
    stimuli = StimulusSet("toy", [f"toy/{number}" for number in range(N_IMAGES)], ["a", "b"] * 3 + ["a"])
    return ImageStimuli(stimuli, pixels)


def resnet(**more):
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, **more))


def vit(kind=ViTForImageClassification):
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 2, "num_hidden_layers": 2}
    return kind(ViTConfig(**sizes, image_size=16, patch_size=4))


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 12, bias=False), nn.ReLU(), nn.Linear(12, 4))


def prepared(images):
    return torch.from_numpy(images.pixels).permute(0, 3, 1, 2).double() / 127.5 - 1


def fc2(model):
    return next(name for name, module in model.named_modules() if name.endswith(("1.mlp.fc2", "1.output.dense")))


def test_a_convolution_by_hand(images):
    """The stem and the first convolution written out in float64, one image at a time."""
    model = resnet()
    with torch.no_grad():  # batch statistics that are not those of a fresh model
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.3
    responses = record_images(model, images, CONVOLUTION, batch_size=3, progress=False)[CONVOLUTION]
    weights = {name: entry.double() for name, entry in model.state_dict().items()}
    stem = "resnet.embedder.embedder"
    for index in range(N_IMAGES):
        hidden = functional.conv2d(
            prepared(images)[index : index + 1], weights[f"{stem}.convolution.weight"], None, 2, 3
        )
        mean, variance = (weights[f"{stem}.normalization.running_{name}"][:, None, None] for name in ("mean", "var"))
        hidden = (hidden - mean) / torch.sqrt(variance + 1e-5)
        hidden = hidden * weights[f"{stem}.normalization.weight"][:, None, None]
        hidden = (hidden + weights[f"{stem}.normalization.bias"][:, None, None]).relu()
        hidden = functional.max_pool2d(hidden, 3, 2, 1)
        expected = functional.conv2d(hidden, weights[f"{CONVOLUTION}.weight"], None, 1, 1)[0]
        np.testing.assert_allclose(responses.values[index], expected.mean((1, 2)).numpy(), atol=1e-5)
    largest = record_images(model, images, CONVOLUTION, pooling="max", progress=False)[CONVOLUTION]
    np.testing.assert_allclose(largest.values[-1], expected.amax((1, 2)).numpy(), atol=1e-5)
    assert responses.n_tokens is None
    assert responses.stimuli == images.stimuli


def test_tokens_of_a_transformer(images):
    """Patches without the class token, or the class token alone; after its second linear layer."""
    model = vit()
    site = fc2(model)
    with torch.no_grad(), tap(model.eval(), site) as heard:
        model(pixel_values=prepared(images).float())
    tokens = heard[site].numpy()
    assert tokens.shape == (N_IMAGES, 17, 12)
    expected = {"mean": tokens[:, 1:].mean(1), "max": tokens[:, 1:].max(1), "class": tokens[:, 0]}
    assert set(expected) == set(IMAGE_POOLINGS)
    for pooling, values in expected.items():
        found = record_images(model, images, site, pooling=pooling, progress=False)[site]
        np.testing.assert_allclose(found.values, values, atol=1e-5)
        assert found.provenance["pooling"] == pooling
        assert found.sheet == grid(12, site)


def test_one_vector_per_image(images):
    model = mlp()
    found = record_images(model, images, ["1", "3"], progress=False)
    expected = prepared(images).flatten(1) @ model[1].weight.detach().double().T
    np.testing.assert_allclose(found["1"].values, expected.numpy(), atol=1e-5)
    assert found["3"].values.shape == (N_IMAGES, 4)
    for pooling in ("max", "class"):
        np.testing.assert_array_equal(
            record_images(model, images, "1", pooling=pooling, progress=False)["1"].values, found["1"].values
        )


@pytest.mark.parametrize(
    "model", [resnet(), resnet(num_channels=1), vit(), mlp()], ids=["resnet", "gray", "vit", "mlp"]
)
def test_responses_do_not_depend_on_the_batch_and_the_model_stays_as_it_was(images, model):
    if getattr(getattr(model, "config", None), "num_channels", 3) == 1:
        images = ImageStimuli(
            StimulusSet("gray", images.stimuli.items, images.stimuli.conditions), images.pixels[..., :1]
        )
    model.train()
    before = copy.deepcopy(model.state_dict())
    sites = [name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    sites = [site for site in sites if not site.endswith("patch_embeddings.projection")]
    one = record_images(model, images, sites, batch_size=1, progress=False)
    all_at_once = record_images(model, images, sites, batch_size=N_IMAGES, progress=False)
    for site in sites:
        np.testing.assert_allclose(one[site].values, all_at_once[site].values, atol=2e-5)
    assert model.training
    assert all(torch.equal(entry, before[name]) for name, entry in model.state_dict().items())


def test_a_model_that_keeps_channels_last(images):
    class Last(nn.Module):
        def forward(self, pictures):
            return pictures.permute(0, 2, 3, 1)

    model = nn.Sequential(nn.Conv2d(3, 6, 3), Last())
    first = record_images(model, images, "0", progress=False)["0"]

    def over_places(maps):
        return maps.mean((1, 2))

    last = record_images(model, images, "1", pooling=over_places, progress=False)["1"]
    np.testing.assert_allclose(last.values, first.values, atol=1e-6)
    assert last.provenance["pooling"] == "over_places"
    with pytest.raises(ValueError, match=r"the pooling made \(7, 14, 6\) of \(7, 14, 14, 6\) at site '1'; expected"):
        record_images(model, images, "1", pooling=lambda maps: maps.mean(1), progress=False)


def test_preparation_and_layout(images):
    prepare = Preparation(mean=0.2, sd=0.3, size=(20, 20))
    model = resnet()
    found = record_images(model, images, CONVOLUTION, permuted_grid, prepare=prepare, progress=False)[CONVOLUTION]
    assert found.sheet == permuted_grid(8, CONVOLUTION)
    assert found.provenance["preparation"] == prepare.to_json()
    assert found.provenance["model"] == "ResNetForImageClassification"
    with torch.no_grad(), tap(model.eval(), CONVOLUTION) as heard:
        model(prepare(images.pixels))
    np.testing.assert_allclose(found.values, heard[CONVOLUTION].mean((2, 3)).numpy(), atol=1e-5)
    own = record_images(model, images, CONVOLUTION, prepare=lambda pixels: prepare(pixels), progress=False)[CONVOLUTION]
    np.testing.assert_array_equal(own.values, found.values)
    half = record_images(model.bfloat16(), images, CONVOLUTION, prepare=prepare, progress=False)[CONVOLUTION]
    np.testing.assert_allclose(half.values, found.values, atol=0.05)


@pytest.mark.parametrize("n_units", [64, 128, 256, 512, 1024, 2048, 768, 3072, 10])
def test_the_sheets_of_toponets(n_units):
    """The grid that responses are recorded on is the one that TopoLoss smooths."""
    rows, columns = sheet_shape(n_units)
    assert grid(n_units).extent_mm == (rows, columns)
    assert sheet_shape(512) == (16, 32)


def test_low_level_responses():
    """A grating against its transpose: pixels differ, power does not; against a finer one, power does."""
    row, column = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    waves = [np.cos(2 * np.pi * 2 * row / 16), np.cos(2 * np.pi * 2 * column / 16), np.cos(2 * np.pi * 5 * row / 16)]
    pixels = np.rint(127 + 100 * np.stack(waves)).astype(np.uint8)[..., None]
    found = low_level_responses(ImageStimuli(StimulusSet("waves", list("abc"), list("xyz")), pixels))
    np.testing.assert_allclose(found["pixels"].values, pixels.reshape(3, -1) / 255, atol=1e-6)
    assert found["pixels"].sheet == grid((16, 16), "pixels")
    power = found["radial_power"]
    assert power.sheet.n_units == 8
    np.testing.assert_allclose(power.values[0], power.values[1], atol=1e-5)
    assert power.values[0, 1] == pytest.approx(np.log10(100**2 / 2), abs=0.01)
    assert power.values.argmax(1).tolist() == [1, 1, 4]


class Carrier(nn.Sequential):
    def sheets(self):
        return {"1": permuted_grid(12, "1")}


def test_a_model_that_carries_sheets_uses_them(images):
    model = Carrier(*mlp())
    assert record_images(model, images, progress=False)["1"].sheet == permuted_grid(12, "1")
    found = record_images(nn.DataParallel(model), images, "[13]", progress=False)
    assert [found[site].sheet for site in "13"] == [permuted_grid(12, "1"), grid(4, "3")]
    with pytest.raises(ValueError, match="the layout puts the units of site '1' elsewhere than the sheet"):
        record_images(model, images, "1", grid)
    assert record_images(model, images, "1", grid, relayout=True, progress=False)["1"].sheet == grid(12, "1")
    with pytest.raises(ValueError, match=r"carries no sheets .* sites='resnet.encoder.stages.\*.layers.\*.layer"):
        record_images(resnet(), images)


def test_other_things_are_refused_in_one_line(images):
    for door, arguments in ((record_images, (mlp(), images.pixels, "1")), (low_level_responses, (images.stimuli,))):
        with pytest.raises(
            TypeError, match=r"^images is an? \w+; expected an ImageStimuli: such as category_images\(\)"
        ):
            inspect.unwrap(door)(*arguments)
    with pytest.raises(TypeError, match=r"^model is the string 'microsoft/resnet-18'; expected a Module"):
        inspect.unwrap(record_images)("microsoft/resnet-18", images, "1")


def test_refuses(images):
    model = vit()
    with pytest.raises(ValueError, match=r"pooling='last'; expected one of \['class', 'max', 'mean'\], or a function"):
        record_images(model, images, "vit.layernorm", pooling="last")
    with pytest.raises(ValueError, match="batch_size=0; expected at least 1"):
        record_images(model, images, "vit.layernorm", batch_size=0)
    with pytest.raises(ValueError, match="layout has no sheet for site 'classifier'"):
        record_images(model, images, "classifier", {})
    site = fc2(model)
    with pytest.raises(ValueError, match=r"has 12 units and its sheet '.*' places 6"):
        record_images(model, images, site, {site: grid(6, site)}, progress=False)
    tokens = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Flatten(2), nn.Linear(16, 5))
    with pytest.raises(ValueError, match="gives 6 tokens and the model's configuration says no patch_size; say how"):
        record_images(tokens, images, "2", progress=False)
    model.config.patch_size = 2
    with pytest.raises(ValueError, match="configuration makes 64 patches of an image; say how tokens are pooled"):
        record_images(model, images, site, progress=False)
    with pytest.raises(ValueError, match=r"gives shape \(7, 8, \d+, \d+\) without a class token; use pooling='mean'"):
        record_images(resnet(), images, CONVOLUTION, pooling="class", progress=False)
    flat = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"site '1' gives shape \(2744,\); expected \(batch, units\)"):
        record_images(flat, images, "1", progress=False)


def test_a_site_that_is_not_called_and_one_that_breaks(images):
    model = mlp()
    model.add_module("unused", nn.Linear(2, 2))
    model.forward = lambda pictures: model[3](model[2](model[1](model[0](pictures))))
    with pytest.raises(ValueError, match="site 'unused' was not called while the model saw the images"):
        record_images(model, images, "unused", progress=False)
    with torch.no_grad():
        model[1].weight[2] = float("nan")
    with pytest.raises(ValueError, match=r"site '1' gives NaN or infinity for item 0 \('toy/0'\) and 6 others"):
        record_images(model, images, "1", progress=False)


def test_backbones_too(images):
    model = vit(ViTModel)
    site = next(name for name, _ in model.named_modules() if name.endswith(("1.mlp.fc2", "1.output.dense")))
    assert record_images(model, images, site, pooling="class", progress=False)[site].values.shape == (N_IMAGES, 12)
