"""Splits as pure functions of content: a held-out part of the training rows, and the removal of shared images.

No random number generator takes part: rows are ordered by a hash of (seed, group), which is the same on every machine,
for every version of every library, and whatever the order of the rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError, DataError

__all__ = ["drop_overlap", "grouped_stratified_holdout"]


def grouped_stratified_holdout(
    labels: NDArray[np.int64], groups: NDArray[Any], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose a share of the rows: stratified by label, never splitting a group.

    Groups are visited in the order of a hash of (seed, group) and held out while they fit into what each class still
    lacks. A class of two or more rows gives at least one row and keeps at least one, where its groups allow it.

    Args:
        labels: int64 ``(N,)``, not negative.
        groups: ``(N, ...)``: rows with equal values stay together; content digests uint8 ``(N, 16)``, names, numbers.
        fraction: share of each class to hold out, above 0 and below 1.
        seed: chooses which groups.

    Returns:
        bool ``(N,)``: true for the held-out rows. Of a class, at most ``fraction`` of its rows, rounded; a group that
        does not fit is passed over, so that a class of large groups only may give fewer.

    Raises:
        ConfigError: if ``fraction`` is not between 0 and 1.
        DataError: if labels and groups differ in length.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the holdout fraction must be above 0 and below 1, not {fraction:g}")
    if len(labels) != len(groups):
        raise DataError(f"holdout: {len(labels)} labels but {len(groups)} groups")
    members: dict[bytes, list[int]] = {}
    for row, name in enumerate(_group_names(groups)):
        members.setdefault(name, []).append(row)
    lacking = [_share(count, fraction) for count in np.bincount(labels).tolist()] if len(labels) else []
    label_of = labels.tolist()
    held = np.zeros(len(labels), bool)
    for name in sorted(members, key=lambda name: _order_key(seed, name)):
        needs: dict[int, int] = {}
        for row in members[name]:
            needs[label_of[row]] = needs.get(label_of[row], 0) + 1
        if all(lacking[label] >= count for label, count in needs.items()):
            for label, count in needs.items():
                lacking[label] -= count
            held[members[name]] = True
    return held


def _group_names(groups: NDArray[Any]) -> list[bytes]:
    """Return one name per row, the same on machines of either byte order for bytes, strings and whole numbers."""
    if groups.ndim > 1:
        return [row.tobytes() for row in groups]
    return [str(value).encode("utf-8", "surrogatepass") for value in groups.tolist()]


def _share(count: int, fraction: float) -> int:
    if count < 2:
        return 0
    return min(max(math.floor(count * fraction + 0.5), 1), count - 1)


def _order_key(seed: int, name: bytes) -> bytes:
    return hashlib.blake2b(b"%d:" % seed + name, digest_size=16).digest()


def drop_overlap(
    splits: NDArray[np.str_],
    digests: NDArray[np.uint8],
    drop_from: str = "train",
    against: Sequence[str] = ("val", "test"),
) -> tuple[NDArray[np.str_], int]:
    """Take rows out of one split whose image also stands, pixel for pixel, in another.

    Args:
        splits: ``(N,)`` strings.
        digests: uint8 ``(N, D)``: content hash of each image.
        drop_from: the split that loses rows.
        against: the splits that keep theirs.

    Returns:
        The new splits, ``""`` for the rows taken out, and how many these are. The argument is not changed.
    """
    kept_elsewhere = {digest.tobytes() for digest in digests[np.isin(splits, list(against))]}
    rows = [row for row in np.flatnonzero(splits == drop_from).tolist() if digests[row].tobytes() in kept_elsewhere]
    changed = splits.copy()
    changed[rows] = ""
    return changed, len(rows)
