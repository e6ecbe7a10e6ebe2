"""What every data module must keep; its test class inherits from this one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import ConfigError


class DataModuleContract:
    """Inherit and define ``make``."""

    def make(self, **options: Any) -> EmotionDataModule:
        """Return the data module on a small data set."""
        raise NotImplementedError

    @pytest.fixture
    def data(self) -> EmotionDataModule:
        return self.make(batch_size=8, eval_batch_size=5)

    def test_what_the_model_needs_is_known_before_setup(self, data: EmotionDataModule) -> None:
        assert data.num_classes == len(data.class_names) >= 2
        preprocessing = data.preprocessing
        assert preprocessing["image_size"] == data.image_size
        assert len(preprocessing["mean"]) == len(preprocessing["std"]) == preprocessing["channels"]

    def test_training_batches_keep_the_contract(self, data: EmotionDataModule) -> None:
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].ndim == 4
        for name in ("label", "index", "key"):
            assert batch[name].dtype == torch.int64
            assert batch[name].shape == (8,)
        assert (data.table.labels[batch["index"].numpy()] == batch["label"].numpy()).all()

    def test_the_network_gets_normalised_floats(self, data: EmotionDataModule) -> None:
        data.setup("fit")
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        size, channels = data.preprocessing["image_size"], data.preprocessing["channels"]
        assert batch["image"].shape == (8, channels, size, size)
        assert batch["image"].dtype == torch.float32
        assert torch.isfinite(batch["image"]).all()
        assert batch["image"].abs().max() < 20

    def test_epochs_are_complete_and_differ(self, data: EmotionDataModule) -> None:
        data.setup("fit")
        loader = data.train_dataloader()
        first = torch.cat([batch["index"] for batch in loader])
        rows = data.table.rows("train")
        assert len(set(first.tolist())) == len(first) == len(rows) // 8 * 8
        assert set(first.tolist()) <= set(rows.tolist())
        loader.sampler.start_at(1, 0)
        assert [row for row, _ in loader.sampler] != first.tolist()

    def test_the_same_seed_gives_the_same_batches(self) -> None:
        one, two = (self.make(batch_size=8, seed=3) for _ in range(2))
        first, second = next(iter(one.train_dataloader())), next(iter(two.train_dataloader()))
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["key"], second["key"])

    def test_every_validation_row_counts_once(self, data: EmotionDataModule) -> None:
        data.setup("validate")
        index = torch.cat([batch["index"] for batch in data.val_dataloader()])
        assert index.tolist() == data.table.rows("val").tolist()

    def test_splits_are_disjoint(self, data: EmotionDataModule) -> None:
        rows = [set(data.table.rows(split).tolist()) for split in ("train", "val", "test")]
        assert not (rows[0] & rows[1] | rows[0] & rows[2] | rows[1] & rows[2])

    def test_setup_may_be_called_twice(self, data: EmotionDataModule) -> None:
        data.setup("fit")
        table = data.table
        data.setup("fit")
        assert data.table is table

    def test_other_size_and_channels(self) -> None:
        data = self.make(batch_size=8, image_size=32, channels=3, mean=[0.5], std=[0.5])
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        assert batch["image"].shape == (8, 3, 32, 32)
        assert batch["image"].min() >= -1.001
        assert batch["image"].max() <= 1.001

    def test_the_description_counts_and_fingerprints(self, data: EmotionDataModule) -> None:
        description = data.describe()
        assert description["counts"]["train"] == len(data.table.rows("train"))
        assert all(len(value) == 16 for value in description["fingerprints"].values())
        assert np.issubdtype(type(description["overlap_with_train"]["val"]), np.integer)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 0}, "data.batch_size must be at least 1"),
            ({"channels": 2}, "data.channels must be 1"),
            ({"num_workers": -1}, "data.num_workers"),
            ({"image_size": 4}, "data.image_size"),
            ({"channels": 1, "mean": [0.1, 0.2]}, "data.mean has 2 values for 1 channels"),
            ({"channels": 3, "std": [0.1, 0.2]}, "data.std has 2 values for 3 channels"),
            ({"std": [0.0]}, "data.std must be above 0"),
        ],
    )
    def test_bad_arguments_are_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            self.make(**options)
