from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.data.augment import BatchAugment
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.samples import SamplesTable, content_digests
from fer_lightning.errors import DataError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.data import StripesDataModule, stripes_table


class TestStripes(DataModuleContract):
    def make(self, **options: Any) -> EmotionDataModule:
        return StripesDataModule(**options)


class Fixed(EmotionDataModule):
    """A data module with a given table."""

    native_size = 16

    def __init__(self, given: SamplesTable, **options: Any) -> None:
        super().__init__(**options)
        self.given = given

    def scan(self) -> SamplesTable:
        return self.given


def test_a_base_without_scan_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="must define scan"):
        _ = EmotionDataModule().table


def test_a_missing_split_is_told_when_it_is_asked_for() -> None:
    data = Fixed(stripes_table({"train": 14, "val": 7}))
    data.setup("fit")
    with pytest.raises(DataError, match=r"'test' needs the test split.*found: train 14, val 7"):
        data.setup("test")


def test_an_empty_class_is_told_before_training() -> None:
    table = stripes_table({"train": 14, "val": 7})
    splits = np.where((table.labels == 1) & (table.splits == "train"), "", table.splits)
    with pytest.raises(DataError, match="no training image of disgust"):
        Fixed(table.with_splits(splits)).setup("fit")
    Fixed(table.with_splits(splits), allow_empty_class=True).setup("fit")


def test_other_classes_than_announced_are_refused() -> None:
    table = replace(stripes_table({"train": 14}), class_names=tuple("abcdefg"))
    with pytest.raises(DataError, match="class_names are angry"):
        _ = Fixed(table).table


def test_shared_images_can_be_dropped_from_training() -> None:
    table = stripes_table({"train": 14, "val": 7})
    images = table.images.copy()
    images[table.rows("val")[0]] = images[table.rows("train")[0]]
    table = replace(table, images=images, digests=content_digests(images))
    assert Fixed(table).describe()["overlap_with_train"] == {"val": 1}
    dropped = Fixed(table, drop_overlap=True)
    assert dropped.describe()["overlap_with_train"] == {"val": 0}
    assert len(dropped.table.rows("train")) == 13


def test_augmentation_touches_training_batches_only() -> None:
    data = StripesDataModule(augment=BatchAugment(), batch_size=8)
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    plain = StripesDataModule(batch_size=8)
    assert not torch.equal(
        data.on_after_batch_transfer(train, 0)["image"], plain.on_after_batch_transfer(train, 0)["image"]
    )
    assert torch.equal(data.on_after_batch_transfer(val, 0)["image"], plain.on_after_batch_transfer(val, 0)["image"])


def test_normalisation_and_gray_follow_their_formulas() -> None:
    data = StripesDataModule(mean=[0.4], std=[0.2])
    image = torch.full((1, 1, 16, 16), 255, dtype=torch.uint8)
    batch: Any = {"image": image, "label": torch.zeros(1), "index": torch.zeros(1)}
    assert float(data.on_after_batch_transfer(batch, 0)["image"][0, 0, 0, 0]) == pytest.approx(3.0)
    colour = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    colour[:, 1] = 255
    batch["image"] = colour
    gray = StripesDataModule(mean=[0.0], std=[1.0]).on_after_batch_transfer(batch, 0)["image"]
    assert float(gray[0, 0, 0, 0]) == pytest.approx(0.587)


def test_a_set_smaller_than_a_batch_is_still_trained_on() -> None:
    assert len(StripesDataModule(train=14, batch_size=64).train_dataloader()) == 1
