"""Calibrating a classifier on its validation predictions: which scaling, what it gains, from where on to answer.

Everything is judged on images that it was not fitted on: the images fall into two halves, identical ones into one, and
each half is scored with what was fitted on the other. What is stored is then fitted on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.splitting.folds import assign_folds
from fer_lightning.errors import DataError
from fer_lightning.evaluation.calibration_place import Wishes
from fer_lightning.evaluation.confidence import (
    KINDS,
    Scaling,
    brier_scores,
    cross_fitted_scaling,
    ece_of,
    fit_scaling,
    log_losses,
    null_ece,
    reliability_bins,
)
from fer_lightning.evaluation.conformal import coverage_range, prediction_sets, set_thresholds
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.resampling import (
    clusters_of,
    confusion_matrices,
    interval,
    matrix_scores,
    resampled_means,
)
from fer_lightning.metrics import wilson_interval
from fer_lightning.models.calibration import Calibration, plain_calibration

__all__ = ["COVERAGES", "NONE", "calibrate", "pooled", "risk_curve", "risk_points", "risk_threshold"]

NONE = "none"
"""Name of no scaling at all."""
COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Coverages for which prediction sets are stored, beside the one that was asked for."""
_FEWEST = 100  # images below which halves are too small to judge by
_POINTS = 200  # of a risk curve
_FIRST = 19  # answers that a risk curve leaves out: the share of a few says nothing
_LEVEL = 0.95

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass
class _Judged:
    """The images, the halves that judge one another, and by kind what each half made of the other."""

    probs: Floats
    target: Labels
    clusters: Labels
    half: Labels
    across: dict[str, Floats] = field(default_factory=dict)
    scalings: dict[str, tuple[Scaling, Scaling]] = field(default_factory=dict)

    def right(self, probs: Floats, rows: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.bool_]:
        """Return which of some rows are answered rightly by probabilities of them."""
        found: NDArray[np.bool_] = probs.argmax(axis=1) == self.target[rows]
        return found


def pooled(several: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several models, each for its own images, as those of one.

    Raises:
        DataError: if they have other classes.
    """
    first = several[0]
    for other in several[1:]:
        if other.class_names != first.class_names:
            raise DataError(
                f"the classes differ: {', '.join(first.class_names)} against {', '.join(other.class_names)}"
            )
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in several])
        for name in ("index", "target", "probs", "files", "digests")
    }
    return replace(first, groups={}, **joined)


def calibrate(predictions: Predictions, prior: Floats | None, wishes: Wishes, origin: str = "") -> dict[str, Any]:
    """Choose, fit and judge a calibration; return plain values, among them ``calibration``, which a model takes.

    Args:
        predictions: of the validation part, with digests.
        prior: logarithm of each class's share of the training images, float64 ``(K,)``, ``None`` if it is not known.
        wishes: what is asked for.
        origin: whose predictions they are, if not those of the model that is calibrated.

    Raises:
        DataError: if they are of the test part, have no labels or digests, or are too few.
    """
    data = _judged(predictions, wishes.seed)
    nothing = _nothing(len(predictions.class_names))
    data.across[NONE], data.scalings[NONE] = data.probs, (nothing, nothing)
    for kind in tqdm(KINDS, unit="scaling", disable=None, leave=False):
        if kind != "prior" or prior is not None or wishes.kind == kind:
            found = cross_fitted_scaling(data.probs, data.target, data.half, kind, prior)
            data.across[kind], data.scalings[kind] = found
    rows = [_scores(kind, probs, data, wishes.seed) for kind, probs in data.across.items()]
    chosen = wishes.kind or min(rows, key=lambda row: row["nll"])["kind"]
    scaling = nothing if chosen == NONE else fit_scaling(data.probs, data.target, chosen, prior)
    after = scaling(data.probs)
    if wishes.risk is None:
        wishes = replace(wishes, risk=float(max(1, (~data.right(after)).sum()) / len(after)) / 2)
    risk = _risk(data, chosen, after, wishes)
    sets = {}
    for coverage in sorted({*COVERAGES, wishes.coverage}):
        with suppress(DataError):  # too few images for so much
            sets[f"{coverage:g}"] = _least(after, data, coverage)
    return {
        "class_names": list(predictions.class_names),
        "images": len(data.target),
        "distinct": int(data.clusters.max()) + 1,
        "seed": wishes.seed,
        "asked": wishes.kind,
        "chosen": chosen,
        "kinds": rows,
        "change": _change(data, chosen, wishes.seed),
        "fit": _described(chosen, scaling, prior),
        "bins": {
            name: reliability_bins(probs.max(axis=1), data.right(probs), wishes.seed)
            for name, probs in (("before", data.probs), ("after", data.across[chosen]))
        },
        "risk": risk,
        "sets": _judged_sets(data, chosen, wishes.coverage),
        "calibration": plain_calibration(replace(_stored(chosen, scaling, risk, sets), origin=origin)),
    }


def _nothing(classes: int) -> Scaling:
    return Scaling(np.eye(classes), np.zeros(classes))


def _judged(predictions: Predictions, seed: int) -> _Judged:
    if predictions.split == "test":
        raise DataError("these are predictions of the test part, and a calibration must not see it")
    if not predictions.known:
        raise DataError("the predictions hold no true labels")
    if not all(predictions.digests):
        raise DataError("the predictions hold no digests of the images, by which identical ones are told")
    if len(predictions.target) < _FEWEST:
        raise DataError(f"{len(predictions.target)} images are too few for a calibration: expected {_FEWEST} or more")
    numbers = np.array([list(bytes.fromhex(digest)) for digest in predictions.digests], np.uint8)
    half = assign_folds(predictions.target, numbers, 2, seed)
    probs = predictions.probs.astype(np.float64)
    return _Judged(probs, predictions.target, clusters_of(predictions.digests), half)


def _scores(kind: str, probs: Floats, data: _Judged, seed: int) -> dict[str, Any]:
    """Return the scores of probabilities, and the ECE that a perfect model of the same confidences shows."""
    target, null = data.target, null_ece(probs, seed=seed)
    scores = matrix_scores(confusion_matrices(target, probs.argmax(axis=1)[None], probs.shape[1])[0])
    low, middle, high = np.quantile(null, [0.025, 0.5, 0.975]).tolist()
    return {
        "kind": kind,
        "nll": float(log_losses(probs, target).mean()),
        "brier": float(brier_scores(probs, target).mean()),
        "ece": ece_of(probs, target),
        "ece_null": {"low": low, "median": middle, "high": high},
        "accuracy": float(scores["accuracy"]),
        "f1_macro": float(scores["f1_macro"]),
        "confidence": float(probs.max(axis=1).mean()),
    }


def _change(data: _Judged, chosen: str, seed: int) -> dict[str, Any]:
    """Return after minus before of NLL, Brier score and accuracy, with intervals over groups of identical images."""
    measures: dict[str, Callable[[Floats], Floats]] = {
        "nll": lambda probs: log_losses(probs, data.target),
        "brier": lambda probs: brier_scores(probs, data.target),
        "accuracy": lambda probs: data.right(probs).astype(np.float64),
    }
    values = np.stack([own(data.across[chosen]) - own(data.probs) for own in measures.values()], axis=1)
    draws = resampled_means(values, data.clusters, seed=seed)
    found = [interval(float(values[:, place].mean()), draws[:, place]) for place in range(len(measures))]
    return {
        name: {"value": each.value, "low": each.low, "high": each.high}
        for name, each in zip(measures, found, strict=True)
    }


def _described(kind: str, scaling: Scaling, prior: Floats | None) -> dict[str, float]:
    """Return the numbers that say what a plain scaling does."""
    if kind not in ("temperature", "prior"):
        return {}
    found = {"temperature": 1 / float(scaling.weight[0, 0])}
    return found | (
        {"tau": float(scaling.bias @ prior / (prior @ prior))} if kind == "prior" and prior is not None else {}
    )


def risk_curve(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return coverage and risk of answering from each confidence on, the highest first, float64 ``(N,)`` each.

    The risk is the share of wrong answers among those at least as confident.
    """
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(~right[order]) / answered


def risk_points(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a risk curve as plain values: ``area`` below it, and at most 200 points of ``coverage`` and ``risk``.

    The points begin at 20 answers, as the share of a few says nothing; the area is that of all.

    Args:
        confidence: of each answer, float ``(N,)``, at least one.
        right: which answers are right, bool ``(N,)``.
    """
    coverage, risks = risk_curve(confidence, right)
    last = len(risks) - 1
    places = np.unique(np.linspace(min(_FIRST, last), last, _POINTS).astype(int))
    return {"area": float(risks.mean()), "coverage": coverage[places].tolist(), "risk": risks[places].tolist()}


def risk_threshold(confidence: NDArray[np.floating], right: NDArray[np.bool_], risk: float) -> float | None:
    """Return the least confidence from which on at most the wanted share of the answers is wrong, as many as possible.

    0 if that holds for all answers, ``None`` if for no confidence.
    """
    ordered = np.sort(confidence)[::-1]
    _, risks = risk_curve(confidence, right)
    last = np.append(ordered[1:] < ordered[:-1], True)  # equal confidences are answered together
    fits = np.flatnonzero((risks <= risk) & last)
    if not len(fits):
        return None
    return 0.0 if fits[-1] == len(ordered) - 1 else float(ordered[fits[-1]])


def _risk(data: _Judged, chosen: str, after: Floats, wishes: Wishes) -> dict[str, Any]:
    """Return the threshold for the wanted risk, curves before and after, and what thresholds of the halves gave."""
    assert wishes.risk is not None  # it was filled in
    threshold = risk_threshold(after.max(axis=1), data.right(after), wishes.risk)
    wrong = answered = 0
    for place, scaling in enumerate(data.scalings[chosen]):
        own, other = data.half == place, data.half != place
        learned, scored = scaling(data.probs[own]), scaling(data.probs[other])
        from_there = risk_threshold(learned.max(axis=1), data.right(learned, own), wishes.risk)
        sure = scored.max(axis=1) >= (np.inf if from_there is None else from_there)
        answered += int(sure.sum())
        wrong += int((~data.right(scored, other))[sure].sum())
    low, high = wilson_interval(wrong, answered)
    stages = {"before": data.probs, "after": data.across[chosen]}
    curves = {name: risk_points(probs.max(axis=1), data.right(probs)) for name, probs in stages.items()}
    return {
        "wanted": wishes.risk,
        "reached": threshold is not None,
        "threshold": 0.0 if threshold is None else threshold,
        "answered": answered / len(data.target),
        "risk": {"value": wrong / answered, "low": low, "high": high} if answered else None,
        "curves": curves,
    }


def _least(probs: Floats, data: _Judged, coverage: float) -> tuple[float, ...]:
    """Return the least probability of each class in a set; raise ``DataError`` with too few images for it."""
    found = set_thresholds(probs, data.target, coverage, data.clusters)
    return tuple((1 - found.scores).tolist())


def _judged_sets(data: _Judged, chosen: str, coverage: float) -> dict[str, Any]:
    """Return how sets cover each class of the second half, with scaling and thresholds of the first."""
    first, second = data.half == 0, data.half == 1
    scaling = data.scalings[chosen][0]
    learned, scored, clusters = scaling(data.probs[first]), scaling(data.probs[second]), data.clusters[second]
    found = set_thresholds(learned, data.target[first], coverage, data.clusters[first])
    whole = set_thresholds(learned, data.target[first], coverage, data.clusters[first], by_class=False)
    once = np.unique(clusters, return_index=True)[1]  # the promise is for images that can be exchanged
    labels, inside = data.target[second][once], prediction_sets(scored[once], found)
    marginal = prediction_sets(scored[once], whole)
    together = _LEVEL ** (1 / max(1, len(np.unique(labels))))  # so that all classes are inside with this probability
    classes = []
    for label in range(data.probs.shape[1]):
        own = labels == label
        row: dict[str, Any] = {
            "least": float(1 - found.scores[label]),
            "calibrated_on": int(found.counts[label]),
            "pooled": bool(found.pooled[label]),
            "images": int(own.sum()),
            "coverage": None,
        }
        if own.any():
            rank, count = int(found.ranks[label]), int(found.counts[label])
            row["low"], row["high"] = coverage_range(rank, count, row["images"], _LEVEL)
            row["joint_low"], row["joint_high"] = coverage_range(rank, count, row["images"], together)
            row["coverage"] = float(inside[own, label].mean())
            row["marginal"] = float(marginal[own, label].mean())
        classes.append(row)
    size = inside.sum(axis=1)
    return {
        "coverage": coverage,
        "covered": float(inside[np.arange(len(labels)), labels].mean()),
        "covered_by_one_threshold": float(marginal[np.arange(len(labels)), labels].mean()),
        "mean_size": float(size.mean()),
        "single": float((size == 1).mean()),
        "empty": float((size == 0).mean()),
        "sizes": np.bincount(size, minlength=data.probs.shape[1] + 1).tolist(),
        "classes": classes,
    }


def _stored(kind: str, scaling: Scaling, risk: Mapping[str, Any], sets: dict[str, tuple[float, ...]]) -> Calibration:
    chosen: dict[str, Any] = {"threshold": risk["threshold"], "risk": risk["wanted"], "sets": sets}
    if kind in (NONE, "temperature"):
        return Calibration(1 / float(scaling.weight[0, 0]), **chosen)
    weight = tuple(tuple(row) for row in scaling.weight.tolist())
    return Calibration(1.0, weight, tuple(scaling.bias.tolist()), **chosen)
