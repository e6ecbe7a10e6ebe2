"""Intervals that few images and a model without mistakes have, too: of these, resampling knows nothing.

Where all resamples agree, as those of a model without mistakes do, the bootstrap's interval has no width, which no
number of images justifies. The score intervals here have one for any number of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fer_lightning.evaluation.resampling import Interval
from fer_lightning.metrics import Z_95, wilson_interval

__all__ = [
    "class_ends",
    "distinct_shares",
    "mean_ends",
    "paired_ends",
    "score_ends",
    "unseen_changes",
    "widened",
    "with_width",
]

Ends = tuple[float, float]
_HALVINGS = 60  # of the interval in which an end is looked for: more than the digits of a number


def distinct_shares(target: NDArray[np.int64], clusters: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Return the share of distinct images among those of each class, float64 ``(K,)``; 1 for a class without any.

    Args:
        target: true labels, int64 ``(N,)``.
        clusters: number of the cluster of identical images of each row, int64 ``(N,)``.
        num_classes: K.
    """
    distinct = np.unique(np.stack([target, clusters]), axis=1)[0]
    own, support = (np.bincount(labels, minlength=num_classes) for labels in (distinct, target))
    shares: NDArray[np.float64] = np.where(support > 0, own / np.maximum(support, 1), 1.0)
    return shares


def class_ends(matrix: NDArray[np.int64], worth: NDArray[np.float64]) -> dict[str, list[Ends]]:
    """Return 95 % intervals of the scores of each class, NaN where a score is not known.

    ``precision`` and ``recall``: Wilson's. ``f1``: it is ``2 J / (1 + J)`` of the share ``J`` of right ones among all
    images that are, or are called, of the class (Lam et al. 2023, arXiv:2309.14621), whose interval is Wilson's.

    Args:
        matrix: int64 ``(K, K)``, rows true.
        worth: of how many independent images an image of each class tells, ``(K,)`` in 0..1.
    """
    found: dict[str, list[Ends]] = {"precision": [], "recall": [], "f1": []}
    for label, share in enumerate(worth.tolist()):
        hits, support, predicted = (int(n) for n in (matrix[label, label], matrix[label].sum(), matrix[:, label].sum()))
        union = wilson_interval(hits * share, (support + predicted - hits) * share)
        known = [2 * end / (1 + end) if support else math.nan for end in union]
        found["precision"].append(wilson_interval(hits * share, predicted * share))
        found["recall"].append(wilson_interval(hits * share, support * share))
        found["f1"].append((known[0], known[1]))
    return found


def mean_ends(values: NDArray[np.float64], ends: NDArray[np.float64]) -> Ends:
    """Return the 95 % interval of the mean of independent scores, from theirs: squares of the half widths add up.

    The MOVER of Zou and Donner 2008, doi:10.1002/sim.3095. Scores that are NaN are left out.

    Args:
        values: float64 ``(K,)``.
        ends: of their intervals, float64 ``(K, 2)``.
    """
    known = ~np.isnan(values)
    mean, below, above = values[known].mean(), values[known] - ends[known, 0], ends[known, 1] - values[known]
    halves = [float(np.sqrt((half**2).sum())) / int(known.sum()) for half in (below, above)]
    return float(mean) - halves[0], float(mean) + halves[1]


def score_ends(matrix: NDArray[np.int64], worth: NDArray[np.float64]) -> dict[str, Ends]:
    """Return 95 % intervals of ``accuracy`` (Wilson's), ``balanced_accuracy`` and ``f1_macro`` (``mean_ends``).

    Args:
        matrix: int64 ``(K, K)``, rows true, with an image at least.
        worth: see ``class_ends``.
    """
    support, hits = matrix.sum(axis=1), np.diagonal(matrix)
    sizes = support + matrix.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1 = hits / support, np.where(support > 0, 2 * hits / sizes, np.nan)
    share, ends = float(worth @ support) / int(support.sum()), class_ends(matrix, worth)
    return {
        "accuracy": wilson_interval(int(hits.sum()) * share, int(support.sum()) * share),
        "balanced_accuracy": mean_ends(recall, np.array(ends["recall"])),
        "f1_macro": mean_ends(f1, np.array(ends["f1"])),
    }


def paired_ends(first_only: float, second_only: float, images: float) -> Ends:
    """Return the 95 % score interval of the difference of two shares of the same images, second minus first.

    Tango 1998, Statistics in Medicine 17, 891-908: all differences that a score test does not reject. With no image
    that only one gets right it is not empty: ``z**2 / (images + z**2)`` to both sides.

    >>> [round(end, 3) for end in paired_ends(0, 0, 100)]
    [-0.037, 0.037]

    Args:
        first_only: number of images that only the first classifier gets right; need not be whole.
        second_only: likewise of the second one.
        images: number of all of them, above 0.
    """
    estimate = (second_only - first_only) / images

    def score(delta: float) -> float:
        linear = -second_only - first_only + (2 * images - second_only + first_only) * delta
        root = math.sqrt(max(linear**2 + 8 * images * first_only * delta * (1 - delta), 0.0))
        share = (root - linear) / (4 * images)  # of the images that only the first gets right, if delta is true
        variance = images * max(2 * share + delta * (1 - delta), 0.0)
        return (second_only - first_only - images * delta) / math.sqrt(variance) if variance > 0 else math.inf

    high = _crossing(lambda delta: score(delta) < -Z_95, estimate, 1.0)
    low = _crossing(lambda delta: score(delta) > Z_95, estimate, -1.0)
    return low, high


def _crossing(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return the number between two, up to which nothing is rejected, by halving."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
    return inside


def unseen_changes(support: NDArray[np.float64]) -> float:
    """Return by how much two macro F1 may differ though no image of some tells them apart: a half width, 95 %.

    Of each class ``paired_ends`` without a difference, together as in ``mean_ends``.

    Args:
        support: images of each class, float64 ``(K,)``; classes without any are left out.
    """
    known = support[support > 0]
    return float(np.sqrt(((Z_95**2 / (known + Z_95**2)) ** 2).sum())) / len(known)


def with_width(resampled: Interval, ends: Ends) -> Interval:
    """Return an interval of resamples, or where these all agree another one."""
    return Interval(resampled.value, *ends) if resampled.low == resampled.high else resampled


def widened(resampled: Interval, ends: Ends) -> Interval:
    """Return an interval of resamples that reaches at least as far as another one to both sides."""
    return Interval(resampled.value, min(resampled.low, ends[0]), max(resampled.high, ends[1]))
