"""Contrasts mapped at every width of the readout, beside their nulls, by depth and as pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import published_columns
from topographic.evaluation.results import Findings, Picture, Table, under
from topographic.maps import ClusterTest, UnitMap, cluster_mass_test, summarize
from topographic.plots.figures import draw_maps, symmetric_limit
from topographic.plots.layer_figures import draw_by_depth
from topographic.recording import Responses

__all__ = [
    "Contrast",
    "MeasuredContrasts",
    "contrasts_explained",
    "map_picture",
    "measure_contrasts",
    "significant_clusters",
]

_SHOWN = ("mean", "p")  # of each null


class Contrast(NamedTuple):
    """Responses, and which of their conditions are compared."""

    responses: Mapping[str, Responses]
    condition: str | tuple[str, ...]
    baseline: str | tuple[str, ...]


class MeasuredContrasts(NamedTuple):
    """Rows, pictures and maps of several contrasts, and the columns of a number beside its nulls."""

    columns: list[str]
    means: list[dict[str, Any]]
    by_depth: list[dict[str, Any]]
    pictures: list[Picture]
    maps: dict[str, UnitMap]

    def findings(
        self, title: str, text: str, note: str, *, headline: Sequence[str] = (), tables: Sequence[Table] = ()
    ) -> Findings:
        """With the means first, tables of the part's own, and every sheet last."""
        means = Table(
            "means",
            "Means over sheets",
            self.means,
            f"Clusters and their mass are totals over all sheets, not means. {note}",
            keys=("contrast", "FWHM (mm)"),
            headline=(*self.columns, *headline),
        )
        return Findings(
            title, text, [means, *tables, Table("depth", "By sheet", self.by_depth)], self.pictures, maps=self.maps
        )


def measure_contrasts(
    contrasts: Mapping[str, Contrast], choices: Choices, *, beside: str | None = None
) -> MeasuredContrasts:
    """Map every contrast at every width of the readout and measure the maps, beside the published I in a file."""
    means, by_depth, pictures, maps = [], [], [], {}
    drawn = list(contrasts)[:5]  # and the floor: as many colours as there are
    for fwhm_mm in choices.fwhm_mm:
        curves, labels = {}, {}
        for name, (responses, condition, baseline) in contrasts.items():
            options = {"fwhm_mm": fwhm_mm, "n_draws": choices.n_draws, "seed": choices.seed}
            summary = summarize(responses, condition, baseline, **options)
            both = significant_clusters(summary.maps, choices.cluster_threshold, sign="both")
            found = {
                "positive": [test for test in both if test.peak_value > 0],
                "negative": [test for test in both if test.peak_value < 0],
            }
            labels = site_labels(list(summary.maps))
            if name in drawn:
                curves[name] = [row.morans_i.value for row in summary.rows]
            about = {"contrast": name, "FWHM (mm)": fwhm_mm}
            mean = about | summary.morans_i.to_columns("I", show=_SHOWN)
            if beside is not None:
                # the published maps without smoothing stand beside ours, although theirs had 1 mm; the note says so
                mean |= published_columns(beside, "Moran's I", contrast=name, fwhm_mm=f"{fwhm_mm or 1.0:g}")
            strength = summary.mean_abs_t.to_columns("mean |t|", of="label", show=_SHOWN)
            means.append(mean | strength | _cluster_cells(found))
            for row in summary.rows:
                here = {side: [one for one in tests if one.selection.site == row.site] for side, tests in found.items()}
                line = {**about, "sheet": labels[row.site], **row.morans_i.to_columns("I", show=_SHOWN)}
                by_depth.append(line | _cluster_cells(here))
            slug = name.replace(" - ", "-").replace(" ", "_").replace("(", "").replace(")", "")
            maps |= under(f"{slug}_fwhm_{fwhm_mm:g}", summary.maps)
            title = f"{name}, FWHM {fwhm_mm:g} mm"
            pictures.append(map_picture(f"{slug}_fwhm_{fwhm_mm:g}", title, summary.maps))
        # the floor depends on sheet and readout, hardly on the contrast: one line stands for all
        curves["floor"] = [row.morans_i.floor.mean for row in summary.rows if row.morans_i.floor is not None]
        figure = draw_by_depth(curves, list(labels.values()), y_label="Moran's I", at_least=(-0.1, 1.0)).figure
        note = "From the first layer to the last. Unit and label nulls of every sheet are in the table."
        title = f"Moran's I by depth, FWHM {fwhm_mm:g} mm"
        pictures.append(Picture(f"depth_fwhm_{fwhm_mm:g}", title, figure, note, headline=True))
    return MeasuredContrasts(list(summary.morans_i.to_columns("I", show=_SHOWN)), means, by_depth, pictures, maps)


def contrasts_explained(choices: Choices) -> str:
    """What the columns of `measure_contrasts` mean."""
    return (
        "Moran's I of each map beside three references: the floor (white noise through the same readout), the unit "
        "null (units permuted before the readout: is the map smooth?) and the label null (labels of the items "
        "permuted: is that about this contrast?). p is one-sided. Clusters and their mass are those with family-wise "
        f"p <= .05 over all sheets and both sides, for t beyond {choices.cluster_threshold:g}: of units that prefer "
        "the first side of the contrast, and of units that prefer the second."
    )


def map_picture(name: str, title: str, maps: Mapping[str, UnitMap], *, headline: bool = False) -> Picture:
    """All maps of one contrast in one picture."""
    limit = symmetric_limit(list(maps.values()))
    note = f"One picture per sheet, one colour scale: the darkest colours are t = ±{limit:.1f} and beyond."
    return Picture(name, title, draw_maps(maps, limit=limit, colour_label="Welch's t"), note, headline)


def significant_clusters(
    maps: Mapping[str, UnitMap], threshold: float, *, sign: str = "positive", alpha: float = 0.05
) -> list[ClusterTest]:
    """Clusters whose mass chance reaches seldom on any sheet."""
    return [test for test in cluster_mass_test(maps, threshold=threshold, sign=sign) if test.p_mass <= alpha]


def _cluster_cells(found: Mapping[str, Sequence[ClusterTest]]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for tests, side in zip(found.values(), ("first", "second"), strict=True):
        cells |= {f"clusters ({side})": len(tests), f"mass ({side})": sum(test.mass for test in tests)}
    return cells
