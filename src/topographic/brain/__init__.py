"""Cortex: surface maps as unit maps, the models that make them from recordings, and encoding models."""

from topographic.brain.assemblies import ResponseAssembly, load_assemblies, load_assembly
from topographic.brain.assembly_scores import AssemblyScores, score_assembly
from topographic.brain.ceilings import (
    cross_subject_prediction,
    explainable_variance,
    noise_ceiling_nsd,
    spearman_brown,
    split_half_ceiling,
)
from topographic.brain.controls import (
    beside_controls,
    exponential_features,
    orthogonal_autocorrelated_features,
    word_controls,
)
from topographic.brain.downsample import convolve_hrf, delay, downsample, trim, zscore_runs
from topographic.brain.encoding import Encoding, encode
from topographic.brain.folds import Folds, contiguous_folds, run_folds, shuffled_folds
from topographic.brain.functional_regions import group_parcels, region_dice, region_effects, regions_in_parcels
from topographic.brain.glm import RunModel, design_matrix, group_map, load_events, run_statistic, subject_map
from topographic.brain.metrics import linear_cka, ols_pearson, rdm_similarity, ridge_pearson
from topographic.brain.nuisance import (
    censored_scans,
    framewise_displacement_mm,
    motion_regressors,
    motion_score_correlation,
)
from topographic.brain.pls import PLSAlignment, pls_alignment
from topographic.brain.published_ridge import PublishedRidge, fit_published_ridge
from topographic.brain.scores import (
    group_sign_flip,
    pearson_r,
    r2_score,
    shift_test,
)
from topographic.brain.sheets_and_cortex import (
    prediction_map,
    preferred_position_maps,
    preferred_positions_mm,
    sheet_cortex_distances,
    weight_maps,
)
from topographic.brain.significance import Significance, significance
from topographic.brain.stories import StoryEncoding, encode_stories, synthetic_recording, untrained
from topographic.brain.story_data import StoryRecording, load_recording, load_story_data, story_subjects
from topographic.brain.story_features import SpeechEncoder, features_at_scans, loudness_at_scans, speech_at_scans
from topographic.brain.story_group import GroupEncoding, encode_once, group_encodings
from topographic.brain.surface import (
    SurfaceMesh,
    load_mesh,
    load_surface_map,
    load_surface_series,
    threshold_as_published,
)
from topographic.brain.surface_nulls import estimated_fwhm_mm, smooth_noise_nulls
from topographic.brain.synthetic import StorySubject, fsaverage5_mesh, parcels_of, story_subject
from topographic.brain.word_corpora import (
    SentenceCorpus,
    WordCorpus,
    load_sentence_corpora,
    load_word_corpora,
    load_word_corpus,
)
from topographic.brain.word_scores import (
    GroupedScore,
    grouped_correlation,
    grouped_gain,
    held_out_words,
    likelihood_gain,
    sentence_and_type_folds,
    usable_words,
)

__all__ = [
    "AssemblyScores",
    "Encoding",
    "Folds",
    "GroupEncoding",
    "GroupedScore",
    "PLSAlignment",
    "PublishedRidge",
    "ResponseAssembly",
    "RunModel",
    "SentenceCorpus",
    "Significance",
    "SpeechEncoder",
    "StoryEncoding",
    "StoryRecording",
    "StorySubject",
    "SurfaceMesh",
    "WordCorpus",
    "beside_controls",
    "censored_scans",
    "contiguous_folds",
    "convolve_hrf",
    "cross_subject_prediction",
    "delay",
    "design_matrix",
    "downsample",
    "encode",
    "encode_once",
    "encode_stories",
    "estimated_fwhm_mm",
    "explainable_variance",
    "exponential_features",
    "features_at_scans",
    "fit_published_ridge",
    "framewise_displacement_mm",
    "fsaverage5_mesh",
    "group_encodings",
    "group_map",
    "group_parcels",
    "group_sign_flip",
    "grouped_correlation",
    "grouped_gain",
    "held_out_words",
    "likelihood_gain",
    "linear_cka",
    "load_assemblies",
    "load_assembly",
    "load_events",
    "load_mesh",
    "load_recording",
    "load_sentence_corpora",
    "load_story_data",
    "load_surface_map",
    "load_surface_series",
    "load_word_corpora",
    "load_word_corpus",
    "loudness_at_scans",
    "motion_regressors",
    "motion_score_correlation",
    "noise_ceiling_nsd",
    "ols_pearson",
    "orthogonal_autocorrelated_features",
    "parcels_of",
    "pearson_r",
    "pls_alignment",
    "prediction_map",
    "preferred_position_maps",
    "preferred_positions_mm",
    "r2_score",
    "rdm_similarity",
    "region_dice",
    "region_effects",
    "regions_in_parcels",
    "ridge_pearson",
    "run_folds",
    "run_statistic",
    "score_assembly",
    "sentence_and_type_folds",
    "sheet_cortex_distances",
    "shift_test",
    "shuffled_folds",
    "significance",
    "smooth_noise_nulls",
    "spearman_brown",
    "speech_at_scans",
    "split_half_ceiling",
    "story_subject",
    "story_subjects",
    "subject_map",
    "synthetic_recording",
    "threshold_as_published",
    "trim",
    "untrained",
    "usable_words",
    "weight_maps",
    "word_controls",
    "zscore_runs",
]
