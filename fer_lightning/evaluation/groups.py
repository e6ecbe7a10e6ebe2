"""Scores of groups of people, and whether their differences are more than chance makes.

The largest gap between groups is never 0, and an interval around it excludes 0 almost always: it is compared with the
gaps that arise when the groups are shuffled among the images of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.evaluation.resampling import Interval, matrix_scores
from fer_lightning.metrics import wilson_interval

__all__ = [
    "FEWEST_OF_A_CLASS",
    "Gap",
    "GroupScores",
    "class_recalls",
    "equalised_odds",
    "group_matrices",
    "group_scores",
    "largest_gap",
    "minus_rest",
    "shuffled_matrices",
    "simultaneous",
    "standardised",
    "too_few",
]

WIDEST = 0.10
"""Half width of an accuracy's interval above which a group has too few images to say anything."""
FEWEST_OF_A_CLASS = 10
"""Images of a class below which a group's macro F1, and its recall of that class, say nothing."""


@dataclass(frozen=True)
class GroupScores:
    """Scores of one group; intervals are 95 % Wilson intervals.

    Attributes:
        name: of the group.
        images: in it.
        accuracy: with ``accuracy_low`` and ``accuracy_high``.
        f1_macro: mean F1 of its classes.
        standardised: accuracy as it would be with the class mix of all images.
        recall: by class, NaN without images, with ``recall_low`` and ``recall_high``.
        support: images of each class.
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
    recall_low: tuple[float, ...]
    recall_high: tuple[float, ...]
    support: tuple[int, ...]
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
        score: name of the score, where there are several.
    """

    observed: float
    expected: float
    upper: float
    p: float
    best: str
    worst: str
    score: str = ""


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
        support = matrices[place].sum(axis=1).tolist()
        ends = [wilson_interval(*pair) for pair in zip(np.diagonal(matrices[place]).tolist(), support, strict=True)]
        found.append(
            GroupScores(
                name,
                images,
                float(scores["accuracy"][place]),
                *wilson_interval(hits, images),
                float(scores["f1_macro"][place]),
                float(mixed[place]),
                tuple(scores["recall"][place].tolist()),
                tuple(low for low, _ in ends),
                tuple(high for _, high in ends),
                tuple(support),
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


def class_recalls(matrices: NDArray[np.int64], fewest: int = 1) -> NDArray[np.float64]:
    """Return the recall of each class in each group, float64 ``(..., G, K)``, NaN with fewer images than ``fewest``."""
    support = matrices.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.diagonal(matrices, axis1=-2, axis2=-1) / support
    known: NDArray[np.float64] = np.where(support >= fewest, recall, np.nan)
    return known


def standardised(matrices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each group's accuracy with the class mix of all groups, float64 ``(..., G)``.

    Groups differ in which expressions they show; a gap in plain accuracy may be nothing but that. Classes that a group
    lacks are left out of its mean.
    """
    return _weighted(class_recalls(matrices), matrices.sum(axis=(-3, -1))[..., None, :])


def _weighted(values: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the means over the last axis without NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = (np.where(known, values, 0) * weights).sum(-1) / (known * weights).sum(-1)
    return mean


def minus_rest(matrices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each group's accuracy minus that of all others together, at the class mix of all, float64 ``(..., G)``.

    Classes that the group or the others lack are left out.
    """
    total = matrices.sum(axis=-3, keepdims=True)
    difference = class_recalls(matrices) - class_recalls(total - matrices)
    return _weighted(difference, total.sum(axis=-1))


def equalised_odds(matrices: NDArray[np.int64], fewest: int = 1) -> NDArray[np.float64]:
    """Return the rates whose largest difference between groups is the equalised-odds difference, ``(..., G, 2 K)``.

    For several classes: how often each class is given to images of it, and how often to images of others. NaN where a
    group has fewer images of a class, or of others, than ``fewest``.
    """
    hits, given = np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(axis=-2)
    others = matrices.sum(axis=(-2, -1))[..., None] - matrices.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        false = np.where(others >= fewest, (given - hits) / others, np.nan)
    return np.concatenate([class_recalls(matrices, fewest), false], axis=-1)


def shuffled_matrices(
    group: NDArray[np.int64],
    target: NDArray[np.int64],
    preds: NDArray[np.int64],
    clusters: NDArray[np.int64],
    shape: tuple[int, int],
    draws: int = 2_000,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return the confusion matrices of groups that were shuffled, int64 ``(draws, G, K, K)``.

    The groups are shuffled among the images of each true class, identical images as one, so that neither the class mix
    nor duplicates make a gap.

    Args:
        group: number of the group of each image, int64 ``(N,)``; -1 for none.
        target: true labels, int64 ``(N,)``.
        preds: int64 ``(N,)``.
        clusters: number of the cluster of identical images that each belongs to, int64 ``(N,)``.
        shape: number of groups and of classes.
        draws: shuffles.
        seed: of the shuffles.
    """
    inside = np.flatnonzero(group >= 0)
    keys, unit = np.unique(np.stack([each[inside] for each in (clusters, target, group)]), axis=1, return_inverse=True)
    unit, (_, labels, member) = unit.reshape(-1), keys
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rng, own_target, own_preds = np.random.default_rng(seed), target[inside], preds[inside]
    found = np.empty((draws, shape[0], shape[1], shape[1]), np.int64)
    for draw in range(draws):
        shuffled = member.copy()
        for each in rows:
            shuffled[each] = member[rng.permutation(each)]
        found[draw] = group_matrices(shuffled[unit], own_target, own_preds, *shape)
    return found


def largest_gap(
    scores: NDArray[np.float64], shuffled: NDArray[np.float64], names: Sequence[str], of: Sequence[str] = ("",)
) -> Gap | None:
    """Return the largest gap between groups and its p value; ``None`` if no score is known of two groups.

    Args:
        scores: of each group, float64 ``(G,)``, or several, ``(G, S)``; NaN is left out, in shuffled groups, too.
        shuffled: the same of shuffled groups, ``(draws, G)`` or ``(draws, G, S)``.
        names: of the groups.
        of: names of the scores, where there are several.
    """
    table, drawn = scores.reshape(len(names), -1), shuffled.reshape(len(shuffled), len(names), -1)
    enough = (~np.isnan(table)).sum(axis=0) > 1
    if not enough.any():
        return None
    of = [name for name, some in zip(of, enough, strict=True) if some]
    drawn = np.where(np.isnan(table), np.nan, drawn)[..., enough]
    table = table[:, enough]
    ranges = np.nanmax(table, axis=0) - np.nanmin(table, axis=0)
    gaps = (np.nanmax(drawn, axis=1) - np.nanmin(drawn, axis=1)).max(axis=1)
    column = int(ranges.argmax())
    observed, own = float(ranges[column]), table[:, column]
    p = (1 + int((gaps >= observed - 1e-12).sum())) / (len(gaps) + 1)
    median, upper = np.quantile(gaps, [0.5, 0.95]).tolist()
    return Gap(observed, median, upper, p, names[int(np.nanargmax(own))], names[int(np.nanargmin(own))], of[column])


def simultaneous(
    values: NDArray[np.float64], resamples: NDArray[np.float64], level: float = 0.95
) -> tuple[list[Interval], list[float]]:
    """Return intervals that hold for all values at once, and the p value of each being 0, corrected for their number.

    All intervals are as many of their standard errors wide, so that in 95 % of the resamples none is left (the
    bootstrap's max-t quantile).

    Args:
        values: float64 ``(G,)``.
        resamples: of them, float64 ``(draws, G)``.
        level: share of the resamples.
    """
    errors = np.nanstd(resamples, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = np.nan_to_num(np.abs(resamples - values) / errors).max(axis=1)
        ratios = np.abs(values) / errors
    width = float(np.quantile(largest, level))
    intervals = [
        Interval(value, value - width * error, value + width * error)
        for value, error in zip(values.tolist(), errors.tolist(), strict=True)
    ]
    p_values = [(1 + int((largest >= ratio).sum())) / (len(largest) + 1) for ratio in np.nan_to_num(ratios).tolist()]
    return intervals, p_values
