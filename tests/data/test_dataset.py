from __future__ import annotations

import numpy as np
import torch

from fer_lightning.data.dataset import ArrayDataset, as_it_is
from tests.helpers.data import stripes_table


def test_a_batch_is_fetched_at_once() -> None:
    table = stripes_table({"train": 21}, soft=True)
    batch = ArrayDataset(table).__getitems__([4, 0, 4])
    assert batch["image"].shape == (3, 1, 16, 16)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [4, 0, 4]
    assert batch["index"].tolist() == [4, 0, 4]
    assert batch["soft_label"].sum(1).tolist() == [1, 1, 1]
    assert "key" not in batch
    assert np.array_equal(batch["image"][0].numpy(), table.images[4])


def test_draws_carry_their_keys() -> None:
    batch = ArrayDataset(stripes_table({"train": 21})).__getitems__([(2, -(2**62)), (3, 2**62)])
    assert batch["key"].tolist() == [-(2**62), 2**62]
    assert batch["index"].tolist() == [2, 3]
    assert "soft_label" not in batch


def test_a_single_item_is_a_batch_of_one() -> None:
    dataset = ArrayDataset(stripes_table({"train": 21}))
    assert len(dataset) == 21
    assert dataset[5]["label"].tolist() == [5]
    assert as_it_is(dataset[5]).keys() == dataset[5].keys()
