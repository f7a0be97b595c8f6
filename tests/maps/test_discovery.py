"""`discover_regions`: planted kinds are found, and noise is not, at the level of the whole family."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_ind

from topographic.maps import NotMeasurable, discover_regions
from topographic.maps.discovery import passage_topics
from topographic.recording import Responses
from topographic.sheets import grid
from topographic.stimuli import StimulusSet

SHEET = grid((10, 12))
TOPICS = ("rain falls on hills", "a dog barks at cats", "she sings old songs", "ships sail the seas")
PATCHES = {0: (0, 1), 2: (6, 8)}  # topic -> corner of a patch of 3 x 3 units


def told(n_items, *, n_topics=4, **options):
    kind = np.arange(n_items) % n_topics
    kind = kind[np.random.default_rng(1).permutation(n_items)]
    items = [f"{TOPICS[one]} no {index}" for index, one in enumerate(kind)]
    return kind, StimulusSet("text", items, ["text"] * n_items, **options)


def embedded(kind, generator, noise=0.3):
    return 2 * np.eye(4)[kind] + noise * generator.standard_normal((len(kind), 4))


def patch_of(topic):
    rows, columns = np.divmod(np.arange(SHEET.n_units), 12)
    row, column = PATCHES[topic]
    return (rows >= row) & (rows < row + 3) & (columns >= column) & (columns < column + 3)


@pytest.fixture
def planted(smooth_noise):
    """Two of four topics have a patch each."""
    generator = np.random.default_rng(0)
    kind, stimuli = told(160)
    values = smooth_noise(generator, 160, SHEET, 1.5)
    for topic in PATCHES:
        values[np.ix_(kind == topic, patch_of(topic))] += 1.5
    return kind, Responses("site", values, SHEET, stimuli, np.full(160, 6)), embedded(kind, generator)


class TestPlanted:
    def test_the_topics_that_have_a_patch_are_found_with_it_and_named(self, planted):
        kind, responses, embeddings = planted
        found = discover_regions(responses, embeddings, n_draws=499)
        assert len(found) == 2
        for region in found.regions:
            [topic] = set(kind[region.items])
            assert len(region.items) == (kind == topic).sum()
            patch = patch_of(topic)
            dice = 2 * (region.selection.mask & patch).sum() / (region.selection.n_selected + patch.sum())
            assert dice > 0.7
            assert set(region.words[:3]) <= set(TOPICS[topic].split())
            assert all(sentence.startswith(TOPICS[topic]) for sentence in (*region.typical, *region.strongest))
            assert region.p_corrected == region.p == 1 / 500
            assert region.d > 1 > abs(region.d_elsewhere)
            assert region.mass.unit_null.p == 1 / 500
            assert region.n_tokens == region.n_tokens_others == 6
        table = found.to_frame()
        assert list(table["site"]) == ["site", "site"]
        assert table["t"].is_monotonic_decreasing

    def test_the_held_out_t_is_welchs(self, planted):
        _, responses, embeddings = planted
        region = discover_regions(responses, embeddings, n_draws=19, alpha=0.2).regions[0]
        first, second = responses.values[::2], responses.values[1::2]
        activity = ((second - first.mean(0)) / first.std(0))[:, region.selection.mask].mean(1)
        inside = np.isin(np.arange(1, 160, 2), region.items)
        assert region.t == pytest.approx(ttest_ind(activity[inside], activity[~inside], equal_var=False).statistic)

    def test_the_patch_comes_from_the_first_half_alone(self, planted):
        _, responses, embeddings = planted
        values = responses.values.copy()
        values[1::2] = np.random.default_rng(5).standard_normal(values[1::2].shape)
        found = discover_regions(Responses("site", values, SHEET, responses.stimuli), embeddings, n_draws=99)
        assert len(found) == 0
        assert len(found.tested) >= 2
        assert list(found.to_frame().columns) == []

    def test_among_sites_the_one_with_the_patch(self, planted, smooth_noise):
        _, responses, embeddings = planted
        noise = smooth_noise(np.random.default_rng(3), 160, SHEET, 1.5)
        both = {"noise": Responses("noise", noise, SHEET, responses.stimuli), "site": responses}
        assert {region.selection.site for region in discover_regions(both, embeddings, n_draws=99).regions} == {"site"}

    def test_a_control_sheet_on_which_the_same_units_lie_anywhere(self, planted):
        _, responses, embeddings = planted
        order = np.random.default_rng(2).permutation(SHEET.n_units)
        control = Responses("site", responses.values[:, order], SHEET, responses.stimuli)
        for region in discover_regions(responses, embeddings, n_draws=99, control=control).regions:
            assert region.control_mass < region.mass.value / 2

    def test_kinds_that_differ_in_length_alone_go_when_it_is_regressed(self):
        generator = np.random.default_rng(0)
        kind, stimuli = told(160)
        n_tokens = 10 + 10 * (kind == 1) + generator.integers(0, 5, 160)
        values = generator.standard_normal((160, SHEET.n_units)) + 0.2 * np.outer(n_tokens, patch_of(0))
        responses, embeddings = Responses("site", values, SHEET, stimuli, n_tokens), embedded(kind, generator)
        [region] = discover_regions(responses, embeddings, n_draws=99).regions
        assert region.n_tokens > region.n_tokens_others + 8
        assert not discover_regions(responses, embeddings, n_draws=99, length="regressed").regions


class TestNoise:
    @pytest.mark.unchecked
    def test_a_family_of_any_size_is_wrong_at_most_once_in_twenty(self, smooth_noise):
        """Smooth noise, and sentences of clear kinds: the rate of any false region."""
        n_times, n_found, n_tested = 150, 0, 0
        for number in range(n_times):
            generator = np.random.default_rng([7, number])
            _, stimuli = told(120)
            values = smooth_noise(generator, 120, SHEET, 2.5)
            vectors = generator.standard_normal((120, 5))
            found = discover_regions(
                Responses("site", values, SHEET, stimuli), vectors, n_draws=99, threshold=2.0, min_items=8
            )
            n_found += len(found) > 0
            n_tested += len(found.tested)
        assert n_tested > n_times  # candidates there are
        assert binomtest(n_found, n_times, 0.05, alternative="greater").pvalue > 0.01

    @pytest.mark.unchecked
    def test_documents_move_as_wholes(self):
        """Sentences of a document share topic and noise: taken one by one they would be called significant."""
        rates = {}
        for by in ("document", None):
            n_found = 0
            for number in range(30):
                generator = np.random.default_rng([3, number])
                document = np.repeat(np.arange(20), 8)
                runs = ["a" if one % 2 else "b" for one in document]
                stimuli = StimulusSet(
                    "text",
                    [f"sentence {index}" for index in range(160)],
                    ["text"] * 160,
                    runs,
                    labels={"document": [str(one) for one in document]},
                    sampled_by=by,
                )
                vectors = 3 * generator.standard_normal((20, 4))[document] + generator.standard_normal((160, 4))
                noise = 2 * generator.standard_normal((20, 4))[document] + generator.standard_normal((160, 4))
                values = np.repeat(noise, 30, axis=1) + 0.5 * generator.standard_normal((160, 120))
                found = discover_regions(Responses("site", values, SHEET, stimuli), vectors, n_draws=99, min_items=8)
                n_found += len(found) > 0
            rates[by] = n_found / 30
        assert rates["document"] <= 0.17 < 0.3 < rates[None]


class TestBadInput:
    def test_embeddings_that_are_the_responses_are_refused(self, planted):
        _, responses, _ = planted
        turn = np.linalg.qr(np.random.default_rng(0).standard_normal((120, 120)))[0]
        with pytest.raises(ValueError, match="the embeddings are the responses at 'site'"):
            discover_regions(responses, responses.values @ turn)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"threshold": 0.0}, "threshold=0.0; expected a t above 0"),
            ({"min_items": 1}, "min_items=1"),
            ({"length": "matched"}, "length='matched'; expected 'none' or 'regressed'"),
            ({"alpha": 1.0}, "alpha=1.0; expected a level"),
            ({"n_draws": 9}, "n_draws=9"),
            ({"min_items": 60}, "no kind of sentences has 60 members"),
        ],
    )
    def test_numbers(self, planted, options, message):
        _, responses, embeddings = planted
        with pytest.raises(ValueError, match=message):
            discover_regions(responses, embeddings, **options)

    def test_embeddings_of_other_sentences(self, planted):
        _, responses, embeddings = planted
        with pytest.raises(ValueError, match=r"embeddings have shape \(159, 4\)"):
            discover_regions(responses, embeddings[1:])
        with pytest.raises(ValueError, match="1 entries that are no numbers"):
            discover_regions(responses, np.where(np.arange(640).reshape(160, 4) == 5, np.nan, embeddings))

    def test_a_control_of_other_sites(self, planted):
        _, responses, embeddings = planted
        other = Responses("other", responses.values, SHEET, responses.stimuli)
        with pytest.raises(ValueError, match="control has no responses at 'site'"):
            discover_regions(responses, embeddings, control=other)

    def test_lengths_that_were_not_recorded(self, planted):
        _, responses, embeddings = planted
        bare = Responses("site", responses.values, SHEET, responses.stimuli)
        with pytest.raises(ValueError, match="carry no n_tokens"):
            discover_regions(bare, embeddings, length="regressed")

    def test_entries_in_both_halves_or_without_a_like(self, planted):
        _, responses, embeddings = planted
        labels = {"document": [str(index // 4) for index in range(160)]}
        runs = ["a" if index % 4 < 2 else "b" for index in range(160)]

        def shown(labels, runs):
            items = responses.stimuli.items
            return Responses(
                "site",
                responses.values,
                SHEET,
                StimulusSet("text", items, ["text"] * 160, runs, labels=labels, sampled_by="document"),
            )

        with pytest.raises(NotMeasurable, match="40 entries of 'document' have sentences in both halves"):
            discover_regions(shown(labels, runs), embeddings)
        labels = {"document": [str(index // 80) for index in range(160)]}
        runs = ["a" if index < 80 else "b" for index in range(160)]
        with pytest.raises(NotMeasurable, match="hardly can change places"):
            discover_regions(shown(labels, runs), embeddings)


def test_topics_are_those_of_the_words():
    found = passage_topics(("rain falls", "rain falls", "music plays", "bread bakes"), 0)
    assert np.allclose(found[0], found[1], atol=1e-6)
    assert np.linalg.norm(found[0] - found[2]) > 1


@pytest.mark.parametrize("texts", [("a b", "b a"), ("!", "?"), ("a b",)])
def test_a_text_that_says_nothing(texts):
    with pytest.raises(NotMeasurable, match=r"share all their words or have none|give a longer one"):
        passage_topics(texts, 0)
