"""Splits as pure functions of content: a held-out part of the training rows, and the removal of shared images.

No random number generator takes part: rows are ordered by a hash of (seed, group), which is the same on every machine,
for every version of every library, and whatever the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.randomness import order_key

__all__ = [
    "check_splits",
    "complete_splits",
    "drop_overlap",
    "group_digests",
    "grouped_holdout",
    "grouped_stratified_holdout",
    "missing_splits",
]

_STAGE_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
_ATTEMPTS = 20  # orders in which groups are visited


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
    wanted = [_share(count, fraction) for count in np.bincount(labels).tolist()] if len(labels) else []
    return grouped_holdout(labels, groups, wanted, seed)


def grouped_holdout(
    labels: NDArray[np.int64], groups: NDArray[Any], wanted: Sequence[int], seed: int
) -> NDArray[np.bool_]:
    """Choose at most so many rows of each class (``wanted``, by label), never splitting a group.

    Arguments and result are those of ``grouped_stratified_holdout``.

    Raises:
        DataError: if labels and groups differ in length.
    """
    if len(labels) != len(groups):
        raise DataError(f"holdout: {len(labels)} labels but {len(groups)} groups")
    members = _members(groups)
    lacking = list(wanted)
    label_of = labels.tolist()
    held = np.zeros(len(labels), bool)
    for name in sorted(members, key=lambda name: order_key(seed, name)):
        needs: dict[int, int] = {}
        for row in members[name]:
            needs[label_of[row]] = needs.get(label_of[row], 0) + 1
        if all(lacking[label] >= count for label, count in needs.items()):
            for label, count in needs.items():
                lacking[label] -= count
            held[members[name]] = True
    return held


def _members(groups: NDArray[Any]) -> dict[bytes, list[int]]:
    """Return the rows of each group, by its name."""
    members: dict[bytes, list[int]] = {}
    for row, name in enumerate(_group_names(groups)):
        members.setdefault(name, []).append(row)
    return members


def _group_names(groups: NDArray[Any]) -> list[bytes]:
    """Return one name per row, the same on machines of either byte order for bytes, strings and whole numbers."""
    if groups.ndim > 1:
        return [row.tobytes() for row in groups]
    return [str(value).encode("utf-8", "surrogatepass") for value in groups.tolist()]


def _share(count: int, fraction: float) -> int:
    if count < 2:
        return 0
    return min(max(math.floor(count * fraction + 0.5), 1), count - 1)


def drop_overlap(
    splits: NDArray[np.str_],
    digests: NDArray[np.uint8],
    drop_from: str = "train",
    against: Sequence[str] = ("val", "test"),
) -> tuple[NDArray[np.str_], int]:
    """Take rows out of one split whose image also stands, pixel for pixel, in another.

    Splits are ``(N,)`` strings, digests uint8 ``(N, D)``, the content hash of each image; ``drop_from`` loses rows,
    ``against`` keep theirs. Returned are the new splits, ``""`` for the rows taken out, and how many these are.
    """
    kept_elsewhere = {digest.tobytes() for digest in digests[np.isin(splits, list(against))]}
    rows = [row for row in np.flatnonzero(splits == drop_from).tolist() if digests[row].tobytes() in kept_elsewhere]
    changed = splits.copy()
    changed[rows] = ""
    return changed, len(rows)


def check_splits(
    table: SamplesTable, stage: str, devices: int, owner: str, cures: Mapping[str, str] | None = None
) -> None:
    """Raise a DataError unless each split of a stage (``fit``, ``validate``, ...) has a sample for every device.

    The message names ``owner``, who has the samples, and of ``cures`` the options that make the split which is missing
    out of training images.
    """
    counts = {split: len(table.rows(split)) for split in SPLITS}
    found = ", ".join(f"{split} {count:,}" for split, count in counts.items() if count) or "nothing"
    for split in _STAGE_SPLITS[stage]:
        if not counts[split]:
            cure = (cures or {}).get(split, "") if counts["train"] else ""
            ways = [f"pass {cure} to split it off the training images"] if cure else []
            if split == "test":  # images that a checkpoint was trained on cannot test it
                ways = [f"train with {cure} to set a test part aside"] if cure else []
                ways = ["fer validate scores the validation split", *ways] if counts["val"] else ways
            what = f"{owner}: '{stage}' needs the {split} split, which holds no sample (found: {found})"
            raise DataError("; ".join([what, *ways]))
        if counts[split] < devices:  # one that has no batch would leave the others waiting
            raise DataError(
                f"{owner}: {devices} devices cannot share the {split} split (found: {found}); "
                "pass a smaller --trainer.devices"
            )


def group_digests(digests: NDArray[np.uint8], component: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Name each group of rows by the smallest content hash in it, uint8 ``(N, D)``.

    The name does not depend on the order of the rows, so that the same files give the same split anywhere. Rows with
    equal numbers in ``component``, int64 ``(N,)``, form a group.
    """
    if not len(digests):
        return digests
    order = np.lexsort((*digests.T[::-1], component))  # by group, then by content
    first = np.ones(len(order), bool)
    first[1:] = component[order][1:] != component[order][:-1]
    leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    names = np.empty_like(digests)
    names[order] = digests[leader]
    return names


def missing_splits(
    splits: NDArray[np.str_], val_fraction: float, test_fraction: float, test_per_class: int | None = None
) -> tuple[str, ...]:
    """Return which parts ``complete_splits`` would make, ``test`` before ``val``, with its ConfigErrors."""
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise ConfigError(f"data.{name} must be at least 0 and below 1, not {fraction:g}")
    if test_per_class is not None and test_per_class < 1:
        raise ConfigError(f"data.test_per_class must be at least 1, not {test_per_class}")
    wanted = {"test": test_fraction > 0 or test_per_class is not None, "val": val_fraction > 0}
    return tuple(split for split, is_wanted in wanted.items() if is_wanted and not (splits == split).any())


def complete_splits(
    splits: NDArray[np.str_],
    labels: NDArray[np.int64],
    groups: NDArray[Any],
    *,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    test_per_class: int | None = None,
    seed: int = 0,
    class_names: Sequence[str] = (),
    digests: NDArray[np.uint8] | None = None,
) -> NDArray[np.str_]:
    """Add the splits that a data set does not bring along; those it has stay as they are.

    Where no row has a split, all are training rows to begin with. A test part is taken out first, then a validation
    part, each only where the set has none of its own. Training rows of a group that also stands in one of the set's own
    validation or test parts are never taken: a part that is made shares no group with any other.

    Args:
        splits: ``(N,)`` strings, ``""`` for rows without.
        labels: int64 ``(N,)``.
        groups: ``(N, ...)``: rows with equal values never land in two parts.
        val_fraction: share of the training rows for validation; 0 for none.
        test_fraction: share of the rows for testing; 0 for none.
        test_per_class: so many test rows of each class instead of a fraction. Where whole groups do
            not add up to that number, larger ones are taken, and the rows beyond it are in no part.
        seed: chooses which groups.
        class_names: for messages.
        digests: uint8 ``(N, D)``: content hash of each image, which decides the rows beyond ``test_per_class``;
            ``None`` goes by the order of the rows.

    Returns:
        The new splits, ``""`` for rows that no part uses. The argument is not changed.

    Raises:
        ConfigError: if a fraction is out of range.
        DataError: if a class is too small for ``test_per_class``.
    """
    changed = splits.astype("<U5")
    if not (changed != "").any():
        changed[:] = "train"
    names = np.array([name.hex() for name in _group_names(groups)], np.str_)
    for split in missing_splits(splits, val_fraction, test_fraction, test_per_class):
        taken = names[(changed != "train") & (changed != "")]
        rows = np.flatnonzero((changed == "train") & ~np.isin(names, taken))
        if split == "test" and test_per_class is not None:
            of_rows = np.arange(len(rows)) if digests is None else digests[rows]
            held, spare = _exactly(labels[rows], groups[rows], of_rows, test_per_class, seed, class_names)
            changed[rows[spare]] = ""
        else:
            fraction = test_fraction if split == "test" else val_fraction
            held = grouped_stratified_holdout(labels[rows], groups[rows], fraction, seed)
        changed[rows[held]] = split
    return changed


def _exactly(
    labels: NDArray[np.int64],
    groups: NDArray[Any],
    contents: NDArray[Any],
    count: int,
    seed: int,
    class_names: Sequence[str],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return ``count`` chosen rows of each class, and the surplus rows of their groups, bool ``(N,)`` each."""
    have = np.bincount(labels)
    wanted = np.where(have > 0, count, 0)
    held = grouped_holdout(labels, groups, wanted.tolist(), seed)
    for attempt in range(1, _ATTEMPTS):
        if (np.bincount(labels[held], minlength=len(have)) == wanted).all():
            break
        held = grouped_holdout(labels, groups, wanted.tolist(), seed + (attempt << 40))
    _fill_up(held, labels, groups, wanted, seed)
    left = have - np.bincount(labels[held], minlength=len(have))
    if ((left == 0) & (have > 0)).any():
        label = int(np.argmax((left == 0) & (have > 0)))
        name = class_names[label] if label < len(class_names) else f"class {label}"
        raise DataError(
            f"data.test_per_class {count}: {name} has {have[label]} images, and some must stay for training that are "
            "not linked to these (same subject, near-duplicates); ask for fewer"
        )
    spare = held.copy()
    order = sorted(np.flatnonzero(held).tolist(), key=lambda row: order_key(seed, contents[row].tobytes()))
    for label in np.flatnonzero(wanted).tolist():
        spare[[row for row in order if labels[row] == label][:count]] = False
    for rows in _members(groups).values():
        if spare[rows].all():  # nothing of this group is tested on after all
            held[rows] = spare[rows] = False
    return held & ~spare, spare


def _fill_up(
    held: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[Any], wanted: NDArray[np.int64], seed: int
) -> None:
    """Hold further groups out, in place, while a class lacks rows."""
    lacking = wanted - np.bincount(labels[held], minlength=len(wanted))
    members = _members(groups)
    for name in sorted(members, key=lambda name: order_key(seed, name)):
        rows = members[name]
        if not held[rows[0]] and (lacking[labels[rows]] > 0).any():
            held[rows] = True
            lacking -= np.bincount(labels[rows], minlength=len(wanted))
