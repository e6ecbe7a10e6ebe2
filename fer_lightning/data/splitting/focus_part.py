"""The focus part: training images set apart to tell which classes need more of them.

It serves ``ClassFocus`` alone. Judging that on the validation split would choose the training by what chooses the
model, and then the model's score there means less; the test split is out of the question.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.folds import linked_names
from fer_lightning.data.splitting.splits import grouped_stratified_holdout
from fer_lightning.data.table.samples import FOCUS, SamplesTable
from fer_lightning.errors import DataError

__all__ = ["set_apart"]

_SEED = 0  # always the same part of the same data, so that runs of other seeds train on the same images


def set_apart(table: SamplesTable, fraction: float, cache_dir: Path | None = None) -> SamplesTable:
    """Move a share of the training rows to the split ``focus``: stratified, what is linked kept together.

    Linked are equal and nearly equal images, those of one person, and synthetic ones with the image they were made of
    (``linked_groups``). What is linked to another split stays in training: an image of
    the focus part stands, also nearly, neither in training nor in validation or test.

    Args:
        table: the samples.
        fraction: share of each class to set apart, above 0 and below 1.
        cache_dir: where found near-duplicates are kept; ``None`` for the user's cache folder.

    Raises:
        DataError: if a class of two and more training images could give none.
    """
    names = linked_names(table, near=True, cache_dir=cache_dir)
    rows = table.rows("train")
    rows = rows[~np.isin(names[rows], np.unique(names[~np.isin(table.splits, ("train", ""))]))]
    groups = names[rows].view(np.uint8).reshape(len(rows), -1)
    held = rows[grouped_stratified_holdout(table.labels[rows], groups, fraction, _SEED)]
    splits: NDArray[np.str_] = table.splits.astype("<U5")
    splits[held] = FOCUS
    changed = table.with_splits(splits)
    given = changed.class_counts(FOCUS)
    empty = [name for name, count in table.class_counts("train").items() if count and not given[name]]
    if empty:
        raise DataError(
            f"data.focus_fraction {fraction:g} sets no image of {', '.join(empty)} apart: all of them are linked to "
            "each other or to validation and test images (same person, near-duplicates); use a larger fraction"
        )
    return changed
