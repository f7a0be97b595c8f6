import pytest
import torch
from torch import nn
from transformers import GPT2Config

from topographic.losses.wrappers import unwrapped


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    ],
)
def test_what_wrappers_hold(wrap):
    model = nn.Sequential(nn.Linear(2, 2))
    assert unwrapped(model) is model
    assert type(unwrapped(wrap(model))) is nn.Sequential


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gpt2", r"^model is the string 'gpt2'; expected a Module: a loaded model, .*from_pretrained\('gpt2'\)$"),
        (GPT2Config(), r"^model is a GPT2Config; expected a Module"),
        (nn.Linear, r"^model is the class Linear; expected a Module"),
        (None, "^model is None; expected a Module"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(given, message):
    with pytest.raises(TypeError, match=message):
        unwrapped(given)
