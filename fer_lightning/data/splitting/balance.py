"""Balance between the classes of a training split: fewer rows of the common ones, or more draws of the rare ones.

Pure functions: which rows stay is chosen by a hash of (seed, content), as in ``splits``, and how often each class
is drawn follows from the counts. ``QuotaSampler`` turns these numbers into an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_lightning.class_weights import class_factors, class_weights
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.randomness import order_key

__all__ = ["Balance", "cap_classes", "draws_per_class", "largest_remainder", "parse_balance"]

_EXPECTED = "none, cap:<n> (at most n images of each class, for example cap:5000), oversample or weighted"


@dataclass(frozen=True)
class Balance:
    """What is done about unequal classes.

    Attributes:
        kind: ``none``; ``cap``: at most ``limit`` rows of each class; ``oversample``: every class is drawn as often as
            the largest; ``weighted``: every class is drawn equally often, in an epoch of unchanged length.
        limit: rows of a class, for ``cap`` alone.
    """

    kind: Literal["none", "cap", "oversample", "weighted"] = "none"
    limit: int | None = None

    @property
    def resamples(self) -> bool:
        """Whether an epoch is something else than every row once."""
        return self.kind in ("oversample", "weighted")


def parse_balance(text: str) -> Balance:
    """Read ``none``, ``cap:<n>``, ``oversample`` or ``weighted``; raise a ConfigError for anything else."""
    kind, colon, number = text.strip().lower().partition(":")
    if not colon and kind == "none":
        return Balance()
    if not colon and kind == "oversample":
        return Balance("oversample")
    if not colon and kind == "weighted":
        return Balance("weighted")
    number = number.strip()
    if kind == "cap" and number.isascii() and number.isdigit() and int(number) > 0:
        return Balance("cap", int(number))
    raise ConfigError(f"unknown balance '{text}', expected {_EXPECTED}")


def cap_classes(labels: NDArray[np.int64], digests: NDArray[np.uint8], n: int, seed: int) -> NDArray[np.bool_]:
    """Choose at most ``n`` rows of each class: ``cap:<n>``, and the subset of a small experiment (100 of each class).

    Rows come in the order of a hash of (seed, digest), on every machine and whatever their order in the table: the
    images chosen for a smaller ``n`` are among those for a larger one. A second copy of an image is taken only when its
    class has no new image left.

    Args:
        labels: int64 ``(N,)``, not negative.
        digests: uint8 ``(N, D)``: content hash of each image.
        n: rows of each class, at least 1. A class that has no more keeps all.
        seed: chooses which rows.

    Returns:
        bool ``(N,)``: true for the rows that stay.

    Raises:
        ConfigError: if ``n`` is less than 1.
        DataError: if labels and digests differ in length.
    """
    if n < 1:
        raise ConfigError(f"the number of images of each class must be at least 1, not {n}")
    if len(labels) != len(digests):
        raise DataError(f"balance: {len(labels)} labels but {len(digests)} digests")
    hashes = _hashes(digests, seed)
    order = np.lexsort((hashes, labels))
    copy_number = np.empty(len(labels), np.int64)
    copy_number[order] = _place_in_run(labels[order], hashes[order])
    order = np.lexsort((hashes, copy_number, labels))
    keep = np.zeros(len(labels), bool)
    keep[order] = _place_in_run(labels[order]) < n
    return keep


def _hashes(digests: NDArray[np.uint8], seed: int) -> NDArray[np.uint64]:
    """Return a hash of (seed, digest) for each row; 64 bits tell a million images apart."""
    joined = b"".join(order_key(seed, row.tobytes(), size=8) for row in digests)
    return np.frombuffer(joined, ">u8").astype(np.uint64)


def _place_in_run(*columns: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return each row's distance from the first of the neighbours that are equal to it in all columns."""
    rows = np.arange(len(columns[0]))
    starts = np.zeros(len(rows), bool)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    place: NDArray[np.int64] = rows - np.maximum.accumulate(np.where(starts, rows, 0))
    return place


def draws_per_class(
    counts: Mapping[str, int], balance: Balance, multipliers: Mapping[str, float] | None = None
) -> dict[str, int]:
    """Return how many draws of an epoch each class gets, by name, in the order of ``counts``.

    - ``none`` and ``cap`` (whose rows ``cap_classes`` has chosen already): the count times its multiplier, rounded.
    - ``oversample``: the largest count times its multiplier, rounded.
    - ``weighted``: the draws sum to the number of rows; shares are proportional to ``n`` times the inverse-frequency
      weight, that is equal, times the multiplier; whole numbers by largest remainder.

    A class without rows gets no draws.

    Args:
        counts: number of training rows by class name, in label order.
        balance: see ``Balance``.
        multipliers: factor by class name, as for ``class_weights``.

    Raises:
        ConfigError: for a multiplier that ``class_weights`` would refuse, or if no draw is left.
    """
    rows = np.array(list(counts.values()), np.int64)
    factors = class_factors(list(counts), multipliers)
    if not (rows * factors > 0).any():
        raise ConfigError(f"balance: no training image is left to draw (counts {dict(counts)}, factors {factors})")
    if balance.kind == "weighted":
        weights = np.array(list(class_weights(counts, "inverse", multipliers=multipliers).values()))
        draws = largest_remainder(rows * weights, int(rows.sum()))
    else:
        full = np.where(rows > 0, rows.max(), 0) if balance.kind == "oversample" else rows
        draws = np.floor(full * factors + 0.5).astype(np.int64)
    if not draws.any():
        raise ConfigError(f"balance: the multipliers {multipliers} leave no image to draw; use larger ones")
    return dict(zip(counts, draws.tolist(), strict=True))


def largest_remainder(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Divide ``total`` in proportion to ``shares``, in whole numbers that are less than 1 off and sum to it exactly.

    Shares are float64 ``(K,)``, 0 or more, not all 0. Returned is int64 ``(K,)``; of equal remainders the first ones
    are rounded up.
    """
    # Rounded, because remainders that differ in their last bit must count as equal.
    exact = np.round(total * (shares / shares.sum()), 9)
    whole: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    lacking = total - int(whole.sum())
    whole[np.argsort(-np.round(exact - whole, 9), kind="stable")[:lacking]] += 1
    return whole
