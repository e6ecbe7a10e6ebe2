from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.evaluation.groups import group_matrices, group_scores, largest_gap, standardised
from fer_lightning.metrics import wilson_interval


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
    names = ["a", "b", "c"]
    planted = right & ~((group == 1) & (target == 2) & (rng.random(900) < 0.9))
    found = largest_gap(group, target, planted, names, draws=500)
    assert found.p < 0.01
    assert found.worst == "b"
    assert found.observed > found.upper > found.expected > 0
    false = [
        largest_gap(rng.permutation(group), target, right, names, draws=200, seed=seed).p < 0.05 for seed in range(30)
    ]
    assert sum(false) <= 5


def test_copies_are_shuffled_together() -> None:
    rng = np.random.default_rng(1)
    group, target, right = rng.integers(0, 2, 60), rng.integers(0, 2, 60), rng.random(60) < 0.6
    groups, targets, hits, clusters = (
        np.repeat(group, 8),
        np.repeat(target, 8),
        np.repeat(right, 8),
        np.repeat(np.arange(60), 8),
    )
    alone = largest_gap(group, target, right, ["a", "b"], draws=400)
    copied = largest_gap(groups, targets, hits, ["a", "b"], clusters, draws=400)
    naive = largest_gap(groups, targets, hits, ["a", "b"], draws=400)
    assert copied.observed == pytest.approx(alone.observed)
    assert copied.p == pytest.approx(alone.p, abs=0.1)
    assert naive.p < copied.p / 2
