"""Whether two classifiers differ on the same images: tests of McNemar's kind, and Holm's correction for several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2

__all__ = ["add_holm", "cluster_mcnemar", "holm", "mcnemar"]

_FEW = 10  # clusters with a difference, below which all signs are tried


def mcnemar(first_only: int, second_only: int) -> float:
    """Return McNemar's mid-p value, two-sided.

    Fagerland et al. 2013, doi:10.1186/1471-2288-13-91: the exact test is too careful, the mid-p value keeps its level.

    Args:
        first_only: number of images that only the first classifier gets right.
        second_only: likewise of the second one.

    >>> round(mcnemar(10, 4), 3), round(mcnemar(5, 0), 3), mcnemar(0, 0)
    (0.118, 0.031, 1.0)
    """
    total, fewer = first_only + second_only, min(first_only, second_only)
    if first_only == second_only:
        return 1.0
    return float(2 * binom.cdf(fewer, total, 0.5) - binom.pmf(fewer, total, 0.5))


def cluster_mcnemar(
    first_right: NDArray[np.bool_], second_right: NDArray[np.bool_], clusters: NDArray[np.int64]
) -> float:
    """Return the p value for two classifiers on images of which some are identical, two-sided.

    Each cluster of identical images counts once, by its difference: Obuchowski's test as modified by Yang, Sun and
    Hardin 2010. Where no images are identical, ``mcnemar`` is used; with fewer than ten clusters that differ, all
    signs of their differences are tried.

    Args:
        first_right: whether the first classifier is right, bool ``(N,)``.
        second_right: likewise of the second one.
        clusters: number of the cluster of each image, int64 ``(N,)``.
    """
    difference = first_right.astype(np.int64) - second_right.astype(np.int64)
    if len(np.unique(clusters)) == len(clusters):
        return mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    sums = np.bincount(clusters, weights=difference).round().astype(np.int64)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    if len(sums) < _FEW:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float((np.abs(signs @ sums) >= abs(int(sums.sum()))).mean())
    return float(chi2.sf(float(sums.sum()) ** 2 / float((sums**2).sum()), df=1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's method, in the order given.

    >>> [round(value, 6) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected, largest = np.empty(len(p_values)), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * float(p_values[place]), 1.0))
        corrected[place] = largest
    values: list[float] = corrected.tolist()
    return values


def add_holm(entries: Sequence[dict[str, Any]]) -> None:
    """Give each entry with ``p`` a ``p_holm``, corrected for the number of entries."""
    for entry, corrected in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
        entry["p_holm"] = corrected
