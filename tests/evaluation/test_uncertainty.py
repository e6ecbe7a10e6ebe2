"""Intervals of an evaluation: as wide as they ought to be, and about the right scores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.uncertainty import uncertainty
from fer_lightning.metrics import wilson_interval
from tests.helpers.predictions import guessed


def twice(predictions: Predictions) -> Predictions:
    """Return each image twice."""

    def doubled(column: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([column, column])

    return replace(
        predictions,
        index=np.arange(2 * len(predictions.index)),
        target=doubled(predictions.target),
        probs=doubled(predictions.probs),
        files=doubled(predictions.files),
        digests=doubled(predictions.digests),
    )


def test_intervals_are_those_of_resampled_images() -> None:
    predictions = guessed(0.6, 1)
    found = uncertainty(predictions)
    right = (predictions.preds == predictions.target).astype(float)
    wanted = bootstrap((right,), np.mean, n_resamples=5_000, method="percentile", rng=np.random.default_rng(0))
    ends = wanted.confidence_interval
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == pytest.approx((ends.low, ends.high), abs=0.008)
    assert found["accuracy"]["value"] == right.mean()
    macro = f1_score(predictions.target, predictions.preds, average="macro")
    assert found["f1_macro"]["value"] == pytest.approx(macro)
    assert found["f1_macro"]["low"] < macro < found["f1_macro"]["high"]
    assert (found["distinct"], found["draws"], found["seed"], found["unseen"]) == (300, 10_000, 0, None)
    assert uncertainty(predictions) == found


def test_intervals_of_a_class_are_wilsons() -> None:
    predictions = guessed(0.6, 1)
    matrix = predictions.matrix
    for label, name in enumerate(predictions.class_names):
        hits, support, predicted = int(matrix[label, label]), int(matrix[label].sum()), int(matrix[:, label].sum())
        ends = uncertainty(predictions, draws=4_000)["per_class"][name]
        # the variance of the resamples is known to some percent only
        assert ends["recall"] == pytest.approx(wilson_interval(hits, support), abs=0.004)
        assert ends["precision"] == pytest.approx(wilson_interval(hits, predicted), abs=0.004)
        low, high = (2 * end / (1 + end) for end in wilson_interval(hits, support + predicted - hits))
        assert ends["f1"] == pytest.approx((low, high), abs=0.004)


def test_each_image_twice_says_no_more_than_once() -> None:
    once, both = (uncertainty(each, draws=4_000) for each in (guessed(0.6, 1), twice(guessed(0.6, 1))))
    assert both["distinct"] == 300
    for score in ("accuracy", "f1_macro"):
        width, wider = (each[score]["high"] - each[score]["low"] for each in (once, both))
        assert wider == pytest.approx(width, rel=0.05)
    for name in once["per_class"]:
        assert both["per_class"][name]["recall"] == pytest.approx(once["per_class"][name]["recall"], abs=0.008)


def test_images_without_digest_stand_alone() -> None:
    predictions = replace(guessed(0.6, 1), digests=np.full(300, ""))
    assert uncertainty(predictions, draws=100)["distinct"] == 300


def test_the_part_that_was_not_seen_is_scored_by_itself() -> None:
    predictions = guessed(0.5, 2)
    right = predictions.preds == predictions.target
    seen = right & (predictions.index < 60)  # what was trained on is right
    found = uncertainty(predictions, seen, draws=2_000)
    rest = found["unseen"]
    assert rest["n"] == 300 - seen.sum()
    assert rest["accuracy"]["value"] == pytest.approx(right[~seen].mean())
    macro = f1_score(predictions.target[~seen], predictions.preds[~seen], average="macro")
    assert rest["f1_macro"]["value"] == pytest.approx(macro)
    assert found["accuracy"]["value"] == right.mean()
    gap = rest["difference"]["accuracy"]
    assert gap["value"] == pytest.approx(right[~seen].mean() - right.mean())
    assert gap["low"] < gap["value"] < gap["high"] < 0
    for nothing in (np.zeros(300, np.bool_), np.ones(300, np.bool_)):
        assert uncertainty(predictions, nothing, draws=10)["unseen"] is None


def test_pairs_are_told_most_frequent_first() -> None:
    predictions = guessed(0.5, 3)
    found = uncertainty(predictions, draws=100)["confusions"]
    counts = [pair["count"] for pair in found]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == (predictions.preds != predictions.target).sum()
    for pair in found:
        true, taken = (predictions.class_names.index(pair[key]) for key in ("true", "predicted"))
        inside = predictions.target == true
        assert pair["count"] == (predictions.preds[inside] == taken).sum()
        assert pair["low"] < pair["share"] == pair["count"] / inside.sum() < pair["high"]


def test_calibration_is_told_beside_what_a_perfect_model_shows() -> None:
    honest = guessed(0.4, 4, rows=3_000)  # right in 0.4 + 0.6 / 3 = 0.6 of the cases, as it states
    found = uncertainty(honest, draws=10)["calibration"]
    assert abs(found["confidence"]) < 0.03
    assert found["ece"] <= found["ece_perfect"]["high"]
    [only] = found["bins"]
    assert (only["images"], only["confidence"]) == (3_000, pytest.approx(0.6))
    assert only["low"] < only["accuracy"] < only["high"]
    boasting = uncertainty(guessed(0.0, 4, rows=3_000), draws=10)["calibration"]
    assert boasting["confidence"] == pytest.approx(0.6 - 1 / 3, abs=0.03)
    assert boasting["ece"] > boasting["ece_perfect"]["high"]
    assert boasting["nll"]["low"] < boasting["nll"]["value"] < boasting["nll"]["high"]


@pytest.mark.filterwarnings("error")
def test_one_image_and_a_class_without_images() -> None:
    predictions = guessed(1.0, 5, rows=1)
    found = uncertainty(predictions, draws=100)
    assert found["accuracy"] == {"value": 1.0, "low": wilson_interval(1, 1)[0], "high": 1.0}
    absent = next(name for label, name in enumerate(predictions.class_names) if label != predictions.target[0])
    assert all(math.isnan(end) for end in found["per_class"][absent]["recall"])
    assert found["confusions"] == []
