"""Rows that must not be divided between splits: the same person, the same image, nearly the same image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.near_duplicates import CORRELATION, MAX_DISTANCE, components, near_duplicates
from fer_lightning.data.splitting.splits import group_digests
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.data.table.samples import SamplesTable

__all__ = ["linked_groups"]

_FORMAT = 1  # raise it whenever the same thumbnails would give other pairs


def linked_groups(table: SamplesTable, near: bool = True, cache_dir: Path | None = None) -> NDArray[np.uint8]:
    """Return a name for each row's group: rows of one name must not be divided between splits.

    Rows are linked that show the same image, belong to the same ``subject``, or are parent and child (``parent``), and
    with ``near`` those that show nearly the same image; links chain.

    Args:
        table: the samples.
        near: whether near-duplicates are linked, for which the table needs thumbnails.
        cache_dir: where the found pairs are kept; ``None`` for the user's cache folder.

    Returns:
        uint8 ``(N, 16)``: the smallest content hash in the group.
    """
    columns: list[NDArray[Any]] = [table.digests]
    pairs = []
    if "subject" in table.columns:
        columns.append(table.columns["subject"])
    if "parent" in table.columns:
        columns.append(table.columns["parent"])  # children of one parent, even where that is not in the table
        pairs.append(_children(table.files, table.columns["parent"]))
    if near and table.thumbnails is not None:
        pairs.append(_near_pairs(table.thumbnails, cache_dir))
    return group_digests(table.digests, components(len(table), columns, pairs))


def _children(files: NDArray[np.str_], parents: NDArray[np.str_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that have a parent in the table, and the rows of their parents."""
    row_of = {name: row for row, name in enumerate(files.tolist())}
    found = [(row, row_of[name]) for row, name in enumerate(parents.tolist()) if name and name in row_of]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _near_pairs(thumbnails: NDArray[np.uint8], cache_dir: Path | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of near-duplicates, from the cache if they were looked for before."""
    digest = hashlib.blake2b(np.ascontiguousarray(thumbnails).data, digest_size=16).hexdigest()

    def build() -> dict[str, NDArray[Any]]:
        found = near_duplicates(thumbnails)
        return {"first": found.first, "second": found.second}

    pairs = cached_arrays(f"near-v{_FORMAT}-{CORRELATION}-{MAX_DISTANCE}-{digest}", build, cache_dir)
    return pairs["first"], pairs["second"]
