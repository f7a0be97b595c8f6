import re

import pytest
import torch
from torch import nn

from topographic.models import TopoLMForCausalLM, preset
from topographic.recording import carried_sheets, own_layout
from topographic.recording.placement import check_places, chosen_sites, settled_layout
from topographic.sheets import grid, permuted_grid


class Carrier(nn.Module):
    """A model that says where the units of one of its two layers lie."""

    def __init__(self, sheet=None):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.sheet = permuted_grid(6, "a") if sheet is None else sheet

    def sheets(self):
        return {"a": self.sheet}


REFUSED = re.escape(
    "the layout puts the units of site 'a' elsewhere than the sheet that the model carries; use that one "
    "(layout=None), or pass relayout=True"
)


def test_what_a_model_carries_is_found_through_wrappers():
    model = Carrier()
    for one in (model, nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert carried_sheets(one) == {"a": permuted_grid(6, "a")}
    topolm = TopoLMForCausalLM(preset("tiny"))
    names = list(topolm.sheets())
    topolm.transformer.h[0] = torch.compile(topolm.transformer.h[0], backend="eager")
    assert list(carried_sheets(topolm)) == names
    assert carried_sheets(nn.Linear(2, 2)) == {}
    model = nn.Module()
    model.sheets = nn.ModuleList()  # a child of that name says nothing of sheets
    assert carried_sheets(model) == {}


def test_a_method_of_that_name_that_returns_something_else():
    class Paper(nn.Module):
        def sheets(self):
            return ["A4"]

    with pytest.raises(TypeError, match=r"Paper\.sheets\(\) returned a list; expected {site: Sheet}"):
        carried_sheets(Paper())


def test_a_layout_of_the_models_own():
    layout = own_layout(Carrier(), permuted_grid)
    assert layout(6, "a") == permuted_grid(6, "a")
    assert layout(6, "b") == permuted_grid(6, "b")
    assert own_layout(Carrier())(6, "b") == grid(6, "b")


def test_sites_that_nobody_names_are_those_of_the_sheets():
    assert chosen_sites(Carrier(), None) == ["a"]
    assert chosen_sites(Carrier(), "?") == ["a", "b"]
    with pytest.raises(ValueError, match=r"sites=None, and Sequential carries no sheets .*for example sites='0'$"):
        chosen_sites(nn.Sequential(nn.Linear(2, 2)), None)


def test_carried_sheets_hold_at_their_sites_and_a_grid_elsewhere():
    layout = settled_layout(Carrier(), ["a", "b"], None)
    assert layout(6, "a") == permuted_grid(6, "a")
    assert layout(6, "b") == grid(6, "b")


@pytest.mark.parametrize("layout", [grid, {"a": grid(6, "a")}, lambda n, name: permuted_grid(n, name, seed=1)])
def test_a_layout_that_says_otherwise_is_refused_unless_it_is_meant(layout):
    with pytest.raises(ValueError, match=REFUSED) as raised:
        settled_layout(Carrier(), ["a"], layout)
    assert "\n" not in str(raised.value)
    meant = settled_layout(Carrier(), ["a"], layout, relayout=True)(6, "a")
    assert meant == (layout["a"] if isinstance(layout, dict) else layout(6, "a"))
    settled_layout(nn.DataParallel(Carrier()).module, ["b"], {"b": grid(6, "b")})
    assert settled_layout(Carrier(), ["a"], None, relayout=True)(6, "a") == grid(6, "a")


def test_the_same_places_under_another_name_or_rounded_are_no_contradiction():
    sheet = permuted_grid(6, "other")
    carried = Carrier(permuted_grid(6, "other", spacing_mm=1.0004))
    assert settled_layout(carried, ["a"], {"a": sheet})(6, "a") == sheet
    wrapped = permuted_grid(6, "other", wrap=True)
    with pytest.raises(ValueError, match=REFUSED):
        settled_layout(carried, ["a"], {"a": wrapped})


def test_sheets_have_to_fit_before_anything_runs():
    with pytest.raises(ValueError, match="has 6 units and its sheet 'a' places 4; give it a layout of its width"):
        settled_layout(Carrier(), ["a"], {"a": grid(4, "a")})
    with pytest.raises(ValueError, match="has 6 units and its sheet 'b' places 4"):
        settled_layout(Carrier(), ["b"], {"b": grid(4, "b")})(6, "b")
    with pytest.raises(ValueError, match="layout has no sheet for site 'b'"):
        settled_layout(Carrier(), ["a", "b"], {"a": permuted_grid(6, "a")})


def test_sheets_of_what_was_chosen_elsewhere():
    check_places(Carrier(), [("a", permuted_grid(6, "a")), ("b", grid(6))], "the selection")
    with pytest.raises(ValueError, match="the selection puts the units of site 'a' elsewhere"):
        check_places(Carrier(), [("a", grid(6))], "the selection")
    check_places(Carrier(), [("a", grid(6))], "the selection", relayout=True)
