from __future__ import annotations

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fer_lightning.data.batches.dataset import TableDataset, as_it_is, quiet_worker, spare_cores
from fer_lightning.data.batches.transforms import named_transform
from fer_lightning.data.files.file_images import ResizedImages
from tests.helpers.data import pixels, stripes_table


def test_a_batch_is_fetched_at_once() -> None:
    table = stripes_table({"train": 21}, soft=True)
    batch = TableDataset(table).__getitems__([4, 0, 4])
    assert batch["image"].shape == (3, 1, 16, 16)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [4, 0, 4]
    assert batch["index"].tolist() == [4, 0, 4]
    assert batch["soft_label"].sum(1).tolist() == [1, 1, 1]
    assert "key" not in batch
    assert np.array_equal(batch["image"][0].numpy(), pixels(table)[4])


def test_draws_carry_their_keys() -> None:
    batch = TableDataset(stripes_table({"train": 21})).__getitems__([(2, -(2**62)), (3, 2**62)])
    assert batch["key"].tolist() == [-(2**62), 2**62]
    assert batch["index"].tolist() == [2, 3]
    assert "soft_label" not in batch


def test_a_single_item_is_a_batch_of_one() -> None:
    dataset = TableDataset(stripes_table({"train": 21}))
    assert len(dataset) == 21
    assert dataset[5]["label"].tolist() == [5]
    assert as_it_is(dataset[5]).keys() == dataset[5].keys()


def test_draws_are_transformed_by_their_keys_and_plain_rows_are_not() -> None:
    table = stripes_table({"train": 21})
    dataset = TableDataset(replace(table, images=ResizedImages(table.images, 16, 3)), named_transform("strong"))
    plain = dataset.__getitems__([3, 4])
    assert np.array_equal(plain["image"].numpy(), np.repeat(table.images[np.array([3, 4])], 3, axis=1))
    drawn = dataset.__getitems__([(3, 1), (3, 2), (3, 1), (4, 1)])["image"]
    assert drawn.shape == (4, 3, 16, 16)
    assert drawn.dtype == torch.uint8
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(dataset[(4, 1)]["image"][0], drawn[3])  # whatever else is in the batch
    everything = np.arange(21)
    assert np.array_equal(table.images[everything], stripes_table({"train": 21}).images[everything])  # not written to


def test_a_process_takes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for cores, expected in ((1, 1), (2, 1), (4, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert spare_cores() == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert spare_cores() == 3


def test_a_loader_process_has_one_thread() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    quiet_worker(0)
    assert torch.get_num_threads() == 1
    assert cv2.getNumThreads() <= 1
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_votes_are_given_with_draws_alone() -> None:
    votes = np.arange(21 * 7, dtype=np.float32).reshape(21, 7)
    dataset = TableDataset(stripes_table({"train": 21}), votes=votes)
    assert np.array_equal(dataset.__getitems__([(4, 1), (2, 3)])["votes"].numpy(), votes[[4, 2]])
    assert "votes" not in dataset.__getitems__([4, 2])
