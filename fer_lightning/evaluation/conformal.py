"""Prediction sets that hold the true class with a chosen probability: split conformal prediction.

The score of an image is 1 minus the probability of its true class (the least ambiguous sets of Sadinle et al. 2019,
arXiv:1609.00451). With a threshold of its own for each class, the promise holds in every class, not only on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from fer_lightning.errors import DataError

__all__ = ["Thresholds", "coverage_range", "prediction_sets", "set_thresholds"]


@dataclass(frozen=True)
class Thresholds:
    """From which score on a class is left out of a set.

    Attributes:
        scores: float64 ``(K,)``; 1 where the class is always in.
        ranks: int64 ``(K,)``, rank of the threshold among the scores of calibration; 0 where there was none.
        counts: int64 ``(K,)``, images that each threshold was taken from.
        pooled: bool ``(K,)``, whether a class had too few images and got the threshold of all.
    """

    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    counts: NDArray[np.int64]
    pooled: NDArray[np.bool_]


def set_thresholds(
    probs: NDArray[np.floating],
    target: NDArray[np.int64],
    coverage: float,
    clusters: NDArray[np.int64] | None = None,
    by_class: bool = True,
) -> Thresholds:
    """Return the thresholds for a coverage in 0..1, from images that the classifier was not trained on.

    Args:
        probs: float ``(N, K)``.
        target: true labels, int64 ``(N,)``.
        coverage: wanted share of sets that hold the true class.
        clusters: of identical images, int64 ``(N,)``: only the first of each is used, since the promise needs images
            that could be exchanged for one another.
        by_class: a threshold for each class; else one for all.

    Raises:
        DataError: if the coverage is not between 0 and 1, or there are too few images for it.
    """
    if not 0 < coverage < 1:
        raise DataError(f"the coverage of prediction sets must be between 0 and 1, not {coverage}")
    first = np.arange(len(target)) if clusters is None else np.unique(clusters, return_index=True)[1]
    classes, labels = probs.shape[1], target[first]
    scores = 1 - probs[first, labels].astype(np.float64)
    whole, rank = _threshold(scores, coverage)
    if not rank:
        most = np.floor(100 * len(scores) / (len(scores) + 1)) / 100
        raise DataError(f"{len(scores)} images are too few for a coverage of {coverage:g}: at most {most:g} can be had")
    found = Thresholds(
        np.full(classes, whole), np.full(classes, rank), np.full(classes, len(scores)), np.ones(classes, bool)
    )
    for label in range(classes) if by_class else ():
        own = scores[labels == label]
        threshold, place = _threshold(own, coverage)
        if place:
            found.scores[label], found.ranks[label] = threshold, place
            found.counts[label], found.pooled[label] = len(own), False
    return found


def _threshold(scores: NDArray[np.float64], coverage: float) -> tuple[float, int]:
    """Return the ``ceil((n + 1) coverage)``-th smallest score and that rank; rank 0 if there are not so many."""
    rank = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    return (float(np.sort(scores)[rank - 1]), rank) if rank <= len(scores) else (1.0, 0)


def prediction_sets(probs: NDArray[np.floating], thresholds: Thresholds) -> NDArray[np.bool_]:
    """Return which classes are in the set of each image, bool ``(N, K)``; a set may be empty."""
    inside: NDArray[np.bool_] = 1 - probs.astype(np.float64) <= thresholds.scores
    return inside


def coverage_range(rank: int, count: int, images: int, level: float = 0.95) -> tuple[float, float]:
    """Return in which range the coverage on new images lies with a probability of ``level``, if all is right.

    Over calibration sets of ``count`` images with the threshold at ``rank``, the number of covered ones among
    ``images`` new ones is beta-binomial with ``rank`` and ``count + 1 - rank``.
    """
    spread = betabinom(images, rank, count + 1 - rank)
    return float(spread.ppf((1 - level) / 2)) / images, float(spread.ppf((1 + level) / 2)) / images
