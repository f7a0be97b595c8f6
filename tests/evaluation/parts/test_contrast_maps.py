from topographic.evaluation import Choices
from topographic.evaluation.parts.contrast_maps import significant_clusters
from topographic.evaluation.parts.selectivity import category_selectivity
from topographic.maps import t_map


def test_significance_is_one_sided_and_has_a_level(language):
    maps = {site: t_map(one, "sentences", "nonwords", n_draws=39) for site, one in language.planted().items()}
    assert len(significant_clusters(maps, 3.0)) == 2
    assert significant_clusters(maps, 3.0, sign="negative") == []
    assert significant_clusters(maps, 3.0, alpha=1 / 50) == []


def test_pictures_by_depth_have_as_many_lines_as_colours(image_subject):
    found = category_selectivity(image_subject, Choices(fwhm_mm=(0.0,), n_draws=19))
    (picture,) = (one for one in found.pictures if one.name.startswith("depth"))
    named = [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]
    assert named == ["faces", "objects", "characters", "animals", "vehicles", "floor"]
