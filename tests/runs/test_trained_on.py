from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_lightning.errors import CheckpointError
from fer_lightning.evaluation.predictions import digest_texts
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.model_folder import TRAINED_ON, WEIGHTS
from fer_lightning.runs.trained_on import (
    TRAINED_ON_KEY,
    TrainedOn,
    digest_numbers,
    joined,
    read_trained_on,
    text_numbers,
    trained_on_in,
    without_digests,
)
from tests.inference.helpers import tiny_model

DIGESTS = np.random.default_rng(0).integers(0, 256, (40, 16)).astype(np.uint8)
RECORD = TrainedOn(np.sort(digest_numbers(DIGESTS[:20])), np.sort(digest_numbers(DIGESTS[15:25])), ("timm x",))


def test_digests_are_the_same_numbers_from_bytes_and_from_tables() -> None:
    numbers = digest_numbers(DIGESTS)
    assert np.array_equal(numbers, text_numbers(digest_texts(DIGESTS).tolist()))
    assert int(numbers[3]) == int.from_bytes(bytes(DIGESTS[3, :8]), "big")


def test_roles_are_told_apart_and_training_comes_first() -> None:
    trained, chosen = RECORD.roles(digest_numbers(DIGESTS))
    assert np.flatnonzero(trained).tolist() == list(range(20))
    assert np.flatnonzero(chosen).tolist() == list(range(20, 25))


def test_records_are_joined() -> None:
    other = TrainedOn(digest_numbers(DIGESTS[30:31]), unknown=("timm x", "timm y"))
    both = joined([RECORD, other])
    assert np.array_equal(both.train, np.unique(np.concatenate([RECORD.train, other.train])))
    assert (len(both.val), both.unknown) == (10, ("timm x", "timm y"))
    assert len(joined([]).train) == 0


def test_a_checkpoint_and_a_model_folder_keep_a_record(tmp_path: Path) -> None:
    torch.save({TRAINED_ON_KEY: RECORD.state()}, tmp_path / "a.ckpt")
    model = tiny_model()
    model.trained_on = RECORD
    folder = write_model_folder(model, tmp_path / "model")
    for read in (read_trained_on(tmp_path / "a.ckpt"), load_model(folder).trained_on):
        assert read is not None
        assert np.array_equal(read.train, RECORD.train)
        assert np.array_equal(read.val, RECORD.val)
        assert read.unknown == ("timm x",)
    assert (folder / TRAINED_ON).stat().st_size < 9 * 30 + 200
    model.trained_on = without_digests(RECORD)
    read = load_model(write_model_folder(model, folder)).trained_on
    assert not (folder / TRAINED_ON).exists()
    assert read is not None
    assert (len(read.train), len(read.val)) == (0, 0)
    assert read.unknown == ("timm x", "20 training and 10 validation images whose digests were left out")


def test_what_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    torch.save({"epoch": 1}, tmp_path / "old.ckpt")
    assert read_trained_on(tmp_path / "old.ckpt") is None
    with pytest.raises(CheckpointError, match=r"a\.ckpt: what it says of its training images is damaged"):
        trained_on_in({TRAINED_ON_KEY: {"train": torch.zeros(1)}}, tmp_path / "a.ckpt")
    assert read_trained_on(write_model_folder(tiny_model(), tmp_path / "plain") / WEIGHTS) is None
    model = tiny_model()
    model.trained_on = RECORD
    folder = write_model_folder(model, tmp_path / "model")
    content = (folder / TRAINED_ON).read_bytes()
    (folder / TRAINED_ON).write_bytes(content[:-9])
    with pytest.raises(CheckpointError, match="it is not the one that"):
        read_trained_on(folder / WEIGHTS)
    (folder / TRAINED_ON).unlink()
    with pytest.raises(CheckpointError, match=r"trained_on.npy cannot be read: .*fetch the folder again"):
        read_trained_on(folder / WEIGHTS)


def test_the_file_of_a_model_folder_names_digest_and_role(tmp_path: Path) -> None:
    record = TrainedOn(np.array([3, 2**63 + 1], np.uint64), np.array([5], np.uint64))
    rows = np.load(io.BytesIO(record.npy_bytes()))
    assert rows.dtype.names == ("digest", "role")
    assert rows.tolist() == [(3, 0), (2**63 + 1, 0), (5, 1)]
    state = record.state()
    assert {name: value.dtype for name, value in state.items() if name != "unknown"} == {
        **{"train": torch.int64, "val": torch.int64},
    }
    assert state["unknown"] == []
    unsorted = {"train": torch.tensor([7, 3, 7]), "val": torch.tensor([-1]), "unknown": ["a", 3]}
    read = trained_on_in({TRAINED_ON_KEY: unsorted}, tmp_path)
    assert read is not None
    assert (read.train.tolist(), read.val.tolist(), read.unknown) == ([3, 7], [2**64 - 1], ("a", "3"))
    with pytest.raises(ValueError, match="invalid literal"):
        text_numbers(["12", "xy"])
