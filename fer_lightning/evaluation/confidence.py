"""Whether stated probabilities can be believed, and what makes them so: temperature, vector scaling, prior shift.

All work on log-probabilities, which a table of predictions holds: logits are not needed, since a constant added to all
of them changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from fer_lightning.data.splitting.folds import assign_folds
from fer_lightning.errors import DataError
from fer_lightning.metrics import CALIBRATION_BINS, calibration_bins, expected_calibration_error

__all__ = [
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
]

LEAST = 1e-30
"""Probabilities below are taken for this one, so that their logarithm is finite."""


@dataclass(frozen=True)
class Scaling:
    """How log-probabilities are changed: ``softmax((log p) weight + bias)``.

    Attributes:
        weight: float64 ``(K,)``; for a temperature T, 1/T in every place.
        bias: float64 ``(K,)``.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the changed probabilities, float64 ``(N, K)``."""
        return _softmax(log_of(probs) * self.weight + self.bias)


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


def null_ece(
    probs: NDArray[np.floating], draws: int = 1_000, seed: int = 0, bins: int = CALIBRATION_BINS
) -> NDArray[np.float64]:
    """Return the calibration errors that a perfect model of these confidences shows, float64 ``(draws,)``, ascending.

    The error of a finite sample is never 0; see :func:`perfect_hits`.
    """
    confidence = probs.max(axis=1).astype(np.float64)
    stated = np.bincount(confidence_bins(confidence, bins), weights=confidence, minlength=bins)
    hits = perfect_hits(confidence, draws, seed, bins)
    return np.sort(np.abs(hits - stated).sum(axis=1) / len(confidence))


def fit_scaling(
    probs: NDArray[np.floating], target: NDArray[np.int64], kind: str = "temperature", decay: float = 1e-3
) -> Scaling:
    """Return the scaling with the least mean negative log-likelihood.

    Args:
        probs: float ``(N, K)``, of images that the classifier was not trained on.
        target: true labels, int64 ``(N,)``.
        kind: ``temperature`` (one number; labels stay as they are), ``bias`` (a temperature and a bias for each class,
            which takes a prior shift along) or ``vector`` (a weight and a bias for each class).
        decay: weight of the squared distance from doing nothing, for the kinds with many numbers.

    Raises:
        DataError: if there are no images, or the kind is not known.
    """
    classes = probs.shape[1]
    if not len(target):
        raise DataError("calibration needs images of the validation part")
    sizes = {"temperature": 1, "bias": 1 + classes, "vector": 2 * classes}
    if kind not in sizes:
        raise DataError(f"unknown calibration '{kind}' (known: {', '.join(sizes)})")
    logs, rows = log_of(probs), np.arange(len(target))

    def scaling(values: NDArray[np.float64]) -> Scaling:
        scales = np.exp(values[:1] if kind != "vector" else values[:classes])
        bias = values[len(scales) :] if kind != "temperature" else np.zeros(classes)
        return Scaling(np.broadcast_to(scales, classes).astype(np.float64), bias)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found = scaling(values)
        shares = _softmax(logs * found.weight + found.bias)
        error = shares.copy()
        error[rows, target] -= 1
        by_weight = (error * logs).mean(axis=0) * found.weight
        parts = [by_weight.sum(keepdims=True) if kind != "vector" else by_weight]
        parts += [error.mean(axis=0)] if kind != "temperature" else []
        penalty = 0.0 if kind == "temperature" else decay
        value = -np.log(np.clip(shares[rows, target], LEAST, None)).mean() + penalty * float(values @ values)
        return float(value), np.concatenate(parts) + 2 * penalty * values

    best = minimize(loss, np.zeros(sizes[kind]), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-10})
    return scaling(best.x)


def cross_fitted_scaling(
    probs: NDArray[np.floating], target: NDArray[np.int64], groups: NDArray[np.uint8], kind: str = "temperature"
) -> NDArray[np.float64]:
    """Return probabilities of which each half was scaled by what was fitted on the other half, float64 ``(N, K)``.

    So the scores before and after can be compared on images that the fit has not seen. Rows with equal ``groups``,
    uint8 ``(N, D)``, such as identical images, are in one half.
    """
    half = assign_folds(target, groups, 2, 0)
    scaled = np.empty(probs.shape, np.float64)
    for place in (0, 1):
        own, other = half == place, half != place
        scaled[own] = fit_scaling(probs[other], target[other], kind)(probs[own])
    return scaled
