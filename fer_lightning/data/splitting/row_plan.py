"""Which rows of a data set a run uses, and for what."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.balance import cap_classes
from fer_lightning.data.splitting.focus_part import set_apart
from fer_lightning.data.splitting.folds import check_folds, fold_splits
from fer_lightning.data.splitting.splits import drop_overlap
from fer_lightning.data.table.manifest_file import paths_to_keep, rows_to_keep
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError
from fer_lightning.text import counted

__all__ = ["RowPlan"]

Made = Callable[[NDArray[np.str_]], Sequence[str]]
"""Which splits are made for rows, by the splits that they have."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowPlan:
    """The options of a data module that take rows out of the splits, or move them to others.

    No row leaves the table: the split of those that are not used is ``""``.

    Attributes:
        keep: table of the only rows to use, or ``None`` for all.
        folds: number of folds, or ``None`` for none.
        fold: the fold that becomes the validation split, from 0.
        fold_seed: chooses which rows are in which fold.
        drop_overlap: leave training images out that also stand in validation or test.
        cap: training rows of each class at most (``data.balance cap:<n>``), or ``None`` for all.
        per_class: the same, as the size of a small experiment.
        focus_fraction: share of the training rows of each class that becomes the split ``focus``.

    Raises:
        ConfigError: for a number outside its range.
    """

    keep: Path | None = None
    folds: int | None = None
    fold: int = 0
    fold_seed: int = 0
    drop_overlap: bool = False
    cap: int | None = None
    per_class: int | None = None
    focus_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.per_class is not None and self.per_class < 1:
            raise ConfigError(f"data.per_class must be at least 1, not {self.per_class}")
        if not 0 <= self.focus_fraction < 1:
            raise ConfigError(f"data.focus_fraction must be at least 0 and below 1, not {self.focus_fraction:g}")
        check_folds(self.folds, self.fold, self.fold_seed)

    def kept(self, table: SamplesTable) -> SamplesTable:
        """Return a table of which only the rows that ``keep`` names are used.

        Raises:
            DataError: if that file cannot be read, or names rows that are not in the table.
        """
        if self.keep is None:
            return table
        kept = rows_to_keep(self.keep, table.files)
        _tell_changes(table.splits, kept)
        return table.with_splits(np.where(kept, table.splits, ""))

    def alone(self, files: NDArray[np.str_], splits: NDArray[np.str_], made: Made) -> NDArray[np.int64] | None:
        """Return the rows that ``keep`` names, int64 ``(M,)``, where the others do not matter for any split.

        They do matter where a split is made, or a fold or focus part: images that are the same, or nearly so, as one
        that is not used keep together then. ``None`` if all rows are needed.

        Args:
            files: ``(N,)``: the files of the data set.
            splits: ``(N,)``: the splits that it brings along.
            made: returns which splits are made for rows of such splits, see ``missing_splits``.

        Raises:
            DataError: if the table cannot be read, or names other files.
        """
        if self.keep is None or self.folds is not None or self.focus_fraction or made(splits):
            return None
        kept = rows_to_keep(self.keep, files)
        if made(splits[kept]) or (splits != "").any() != (splits[kept] != "").any():
            return None
        _tell_changes(splits, kept)
        return np.flatnonzero(kept)

    def named(self, files: NDArray[np.str_]) -> NDArray[np.bool_] | None:
        """Tell which files ``(N,)`` the table ``keep`` names, bool ``(N,)``; ``None`` if all are used.

        Raises:
            DataError: if that file cannot be read.
        """
        return None if self.keep is None else np.isin(files, paths_to_keep(self.keep))

    def without_overlap(self, table: SamplesTable) -> SamplesTable:
        """Return a table without training images that also stand in validation or test, if that is asked for."""
        return table.with_splits(drop_overlap(table.splits, table.digests)[0]) if self.drop_overlap else table

    def apply(
        self,
        table: SamplesTable,
        candidates: NDArray[np.bool_],
        *,
        seed: int = 0,
        near: bool = True,
        cache_dir: Path | None = None,
    ) -> SamplesTable:
        """Return a table, of which ``kept`` has been applied already, with the splits of this plan.

        Args:
            table: the samples, splits assigned.
            candidates: bool ``(N,)``: training rows that may be held out as a fold.
            seed: chooses the rows of a class that is capped.
            near: whether near-duplicates stay in one fold.
            cache_dir: where found near-duplicates are kept; ``None`` for the user's cache folder.

        Raises:
            DataError: if folds or a focus part cannot be made of these rows.
        """
        if self.folds is not None:  # before training rows are chosen: what is validated on does not depend on that
            splits = fold_splits(table, self.folds, self.fold, candidates, self.fold_seed, near, cache_dir)
            table = table.with_splits(splits)
        table = self.without_overlap(table)
        for most in (self.cap, self.per_class):
            if most is not None:
                rows = table.rows("train")
                splits = table.splits.copy()
                splits[rows[~cap_classes(table.labels[rows], table.digests[rows], most, seed)]] = ""
                table = table.with_splits(splits)
        return set_apart(table, self.focus_fraction, cache_dir) if self.focus_fraction else table


def _tell_changes(splits: NDArray[np.str_], kept: NDArray[np.bool_]) -> None:
    """Log how many validation and test images remain of the rows ``(N,)``, if some are not kept."""
    changed = []
    for split in ("val", "test"):
        before, after = (int(np.count_nonzero(which == split)) for which in (splits, splits[kept]))
        if after != before:
            changed.append(f"{split} has {after:,} of {counted(before, 'image')}")
    if changed:
        what = " and ".join(changed)
        _LOG.warning("data.keep: %s: scores are not comparable with those of all of them", what)
