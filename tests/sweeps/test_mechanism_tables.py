import pytest

from topographic.runs.recipe import Recipe
from topographic.sweeps.choices import Mechanisms
from topographic.sweeps.collect import CellNumbers, Setting
from topographic.sweeps.mechanism_tables import laid_out_settings, mechanisms_part
from topographic.sweeps.pace import Pace
from topographic.sweeps.plan import Cell

CHOICES = Mechanisms({"MLP": "*.mlp"}, {"MLP": "*.mlp.c_proj"}, laid_out=["none"])


def setting(name, losses, order, reference=None, laid_out=None):
    cells = []
    for seed, loss in enumerate(losses):
        about = {"parameters": 10, "validation loss": loss, "accuracy": 0.5, "MLP: I of activity": order}
        about |= {"MLP: I of activity, z (unit)": 10 * order, "downsampled": 0.25, "lesion: p": 0.1 * (seed + 1)}
        again = {} if laid_out is None else {"MLP: I of activity": laid_out}
        cells.append(CellNumbers(Cell(f"{name}-seed_{seed}", {}, seed, Recipe(), name), {}, about, {}, again))
    return Setting(name, {}, cells, reference)


@pytest.fixture
def settings():
    none = setting("none", [5.0, 5.1, 5.2], 0.0, laid_out=0.6)
    return [none, setting("spatial loss", [5.1, 5.3, 5.2], 0.7, none)]


def test_a_row_for_every_mechanism_and_for_the_layout_found_afterwards(settings):
    part = mechanisms_part(settings, CHOICES, {"none": Pace(0.1, 1.0, 2.0), "spatial loss": Pace(0.2, 2.0, 3.0)})
    tables = {one.name: one.rows for one in part.tables}
    names = ["none", "spatial loss", "none, laid out afterwards"]
    assert [row["mechanism"] for row in tables["cost"]] == names
    none, spatial, afterwards = tables["cost"]
    assert none["validation loss"] == "5.100 ± 0.100"
    assert "minus reference" in none
    assert none["minus reference"] == ""
    assert spatial["minus reference"] == "+0.100 [-0.148, +0.348]", "0.1, 0.2, 0.0: 4.303 x 0.1 / sqrt(3)"
    assert afterwards["minus reference"].startswith("+0.000")
    assert (spatial["s/step"], spatial["times reference"], spatial["kept (MiB)"]) == (0.2, 2.0, 3.0)
    assert "s/step" not in afterwards
    order = tables["order_MLP"]
    assert [row["I of activity"][:5] for row in order] == ["0.000", "0.700", "0.600"]
    assert order[1]["z (I of activity)"].startswith("7.0")
    assert tables["uses"][1]["lesion: p"] == "0.10, 0.20, 0.30"
    long = {(row["setting"], row["measure"]): row for row in tables["mechanisms"]}
    assert long["spatial loss", "MLP: I of activity"]["difference"] == pytest.approx(0.7)
    assert long["none, laid out afterwards", "MLP: I of activity"]["mean"] == pytest.approx(0.6)
    (picture,) = part.pictures
    assert picture.name == "mechanisms"


def test_only_models_that_were_laid_out_have_a_second_row(settings):
    (one,) = laid_out_settings(settings)
    assert (one.name, one.reference) == ("none, laid out afterwards", settings[0])
    assert laid_out_settings(settings[1:]) == []
