"""Scores of groups of people, and whether their differences are more than chance makes.

The largest gap between groups is never 0, and an interval around it excludes 0 almost always: it is compared with the
gaps that arise when the groups are shuffled among the images of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.evaluation.resampling import matrix_scores
from fer_lightning.metrics import wilson_interval

__all__ = ["Gap", "GroupScores", "group_matrices", "group_scores", "largest_gap", "standardised", "too_few"]

WIDEST = 0.10
"""Half width of an accuracy's interval above which a group has too few images to say anything."""
FEWEST_OF_A_CLASS = 10
"""Images of a class below which a group's macro F1 says nothing."""


@dataclass(frozen=True)
class GroupScores:
    """Scores of one group.

    Attributes:
        name: of the group.
        images: in it.
        accuracy: with ``accuracy_low`` and ``accuracy_high``, its 95 % Wilson interval.
        f1_macro: mean F1 of its classes.
        standardised: accuracy as it would be with the class mix of all images.
        recall: by class, NaN without images.
        too_few: what it has too few images for: nothing, ``f1`` or ``accuracy``.
    """

    name: str
    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    f1_macro: float
    standardised: float
    recall: tuple[float, ...]
    too_few: str


@dataclass(frozen=True)
class Gap:
    """The largest difference between groups beside what chance makes of it.

    Attributes:
        observed: largest minus least score.
        expected: median of the gaps by chance.
        upper: 95 % of the gaps by chance lie below.
        p: share of shuffled gaps at least as large, with the observed one counted among them.
        best: name of the group with the largest score.
        worst: name of the group with the least.
    """

    observed: float
    expected: float
    upper: float
    p: float
    best: str
    worst: str


def group_matrices(
    group: NDArray[np.int64], target: NDArray[np.int64], preds: NDArray[np.int64], groups: int, classes: int
) -> NDArray[np.int64]:
    """Return the confusion matrix of each group, int64 ``(G, K, K)``, rows true; ``group`` -1 belongs to none."""
    inside = group >= 0
    cells = (group[inside] * classes + target[inside]) * classes + preds[inside]
    counts = np.bincount(cells, minlength=groups * classes * classes)
    return counts.reshape(groups, classes, classes)


def group_scores(matrices: NDArray[np.int64], names: Sequence[str]) -> list[GroupScores]:
    """Return the scores of each group from their confusion matrices, int64 ``(G, K, K)``."""
    scores, mixed = matrix_scores(matrices), standardised(matrices)
    found = []
    for place, name in enumerate(names):
        images, hits = int(matrices[place].sum()), int(np.trace(matrices[place]))
        low, high = wilson_interval(hits, images)
        found.append(
            GroupScores(
                name,
                images,
                float(scores["accuracy"][place]),
                low,
                high,
                float(scores["f1_macro"][place]),
                float(mixed[place]),
                tuple(scores["recall"][place].tolist()),
                too_few(matrices[place]),
            )
        )
    return found


def too_few(matrix: NDArray[np.int64]) -> str:
    """Return what a group, by its confusion matrix, has too few images for: ``accuracy``, ``f1`` or nothing."""
    images = int(matrix.sum())
    low, high = wilson_interval(int(np.trace(matrix)), images)
    if not images or (high - low) / 2 > WIDEST:
        return "accuracy"
    return "f1" if (matrix.sum(axis=1) < FEWEST_OF_A_CLASS).any() else ""


def standardised(matrices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each group's accuracy with the class mix of all images, float64 ``(G,)``.

    Groups differ in which expressions they show; a gap in plain accuracy may be nothing but that. Classes that a group
    lacks are left out of its mean.
    """
    support = matrices.sum(axis=2)
    shares = support.sum(axis=0) / support.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.diagonal(matrices, axis1=1, axis2=2) / support
        known = ~np.isnan(recall)
        mean: NDArray[np.float64] = (np.where(known, recall, 0) * shares).sum(axis=1) / (known * shares).sum(axis=1)
    return mean


def largest_gap(
    group: NDArray[np.int64],
    target: NDArray[np.int64],
    right: NDArray[np.bool_],
    names: Sequence[str],
    clusters: NDArray[np.int64] | None = None,
    draws: int = 2_000,
    seed: int = 0,
) -> Gap:
    """Return the largest gap in accuracy between groups, standardised to one class mix, and its p value.

    The groups are shuffled among the images of each true class, clusters of identical images as one, so that neither
    the class mix nor duplicates make a gap.

    Args:
        group: number of the group of each image, int64 ``(N,)``; -1 for none.
        target: true labels, int64 ``(N,)``.
        right: whether the classifier is right, bool ``(N,)``.
        names: of the groups.
        clusters: number of the cluster of each image, int64 ``(N,)``; ``None`` if no images are identical.
        draws: shuffles.
        seed: of the shuffles.
    """
    inside = group >= 0
    group, target, right = group[inside], target[inside], right[inside]
    cluster = np.arange(len(group)) if clusters is None else clusters[inside]
    # One row for each cluster of a class: how many of its images, and how many right ones.
    keys, place = np.unique(np.stack([cluster, target, group]), axis=1, return_inverse=True)
    place = place.reshape(-1)
    images, hits = np.bincount(place), np.bincount(place, weights=right)
    labels, member = keys[1], keys[2]
    classes = int(target.max()) + 1
    rows = [np.flatnonzero(labels == label) for label in range(classes)]
    rng = np.random.default_rng(seed)

    def scores(assigned: NDArray[np.int64]) -> NDArray[np.float64]:
        cells = assigned * classes + labels
        size = len(names) * classes
        support = np.bincount(cells, weights=images, minlength=size).reshape(len(names), classes)
        correct = np.bincount(cells, weights=hits, minlength=size).reshape(len(names), classes)
        shares = support.sum(axis=0) / support.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = correct / support
            known = ~np.isnan(recall)
            mean: NDArray[np.float64] = (np.where(known, recall, 0) * shares).sum(axis=1) / (known * shares).sum(axis=1)
        return mean

    own = scores(member)
    observed = float(np.nanmax(own) - np.nanmin(own))
    gaps = np.empty(draws)
    for draw in range(draws):
        shuffled = member.copy()
        for each in rows:
            shuffled[each] = member[rng.permutation(each)]
        found = scores(shuffled)
        gaps[draw] = np.nanmax(found) - np.nanmin(found)
    p = (1 + int((gaps >= observed - 1e-12).sum())) / (draws + 1)
    median, upper = np.quantile(gaps, [0.5, 0.95]).tolist()
    return Gap(observed, median, upper, p, names[int(np.nanargmax(own))], names[int(np.nanargmin(own))])
