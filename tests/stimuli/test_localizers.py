import csv
import itertools
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy.stats import ttest_ind

from topographic.stimuli import LOCALIZERS, load_localizer

OWN = [name for name, localizer in LOCALIZERS.items() if localizer.is_own]
PUBLISHED = [name for name in LOCALIZERS if name not in OWN]
FUNCTION_WORDS = {"the", "her", "his", "of", "in", "on", "that", "and", "their", "when", "before", "to", "two", "was"}


def read_norms(path):
    """Rows of a tab-separated table by their lower-cased word."""
    with open(path, encoding="utf-8", newline="") as opened:
        reader = csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
        key = reader.fieldnames[0]
        return {row[key].lower(): row for row in reader}


@pytest.fixture(scope="module")
def language():
    return load_localizer("language")


@pytest.fixture(scope="module")
def nouns_verbs():
    return load_localizer("nouns_verbs")


def words_of(stimuli):
    return [word for item in stimuli.items for word in item.split()]


def neighbours(stimuli):
    return {pair for item in stimuli.items for pair in itertools.pairwise(item.split())}


class TestLanguage:
    def test_counts(self, language):
        assert language.condition_names == ("sentences", "words", "jabberwocky", "nonwords")
        cells = Counter(zip(language.conditions, language.runs, language.labels["n_words"], strict=True))
        assert len(cells) == 4 * 2 * 3
        assert set(cells.values()) == {10}
        assert {n_words for _, _, n_words in cells} == {"8", "9", "10"}

    def test_labels_say_what_the_items_are(self, language):
        assert language.labels["n_words"] == tuple(str(len(item.split())) for item in language.items)
        assert language.labels["n_characters"] == tuple(str(len(item)) for item in language.items)

    def test_plain_text_without_doubles(self, language):
        assert len(set(language.items)) == len(language)
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words_of(language))

    def test_conditions_are_matched_item_by_item(self, language):
        groups = defaultdict(set)
        for item, match, run in zip(language.items, language.labels["match"], language.runs, strict=True):
            groups[match].add((run, len(item.split()), len(item)))
        assert len(groups) == 60
        assert all(len(group) == 1 for group in groups.values())

    @pytest.mark.parametrize("run", ["odd", "even"])
    def test_word_lists_are_the_words_of_the_sentences(self, language, run):
        sentences, lists = (language.select(condition=condition, run=run) for condition in ("sentences", "words"))
        assert Counter(words_of(sentences)) == Counter(words_of(lists))
        assert not neighbours(sentences) & neighbours(lists)

    def test_jabberwocky_keeps_function_words_and_lengths(self, language):
        sentences, jabberwocky = (language.select(condition=c) for c in ("sentences", "jabberwocky"))
        for real, odd in zip(sentences.items, jabberwocky.items, strict=True):
            pairs = list(zip(real.split(), odd.split(), strict=True))
            assert all(len(first) == len(second) for first, second in pairs)
            assert all(first == second for first, second in pairs if first in FUNCTION_WORDS)
            kept = sum(first == second for first, second in pairs)
            assert 2 <= kept <= len(pairs) - 3

    def test_jabberwocky_keeps_regular_endings(self, language):
        sentences, jabberwocky = (words_of(language.select(condition=c)) for c in ("sentences", "jabberwocky"))
        pairs = {(real, odd) for real, odd in zip(sentences, jabberwocky, strict=True) if real != odd}
        for real, odd in pairs:
            if real.endswith(("ed", "ing")) and real not in ("evening", "morning", "spring", "shed"):
                assert odd.endswith("ed" if real.endswith("ed") else "ing"), (real, odd)
        assert sum(real.endswith("ed") for real, _ in pairs) > 20

    def test_nonword_lists_follow_the_word_lists(self, language):
        """Position by position one nonword for one word, always the same one."""
        words, nonwords = (words_of(language.select(condition=c)) for c in ("words", "nonwords"))
        assert len(set(zip(words, nonwords, strict=True))) == len(set(words)) == len(set(nonwords))
        assert all(len(word) == len(nonword) for word, nonword in zip(words, nonwords, strict=True))
        jabberwocky = set(words_of(language.select(condition="jabberwocky")))
        assert len(jabberwocky & set(nonwords)) > 200

    def test_no_nonword_is_a_word(self, language, shared):
        norms = shared / "data" / "corpora" / "norms"
        english = set(read_norms(norms / "subtlex_us.tsv")) | set(read_norms(norms / "brysbaert_concreteness.tsv"))
        real = set(words_of(language.select(condition=["sentences", "words"])))
        assert real <= english
        assert not set(words_of(language.select(condition="nonwords"))) & english
        odd = set(words_of(language.select(condition="jabberwocky"))) - real
        assert len(odd) > 200
        assert not odd & english


class TestNounsVerbs:
    def test_counts(self, nouns_verbs):
        columns = nouns_verbs.conditions, nouns_verbs.labels["concreteness"], nouns_verbs.runs
        cells = Counter(zip(*columns, strict=True))
        assert len(cells) == 8
        assert set(cells.values()) == {20}
        assert len(set(nouns_verbs.items)) == 160

    def test_lengths_are_matched_exactly(self, nouns_verbs):
        histograms = {
            tuple(sorted(map(len, nouns_verbs.select(condition=condition, concreteness=concreteness).items)))
            for condition in ("noun", "verb")
            for concreteness in ("concrete", "abstract")
        }
        assert len(histograms) == 1
        assert nouns_verbs.labels["n_characters"] == tuple(str(len(item)) for item in nouns_verbs.items)
        runs = [np.mean([len(item) for item in nouns_verbs.select(run=run).items]) for run in ("odd", "even")]
        assert abs(runs[0] - runs[1]) < 0.1

    def test_frequency_is_matched(self, nouns_verbs, shared):
        norms = read_norms(shared / "data" / "corpora" / "norms" / "subtlex_us.tsv")
        frequency = {word: float(norms[word]["Lg10WF"]) for word in nouns_verbs.items}
        for first, second in (
            ({"condition": "noun"}, {"condition": "verb"}),
            ({"concreteness": "concrete"}, {"concreteness": "abstract"}),
        ):
            samples = [[frequency[word] for word in nouns_verbs.select(**cell).items] for cell in (first, second)]
            assert ttest_ind(*samples, equal_var=False).pvalue > 0.5

    def test_classes_agree_with_the_brown_corpus(self, nouns_verbs, shared):
        norms = read_norms(shared / "data" / "corpora" / "norms" / "brown_pos_lexicon.tsv")
        listed = 0
        for word, condition in zip(nouns_verbs.items, nouns_verbs.conditions, strict=True):
            if word in norms:
                listed += 1
                assert norms[word]["dominant_tag"].startswith({"noun": "nn", "verb": "vb"}[condition]), word
                if int(norms[word]["count"]) >= 3:
                    assert float(norms[word]["share"]) >= 0.9, word
        assert listed > 120

    def test_labels_agree_with_rated_concreteness(self, nouns_verbs, shared):
        norms = read_norms(shared / "data" / "corpora" / "norms" / "brysbaert_concreteness.tsv")
        assert set(nouns_verbs.items) <= set(norms)
        columns = nouns_verbs.items, nouns_verbs.conditions, nouns_verbs.labels["concreteness"]
        for word, condition, concreteness in zip(*columns, strict=True):
            assert norms[word]["Dom_Pos"].lower() == condition, word
            rated = float(norms[word]["Conc.M"])
            assert rated >= 3.2 if concreteness == "concrete" else rated <= 2.6, word


@pytest.mark.parametrize("name", OWN)
def test_ours_say_where_they_come_from(name):
    stimuli = load_localizer(name)
    assert stimuli.name == name
    assert stimuli.licence == "Apache-2.0"
    assert "this library" in stimuli.source
    with pytest.raises(ValueError, match=f"localizer '{name}' ships with the library; leave out folder='somewhere'"):
        load_localizer(name, "somewhere")


def test_default():
    assert load_localizer() == load_localizer("language")


def folder_of(name, shared):
    (path, *_) = (shared / "data" / "stimuli").glob(f"*/{LOCALIZERS[name].files}")
    return path.parent


class TestPublished:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_own_folder_or_the_one_above(self, name, shared):
        stimuli = load_localizer(name, shared / "data" / "stimuli")
        assert stimuli == load_localizer(name, str(folder_of(name, shared)))
        assert len(stimuli) == LOCALIZERS[name].n_items
        assert stimuli.source
        assert stimuli.licence

    def test_fedorenko2010(self, shared):
        stimuli = load_localizer("fedorenko2010", shared / "data" / "stimuli")
        cells = Counter(zip(stimuli.conditions, stimuli.runs, stimuli.labels["set"], strict=True))
        assert set(cells.values()) == {24}
        assert {key[0] for key in cells} == {"sentences", "nonwords"}
        assert {key[1:] for key in cells} == {(run, part) for run in "12" for part in "12345"}
        assert stimuli.items[0] == "just the barest suggestion of a heel is found on teenage pumps"
        assert {len(item.split()) for item in stimuli.items} == {12}

    def test_fedorenko_swjn(self, shared):
        stimuli = load_localizer("fedorenko_swjn", shared / "data" / "stimuli")
        expected = dict.fromkeys(("sentences", "words", "jabberwocky", "nonwords"), 160)
        assert Counter(stimuli.conditions) == expected
        assert len(set(stimuli.items)) == 639
        assert stimuli.items[0].startswith("worked in the admiral")
        assert stimuli.conditions[0] == "words"

    def test_hauptman(self, shared):
        stimuli = load_localizer("hauptman", shared / "data" / "stimuli")
        assert stimuli.sampled_by == "category"
        used = Counter(word for item in stimuli.items for word in item.split() if word not in ("the", "to"))
        assert len(used) == 144
        cells = Counter(zip(stimuli.runs, stimuli.conditions, stimuli.labels["category"], strict=True))
        assert len(cells) == 16
        assert set(cells.values()) == {36}
        assert all(item.startswith("the ") for item in stimuli.select(condition="noun").items)
        assert all(item.startswith("to ") for item in stimuli.select(condition="verb").items)

    def test_moseley(self, shared):
        stimuli = load_localizer("moseley", shared / "data" / "stimuli")
        cells = Counter(zip(stimuli.conditions, stimuli.labels["concreteness"], strict=True))
        assert len(cells) == 4
        assert set(cells.values()) == {40}
        assert "dole" in stimuli.select(condition="noun", concreteness="abstract").items

    def test_missing_folder_or_files(self, tmp_path):
        with pytest.raises(ValueError, match=r"pass folder= the one that holds elli_stimuli\.csv"):
            load_localizer("hauptman")
        with pytest.raises(FileNotFoundError, match="localizer 'hauptman': no folder at"):
            load_localizer("hauptman", tmp_path / "none")
        with pytest.raises(FileNotFoundError, match=r"no elli_stimuli\.csv in .* pass the folder that holds it"):
            load_localizer("hauptman", tmp_path)

    def test_a_missing_or_truncated_file(self, shared, tmp_path):
        whole = folder_of("fedorenko2010", shared)
        for path in sorted(whole.glob("*.csv"))[1:]:
            shutil.copy(path, tmp_path)
        with pytest.raises(ValueError, match="hold 432 items; expected 480: a file is truncated or missing"):
            load_localizer("fedorenko2010", tmp_path)

    def test_another_table(self, tmp_path):
        (tmp_path / "moseley_stimuli.csv").write_text("word,class\ndog,noun\n")
        with pytest.raises(ValueError, match="no column 'category'; it has 'word', 'class': pass the file as it was"):
            load_localizer("moseley", tmp_path)
        (tmp_path / "moseley_stimuli.csv").write_text("word,category,class\n" + "dog,concrete,adverb\n" * 160)
        with pytest.raises(ValueError, match="unknown condition 'adverb'; expected 'noun', 'verb'"):
            load_localizer("moseley", tmp_path)
        for nothing in ("", "nan", "None"):
            (tmp_path / "moseley_stimuli.csv").write_text(f"word,category,class\ndog,concrete,noun\n{nothing},a,noun\n")
            with pytest.raises(
                ValueError, match=r"stimuli\.csv, line 3: there is nothing in column 'word'; fill it in"
            ):
                load_localizer("moseley", tmp_path)
        (tmp_path / "moseley_stimuli.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match="is not a text table"):
            load_localizer("moseley", tmp_path)


def test_unknown_name():
    with pytest.raises(ValueError, match="no localizer called 'langauge'; expected one of 'language', 'nouns_verbs'"):
        load_localizer("langauge")


def test_both_sides_of_a_suite_are_matched_in_length_and_frequency():
    table = load_localizer("suites").to_frame()
    assert not table.duplicated(["text", "suite"]).any()
    for column in ("n_words", "n_characters", "log_rank"):
        table[column] = table[column].astype(float)
    assert (table["n_words"] == table["text"].str.split().str.len()).all()
    assert (table["n_characters"] == table["text"].str.len()).all()
    assert table["suite"].nunique() == 8
    for _, suite in table.groupby("suite"):
        sides = suite.groupby("condition")
        assert sides.size().tolist() == [60, 60]
        assert (suite.groupby("run")["condition"].nunique() == 2).all(), "a run is a pair"
        assert (suite.groupby("run")["n_words"].nunique() == 1).all()
        for column in ("n_characters", "log_rank"):
            first, second = sides[column].mean()
            assert abs(first - second) <= 0.3, column
