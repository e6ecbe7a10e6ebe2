"""Statistics of repeated training: mean and interval of the runs of an arm, and of the differences between two arms.

Pure functions of plain numbers. A *run* is one training of an arm with one seed and, in cross-validation, one fold.
A number that is not defined is ``None``: one run has no deviation.

Runs of one fold are trained and scored on the same images, so that they are not independent: they are averaged, and
each fold counts once. The folds, too, share training images, and the usual t-test would find differences where there
are none; intervals and p-values over folds carry the correction of Nadeau and Bengio 2003, "Inference for the
Generalization Error" (doi:10.1023/A:1024068626366): the variance of the mean is ``(1/J + n_test/n_train) s^2`` instead
of ``s^2 / J``. Without folds the intervals show how much the seed matters on these images; they do not show how much
the scores would change with other images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

__all__ = ["Key", "Spread", "difference", "spread"]

Key = tuple[int, int]
"""Fold and seed of a run; the fold is 0 where there are none."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean, deviation and interval of one number over several runs.

    Attributes:
        runs: how many of them have it.
        mean: over the folds, each being the mean of its runs; without folds, over the runs. ``None`` without a run.
        std: deviation of the runs (n - 1); ``None`` for fewer than two.
        low: lower end of the 95 % t-interval of the mean; ``None`` for fewer than two folds, or seeds where there are
            no folds, and where all values are equal, which tells nothing of those of other runs.
        high: upper end.
        p: two-sided p-value of the mean being 0; ``None`` like the interval.
        above: runs whose value is above 0.
        below: runs whose value is below 0.
    """

    runs: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    p: float | None = None
    above: int = 0
    below: int = 0


def spread(values: Mapping[Key, float | None], folds: int | None = None) -> Spread:
    """Return mean, deviation and interval of one number over runs.

    Example:
        >>> found = spread({(0, seed): value for seed, value in enumerate([0.60, 0.62, 0.64])})
        >>> found.runs, round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (3, 0.62, 0.57, 0.67)

    Args:
        values: of each run; runs where it is ``None`` or NaN are left out.
        folds: number of folds that the data was divided into, ``None`` for runs that differ in their seed alone.
    """
    known = {key: value for key, value in values.items() if value is not None and not math.isnan(value)}
    if not known:
        return Spread(0, None, None, None, None)
    parts: dict[int, list[float]] = {}
    for place, ((fold, _), value) in enumerate(sorted(known.items())):
        parts.setdefault(place if folds is None else fold, []).append(value)
    units = [math.fsum(part) / len(part) for part in parts.values()]
    mean = math.fsum(units) / len(units)
    low, high, p = _t_interval(units, 0.0 if folds is None else 1.0 / (folds - 1))
    above, below = (sum(sign * value > 0 for value in known.values()) for sign in (1, -1))
    return Spread(len(known), mean, _deviation(list(known.values())), low, high, p, above, below)


def difference(
    values: Mapping[Key, float | None], reference: Mapping[Key, float | None], folds: int | None = None
) -> Spread:
    """Return the ``spread`` of an arm minus another, over the runs of a fold and a seed that both have."""
    paired: dict[Key, float | None] = {}
    for key in values.keys() & reference.keys():
        one, other = values[key], reference[key]
        paired[key] = None if one is None or other is None else one - other
    return spread(paired, folds)


def _deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation (n - 1), ``None`` for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _t_interval(units: Sequence[float], ratio: float) -> tuple[float | None, float | None, float | None]:
    """Return both ends of the 95 % interval of the mean of independent values, and the p-value of the mean being 0.

    The ratio is the number of rows that a value was scored on by those it was trained on; 0 for no correction.
    """
    std = _deviation(units)
    if std is None:
        return None, None, None
    mean, freedom = math.fsum(units) / len(units), len(units) - 1
    error = std * math.sqrt(1.0 / len(units) + ratio)
    if error == 0:
        return None, None, None
    half = float(stdtrit(freedom, (1.0 + CONFIDENCE) / 2)) * error
    return mean - half, mean + half, 2.0 * float(stdtr(freedom, -abs(mean) / error))
