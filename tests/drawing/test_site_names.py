import pytest

from topographic.drawing.site_names import arrange_sites, fold_layers, site_labels


def test_sites_are_arranged_by_layer_and_kind():
    sites = ["model.h.10.attn", "model.h.2.attn", "model.h.2.mlp"]
    rows, columns, places = arrange_sites(sites)
    assert (rows, columns) == (["layer 2", "layer 10"], ["attn", "mlp"])
    assert places == {"model.h.10.attn": (1, 0), "model.h.2.attn": (0, 0), "model.h.2.mlp": (0, 1)}
    assert site_labels(sites)["model.h.10.attn"] == "layer 10 attn"


@pytest.mark.parametrize("sites", [["encoder", "decoder"], ["a.1.mlp", "b.1.mlp"], ["h.1.mlp", "final"]])
def test_sites_that_name_no_layer_or_collide_are_laid_out_in_rows_of_four(sites):
    rows, columns, places = arrange_sites(sites)
    assert (rows, columns) == ([], [])
    assert list(places.values()) == [(0, 0), (0, 1)]
    assert site_labels(sites) == {site: site for site in sites}


def test_a_closing_sheet_is_dropped_from_the_label_only():
    rows, columns, places = arrange_sites(["h.0.attn_sheet", "h.0.mlp_sheet"])
    assert (rows, columns) == (["layer 0"], ["attn", "mlp"])
    assert places == {"h.0.attn_sheet": (0, 0), "h.0.mlp_sheet": (0, 1)}


def test_a_layer_alone_is_a_place():
    assert site_labels(["encoder.layer.3"]) == {"encoder.layer.3": "layer 3"}


def test_where_numbers_alone_differ_they_are_the_label():
    sites = [f"resnet.encoder.stages.{stage}.layers.{layer}.convolution" for stage in (0, 10) for layer in (0, 1)]
    assert list(site_labels(sites).values()) == ["layer 0.0", "layer 0.1", "layer 10.0", "layer 10.1"]
    assert site_labels([*sites, "resnet.stem.1.x"])[sites[3]] == "layer 10 layers.1.convolution"


def test_layers_run_to_the_right_and_long_tables_are_cut_into_blocks():
    few = {f"h.{layer}.{kind}": (layer, column) for layer in range(6) for column, kind in enumerate(("attn", "mlp"))}
    assert fold_layers(few) == {site: (column, layer) for site, (layer, column) in few.items()}
    many = {f"h.{layer}.{kind}": (layer, column) for layer in range(15) for column, kind in enumerate(("attn", "mlp"))}
    folded = fold_layers(many)
    assert len(set(folded.values())) == 30
    assert (folded["h.4.mlp"], folded["h.5.attn"], folded["h.14.mlp"]) == ((1, 4), (2, 0), (5, 4))
    assert {column for _, column in fold_layers({str(row): (row, 0) for row in range(13)}).values()} == set(range(5))
