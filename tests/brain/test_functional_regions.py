import numpy as np
import pytest

from topographic.brain.functional_regions import group_parcels, region_dice, region_effects, regions_in_parcels
from topographic.maps import Selection, UnitMap
from topographic.sheets import grid

SHEET = grid((16, 16))
PLACES = SHEET.positions_mm.numpy()
BLOBS = [np.linalg.norm(PLACES - centre, axis=1) < 3 for centre in ((4, 4), (11, 11))]


def subjects(n=10, seed=0):
    """Each has two regions, a little elsewhere in each, and strays."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        mask = rng.random(256) < 0.02
        for centre in ((4, 4), (11, 11)):
            mask |= np.linalg.norm(PLACES - centre - rng.normal(0, 0.7, 2), axis=1) < 2.5
        found.append(Selection("a", mask, SHEET, "top"))
    return found


def test_parcels_are_where_subjects_agree():
    parcels = group_parcels(subjects())
    assert parcels.max() == 2
    both = {int(np.bincount(parcels[blob]).argmax()) for blob in BLOBS}
    assert both == {1, 2}
    assert not parcels[
        ~(np.linalg.norm(PLACES - (4, 4), axis=1) < 6) & ~(np.linalg.norm(PLACES - (11, 11), axis=1) < 6)
    ].any()


def test_subjects_who_agree_on_nothing_have_no_parcel():
    rng = np.random.default_rng(0)
    strays = [Selection("a", rng.random(256) < 0.05, SHEET, "top") for _ in range(10)]
    assert not group_parcels(strays).any()


def test_an_individual_region_is_the_top_of_a_parcel():
    values = np.random.default_rng(0).normal(size=256)
    parcels = np.where(BLOBS[0], 1, np.where(BLOBS[1], 2, 0))
    found = regions_in_parcels(UnitMap("a", values, SHEET, "t"), parcels, share=0.2)
    for parcel, one in found.items():
        members = parcels == parcel
        assert one.n_selected == round(0.2 * members.sum())
        assert not one.mask[~members].any()
        assert values[one.mask].min() > np.delete(values, np.flatnonzero(one.mask | ~members)).max()


def test_effects_come_of_other_runs_and_noise_has_none():
    rng, parcels = np.random.default_rng(0), np.where(BLOBS[0], 1, 0)
    inside, outside = [], []
    for _ in range(60):
        first, second = (UnitMap("a", rng.normal(size=256), SHEET, "t") for _ in range(2))
        regions = regions_in_parcels(first, parcels)
        inside.append(region_effects(regions, {"S": first}, runs=[1], defined_on=[2])["mean"][0])
        outside.append(region_effects(regions, {"S": second}, runs=[2], defined_on=[1])["mean"][0])
    assert np.mean(inside) > 1  # chosen for being large
    assert abs(np.mean(outside)) < 3 * np.std(outside) / np.sqrt(60)
    with pytest.raises(ValueError, match="run 1 both defined the regions and measures them"):
        region_effects(regions, {"S": second}, runs=[1, 2], defined_on=[1])


def test_regions_of_two_halves_overlap_as_counted():
    first = {1: Selection("a", BLOBS[0], SHEET, "x"), 2: Selection("a", BLOBS[1], SHEET, "x")}
    second = {1: Selection("a", BLOBS[0], SHEET, "x"), 2: Selection("a", BLOBS[0], SHEET, "x")}
    assert region_dice(first, second) == {1: 1.0, 2: 0.0}


def test_what_cannot_be_is_refused():
    one = subjects(2)
    with pytest.raises(ValueError, match="1 subject; parcels are where subjects agree"):
        group_parcels(one[:1])
    with pytest.raises(ValueError, match="subjects have different sheets"):
        group_parcels([one[0], Selection("a", np.ones(4, bool), grid(4), "x")])
    with pytest.raises(ValueError, match=r"least_overlap=0\.0; expected a share"):
        group_parcels(one, least_overlap=0.0)
    with pytest.raises(ValueError, match="expected one entry per unit"):
        regions_in_parcels(UnitMap("a", np.zeros(256), SHEET, "t"), np.zeros(256, int))
    with pytest.raises(ValueError, match=r"share=2\.0; expected a share of each parcel"):
        regions_in_parcels(UnitMap("a", np.zeros(256), SHEET, "t"), np.ones(256, int), share=2.0)
    regions = {1: Selection("a", BLOBS[0], SHEET, "x")}
    with pytest.raises(ValueError, match="lies on another sheet than region 1"):
        region_effects(regions, {"S": UnitMap("a", np.zeros(4), grid(4), "t")}, runs=[1], defined_on=[2])
