import numpy as np
import pytest
import torch
from torch import nn

from topographic.interventions.measures import measured

MODEL = nn.Linear(2, 3)


def n_outputs(model):
    return model.out_features


def test_names_and_numbers():
    assert measured(n_outputs, MODEL) == {"n_outputs": 3.0}
    assert measured(lambda model: torch.tensor(0.5), MODEL) == {"value": 0.5}
    assert measured(lambda model: {"a": np.float32(1), "b": 2}, MODEL) == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    ("found", "kinds"), [([0.1, 0.2], "list"), (None, "NoneType"), ({"a": "b", "c": 1}, "int, str"), ("high", "str")]
)
def test_what_is_no_number_is_refused(found, kinds):
    with pytest.raises(TypeError, match=f"^the measure returned {kinds}; expected a number, or a mapping of names"):
        measured(lambda model: found, MODEL)
