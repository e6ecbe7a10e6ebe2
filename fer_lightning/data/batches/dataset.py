"""The dataset reads rows of a samples table, a whole batch at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fer_lightning.data.batches.sampling import Draw
from fer_lightning.data.batches.transforms import SampleTransform, quiet_threads
from fer_lightning.data.table.images import to_picture, to_planes
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.types import Batch

__all__ = ["TableDataset", "as_it_is", "quiet_worker", "spare_cores"]


class TableDataset(Dataset[Batch]):
    """The samples of a table.

    Items are rows of the table, or (row, key) as ``EpochSampler`` draws them. A loader fetches them through
    ``__getitems__``: for images held in memory that is one indexing operation for a batch, no Python for each image.

    Args:
        table: the samples; ``index`` of a batch are its rows.
        transform: changes each image of a training draw, given its key; ``None`` for none.
        votes: float32 ``(len(table), K)``: votes of each row, given with training draws; ``None`` for none.
        weights: float32 ``(len(table),)``: what each row counts in the loss, given with training draws; ``None`` for
            all alike.
    """

    def __init__(
        self,
        table: SamplesTable,
        transform: SampleTransform | None = None,
        votes: NDArray[np.float32] | None = None,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self.table = table
        self.transform = transform
        self.votes = votes
        self.weights = weights

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: int | Draw) -> Batch:
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int | Draw]) -> Batch:
        """Return one batch: image uint8 ``(N, C, H, W)``, label and index int64 ``(N,)``."""
        drawn = np.asarray(items, np.int64)
        rows = drawn[:, 0] if drawn.ndim == 2 else drawn
        images = self.table.images[rows]
        if self.transform is not None and drawn.ndim == 2:
            images = self._transformed(images, drawn[:, 1])
        batch: Batch = {
            "image": torch.from_numpy(images),
            "label": torch.from_numpy(self.table.labels[rows]),
            "index": torch.from_numpy(rows.copy()),
        }
        if drawn.ndim == 2:
            batch["key"] = torch.from_numpy(drawn[:, 1].copy())
        if self.votes is not None and drawn.ndim == 2:
            batch["votes"] = torch.from_numpy(self.votes[rows])
        if self.weights is not None and drawn.ndim == 2:
            batch["weight"] = torch.from_numpy(self.weights[rows])
        if self.table.soft_labels is not None:
            batch["soft_label"] = torch.from_numpy(self.table.soft_labels[rows])
        return batch

    def _transformed(self, images: NDArray[np.uint8], keys: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert self.transform is not None
        changed = np.empty_like(images)
        for position, key in enumerate(keys.tolist()):
            changed[position] = to_planes(self.transform(to_picture(images[position]), key))
        return changed


def as_it_is(batch: Any) -> Any:
    """Collate nothing: the dataset has given a batch already."""
    return batch


def quiet_worker(worker: int) -> None:
    """Keep a loader process to one thread: it shares the machine with the other processes."""
    torch.set_num_threads(1)
    quiet_threads()


def spare_cores() -> int:
    """Return how many loader processes suit this process: one less than its share of the cores, 1 to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(1, min(8, share - 1))
