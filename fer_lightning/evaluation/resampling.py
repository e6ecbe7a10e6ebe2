"""Intervals of scores over the test images, by resampling groups of identical images.

Images with equal digests are one cluster: drawing them apart would make intervals too narrow. A resample depends only
on how many clusters of each *type* (the cells of the confusion matrix that a cluster fills) are drawn, and that count
is multinomial. So a resample costs one draw of about a hundred numbers, not of thousands of rows, and nothing is
approximated.

Such an interval tells how the score varies with the choice of test images. It says nothing of how it varies from one
training to the next: that is what ``fer crossval`` measures with several seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import DataError

__all__ = [
    "DRAWS",
    "Interval",
    "clusters_of",
    "confusion_matrices",
    "interval",
    "matrix_scores",
    "resampled_counts",
    "resampled_matrices",
    "resampled_means",
]

DRAWS = 10_000
"""Resamples. The error of a 95 % interval's end is then 0.027 standard deviations."""
_BLOCK = 1_000  # resamples in memory


@dataclass(frozen=True)
class Interval:
    """A value with the interval in which 95 % (or another share) of its resamples lie.

    Attributes:
        value: of the sample itself.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


def clusters_of(digests: NDArray[np.str_] | NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of the cluster of each row, int64 ``(N,)``: rows with equal digests have the same."""
    numbers: NDArray[np.int64] = np.unique(digests, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers


def resampled_matrices(
    target: NDArray[np.int64],
    preds: NDArray[np.int64],
    clusters: NDArray[np.int64],
    num_classes: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return confusion matrices of resamples of clusters with replacement, int64 ``(draws, M, K, K)``, rows true.

    Several models are resampled together, so that their differences can be taken resample by resample.

    Args:
        target: true labels, int64 ``(N,)``.
        preds: of one model, int64 ``(N,)``, or of several, ``(M, N)``.
        clusters: number of the cluster of each row, from 0, int64 ``(N,)``.
        num_classes: K.
        draws: number of resamples.
        seed: of the draws.

    Raises:
        DataError: if there are no rows.
    """
    if not len(target):
        raise DataError("no rows to resample")
    several = np.atleast_2d(preds)
    cells = several + target * num_classes + np.arange(len(several))[:, None] * num_classes**2
    counts = list(resampled_counts(cells, clusters, len(several) * num_classes**2, draws, seed))
    return np.concatenate(counts).reshape(draws, len(several), num_classes, num_classes)


def resampled_counts(
    cells: NDArray[np.int64], clusters: NDArray[np.int64], size: int, draws: int = DRAWS, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield how often each cell is filled in resamples of clusters with replacement, int64 ``(block, size)``.

    The blocks together are ``(draws, size)``; they keep what is in memory small.

    Args:
        cells: which cells each row fills, int64 ``(M, N)``: M for each row.
        clusters: number of the cluster of each row, from 0, int64 ``(N,)``.
        size: number of cells.
        draws: number of resamples.
        seed: of the draws.
    """
    row_kinds, kind = np.unique(cells, axis=1, return_inverse=True)
    kind = kind.reshape(-1)
    order = np.lexsort((kind, clusters))
    parts = np.split(kind[order], np.flatnonzero(np.diff(clusters[order])) + 1)
    numbers = Counter(part.tobytes() for part in parts)
    types = np.zeros((len(numbers), size))
    for place, content in enumerate(numbers):
        np.add.at(types[place], row_kinds[:, np.frombuffer(content, kind.dtype)].reshape(-1), 1)
    shares = np.array(list(numbers.values())) / len(parts)
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _BLOCK):
        drawn = rng.multinomial(len(parts), shares, size=min(_BLOCK, draws - start))
        yield (drawn.astype(np.float64) @ types).astype(np.int64)  # whole numbers: exact, and faster than in int64


def resampled_means(
    values: NDArray[np.float64], clusters: NDArray[np.int64], draws: int = 2_000, seed: int = 0
) -> NDArray[np.float64]:
    """Return the means of values, float64 ``(N, V)``, over resamples of clusters with replacement, ``(draws, V)``.

    For scores that are means over rows, such as the Brier score and the negative log-likelihood.
    """
    count = int(clusters.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, clusters, values)
    sizes = np.bincount(clusters, minlength=count)
    rng = np.random.default_rng(seed)
    means = np.empty((draws, values.shape[1]))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        means[draw] = times @ sums / (times @ sizes)
    return means


def confusion_matrices(target: NDArray[np.int64], preds: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrices of several models, int64 ``(M, K, K)``, rows true.

    Args:
        target: true labels, int64 ``(N,)``.
        preds: of each model, int64 ``(M, N)``.
        num_classes: K.
    """
    cells, size = target * num_classes + preds, num_classes * num_classes
    counts = np.stack([np.bincount(row, minlength=size) for row in cells])
    return counts.reshape(len(preds), num_classes, num_classes)


def matrix_scores(matrices: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return scores of confusion matrices, int64 ``(..., K, K)``, rows true.

    Returns:
        ``accuracy``, ``balanced_accuracy`` and ``f1_macro``, float64 ``(...)``; ``precision``, ``recall`` and ``f1``,
        ``(..., K)``. A class without images has no recall and no F1 (NaN) and is left out of the means; precision is
        NaN where a class is never predicted, and its F1 then 0.
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1).astype(np.float64)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = hits / support, hits / predicted
        f1 = np.where(support > 0, 2 * hits / (support + predicted), np.nan)
        total = matrices.sum(axis=(-2, -1))
        return {
            "accuracy": hits.sum(axis=-1) / total,
            "balanced_accuracy": _mean(recall),
            "f1_macro": _mean(f1),
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means over the last axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)
    return mean


def interval(value: float, resamples: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return a value with the percentile interval of its resamples, float64 ``(draws,)``; NaN are left out."""
    known = resamples[~np.isnan(resamples)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)
