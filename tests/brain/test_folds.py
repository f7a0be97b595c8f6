import numpy as np
import pytest

from topographic.brain import Folds, contiguous_folds, run_folds, shuffled_folds


def test_published_trimmed_folds(shared):
    golden = np.load(shared / "golden" / "litcoder_folds.npz")
    folds = contiguous_folds(int(golden["n_samples"]), 5, gap=0, trim=5)
    for fold, (train, test) in enumerate(folds.pairs):
        assert np.array_equal(train, golden[f"kfold_trimmed5_train_{fold}"])
        assert np.array_equal(test, golden[f"kfold_trimmed5_test_{fold}"])


def test_runs_are_whole_and_each_is_tested_once():
    runs = np.repeat(["c", "a", "d", "b"], [5, 3, 4, 6])
    folds = run_folds(runs, 2)
    assert [sorted(set(runs[test])) for _, test in folds.pairs] == [["a", "c"], ["b", "d"]]
    assert len(run_folds(runs)) == 4
    for train, test in folds.pairs:
        assert not set(runs[train]) & set(runs[test])
        assert len(train) + len(test) == 18


def test_no_training_sample_is_within_the_gap():
    for train, test in contiguous_folds(100, 5, gap=7).pairs:
        assert np.abs(train[:, None] - test).min() == 8


def test_shuffled_folds_say_so():
    folds = shuffled_folds(20, 4, seed=3)
    assert folds.name == "shuffled, seed 3"
    assert "neighbours in time lie on both sides" in folds.warning
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds.pairs])), np.arange(20))
    assert not run_folds(np.array([0, 1])).warning


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: run_folds(np.zeros(9)), "1 run only; folds by run need two or more: use contiguous_folds"),
        (lambda: run_folds(np.array([0, 1]), 3), "n_folds=3 for 2 runs; expected from 2 to 2"),
        (lambda: contiguous_folds(10, 1), "expected 2 folds or more"),
        (lambda: contiguous_folds(10, 2, gap=8), "a fold has 0 training and 5 test samples"),
        (lambda: Folds("own", ((np.arange(3), np.arange(2, 4)),)), "tests samples that it is fitted on"),
    ],
)
def test_folds_that_are_none(make, message):
    with pytest.raises(ValueError, match=message):
        make()
