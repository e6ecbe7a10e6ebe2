from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.evaluation.groups import (
    Gap,
    class_recalls,
    equalised_odds,
    group_matrices,
    group_scores,
    largest_gap,
    minus_rest,
    shuffled_matrices,
    simultaneous,
    standardised,
)
from fer_lightning.evaluation.resampling import resampled_counts
from fer_lightning.metrics import wilson_interval


def gap(
    group: NDArray[np.int64],
    target: NDArray[np.int64],
    right: NDArray[np.bool_],
    clusters: NDArray[np.int64] | None = None,
    draws: int = 400,
    seed: int = 0,
) -> Gap:
    """Return the largest gap in accuracy between the groups a, b, ...; what is wrong is taken for the next class."""
    shape = int(group.max()) + 1, int(target.max()) + 1
    preds = np.where(right, target, (target + 1) % shape[1])
    drawn = shuffled_matrices(
        group, target, preds, np.arange(len(group)) if clusters is None else clusters, shape, draws, seed
    )
    found = largest_gap(
        standardised(group_matrices(group, target, preds, *shape)), standardised(drawn), "abcdef"[: shape[0]]
    )
    assert found is not None
    return found


def test_scores_of_groups_by_hand() -> None:
    group = np.array([0] * 4 + [1] * 4 + [-1])
    target = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1])
    preds = np.array([0, 0, 1, 1, 0, 1, 0, 0, 1])
    matrices = group_matrices(group, target, preds, 2, 2)
    assert matrices.tolist() == [[[2, 1], [0, 1]], [[1, 0], [2, 1]]]
    women, men = group_scores(matrices, ["women", "men"])
    assert (women.name, women.images, women.accuracy) == ("women", 4, 0.75)
    assert (women.accuracy_low, women.accuracy_high) == wilson_interval(3, 4)
    assert women.recall == pytest.approx((2 / 3, 1.0))
    assert women.f1_macro == pytest.approx((0.8 + 2 / 3) / 2)
    assert men.standardised == pytest.approx(0.5 * 1 + 0.5 * (1 / 3))
    assert women.too_few == "accuracy"


def test_another_class_mix_alone_is_no_gap() -> None:
    easy, hard = [90, 10], [40, 60]  # right and wrong of a class
    first = np.array([[easy, hard]])[0]
    second = first * np.array([[5], [1]])
    matrices = np.stack([first, second])
    plain = np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))
    assert plain[0] != pytest.approx(plain[1])
    assert standardised(matrices)[0] == pytest.approx(standardised(matrices)[1])


def test_a_planted_bias_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    group, target = rng.integers(0, 3, 900), rng.integers(0, 4, 900)
    right = rng.random(900) < 0.7
    planted = right & ~((group == 1) & (target == 2) & (rng.random(900) < 0.9))
    found = gap(group, target, planted, draws=500)
    assert found.p < 0.01
    assert found.worst == "b"
    assert found.observed > found.upper > found.expected > 0
    false = [gap(rng.permutation(group), target, right, draws=200, seed=seed).p < 0.05 for seed in range(30)]
    assert sum(false) <= 5


def test_copies_are_shuffled_together() -> None:
    rng = np.random.default_rng(1)
    group, target, right = rng.integers(0, 2, 60), rng.integers(0, 2, 60), rng.random(60) < 0.6
    alone = gap(group, target, right)
    groups, targets, hits = np.repeat(group, 8), np.repeat(target, 8), np.repeat(right, 8)
    copied = gap(groups, targets, hits, np.repeat(np.arange(60), 8))
    naive = gap(groups, targets, hits)
    assert copied.observed == pytest.approx(alone.observed)
    assert copied.p == pytest.approx(alone.p, abs=0.1)
    assert naive.p < copied.p / 2


def test_shuffling_keeps_the_images_of_each_class_and_group_and_leaves_the_unknown_out() -> None:
    rng = np.random.default_rng(2)
    group, target, preds = rng.integers(-1, 3, 200), rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    own = group_matrices(group, target, preds, 3, 4)
    drawn = shuffled_matrices(group, target, preds, np.arange(200), (3, 4), draws=20)
    assert (drawn.sum(axis=3) == own.sum(axis=2)).all()
    assert (drawn.sum(axis=1) == own.sum(axis=0)).all()
    assert (drawn != own).any(axis=(1, 2, 3)).all()


def test_a_group_is_compared_with_the_others_at_one_class_mix() -> None:
    matrices = np.array([[[9, 1], [6, 4]], [[30, 10], [10, 10]], [[10, 10], [0, 0]]])
    difference = minus_rest(matrices)
    shares = np.array([70, 30]) / 100
    rest = np.array([40 / 60, 10 / 20])
    assert difference[0] == pytest.approx(shares @ (np.array([0.9, 0.4]) - rest))
    assert difference[2] == pytest.approx(0.5 - 39 / 50)  # which has no image of the second class
    assert minus_rest(np.stack([matrices, matrices]))[1].tolist() == difference.tolist()


def test_rates_of_equalised_odds_are_those_of_each_class_against_the_others() -> None:
    matrix = np.array([[[8, 2, 0], [3, 7, 0], [5, 0, 15]]])
    rates = equalised_odds(matrix)[0]
    assert rates.tolist() == pytest.approx([0.8, 0.7, 0.75, 8 / 30, 2 / 30, 0.0])
    assert np.isnan(equalised_odds(matrix, fewest=15)[0]).tolist() == [True, True, False, False, False, False]
    assert np.isnan(class_recalls(matrix, 11)[0]).tolist() == [True, True, False]


def test_of_several_scores_the_one_with_the_largest_gap_is_named() -> None:
    scores = np.array([[0.5, 0.9, np.nan], [0.6, 0.3, 0.1], [0.5, np.nan, np.nan]])
    shuffled = np.random.default_rng(0).uniform(0.4, 0.6, (200, 3, 3))
    shuffled[:, 2, 1:] = 9  # which is not known of the groups themselves
    found = largest_gap(scores, shuffled, ["a", "b", "c"], ["x", "y", "z"])
    assert found is not None
    assert (found.score, found.best, found.worst) == ("y", "a", "b")
    assert found.observed == pytest.approx(0.6)
    assert found.p == 1 / 201
    assert found.upper < 0.2
    assert largest_gap(np.array([0.5, np.nan]), shuffled[:, :2, 0], ["a", "b"]) is None


def test_simultaneous_intervals_hold_for_all_groups_at_once() -> None:
    rng = np.random.default_rng(0)
    group, target = np.arange(600) % 6, np.arange(600) // 6 % 2
    held = {0.95: 0, 0.5: 0}
    for _ in range(60):
        preds = np.where(rng.random(600) < 0.7, target, 1 - target)
        cells = (group * 2 + target) * 2 + preds
        drawn = np.concatenate(list(resampled_counts(cells[None], np.arange(600), 24, 400))).reshape(-1, 6, 2, 2)
        own = minus_rest(group_matrices(group, target, preds, 6, 2))
        for level in held:
            intervals, p_values = simultaneous(own, minus_rest(drawn), level)
            held[level] += all(each.low <= 0 <= each.high for each in intervals)
            assert all(
                (each.low <= 0 <= each.high) == (p > 1 - level)
                for each, p in zip(intervals, p_values, strict=True)
                if abs(p - 1 + level) > 0.01
            )
    assert 51 <= held[0.95] <= 60  # of 57 expected
    assert 18 <= held[0.5] <= 42


def test_nothing_to_resample_is_no_error() -> None:
    intervals, p_values = simultaneous(np.zeros(2), np.zeros((10, 2)))
    assert [(each.low, each.high) for each in intervals] == [(0, 0), (0, 0)]
    assert p_values == [1, 1]
