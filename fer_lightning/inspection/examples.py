"""Single images of a data set in lists and pictures: what names them, and pairs of near-duplicates side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_lightning.data.splitting.dedupe import Duplicates
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.inspection.plots import pairs_figure
from fer_lightning.inspection.statistics import UNUSED

__all__ = ["caption", "list_cells", "one_per_group", "pairs_picture", "short_name"]


def list_cells(table: SamplesTable, row: int) -> tuple[str, str, str]:
    """Return how a list names a row: file, split (empty for none) and label."""
    return str(table.files[row]), str(table.splits[row]), table.class_names[table.labels[row]]


def short_name(table: SamplesTable, row: int) -> str:
    """Return the file of a row without its folders; of a file that holds many images, ``#`` and the place in it."""
    name = str(table.files[row]).rpartition("/")[2]
    file, _, place = name.rpartition("#")
    return f"#{place}" if file and place.isdigit() else name


def caption(table: SamplesTable, row: int) -> str:
    """Return the two lines below the image of a row: its file, and its split and label."""
    _, split, label = list_cells(table, row)
    return f"{short_name(table, row)}\n{split or UNUSED}, {label}"


def one_per_group(duplicates: Duplicates, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first pair of each group of near-duplicates; pairs are int64 places in ``duplicates.pairs``."""
    groups = duplicates.near_groups[duplicates.pairs.first[pairs]]
    return pairs[np.sort(np.unique(groups, return_index=True)[1])]


def pairs_picture(table: SamplesTable, duplicates: Duplicates, pairs: NDArray[np.int64], title: str) -> Figure:
    """Draw pairs (places in ``duplicates.pairs``, int64 ``(M,)``) side by side with their captions.

    A red frame marks those whose labels differ.
    """
    first, second = duplicates.pairs.first[pairs], duplicates.pairs.second[pairs]
    captions = [
        (caption(table, one), caption(table, other)) for one, other in zip(first.tolist(), second.tolist(), strict=True)
    ]
    conflicting = (table.labels[first] != table.labels[second]).tolist()
    return pairs_figure(table.images[first], table.images[second], captions, conflicting, title)
