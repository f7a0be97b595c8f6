import copy
import inspect
import json
import math

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, processors
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.behaviour.minimal_pairs import accuracy_interval
from topographic.behaviour.surprisal import token_log_probabilities
from topographic.behaviour.syntaxgym import REGION_METRICS, Suite, SyntaxGymScores, load_suites, syntaxgym


def make(items, formulas, regions=("start", "verb"), **options):
    return Suite("made up", regions=regions, items=tuple(items), formulas=tuple(formulas), **options)


NUMBER = make(
    [
        {"match": ("The dog", "is"), "mismatch": ("The dog", "are")},
        {"match": ("The birds", "were"), "mismatch": ("The birds", "was")},
        {"mismatch": ("The river", "have"), "match": ("The river", "has")},
    ],
    ["(2;%match%) < (2;%mismatch%)"],
)


def surprisal_of_text(model, tokenizer, text):
    """Second opinion: bits of a text after end-of-text, one forward per prefix, by difference of whole prefixes."""
    ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    bits = 0.0
    with torch.no_grad():
        for end in range(1, len(ids)):
            logits = model(input_ids=torch.tensor([ids[:end]])).logits[0, -1].double()
            bits -= torch.log_softmax(logits, 0)[ids[end]].item() / math.log(2)
    return bits


def test_region_surprisals_are_differences_of_prefixes(gpt2, tokenizer):
    """The space belongs to the region it begins, and an empty region has none."""
    regions = ("", "The dog", "", "of my mother ,", "slept", ".")
    suite = make(
        [{"a": regions, "b": ("No", "dog", "of", "mine", "", "slept.")}],
        ["(2;%a%) > 0"],
        regions=("zero", "one", "two", "three", "four", "five"),
    )
    scores = syntaxgym(gpt2, tokenizer, [suite]).suites[0]
    prefixes = ["", "", "The dog", "The dog", "The dog of my mother ,", "The dog of my mother , slept"]
    ends = [*prefixes[1:], "The dog of my mother , slept ."]
    expected = [
        surprisal_of_text(gpt2, tokenizer, end) - surprisal_of_text(gpt2, tokenizer, begin)
        for begin, end in zip(prefixes, ends, strict=True)
    ]
    assert scores.surprisals_bits.shape == (1, 2, 6)
    np.testing.assert_allclose(scores.surprisals_bits[0, 0], expected, atol=1e-4)
    assert scores.surprisals_bits[0, 0, 0] == scores.surprisals_bits[0, 0, 2] == scores.surprisals_bits[0, 1, 4] == 0
    assert scores.surprisals_bits[0, 1].sum() == pytest.approx(
        surprisal_of_text(gpt2, tokenizer, "No dog of mine slept."), abs=1e-4
    )


def test_trimmed_offsets_give_the_same_regions(gpt2, tokenizer):
    """Some tokenizers count the space into a word's offsets, some do not."""
    trimmed = copy.deepcopy(tokenizer)
    trimmed.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    text = "The dog"
    spans = [
        t(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"] for t in (tokenizer, trimmed)
    ]
    assert spans[0] != spans[1]
    by_both = [syntaxgym(gpt2, t, [NUMBER]).suites[0].surprisals_bits for t in (tokenizer, trimmed)]
    np.testing.assert_array_equal(*by_both)


def test_planted_agreement_is_found(bigrams, tokenizer):
    matches = [" ".join(item["match"]) for item in NUMBER.items]
    mismatches = [" ".join(item["mismatch"]) for item in NUMBER.items]
    assert syntaxgym(bigrams(matches), tokenizer, [NUMBER]).accuracy == 1.0
    assert syntaxgym(bigrams(mismatches), tokenizer, [NUMBER]).accuracy == 0.0
    # two of three items taught right; the third item's conditions stand in another order in the file
    scores = syntaxgym(bigrams([*matches[:2], mismatches[2]]), tokenizer, [NUMBER])
    assert scores.suites[0].correct.tolist() == [True, True, False]


def test_closed_form_of_a_model_that_knows_nothing(bigrams, tokenizer):
    """Every token costs log2 of the vocabulary; the text with more tokens is the more surprising one."""
    flat = bigrams([])
    texts = make(
        [{"short": ("The dog", "runs"), "long": ("The dog", "runs to the gate")}], ["(2;%long%) > (2;%short%)"]
    )
    n_tokens = [
        len(tokenizer(f" {end}", add_special_tokens=False)["input_ids"]) for end in ("runs", "runs to the gate")
    ]
    assert n_tokens[0] < n_tokens[1]
    scores = syntaxgym(flat, tokenizer, [texts]).suites[0]
    np.testing.assert_allclose(
        scores.surprisals_bits[0, :, 1], np.array(n_tokens) * math.log2(len(tokenizer)), rtol=1e-5
    )
    assert scores.accuracy == 1
    equal = make([{"a": ("The dog", "runs"), "b": ("The dog", "runs")}], ["(*;%a%) = (*;%b%)", "(2;%a%) < (2;%b%)"])
    assert syntaxgym(flat, tokenizer, [equal]).suites[0].held.tolist() == [[True, False]]


def bits_of(model, tokenizer, text, **options):
    return -token_log_probabilities(model, tokenizer, [text], **options)[0] / math.log(2)


@pytest.mark.parametrize("metric", REGION_METRICS)
def test_metrics_of_a_region(gpt2, tokenizer, metric):
    suite = make([{"a": ("The dog", "runs to the gate")}], ["(2;%a%) > 0"], metric=metric)
    found = syntaxgym(gpt2, tokenizer, [suite]).suites[0].surprisals_bits[0, 0, 1]
    n_start = len(tokenizer("The dog", add_special_tokens=False)["input_ids"])
    bits = bits_of(gpt2, tokenizer, "The dog runs to the gate")[n_start:]
    assert len(bits) > 3
    assert found == pytest.approx(getattr(np, metric)(bits), rel=1e-5)


def test_the_first_token_counts_nothing_without_bos(gpt2, tokenizer):
    suite = make([{"a": ("The dog", "runs")}], ["(2;%a%) > 0"])
    scores = syntaxgym(gpt2, tokenizer, [suite], protocol="no_bos")
    bits = bits_of(gpt2, tokenizer, "The dog runs", protocol="no_bos")
    n_start = len(tokenizer("The dog", add_special_tokens=False)["input_ids"])
    expected = [bits[: n_start - 1].sum(), bits[n_start - 1 :].sum()]
    np.testing.assert_allclose(scores.suites[0].surprisals_bits[0, 0], expected, rtol=1e-5)
    assert scores.protocol == "no_bos"


def test_rows_and_means(bigrams, tokenizer):
    """Suites of three and of one item: the overall accuracy is the mean of 1 and 0, not of 3 and 1 items."""
    matches = [" ".join(item["match"]) for item in NUMBER.items]
    two = make([{"a": ("The dog", "is"), "b": ("The dog", "are")}], ["(2;%a%) < (2;%b%)", "(2;%a%) > (2;%b%)"])
    scores = syntaxgym(bigrams(matches), tokenizer, [NUMBER, two])
    rows = scores.to_rows()
    assert [(row["level"], row["n_items"], row["accuracy"]) for row in rows] == [
        ("all", 4, 0.5),
        ("suite", 3, 1.0),
        ("suite", 1, 0.0),
        ("prediction", 1, 1.0),
        ("prediction", 1, 0.0),
    ]
    assert rows[3]["name"] == "made up: (2;%a%) < (2;%b%)"
    assert (rows[1]["low"], rows[1]["high"]) == accuracy_interval(np.array([3]), np.array([3]))
    assert (rows[0]["low"], rows[0]["high"]) == accuracy_interval(np.array([3, 0]), np.array([3, 1]))
    assert repr(scores).startswith("SyntaxGymScores(accuracy 0.500 [")
    assert "over 2 suites, 4 items, protocol 'bos'" in repr(scores)


CONTENT = {
    "meta": {"name": "number", "metric": "sum"},
    "region_meta": {"10": "end", "2": "verb", "1": "start"},
    "predictions": [{"type": "formula", "formula": "(2;%match%) < (2;%mismatch%)"}],
    "items": [
        {
            "item_number": 1,
            "conditions": [
                {
                    "condition_name": name,
                    "regions": [
                        {"region_number": 2, "content": f" {verb} "},
                        {"region_number": 10, "content": ""},
                        {"region_number": 1, "content": "The dog"},
                    ],
                }
                for name, verb in (("match", "runs"), ("mismatch", "run"))
            ],
        }
    ],
}


def test_files_are_read(tmp_path):
    (tmp_path / "number.json").write_text(json.dumps(CONTENT))
    (suite,) = load_suites(tmp_path / "number.json")
    assert suite.name == "number"
    assert suite.regions == ("start", "verb", "end")
    assert suite.items == ({"match": ("The dog", "runs", ""), "mismatch": ("The dog", "run", "")},)
    (tmp_path / "another.json").write_text(json.dumps({**CONTENT, "meta": {"name": "another"}}))
    assert [suite.name for suite in load_suites(tmp_path)] == ["another", "number"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"region_meta": None}, "is no suite in SyntaxGym's JSON layout"),
        ({"meta": {"name": "x", "metric": "median"}}, "metric 'median'; expected one of"),
        ({"predictions": [{"formula": "(2;%match%)"}]}, "cannot be read; expected a comparison"),
        ({"predictions": [{"formula": "(4;%match%) > 0"}]}, "a formula names region 4 of 'match'; it has 3 regions"),
        ({"predictions": [{"formula": "(2;%macth%) > 0"}]}, r"region 2 of 'macth'; .* \['match', 'mismatch'\]"),
        ({"predictions": []}, "has 1 items and 0 formulas"),
        ({"items": []}, "has 0 items and 1 formulas"),
        ({"predictions": [{"type": "formula"}]}, "has no 'formula'"),
        ({"region_meta": {"1": "start", "2": "verb"}}, "expected 2 texts, not all empty"),
    ],
)
def test_bad_files_are_named(tmp_path, change, match):
    file = tmp_path / "number.json"
    file.write_text(json.dumps({**CONTENT, **change}))
    with pytest.raises(ValueError, match=match) as raised:
        load_suites(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_files_and_items_that_differ(tmp_path):
    for source in (tmp_path, tmp_path / "no.json"):
        with pytest.raises(FileNotFoundError, match="no SyntaxGym suite at"):
            load_suites(source)
    with pytest.raises(ValueError, match=r"item 2 has conditions \['b'\]; the first item has \['a'\]"):
        make([{"a": ("The", "dog")}, {"b": ("The", "dog")}], ["(1;%a%) > 0"])
    with pytest.raises(ValueError, match="expected 2 texts, not all empty"):
        make([{"a": ("", " ")}], ["(1;%a%) > 0"])


def test_bad_input(gpt2, tokenizer):
    with pytest.raises(ValueError, match="protocol 'published' has no place in regions"):
        syntaxgym(gpt2, tokenizer, [NUMBER], protocol="published")
    with pytest.raises(ValueError, match="no suites to test"):
        syntaxgym(gpt2, tokenizer, [])
    with pytest.raises(ValueError, match=r"confidence=95.0; expected a level between 0 and 1, such as 0.95"):
        syntaxgym(gpt2, tokenizer, [NUMBER], confidence=95.0)
    for given, described in ((NUMBER, "a Suite; expected a Sequence"), ("blimp", "the string 'b'; expected a Suite")):
        with pytest.raises(TypeError, match=f"^suites is {described}: a list of suites, as load_suites"):
            inspect.unwrap(syntaxgym)(gpt2, tokenizer, given)
    with pytest.raises(ValueError, match="str does not tell where its tokens lie; use a fast tokenizer"):
        syntaxgym(gpt2, "slow", [NUMBER])


def test_tokens_across_regions_are_refused(gpt2, tokenizer):
    joined = copy.deepcopy(tokenizer)
    joined.add_tokens([AddedToken("dog is", normalized=False)])
    wider = GPT2LMHeadModel(GPT2Config(**{**gpt2.config.to_dict(), "vocab_size": len(joined)}))
    with pytest.raises(ValueError, match="a token covers characters 4 to 10 of 'The dog is', across the end"):
        syntaxgym(wider, joined, [NUMBER])


def test_all_shared_suites_run(shared, gpt2, tokenizer):
    suites = load_suites(shared / "data/stimuli/syntaxgym2020")
    assert len(suites) == 31
    assert sum(len(suite.items) for suite in suites) == 799
    roomy = GPT2LMHeadModel(GPT2Config(**{**gpt2.config.to_dict(), "n_positions": 128})).eval()
    scores = syntaxgym(roomy, tokenizer, [Suite(s.name, s.regions, s.items[:2], s.formulas) for s in suites])
    assert isinstance(scores, SyntaxGymScores)
    rows = scores.to_rows()
    assert [sum(row["level"] == level for row in rows) for level in ("all", "suite", "prediction")] == [1, 31, 2]
    for suite in scores.suites:
        texts = [" ".join(filter(None, item[name])) for item in suite.suite.items for name in suite.suite.conditions]
        assert suite.surprisals_bits.reshape(len(texts), -1).sum(1)[0] == pytest.approx(
            surprisal_of_text(roomy, tokenizer, texts[0]), abs=1e-3
        )
    # its predictions contradict each other
    assert next(suite for suite in scores.suites if suite.suite.name == "fgd_hierarchy").accuracy == 0
