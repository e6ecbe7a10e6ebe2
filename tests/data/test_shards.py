from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from fer_lightning.data.batches.transforms import SampleTransform
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.shards import ShardsDataModule
from fer_lightning.data.storage import convert as convert_module
from fer_lightning.data.storage.convert import convert_table
from fer_lightning.data.storage.description import METADATA
from fer_lightning.data.storage.writers import INDEX, ShardSetWriter
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError
from tests.contracts.datamodule import DataModuleContract
from tests.data.storage.test_convert import small_table
from tests.helpers.data import stripes_table

for name in ("pyarrow", "litdata"):
    pytest.importorskip(name, reason="shards need the extra 'large'")


def many_shards(folder: Path, table: SamplesTable) -> ShardSetWriter:
    return ShardSetWriter(folder, table, shard_bytes=3000)


@pytest.fixture(scope="module")
def source() -> SamplesTable:
    return small_table(soft=True)


@pytest.fixture(scope="module")
def folder(source: SamplesTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "set"
    convert_table(source, path, "shards", encoding="png")
    return path


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trainable") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_module, "ShardSetWriter", many_shards)
        convert_table(stripes_table({"train": 84, "val": 28, "test": 28}), path, "shards", encoding="png")
    assert len(list((path / "train").glob("*.bin"))) > 5
    return path


@pytest.fixture(params=["folder", "download"])
def address(request: pytest.FixtureRequest, trainable: Path) -> str:
    return str(trainable) if request.param == "folder" else f"local:{trainable}"


def module(address: str, cache: Path, position: tuple[int, int] = (0, 0), **options: Any) -> ShardsDataModule:
    defaults = {"num_workers": 0, "batch_size": 8, "seed": 4, "cache_dir": str(cache)}
    data = ShardsDataModule(address, **{**defaults, **options})
    data._position = lambda: position  # type: ignore[method-assign]
    return data


def order(data: ShardsDataModule) -> list[list[int]]:
    return [batch["index"].tolist() for batch in data.train_dataloader()]


class TestShards(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _root(self, trainable: Path) -> None:
        self.root = str(trainable)

    def make(self, **options: Any) -> EmotionDataModule:
        return ShardsDataModule(self.root, **{"num_workers": 0, **options})

    def test_epochs_are_complete_and_differ(self, data: EmotionDataModule) -> None:
        epochs = []
        for epoch in (0, 1):
            data._position = lambda epoch=epoch: (epoch, 0)  # type: ignore[method-assign,misc]
            epochs.append(torch.cat([batch["index"] for batch in data.train_dataloader()]).tolist())
        rows = data.table.rows("train")
        for drawn in epochs:
            assert len(set(drawn)) == len(drawn) == len(rows) // 8 * 8
            assert set(drawn) <= set(rows.tolist())
        assert epochs[0] != epochs[1]


def test_every_column_comes_back(folder: Path, source: SamplesTable) -> None:
    table = ShardsDataModule(str(folder), verify=True).table
    assert (table.images[np.arange(len(source))] == source.images[np.arange(len(source))]).all()
    for name in ("labels", "splits", "sources", "files", "digests", "soft_labels", "thumbnails"):
        assert np.array_equal(getattr(table, name), getattr(source, name)), name
    for name, column in source.columns.items():
        assert np.array_equal(table.columns[name], column, equal_nan=column.dtype.kind == "f"), name


def test_rows_are_found_in_any_order(address: str, tmp_path: Path) -> None:
    rows = np.array([139, 0, 83, 84, 84, 5])
    images = module(address, tmp_path).table.images
    assert (images[rows] == stripes_table({"train": 84, "val": 28, "test": 28}).images[rows]).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_what_the_table_says(address: str, workers: int, tmp_path: Path) -> None:
    data = module(address, tmp_path, num_workers=workers)
    images = stripes_table({"train": 84, "val": 28, "test": 28}).images
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 10
    for batch in batches:
        rows = batch["index"].numpy()
        assert (batch["image"].numpy() == images[rows]).all()
        assert (batch["label"].numpy() == data.table.labels[rows]).all()
    assert len(set(torch.cat([batch["index"] for batch in batches]).tolist())) == 80


def test_soft_labels_come_along(folder: Path, source: SamplesTable) -> None:
    batch = next(iter(ShardsDataModule(str(folder), num_workers=0, batch_size=7).train_dataloader()))
    assert source.soft_labels is not None
    assert (batch["soft_label"].numpy() == source.soft_labels[batch["index"].numpy()]).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("epoch", "done"), [(0, 1), (1, 5), (1, 9), (2, 10)])
def test_a_run_goes_on_in_the_middle_of_an_epoch(
    address: str, workers: int, epoch: int, done: int, tmp_path: Path
) -> None:
    whole = order(module(address, tmp_path, (epoch, 0), num_workers=workers))
    assert order(module(address, tmp_path, (epoch, done), num_workers=workers)) == whole[done:]


def test_one_worker_reads_like_none(trainable: Path, tmp_path: Path) -> None:
    assert order(module(str(trainable), tmp_path)) == order(module(str(trainable), tmp_path, num_workers=1))


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [("num_workers", {"num_workers": 2}, {"num_workers": 0}), ("batch_size", {"batch_size": 8}, {"batch_size": 6})],
)
def test_another_layout_within_an_epoch_is_refused(
    name: str, before: dict[str, Any], now: dict[str, Any], trainable: Path, tmp_path: Path
) -> None:
    state = module(str(trainable), tmp_path, **before).train_dataloader().state_dict()
    for done in (0, 3):
        loader = module(str(trainable), tmp_path, (1, done), **now).train_dataloader()
        loader.load_state_dict(state)
        if done:
            with pytest.raises(ConfigError, match=f"number of {name}: it was .* resume from the end of an epoch"):
                next(iter(loader))
        else:
            assert len(next(iter(loader))["index"]) == now.get("batch_size", 8)


class Recorder(LightningModule):
    """Notes the rows of each step, and stops the run after some."""

    def __init__(self, checkpoint: Path | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.checkpoint = checkpoint
        self.rows: list[list[int]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.rows.append(batch["index"].tolist())
        loss: torch.Tensor = self.layer(batch["image"].mean(dim=(1, 2, 3))[:, None]).mean()
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if self.checkpoint is not None and len(self.rows) == 14:
            self.trainer.save_checkpoint(self.checkpoint)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_goes_on_where_its_checkpoint_stands(workers: int, trainable: Path, tmp_path: Path) -> None:
    def trained(task: Recorder, checkpoint: Path | None = None, now: int = workers) -> list[list[int]]:
        trainer = Trainer(
            max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
            enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
        )  # fmt: skip
        data = ShardsDataModule(str(trainable), num_workers=now, batch_size=8, seed=4)
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=False)
        return task.rows

    whole = trained(Recorder(tmp_path / "x.ckpt"))
    assert len(whole) == 30
    assert trained(Recorder(), tmp_path / "x.ckpt") == whole[14:]
    with pytest.raises(ConfigError, match="number of num_workers"):
        trained(Recorder(), tmp_path / "x.ckpt", now=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_share_the_training_images(
    address: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("GLOBAL_RANK", str(rank))
        monkeypatch.setattr(ShardsDataModule, "_rank_and_world", lambda _, rank=rank: (rank, 2))
        whole = order(module(address, tmp_path / str(rank), num_workers=workers))
        assert order(module(address, tmp_path / str(rank), (0, 2), num_workers=workers)) == whole[2:]
        shares.append([row for rows in whole for row in rows])
    assert len(shares[0]) == len(shares[1]) == 40
    assert not set(shares[0]) & set(shares[1])


def test_too_few_images_for_the_processes_are_told(
    trainable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShardsDataModule, "_rank_and_world", lambda _: (0, 2))
    with pytest.raises(ConfigError, match="84 training samples do not give each of 2 processes a batch of 64"):
        module(str(trainable), tmp_path, batch_size=64).train_dataloader()


def test_a_set_smaller_than_a_batch_is_still_trained_on(folder: Path) -> None:
    batches = list(ShardsDataModule(str(folder), num_workers=0, batch_size=64).train_dataloader())
    assert [len(batch["label"]) for batch in batches] == [21]


def test_keys_do_not_depend_on_workers(trainable: Path, tmp_path: Path) -> None:
    keys = []
    for workers in (0, 2):
        loader = module(str(trainable), tmp_path, (1, 0), num_workers=workers).train_dataloader()
        keys.append({r: k for b in loader for r, k in zip(b["index"].tolist(), b["key"].tolist(), strict=True)})
    both = set(keys[0]) & set(keys[1])
    assert len(both) > 70
    assert all(keys[0][row] == keys[1][row] for row in both)
    other = module(str(trainable), tmp_path, (2, 0)).train_dataloader()
    assert set(next(iter(other))["key"].tolist()).isdisjoint(keys[0].values())


class Inverted(SampleTransform):
    def __init__(self) -> None:
        pass

    def __call__(self, image: Any, key: int) -> Any:
        return 255 - image


def test_the_transform_changes_training_images_only(trainable: Path, tmp_path: Path) -> None:
    data = module(str(trainable), tmp_path)
    data.transform = Inverted()
    batch = next(iter(data.train_dataloader()))
    assert (batch["image"].numpy() == 255 - data.table.images[batch["index"].numpy()]).all()
    seen = next(iter(data.val_dataloader()))
    assert (seen["image"].numpy() == data.table.images[seen["index"].numpy()]).all()


def test_training_rows_are_laid_out_shuffled(tmp_path: Path) -> None:
    table = stripes_table({"train": 70})
    rows = np.argsort(table.labels, kind="stable")  # sorted by class, as folders give them
    convert_table(table.select(rows), tmp_path / "set", "shards", encoding="png")
    batch = next(iter(ShardsDataModule(str(tmp_path / "set"), num_workers=0, batch_size=16).train_dataloader()))
    assert len(set(batch["label"].tolist())) >= 4


@pytest.mark.parametrize(
    "options",
    [
        *({"balance": "oversample"}, {"balance": "weighted"}, {"group_balance": "oversample"}, {"keep": "rows.csv"}),
        *({"class_multipliers": {"disgust": 3.0}}, {"per_class": 5}, {"drop_overlap": True}),
        *({"focus_fraction": 0.2}, {"folds": 5}),
    ],
)
def test_what_shards_cannot_do_is_told_with_what_can(options: dict[str, Any], trainable: Path) -> None:
    with pytest.raises(ConfigError, match=rf"data.{next(iter(options))} cannot be had of shards.*--to arrow"):
        ShardsDataModule(str(trainable), **options)


def test_an_address_is_fetched_into_the_cache_once(trainable: Path, tmp_path: Path) -> None:
    data = module(f"local:{trainable}", tmp_path)
    assert len(data.table) == 140
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in kept] == [".parquet"]
    kept[0].write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"{INDEX}: its checksum is wrong"):
        _ = module(f"local:{trainable}", tmp_path).table
    assert len(module(f"local:{trainable}", tmp_path).table) == 140


def test_file_addresses_are_folders(trainable: Path) -> None:
    assert ShardsDataModule(f"file://{trainable}").table.root == trainable


@pytest.mark.parametrize("kind", ["", "local:"])
def test_a_wrong_address_is_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere") as caught:
        ShardsDataModule(f"{kind}{tmp_path}/nowhere", cache_dir=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def test_checksums_of_an_address_cannot_be_compared(trainable: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only the files of a folder can be verified"):
        _ = module(f"local:{trainable}", tmp_path, verify=True).table


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def test_a_truncated_shard_is_named(copy: Path) -> None:
    shard = next((copy / "train").glob("*.bin"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{shard.name}: expected [\d,]+ bytes, found [\d,]+"):
        _ = ShardsDataModule(str(copy)).table


def test_a_missing_shard_is_named(copy: Path) -> None:
    shard = next((copy / "val").glob("*.bin"))
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name}: is missing"):
        _ = ShardsDataModule(str(copy)).table


def test_a_flipped_bit_is_found_when_asked(copy: Path) -> None:
    shard = next((copy / "test").glob("*.bin"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shard.name}: its checksum is wrong"):
        _ = ShardsDataModule(str(copy), verify=True).table


def test_a_shard_of_another_set_is_found(copy: Path, tmp_path: Path) -> None:
    shard = next((copy / "val").glob("*.bin"))
    rows = [int(row).to_bytes(8, "little") for row in (21, 22)]
    content = shard.read_bytes()
    assert content.count(rows[0]) == content.count(rows[1]) == 1
    shard.write_bytes(content.replace(rows[0], b"-" * 8).replace(rows[1], rows[0]).replace(b"-" * 8, rows[1]))
    with pytest.raises(DataError, match="expected row 21 in its shard, found row 22"):
        ShardsDataModule(str(copy)).table.images[np.array([21])]


def test_other_sets_are_told_apart(tmp_path: Path, source: SamplesTable) -> None:
    convert_table(source, tmp_path / "f", "folders")
    with pytest.raises(DataError, match="--to shards.*found one of format 'folders'"):
        ShardsDataModule(str(tmp_path / "f"))
    (tmp_path / "f" / METADATA).unlink()
    with pytest.raises(DataError, match=f"found no {METADATA}"):
        ShardsDataModule(str(tmp_path / "f"))


@pytest.mark.slow  # a new process imports everything
def test_litdata_says_nothing_and_leaves_processes_alone(folder: Path, tmp_path: Path) -> None:
    program = (
        "import multiprocessing, sys\n"
        "from fer_lightning.data.sets.shards import ShardsDataModule\n"
        "before = multiprocessing.get_start_method()\n"
        "list(ShardsDataModule(sys.argv[1], num_workers=0, batch_size=4).train_dataloader())\n"
        "assert multiprocessing.get_start_method() == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:litdata", "-c", program, str(folder)],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.stdout == ""
    assert "litdata" not in done.stderr.lower()
    assert multiprocessing.get_start_method() in ("fork", "forkserver")
