"""A data module that costs nothing: noise with a bright stripe whose place is the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.table.samples import SamplesTable, concatenate, content_digests
from fer_lightning.emotions import SEVEN

SIDE = 16


def stripes_table(counts: dict[str, int], seed: int = 0, soft: bool = False) -> SamplesTable:
    """Return gray images ``(N, 1, 16, 16)``: class k has its stripe in rows 2k and 2k + 1."""
    rng = np.random.default_rng(seed)
    total = sum(counts.values())
    splits = np.repeat(list(counts), list(counts.values()))
    labels = np.arange(total, dtype=np.int64) % 7
    images = rng.integers(0, 120, (total, 1, SIDE, SIDE)).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, 0, 2 * label : 2 * label + 2] += 120
    return SamplesTable(
        class_names=SEVEN.class_names,
        images=images,
        labels=labels,
        splits=splits,
        sources=np.full(total, "stripes"),
        files=np.array([f"stripes/{row}" for row in range(total)]),
        digests=content_digests(images),
        soft_labels=np.eye(7, dtype=np.float32)[labels] if soft else None,
    )


def pixels(table: SamplesTable) -> NDArray[np.uint8]:
    """Return all images of a table, wherever they are."""
    return table.images[np.arange(len(table))]


class StripesDataModule(EmotionDataModule):
    """Stripes.

    Args:
        train: training samples.
        val: validation samples.
        test: test samples.
        **options: of ``EmotionDataModule``.
    """

    native_size = SIDE

    def __init__(self, train: int = 84, val: int = 28, test: int = 28, **options: Any) -> None:
        super().__init__(**options)
        self.counts = {"train": train, "val": val, "test": test}

    def scan(self) -> SamplesTable:
        return stripes_table(self.counts)


class PlantedDataModule(StripesDataModule):
    """Only a test part: the first training images of the stripes, and others that no model has seen."""

    PLANTED = 30

    def scan(self) -> SamplesTable:
        old = stripes_table(self.counts)
        known = old.select(np.arange(self.PLANTED)).with_splits(np.full(self.PLANTED, "test"))
        return concatenate([known, stripes_table({"test": 28}, seed=1)])


class OtherStripesDataModule(StripesDataModule):
    """Other images than those of the stripes, but for the validation part: 10 of it are training images of theirs."""

    def scan(self) -> SamplesTable:
        new = stripes_table({"train": 84, "val": 18, "test": 28}, seed=2)
        old = stripes_table(self.counts).select(np.arange(10))
        return concatenate([new, old.with_splits(np.full(10, "val"))])
