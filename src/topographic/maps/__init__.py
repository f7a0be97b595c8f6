"""Where on the sheet."""

from topographic.maps.activity import ActivitySmoothness, activity_smoothness, spatial_alignment
from topographic.maps.autocorrelation import MoransI, morans_i
from topographic.maps.clusters import CLUSTER_METHODS, ClusterTest, cluster_mass_test, clusters
from topographic.maps.collection import Maps, Numbers
from topographic.maps.components import principal_components
from topographic.maps.contrasts import condition_map, contrast_name, effect_size_map, t_map
from topographic.maps.curves import DistanceCurve, correlation_by_distance, difference_by_distance
from topographic.maps.dimensionality import effective_dimensionality, independent_units_dimensionality
from topographic.maps.discovery import DiscoveredRegion, Discovery, discover_regions
from topographic.maps.distance_decay import DistanceDecay, distance_decay, profile_agreement
from topographic.maps.layout_agreement import LayoutAgreement, layout_agreement
from topographic.maps.length import length_adjusted_map, match_length
from topographic.maps.localizer import load_or_localize, localize, localizer_maps
from topographic.maps.nulls import noise_floor, permuted_null
from topographic.maps.profiles import Profile, cross_fitted_profile, held_out, ordering_counts, response_profile
from topographic.maps.references import NotMeasurable, NullReference, Referenced, against_nulls, mean_over_sheets
from topographic.maps.selection import Selection
from topographic.maps.smoothness import (
    SMOOTHNESS,
    ResponseSmoothness,
    correlation_range,
    difference_rise,
    response_smoothness,
    tuning_smoothness,
)
from topographic.maps.stability import split_half_stability
from topographic.maps.summary import MapSummary, SiteSummary, summarize
from topographic.maps.surrogates import (
    SURROGATES,
    map_correlation,
    region_overlap,
    shifted_maps,
    spectral_surrogates,
    spun_maps,
    variogram_surrogates,
)
from topographic.maps.thresholds import control_fdr, select, select_top
from topographic.maps.topographic_statistic import TOPOGRAPHIC_STATISTICS, topographic_statistic
from topographic.maps.unit_map import UnitMap
from topographic.maps.verdicts import Verdict, verdicts
from topographic.maps.weight_smoothness import weight_smoothness
from topographic.maps.window_fit import fit_windows, window_curve
from topographic.maps.windows import integration_maps, integration_windows, yoking_map

__all__ = [
    "CLUSTER_METHODS",
    "SMOOTHNESS",
    "SURROGATES",
    "TOPOGRAPHIC_STATISTICS",
    "ActivitySmoothness",
    "ClusterTest",
    "DiscoveredRegion",
    "Discovery",
    "DistanceCurve",
    "DistanceDecay",
    "LayoutAgreement",
    "MapSummary",
    "Maps",
    "MoransI",
    "NotMeasurable",
    "NullReference",
    "Numbers",
    "Profile",
    "Referenced",
    "ResponseSmoothness",
    "Selection",
    "SiteSummary",
    "UnitMap",
    "Verdict",
    "activity_smoothness",
    "against_nulls",
    "cluster_mass_test",
    "clusters",
    "condition_map",
    "contrast_name",
    "control_fdr",
    "correlation_by_distance",
    "correlation_range",
    "cross_fitted_profile",
    "difference_by_distance",
    "difference_rise",
    "discover_regions",
    "distance_decay",
    "effect_size_map",
    "effective_dimensionality",
    "fit_windows",
    "held_out",
    "independent_units_dimensionality",
    "integration_maps",
    "integration_windows",
    "layout_agreement",
    "length_adjusted_map",
    "load_or_localize",
    "localize",
    "localizer_maps",
    "map_correlation",
    "match_length",
    "mean_over_sheets",
    "morans_i",
    "noise_floor",
    "ordering_counts",
    "permuted_null",
    "principal_components",
    "profile_agreement",
    "region_overlap",
    "response_profile",
    "response_smoothness",
    "select",
    "select_top",
    "shifted_maps",
    "spatial_alignment",
    "spectral_surrogates",
    "split_half_stability",
    "spun_maps",
    "summarize",
    "t_map",
    "topographic_statistic",
    "tuning_smoothness",
    "variogram_surrogates",
    "verdicts",
    "weight_smoothness",
    "window_curve",
    "yoking_map",
]
