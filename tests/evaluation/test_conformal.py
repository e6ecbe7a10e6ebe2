from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.errors import DataError
from fer_lightning.evaluation.conformal import coverage_range, prediction_sets, set_thresholds
from tests.evaluation.test_confidence import drawn


def test_thresholds_are_ranks_of_scores() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55]])
    target = np.array([0, 0, 1, 1, 1])
    found = set_thresholds(probs, target, 0.5, by_class=False)
    # scores .1 .4 .2 .7 .45: the third of five
    assert found.scores == pytest.approx([0.4, 0.4])
    assert (found.ranks.tolist(), found.counts.tolist(), found.pooled.tolist()) == ([3, 3], [5, 5], [True, True])
    each = set_thresholds(probs, target, 0.5)
    assert each.scores == pytest.approx([0.4, 0.45])  # the second of .1 .4, the second of .2 .45 .7
    assert prediction_sets(np.array([[0.6, 0.4], [0.57, 0.56], [0.5, 0.5]]), each).tolist() == [
        [True, False],
        [False, True],
        [False, False],
    ]


def test_copies_count_once() -> None:
    probs, target = drawn(300)
    clusters = np.repeat(np.arange(100), 3)
    first = set_thresholds(probs, target, 0.8, clusters)
    alone = set_thresholds(probs[::3], target[::3], 0.8)
    assert first.scores.tolist() == alone.scores.tolist()


def test_a_class_with_too_few_images_takes_the_threshold_of_all() -> None:
    probs, target = drawn(400)
    target = np.where(target == 4, 0, target)
    target[:5] = 4
    found = set_thresholds(probs, target, 0.9)
    assert found.pooled.tolist() == [False, False, False, False, True]
    assert found.scores[4] == set_thresholds(probs, target, 0.9, by_class=False).scores[0]
    with pytest.raises(DataError, match=r"5 images are too few for a coverage of 0\.9"):
        set_thresholds(probs[:5], target[:5], 0.9)
    with pytest.raises(DataError, match="between 0 and 1"):
        set_thresholds(probs, target, 1.0)


def test_each_class_is_covered_as_promised() -> None:
    probs, target = drawn(6_000, sharp=2.0)
    found = set_thresholds(probs[:3_000], target[:3_000], 0.9)
    inside = prediction_sets(probs[3_000:], found)
    for label in range(5):
        rows = np.flatnonzero(target[3_000:] == label)
        low, high = coverage_range(int(found.ranks[label]), int(found.counts[label]), len(rows), 0.999)
        assert low <= inside[rows, label].mean() <= high
        assert 0.8 < low < 0.9 < high < 1


def test_the_sets_are_those_of_crepes() -> None:
    crepes = pytest.importorskip("crepes")
    probs, target = drawn(900, sharp=2.0)
    known, labels, new = probs[:500], target[:500], probs[500:]
    scores = 1 - known[np.arange(500), labels]
    whole = crepes.ConformalClassifier().fit(scores)
    marginal = prediction_sets(new, set_thresholds(known, labels, 0.9, by_class=False))
    assert np.array_equal(marginal, whole.predict_set(1 - new, confidence=0.9, smoothing=False))
    inside = prediction_sets(new, set_thresholds(known, labels, 0.9))
    for label in range(5):
        own = crepes.ConformalClassifier().fit(scores[labels == label])
        theirs = own.predict_set(1 - new[:, [label]], confidence=0.9, smoothing=False)
        assert np.array_equal(inside[:, [label]], theirs)
