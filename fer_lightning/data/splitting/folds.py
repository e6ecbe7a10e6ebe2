"""Cross-validation: the training rows in k parts, each of which is held out once.

Rows are divided by a hash of (seed, content), as in ``splits``: the same folds on every machine, in every run and
whatever the order of the rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.links import linked_groups
from fer_lightning.data.splitting.near_duplicates import thumbnails
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.randomness import order_key

__all__ = ["assign_folds", "check_folds", "fold_splits", "linked_names"]

_FORMAT = 1  # raise it whenever the same images would give other thumbnails


def check_folds(folds: int | None, fold: int, fold_seed: int = 0) -> None:
    """Raise a ConfigError if ``folds`` is below 2, ``fold`` is not one of them, or is given without ``folds``."""
    if folds is not None and folds < 2:
        raise ConfigError(f"data.folds must be at least 2, or null for none, not {folds}")
    if folds is None and (fold or fold_seed):
        given = f"data.fold {fold}" if fold else f"data.fold_seed {fold_seed}"
        raise ConfigError(f"{given} needs data.folds, the number of folds")
    if folds is not None and not 0 <= fold < folds:
        raise ConfigError(f"data.fold must be 0 to {folds - 1} for {folds} folds, not {fold}")


def assign_folds(labels: NDArray[np.int64], groups: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """Divide rows into folds: stratified by label, never splitting a group.

    Groups are visited from the largest to the smallest, equal ones in the order of a hash of (seed, group); each goes
    to the fold that has the smallest share of its classes so far, of equal ones to that with the fewest rows. The
    numbers of rows of a class in two folds differ by the rows of that class in one group at most, where all rows of a
    group are of one class.

    Args:
        labels: int64 ``(N,)``, not negative.
        groups: uint8 ``(N, D)``: rows with equal values stay together.
        folds: number of folds, at least 2.
        seed: chooses which groups.

    Returns:
        int64 ``(N,)``: the fold of each row, from 0.

    Raises:
        ConfigError: if there are fewer than 2 folds.
        DataError: if labels and groups differ in length, or a fold would be empty.
    """
    check_folds(folds, 0)
    if len(labels) != len(groups):
        raise DataError(f"folds: {len(labels)} labels but {len(groups)} groups")
    members: dict[bytes, list[int]] = {}
    for row, name in enumerate(groups):
        members.setdefault(name.tobytes(), []).append(row)
    if len(members) < folds:
        raise DataError(
            f"data.folds {folds}: the training images fall into {len(members)} groups that must stay together (same "
            "subject, identical or nearly identical images); ask for fewer folds"
        )
    weight = 1.0 / np.maximum(np.bincount(labels), 1)  # a rare class counts as much as a common one
    filled = np.zeros((folds, len(weight)), np.int64)
    assigned = np.empty(len(labels), np.int64)
    for name in sorted(members, key=lambda name: (-len(members[name]), order_key(seed, name))):
        rows = members[name]
        counts = np.bincount(labels[rows], minlength=len(weight))
        load = np.round(filled @ (counts * weight), 9)  # sums in another order must not break a tie
        fold = min(range(folds), key=lambda place: (load[place], filled[place].sum(), place))
        filled[fold] += counts
        assigned[rows] = fold
    return assigned


def fold_splits(
    table: SamplesTable,
    folds: int,
    fold: int,
    candidates: NDArray[np.bool_],
    seed: int = 0,
    near: bool = True,
    cache_dir: Path | None = None,
) -> NDArray[np.str_]:
    """Hold one fold of the training rows out for validation.

    A validation part that the table has is not used, neither to train nor to validate: over all folds, each training
    row is validated on once. Rows that must stay together are those of ``linked_groups``. Training rows that are
    linked to a test row are never held out, as the fold chooses the checkpoint that is tested; they stay in training,
    from which ``drop_overlap`` removes identical ones.

    Args:
        table: the samples, splits assigned.
        folds: number of folds.
        fold: the one to hold out, from 0.
        candidates: bool ``(N,)``: training rows that may be held out. Others (synthetic images, images of another set)
            are for training only, and leave it while a row that they are linked to is held out. They have no influence
            on the folds, so that arms with and without them are validated on the same rows.
        seed: chooses which rows.
        near: whether near-duplicates are linked; images are looked at once for it.
        cache_dir: where what was found is kept; ``None`` for the user's cache folder.

    Returns:
        The new splits ``(N,)``, ``""`` for rows that no part uses.

    Raises:
        ConfigError: for a wrong number.
        DataError: if there are fewer groups than folds.
    """
    check_folds(folds, fold, seed)
    changed = np.where(table.splits == "val", "", table.splits).astype("<U5")
    candidates = candidates & (changed == "train")
    rows = np.flatnonzero(candidates | (changed == "test"))
    names = linked_names(table.select(rows), near, cache_dir)
    tested = np.unique(names[changed[rows] == "test"])
    free = candidates[rows] & ~np.isin(names, tested)
    groups = names[free].view(np.uint8).reshape(int(free.sum()), -1)
    held = rows[free][assign_folds(table.labels[rows[free]], groups, folds, seed) == fold]
    changed[held] = "val"
    if (others := (changed == "train") & ~candidates).any():
        names = linked_names(table, near, cache_dir)
        changed[others & np.isin(names, np.unique(names[held]))] = ""
    return changed


def linked_names(table: SamplesTable, near: bool, cache_dir: Path | None) -> NDArray[np.void]:
    """Return the group of each row as one value, ``(N,)``; arguments and groups are those of ``linked_groups``.

    A table without thumbnails gets cached ones, for which all its images are looked at once.
    """
    if near and table.thumbnails is None:
        content = hashlib.blake2b(table.digests.tobytes(), digest_size=16).hexdigest()
        made = cached_arrays(
            f"thumbnails-v{_FORMAT}-{content}", lambda: {"thumbnails": thumbnails(table.images)}, cache_dir
        )
        table = replace(table, thumbnails=made["thumbnails"])
    groups = np.ascontiguousarray(linked_groups(table, near=near, cache_dir=cache_dir))
    return groups.view(f"V{groups.shape[1]}")[:, 0]
