"""Whether stated probabilities can be believed, and what makes them so: temperature, prior shift, linear scalings.

All work on log-probabilities, which a table of predictions holds: logits are not needed, since a constant added to all
of them changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from fer_lightning.errors import DataError
from fer_lightning.metrics import CALIBRATION_BINS, calibration_bins, expected_calibration_error

__all__ = [
    "DECAY",
    "KINDS",
    "LEAST",
    "Scaling",
    "brier_scores",
    "confidence_bins",
    "cross_fitted_scaling",
    "ece_of",
    "fit_scaling",
    "log_losses",
    "null_ece",
    "perfect_hits",
    "reliability_bins",
]

LEAST = 1e-30
"""Probabilities below are taken for this one, so that their logarithm is finite."""


KINDS = {
    "temperature": "one temperature; labels stay as they are",
    "prior": "a temperature and the amount tau of the log prior that is added, fitted together",
    "vector": "vector scaling: a weight and a bias for each class, which takes any shift of the prior along",
    "matrix": "matrix scaling: a weight for each pair of classes, and biases",
}
"""Scalings that can be fitted, the plainest first. Vector and matrix scaling (Guo et al. 2017, arXiv:1706.04599) are
taken on log-probabilities, as Dirichlet calibration (Kull et al. 2019, arXiv:1910.12656) does."""

DECAY = 3e-3
"""Weight of the squared numbers of vector and matrix scaling. Between 1e-4 and 3e-2 the likelihood on other images of
FER2013 differs by 0.002 nats."""

_PRECISE = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 2_000}


@dataclass(frozen=True)
class Scaling:
    """How log-probabilities are changed: ``softmax((log p) weight + bias)``.

    Attributes:
        weight: float64 ``(K, K)``, rows for the classes that come in; for a temperature T, 1/T in the diagonal.
        bias: float64 ``(K,)``.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the changed probabilities, float64 ``(N, K)``."""
        return _softmax(log_of(probs) @ self.weight + self.bias)


def log_of(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log-probabilities, float64 ``(N, K)``."""
    logs: NDArray[np.float64] = np.log(np.clip(probs.astype(np.float64), LEAST, None))
    return logs


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def log_losses(probs: NDArray[np.floating], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the negative log-likelihood of each image, float64 ``(N,)``, in nats."""
    losses: NDArray[np.float64] = -log_of(probs)[np.arange(len(target)), target]
    return losses


def brier_scores(probs: NDArray[np.floating], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Brier score of each image, float64 ``(N,)`` in 0..2: squared differences to the truth, summed."""
    truth = np.eye(probs.shape[1])[target]
    scores: NDArray[np.float64] = ((probs.astype(np.float64) - truth) ** 2).sum(axis=1)
    return scores


def ece_of(probs: NDArray[np.floating], target: NDArray[np.int64], bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error over bins of equal width."""
    right = torch.tensor(probs.argmax(axis=1) == target)
    return float(expected_calibration_error(calibration_bins(torch.tensor(probs.max(axis=1)), right, bins=bins)))


def confidence_bins(confidence: NDArray[np.floating], bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """Return the bin of each confidence, int64 ``(N,)``: ``(b / B, (b + 1) / B]`` is bin b."""
    return np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)


def perfect_hits(
    confidence: NDArray[np.floating], draws: int = 1_000, seed: int = 0, bins: int = CALIBRATION_BINS
) -> NDArray[np.float64]:
    """Return how many answers of each bin a perfect model of these confidences gets right, float64 ``(draws, B)``.

    Whether an answer is right is drawn from its stated confidence (the consistency resampling of Broecker and Smith
    2007).
    """
    place, rng = confidence_bins(confidence, bins), np.random.default_rng(seed)
    found = np.empty((draws, bins))
    for draw in range(draws):
        found[draw] = np.bincount(place, weights=rng.random(len(confidence)) < confidence, minlength=bins)
    return found


def reliability_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], seed: int = 0
) -> list[dict[str, float]]:
    """Return the bins that hold images: what is stated, what is right, and what a perfect model would get right.

    Args:
        confidence: probability of each answer, float ``(N,)``.
        right: which answers are right, bool ``(N,)``.
        seed: of the draws.

    Returns:
        Of each bin ``images``, mean ``confidence``, ``accuracy``, and ``low`` and ``high``: the 95 % range of a perfect
        model's accuracy.
    """
    place = confidence_bins(confidence)
    count = np.bincount(place, minlength=CALIBRATION_BINS)
    hits = np.bincount(place, weights=right, minlength=CALIBRATION_BINS)
    stated = np.bincount(place, weights=confidence, minlength=CALIBRATION_BINS)
    low, high = np.quantile(perfect_hits(confidence, seed=seed), [0.025, 0.975], axis=0)
    return [
        {
            "images": int(count[place]),
            "confidence": float(stated[place] / count[place]),
            "accuracy": float(hits[place] / count[place]),
            "low": float(low[place] / count[place]),
            "high": float(high[place] / count[place]),
        }
        for place in np.flatnonzero(count)
    ]


def null_ece(
    probs: NDArray[np.floating], draws: int = 1_000, seed: int = 0, bins: int = CALIBRATION_BINS
) -> NDArray[np.float64]:
    """Return the calibration errors that a perfect model of these confidences shows, float64 ``(draws,)``, ascending.

    The error of a finite sample is never 0; see ``perfect_hits``.
    """
    confidence = probs.max(axis=1).astype(np.float64)
    stated = np.bincount(confidence_bins(confidence, bins), weights=confidence, minlength=bins)
    hits = perfect_hits(confidence, draws, seed, bins)
    return np.sort(np.abs(hits - stated).sum(axis=1) / len(confidence))


def fit_scaling(
    probs: NDArray[np.floating],
    target: NDArray[np.int64],
    kind: str = "temperature",
    prior: NDArray[np.float64] | None = None,
    decay: float = DECAY,
) -> Scaling:
    """Return the scaling with the least mean negative log-likelihood.

    Args:
        probs: float ``(N, K)``, of images that the classifier was not trained on.
        target: true labels, int64 ``(N,)``.
        kind: one of ``KINDS``.
        prior: logarithm of each class's share of the training images, float64 ``(K,)``; for the kind ``prior``.
        decay: weight of the squared distance from doing nothing, for the kinds with many numbers.

    Raises:
        DataError: if there are no images, or the kind is not known or lacks its prior.
    """
    classes = probs.shape[1]
    if not len(target):
        raise DataError("calibration needs images of the validation part")
    sizes = {"temperature": 1, "prior": 2, "vector": 2 * classes, "matrix": classes * classes + classes}
    if kind not in sizes:
        raise DataError(f"unknown calibration '{kind}' (known: {', '.join(sizes)})")
    if kind == "prior" and prior is None:
        raise DataError("a shift of the prior needs the training images of each class, which are not known")
    shift, eye = np.zeros(classes) if prior is None else prior, np.eye(classes)
    logs, rows, many = log_of(probs), np.arange(len(target)), kind in ("vector", "matrix")

    def scaling(values: NDArray[np.float64]) -> Scaling:
        if not many:
            return Scaling(np.exp(values[0]) * eye, values[1] * shift if kind == "prior" else np.zeros(classes))
        moved = values[:-classes]
        return Scaling(
            eye + (np.diag(moved) if kind == "vector" else moved.reshape(classes, classes)), values[-classes:]
        )

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found = scaling(values)
        shares = _softmax(logs @ found.weight + found.bias)
        error = shares.copy()
        error[rows, target] -= 1
        by_weight, by_bias = logs.T @ error / len(target), error.mean(axis=0)
        if many:
            own = by_weight.diagonal() if kind == "vector" else by_weight.ravel()
            slopes = np.concatenate([own, by_bias]) + 2 * decay * values
        else:
            slopes = np.array([np.trace(by_weight) * np.exp(values[0]), by_bias @ shift])[: len(values)]
        value = -np.log(np.clip(shares[rows, target], LEAST, None)).mean() + many * decay * float(values @ values)
        return float(value), slopes

    best = minimize(loss, np.zeros(sizes[kind]), jac=True, method="L-BFGS-B", options=_PRECISE)
    return scaling(best.x)


def cross_fitted_scaling(
    probs: NDArray[np.floating],
    target: NDArray[np.int64],
    half: NDArray[np.int64],
    kind: str = "temperature",
    prior: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], tuple[Scaling, Scaling]]:
    """Scale each half of the images by what was fitted on the other half.

    So the scores before and after can be compared on images that the fit has not seen. The half of each row, 0 or 1, is
    int64 ``(N,)``; identical images must be in one. The other arguments are those of ``fit_scaling``. Returned are
    the scaled probabilities, float64 ``(N, K)``, and the scalings that were fitted on half 0 and on half 1.
    """
    first, second = (fit_scaling(probs[half == place], target[half == place], kind, prior) for place in (0, 1))
    return np.where((half == 0)[:, None], second(probs), first(probs)), (first, second)
