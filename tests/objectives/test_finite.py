import math

import pytest
import torch
from torch import nn

from topographic.objectives.finite import check_finite
from topographic.objectives.objective import Objective, SpatialCorrelation
from topographic.sheets import grid


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_names_the_site(value, generator):
    model = nn.Sequential(nn.Linear(5, 36), nn.Linear(36, 36))
    with torch.no_grad():
        model[1].bias[:] = value
    objective = Objective(model, [SpatialCorrelation(sites=["0", "1"], layout=grid, radius=2)])
    with objective.listen():
        task_loss = model(torch.randn(9, 5, generator=generator)).mean()
    _, parts = objective(task_loss)
    with pytest.raises(FloatingPointError, match=r"^the spatial loss at site '1' is nan; expected a finite number"):
        check_finite(parts)


def test_what_is_no_site():
    with pytest.raises(FloatingPointError, match=r"^task_loss is inf; "):
        check_finite({"task_loss": torch.tensor(torch.inf)})
    check_finite({"task_loss": torch.tensor(1.0)})
