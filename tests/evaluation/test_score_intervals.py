"""Intervals of few images, and of models without mistakes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from fer_lightning.evaluation.comparison import Evaluation, comparison
from fer_lightning.evaluation.resampling import Interval
from fer_lightning.evaluation.score_intervals import (
    class_ends,
    distinct_shares,
    mean_ends,
    paired_ends,
    score_ends,
    unseen_changes,
    widened,
    with_width,
)
from fer_lightning.evaluation.uncertainty import uncertainty
from fer_lightning.metrics import wilson_interval
from tests.helpers.predictions import guessed

Z = norm.ppf(0.975)


def score_by_likelihood(first_only: int, second_only: int, images: int, delta: float) -> float:
    """Return the score statistic with the likeliest shares for a difference, found by searching for them."""
    both = images - first_only - second_only

    def loss(share: float) -> float:  # of the images that only the first gets right
        parts = ((first_only, share), (second_only, share + delta), (both, 1 - 2 * share - delta))
        return -sum(count * math.log(max(part, 1e-300)) for count, part in parts if count)

    found = minimize_scalar(
        loss,
        (max(0.0, -delta), (1 - delta) / 2),
        method="bounded",
        bounds=(max(0.0, -delta), (1 - delta) / 2),
        options={"xatol": 1e-12},
    )
    variance = 2 * found.x + delta - delta**2
    return (second_only - first_only - images * delta) / math.sqrt(images * variance)


@pytest.mark.parametrize(("first", "second", "images"), [(12, 25, 200), (3, 1, 20), (1, 0, 30), (40, 8, 100)])
def test_the_ends_of_a_difference_are_where_the_score_test_begins_to_reject(
    first: int, second: int, images: int
) -> None:
    low, high = paired_ends(first, second, images)
    assert low < (second - first) / images < high
    assert score_by_likelihood(first, second, images, high) == pytest.approx(-Z, abs=1e-3)
    assert score_by_likelihood(first, second, images, low) == pytest.approx(Z, abs=1e-3)
    assert paired_ends(second, first, images) == pytest.approx((-high, -low))


def test_a_difference_of_nothing_has_a_width() -> None:
    for images in (1, 20, 3_589):
        wide = Z**2 / (images + Z**2)
        assert paired_ends(0, 0, images) == pytest.approx((-wide, wide))
    assert paired_ends(0, 10, 10)[1] == pytest.approx(1)
    assert paired_ends(0, 10, 10)[0] < 1 - 0.2


def test_the_true_difference_is_inside_nearly_always_with_few_images() -> None:
    images, only_first, only_second = 20, 0.02, 0.1
    inside = 0.0
    for first in range(8):
        for second in range(12):
            low, high = paired_ends(first, second, images)
            chance = binom.pmf(first, images, only_first)
            chance *= binom.pmf(second, images - first, only_second / (1 - only_first))
            inside += chance * (low <= only_second - only_first <= high)
    assert 0.93 < inside <= 1


def test_scores_of_a_matrix() -> None:
    matrix = np.array([[9, 1, 0], [2, 4, 0], [0, 0, 0]])
    worth = np.array([1.0, 0.5, 1.0])
    ends = class_ends(matrix, worth)
    assert ends["recall"][:2] == [wilson_interval(9, 10), wilson_interval(2, 3)]
    assert ends["precision"][0] == wilson_interval(9, 11)
    low, high = wilson_interval(9, 12)
    assert ends["f1"][0] == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert np.isnan([ends[score][2] for score in ends]).all()
    scores = score_ends(matrix, worth)
    assert scores["accuracy"] == pytest.approx(wilson_interval(13 * 13 / 16, 13))
    middle = (0.9 + 4 / 6) / 2
    below = math.hypot(0.9 - ends["recall"][0][0], 4 / 6 - ends["recall"][1][0]) / 2
    assert scores["balanced_accuracy"][0] == pytest.approx(middle - below)
    assert scores["f1_macro"][0] < (18 / 21 + 8 / 11) / 2 < scores["f1_macro"][1]
    assert mean_ends(np.array([0.5, np.nan]), np.array([[0.4, 0.7], [0, 1]])) == pytest.approx((0.4, 0.7))


def test_identical_images_count_once() -> None:
    target, clusters = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 0])
    assert distinct_shares(target, clusters, 3).tolist() == [2 / 3, 1, 1]
    assert unseen_changes(np.array([10.0, 20.0, 0.0])) == pytest.approx(
        math.hypot(Z**2 / (10 + Z**2), Z**2 / (20 + Z**2)) / 2
    )


def test_intervals_of_resamples_are_kept_where_they_say_more() -> None:
    assert with_width(Interval(1.0, 1.0, 1.0), (0.8, 1.0)) == Interval(1.0, 0.8, 1.0)
    assert with_width(Interval(0.9, 0.8, 1.0), (0.7, 0.9)) == Interval(0.9, 0.8, 1.0)
    assert widened(Interval(0.1, 0.0, 0.2), (-0.1, 0.15)) == Interval(0.1, -0.1, 0.2)


@pytest.mark.parametrize("rows", [3, 300])
def test_models_without_mistakes_are_not_known_exactly(rows: int) -> None:
    perfect = guessed(1.0, 0, rows)
    found = comparison([Evaluation("a", perfect), Evaluation("b", guessed(1.0, 1, rows))], draws=200)
    model, pair = found["models"][0], found["pairs"][0]
    assert model["accuracy"] == pytest.approx({"value": 1.0, "low": wilson_interval(rows, rows)[0], "high": 1.0})
    assert model["f1_macro"]["low"] < model["f1_macro"]["value"] == 1.0
    wide = Z**2 / (rows + Z**2)
    assert pair["accuracy"] == pytest.approx({"value": 0.0, "low": -wide, "high": wide})
    assert pair["f1_macro"]["low"] < 0 < pair["f1_macro"]["high"]
    alone = uncertainty(perfect, draws=200)
    for score in ("accuracy", "balanced_accuracy", "f1_macro"):
        assert alone[score]["low"] < alone[score]["high"] <= 1.0


def test_copies_make_a_model_without_mistakes_no_surer() -> None:
    perfect = guessed(1.0, 0)
    copies = [f"{10 * (row // 4) + label:016x}" for row, label in zip(perfect.index, perfect.target, strict=True)]
    low = uncertainty(replace(perfect, digests=np.array(copies)), draws=200)["accuracy"]["low"]
    assert low == pytest.approx(wilson_interval(len(set(copies)), len(set(copies)))[0])
    assert low < wilson_interval(300, 300)[0]


def test_one_image_that_tells_two_models_apart_proves_nothing() -> None:
    first = guessed(1.0, 0, 60)
    probs = first.probs.copy()
    probs[0] = np.roll(probs[0], 1)
    pair = comparison([Evaluation("a", first), Evaluation("b", replace(first, probs=probs))], draws=200)["pairs"][0]
    assert pair["accuracy"]["low"] < pair["accuracy"]["value"] == pytest.approx(-1 / 60)
    assert pair["accuracy"]["high"] > 0  # all resamples say 0 at most
