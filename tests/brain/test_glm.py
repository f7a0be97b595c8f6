"""The surface GLM: planted responses are found, noise is not, and every t has a second opinion."""

import numpy as np
import pytest
from scipy import stats

from topographic.brain import RunModel, design_matrix, group_map, load_events, run_statistic, subject_map
from topographic.maps import UnitMap, morans_i
from topographic.maps.clusters import cluster_mass_test
from topographic.stimuli import StimulusSet

pytest.importorskip("nilearn", reason="needs the extra topographic[brain]")

WEIGHTS = {"verb": 1.0, "noun": -1.0}
N_SCANS = 120


def make_events(seed=0, runs=("1", "2"), n_events=24, duration_s=3.0):
    """Nouns and verbs in random order, 8 to 10 s apart."""
    generator = np.random.default_rng(seed)
    rows = []
    for run in runs:
        onsets = 4 + np.cumsum(generator.uniform(8, 10, n_events)) - 8
        kinds = generator.permutation(["noun", "verb"] * (n_events // 2))
        rows += [(f"{kind} {onset:.1f}", kind, run, onset) for kind, onset in zip(kinds, onsets, strict=True)]
    items, conditions, of_runs, onsets = zip(*rows, strict=True)
    labels = {"duration_s": [duration_s] * len(rows)}
    return StimulusSet("events", items, conditions, of_runs, onset_s=onsets, labels=labels)


def predicted(events, run, condition, tr_s=2.0, n_scans=N_SCANS):
    """Response to one condition, from SPM's difference of gamma densities, in steps of 50 ms."""
    step_s = 0.05
    time_s = np.arange(0, 32, step_s)
    hrf = stats.gamma.pdf(time_s, 6) - stats.gamma.pdf(time_s, 16) / 6
    boxcar = np.zeros(int(n_scans * tr_s / step_s))
    for onset, kind, of_run, duration in zip(
        events.onset_s, events.conditions, events.runs, events.labels["duration_s"], strict=True
    ):
        if (kind, of_run) == (condition, run):
            boxcar[round(onset / step_s) : round((onset + float(duration)) / step_s)] = 1
    response = np.convolve(boxcar, hrf / hrf.sum())
    return response[(np.arange(n_scans) * tr_s / step_s).astype(int)]


def record(events, betas, generator, *, noise=1.0, tr_s=2.0):
    """Time courses of all runs: betas (conditions, vertices), a slow drift, a level, and white noise."""
    series = {}
    for run in dict.fromkeys(events.runs):
        x = np.stack([predicted(events, run, kind, tr_s) for kind in ("noun", "verb")], 1)
        drift = 5 * np.cos(np.pi * np.arange(N_SCANS) / N_SCANS)[:, None]
        series[run] = 100 + drift + x @ betas + noise * generator.normal(size=(N_SCANS, betas.shape[1]))
    return series


class TestDesign:
    def test_regressors_are_the_responses_at_the_scans(self):
        events = make_events()
        matrix, names = design_matrix(events, "2", N_SCANS)
        assert names[:2] == ["noun", "verb"]
        assert names[-1] == "constant"
        for column, kind in enumerate(("noun", "verb")):
            assert np.corrcoef(matrix[:, column], predicted(events, "2", kind))[0, 1] > 0.999
            assert np.corrcoef(matrix[:, column], predicted(events, "1", kind))[0, 1] < 0.9
            assert matrix[:, column].max() == pytest.approx(predicted(events, "2", kind).max(), rel=0.03)
        # cosines of less than 0.01 Hz over 240 s: 2 * 0.01 * 240 = 4.8
        assert sum(name.startswith("drift") for name in names) == 4

    def test_the_model_decides_time_and_drift(self):
        events = make_events()
        slow, names = design_matrix(events, "1", 80, RunModel(tr_s=3.0, drift=None))
        assert names == ["noun", "verb", "constant"]
        assert np.corrcoef(slow[:, 1], predicted(events, "1", "verb", 3.0, 80))[0, 1] > 0.999

    def test_what_is_no_design(self):
        events = make_events()
        with pytest.raises(ValueError, match=r"has no events in run '3'; its runs are \['1', '2'\]"):
            design_matrix(events, "3", N_SCANS)
        with pytest.raises(ValueError, match=r"an event begins at .* but 20 scans of 2 s end at 40 s; check tr_s"):
            design_matrix(events, "1", 20)
        with pytest.raises(ValueError, match="has no times; expected onset_s and the label 'duration_s'"):
            design_matrix(StimulusSet("x", ["a"], ["b"]), "1", 20)
        for field in ("tr_s", "high_pass_hz"):
            with pytest.raises(ValueError, match=rf"{field}=inf; expected a positive number"):
                RunModel(**{field: float("inf")})
            with pytest.raises(ValueError, match=rf"{field}=0\.0; expected a positive number"):
                RunModel(**{field: 0.0})


class TestEvents:
    def test_both_separators_and_blank_types(self, tmp_path):
        (tmp_path / "1.tsv").write_text("onset\tduration\ttrial_type\n1.5\t2\tnoun\n4\t2\tn/a\n")
        (tmp_path / "2.csv").write_text("trial_type,onset,duration\nverb,3,0.5\n,6,1\n")
        events = load_events({"1": tmp_path / "1.tsv", "2": tmp_path / "2.csv"})
        assert events.conditions == ("noun", "baseline", "verb", "baseline")
        assert events.runs == ("1", "1", "2", "2")
        assert events.onset_s == (1.5, 4.0, 3.0, 6.0)
        assert events.labels["duration_s"] == ("2.0", "2.0", "0.5", "1.0")

    def test_what_is_no_events_file(self, tmp_path):
        path = tmp_path / "x.tsv"
        with pytest.raises(FileNotFoundError, match="no events of run '1' at"):
            load_events({"1": path})
        path.write_text("onset\ttrial_type\n1\tnoun\n")
        with pytest.raises(ValueError, match=r"no column 'duration'; it has 'onset', 'trial_type': rename"):
            load_events({"1": path})
        for onset, duration in (("1", "long"), ("nan", "1"), ("1", ""), ("inf", "1")):
            path.write_text(f"onset\tduration\ttrial_type\n1\t1\tnoun\n{onset}\t{duration}\tnoun\n")
            with pytest.raises(ValueError, match=r"line 3: .* holds no onset and duration in seconds"):
                load_events({"1": path})
        path.write_text("onset\tduration\ttrial_type\n")
        with pytest.raises(ValueError, match="no events in"):
            load_events({"1": path})


class TestRun:
    def test_t_and_effect_equal_least_squares(self):
        events, generator = make_events(), np.random.default_rng(1)
        series = record(events, generator.normal(size=(2, 5)), generator)["1"]
        matrix, names = design_matrix(events, "1", N_SCANS)
        contrast = np.array([WEIGHTS.get(name, 0) for name in names])
        beta, residual, rank, _ = np.linalg.lstsq(matrix, series, rcond=None)
        error = residual / (N_SCANS - rank) * (contrast @ np.linalg.inv(matrix.T @ matrix) @ contrast)
        effect = run_statistic(series, events, "1", WEIGHTS, statistic="effect")
        np.testing.assert_allclose(effect, contrast @ beta, rtol=1e-8)
        np.testing.assert_allclose(
            run_statistic(series, events, "1", WEIGHTS), contrast @ beta / np.sqrt(error), rtol=1e-8
        )

    def test_planted_effects_are_recovered(self):
        events = make_events()
        betas = np.array([[0.0, 4, 1, -2], [0, 1, 4, -2]])
        series = record(events, betas, np.random.default_rng(2), noise=0.01)["2"]
        effect = run_statistic(series, events, "2", WEIGHTS, statistic="effect")
        np.testing.assert_allclose(effect, [0, -3, 3, 0], atol=0.12)

    def test_ar1_is_another_noise_model(self):
        events, generator = make_events(), np.random.default_rng(3)
        series = record(events, np.zeros((2, 4)), generator)["1"].cumsum(axis=0)
        white, remembering = (
            run_statistic(series, events, "1", WEIGHTS, model=RunModel(noise=noise)) for noise in ("ols", "ar1")
        )
        assert np.abs(white - remembering).max() > 0.1

    def test_vertices_without_a_recording(self):
        events = make_events()
        series = record(events, np.ones((2, 4)), np.random.default_rng(4))["1"]
        series[:, 1] = 7.0
        series[3, 2] = np.nan
        np.testing.assert_array_equal(np.isnan(run_statistic(series, events, "1", WEIGHTS)), [False, True, True, False])

    @pytest.mark.filterwarnings("ignore:Matrix is singular", "ignore:divide by zero")
    def test_what_is_no_contrast(self):
        events = make_events()
        series = np.ones((N_SCANS, 3))
        with pytest.raises(ValueError, match=r"run '1' has no condition 'adverb'; it has \['noun', 'verb'\]"):
            run_statistic(series, events, "1", {"adverb": 1.0, "noun": -1.0})
        with pytest.raises(ValueError, match=r"statistic='z'; expected one of \['effect', 't'\]"):
            run_statistic(series, events, "1", WEIGHTS, statistic="z")
        with pytest.raises(ValueError, match="7 scans for 7 regressors; expected more scans"):
            events = make_events(n_events=2, runs=("1",))
            run_statistic(np.ones((7, 3)), events, "1", WEIGHTS, model=RunModel(high_pass_hz=0.15))


class TestSubject:
    def test_runs_are_averaged(self, plane):
        events, mesh = make_events(), plane(3, 4)
        series = record(events, np.ones((2, 12)), np.random.default_rng(5))
        for statistic in ("t", "effect"):
            each = [run_statistic(series[run], events, run, WEIGHTS, statistic=statistic) for run in ("1", "2")]
            both = subject_map(series, events, mesh.sheet, WEIGHTS, statistic=statistic, site="s1")
            np.testing.assert_allclose(both.values, np.mean(each, axis=0), rtol=1e-5)
            assert (both.site, both.statistic) == ("s1", f"mean {statistic} over runs")
        odd = subject_map({"1": series["1"]}, events, mesh.sheet, WEIGHTS)
        np.testing.assert_allclose(odd.values, run_statistic(series["1"], events, "1", WEIGHTS), rtol=1e-5)
        assert odd.provenance["runs"] == ["1"]

    def test_what_does_not_fit(self, plane):
        events, sheet = make_events(), plane(3, 4).sheet
        with pytest.raises(ValueError, match="map 'subject': no runs"):
            subject_map({}, events, sheet, WEIGHTS)
        with pytest.raises(ValueError, match=r"run '1': recording of shape \(12, 120\) on a mesh of 12 vertices"):
            subject_map({"1": np.ones((12, 120))}, events, sheet, WEIGHTS)
        with pytest.raises(ValueError, match=r"weights=\{'verb': nan\} contrast nothing; .* finite weights"):
            subject_map({"1": np.ones((120, 12))}, events, sheet, {"verb": float("nan")})
        with pytest.raises(ValueError, match=r"weights=\{'verb': 0\.0\} contrast nothing"):
            subject_map({"1": np.ones((120, 12))}, events, sheet, {"verb": 0.0})


def subjects(mesh, effect, n_subjects, seed, *, noise=3.0):
    """Subject maps with an effect (vertices,) of verbs over nouns that differs a little between subjects."""
    generator, maps = np.random.default_rng(seed), []
    for number in range(n_subjects):
        events = make_events(seed=100 * seed + number)
        betas = np.stack([np.zeros(mesh.sheet.n_units), effect * (1 + 0.2 * generator.normal())])
        series = record(events, betas, generator, noise=noise)
        maps.append(subject_map(series, events, mesh.sheet, WEIGHTS, site=f"s{number}"))
    return maps


class TestGroup:
    def test_t_and_p_equal_scipy(self, plane):
        generator, sheet = np.random.default_rng(6), plane(4, 5).sheet
        values = generator.normal(0.3, 1.0, (9, 20)).astype(np.float32)
        group = group_map([UnitMap(f"s{k}", row, sheet, "t") for k, row in enumerate(values)])
        expected = stats.ttest_1samp(values.astype(np.float64), 0)
        np.testing.assert_allclose(group.values, expected.statistic, rtol=1e-6)
        np.testing.assert_allclose(group.p, expected.pvalue, rtol=1e-9)
        np.testing.assert_allclose(group.q, stats.false_discovery_control(expected.pvalue), rtol=1e-9)

    def test_flipped_signs_are_the_null(self, plane):
        generator, sheet = np.random.default_rng(7), plane(4, 5).sheet
        values = generator.normal(size=(4, 20)).astype(np.float32)
        maps = [UnitMap(f"s{k}", row, sheet, "t") for k, row in enumerate(values)]
        null = group_map(maps, n_draws=300).nulls["label"]
        signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
        possible = np.stack([stats.ttest_1samp(row[:, None] * values, 0).statistic for row in signs])
        nearest = np.abs(null[:, None] - possible[None]).max(-1)
        assert nearest.min(1).max() < 1e-4, "every draw is one of the sixteen flips of whole maps"
        assert len(set(nearest.argmin(1))) == 16
        np.testing.assert_array_equal(null, group_map(maps, n_draws=300).nulls["label"])
        assert not np.array_equal(null, group_map(maps, n_draws=300, seed=1).nulls["label"])

    def test_missing_values_stay_missing(self, plane):
        sheet, values = plane(2, 3).sheet, np.random.default_rng(8).normal(size=(5, 6))
        values[2, 1] = np.nan
        values[:, 4] = 2.0
        group = group_map([UnitMap(f"s{k}", row, sheet, "t") for k, row in enumerate(values)], n_draws=5)
        missing = [False, True, False, False, True, False]
        for array in (group.values, group.p, group.q, group.nulls["label"][3]):
            np.testing.assert_array_equal(np.isnan(array), missing)
        assert group.provenance["n_without_value"] == 2

    def test_noise_gives_as_many_false_alarms_as_it_should(self, plane):
        mesh = plane(50, 50)
        group = group_map(subjects(mesh, np.zeros(2500), 7, seed=1))
        # binomial: 2500 tests at 5 %, three standard deviations are 1.3 %
        assert (group.p < 0.05).mean() == pytest.approx(0.05, abs=0.013)
        assert (group.q < 0.05).sum() <= 2

    def test_a_planted_patch_is_found(self, plane):
        mesh = plane(30, 30)
        effect = np.zeros(900)
        inside = (np.abs(mesh.positions_mm[:, :2] - 12) <= 4).all(1)
        effect[inside] = 4.0
        group = group_map(subjects(mesh, effect, 10, seed=2), n_draws=200)
        found = group.q < 0.05
        assert inside.sum() == 81
        assert (found & inside).sum() >= 78
        assert (found & ~inside).sum() <= 0.1 * found.sum()
        assert (group.values[inside] > 0).all(), "verb minus noun"
        assert morans_i(group).label_null.p < 0.05
        best = cluster_mass_test({"group": group}, threshold=3.0)[0]
        assert best.p_mass < 0.05
        assert (best.selection.mask & inside).sum() > 0.9 * best.n_units

    def test_what_is_no_group(self, plane):
        one, other = (UnitMap("s", np.arange(12.0), plane(3, 4, step).sheet, "t") for step in (1.0, 2.0))
        for bad, message in (
            ({"n_draws": -1}, "n_draws=-1; expected 0 for no nulls"),
            ({"seed": -1}, "seed=-1; expect"),
        ):
            with pytest.raises(ValueError, match=message):
                group_map([], **bad)
        with pytest.raises(ValueError, match="2 subject maps; expected at least 3"):
            group_map([one, one])
        with pytest.raises(ValueError, match=r"differ in mesh or statistic; a group needs one of each"):
            group_map([one, one, other])
        with pytest.raises(ValueError, match=r"\(t\) and 's' \(effect\) differ"):
            group_map([one, one, UnitMap("s", np.arange(12.0), one.sheet, "effect")])
