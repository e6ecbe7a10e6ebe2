"""Datasets read rows of a samples table, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from fer_lightning.data.samples import SamplesTable
from fer_lightning.data.sampling import Draw
from fer_lightning.types import Batch

__all__ = ["ArrayDataset", "as_it_is"]


class ArrayDataset(Dataset[Batch]):
    """Samples whose images are held in memory.

    Items are rows of the table, or (row, key) as :class:`.EpochSampler` draws them. A loader fetches them through
    ``__getitems__``: one indexing operation for a batch, no Python for each image.

    Args:
        table: the samples; ``index`` of a batch are its rows.
    """

    def __init__(self, table: SamplesTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: int | Draw) -> Batch:
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int | Draw]) -> Batch:
        """Return one batch: image uint8 ``(N, C, H, W)``, label and index int64 ``(N,)``."""
        drawn = np.asarray(items, np.int64)
        rows = drawn[:, 0] if drawn.ndim == 2 else drawn
        batch: Batch = {
            "image": torch.from_numpy(self.table.images[rows]),
            "label": torch.from_numpy(self.table.labels[rows]),
            "index": torch.from_numpy(rows.copy()),
        }
        if drawn.ndim == 2:
            batch["key"] = torch.from_numpy(drawn[:, 1].copy())
        if self.table.soft_labels is not None:
            batch["soft_label"] = torch.from_numpy(self.table.soft_labels[rows])
        return batch


def as_it_is(batch: Any) -> Any:
    """Collate nothing: the dataset has given a batch already."""
    return batch
