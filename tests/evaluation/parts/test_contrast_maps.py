from topographic.evaluation import Choices
from topographic.evaluation.parts.contrast_maps import Contrast, measure_contrasts, significant_clusters
from topographic.evaluation.parts.selectivity import category_selectivity
from topographic.maps import t_map


def test_significance_is_one_sided_and_has_a_level(language):
    maps = {site: t_map(one, "sentences", "nonwords", n_draws=39) for site, one in language.planted().items()}
    assert len(significant_clusters(maps, 3.0)) == 2
    assert significant_clusters(maps, 3.0, sign="negative") == []
    assert significant_clusters(maps, 3.0, alpha=1 / 50) == []


def test_clusters_of_both_sides_are_one_family(language):
    choices = Choices(fwhm_mm=(0.0,), n_draws=39, cluster_threshold=1.0)
    found = measure_contrasts({"s - n": Contrast(language.planted(), "sentences", "nonwords")}, choices)
    maps = {site: t_map(one, "sentences", "nonwords", n_draws=39) for site, one in language.planted().items()}
    family = significant_clusters(maps, 1.0, sign="both")
    assert found.means[0]["clusters (first)"] == sum(test.peak_value > 0 for test in family) > 0
    assert found.means[0]["clusters (second)"] == sum(test.peak_value < 0 for test in family)


def test_pictures_by_depth_have_as_many_lines_as_colours(image_subject):
    found = category_selectivity(image_subject, Choices(fwhm_mm=(0.0,), n_draws=19))
    (picture,) = (one for one in found.pictures if one.name.startswith("depth"))
    named = [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]
    assert named == ["faces", "objects", "characters", "animals", "vehicles", "floor"]
