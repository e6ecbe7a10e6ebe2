from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.data.batches.augment import BatchAugment
from fer_lightning.data.batches.dataset import spare_cores
from fer_lightning.data.batches.mixing import BatchMix
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.table.images import SubsetImages
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.errors import ConfigError, DataError
from tests.contracts.datamodule import DataModuleContract
from tests.helpers.data import StripesDataModule, pixels, stripes_table


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


def test_each_device_has_something_to_evaluate() -> None:
    data = StripesDataModule(val=2)
    data.check("fit", devices=2)
    with pytest.raises(DataError, match=r"3 devices cannot share the val split \(found: .*val 2"):
        data.check("fit", devices=3)


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
    images = pixels(table).copy()
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


@pytest.mark.parametrize("channels", [1, 3])
def test_mixing_touches_training_batches_only(channels: int) -> None:
    options: dict[str, Any] = {"batch_size": 8, "channels": channels, "augment": BatchAugment()}
    mix = BatchMix(mixup=1.0, cutmix=1.0)
    data, plain = StripesDataModule(mix=mix, **options), StripesDataModule(**options)
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    mixed, unmixed = data.on_after_batch_transfer(train, 0), plain.on_after_batch_transfer(train, 0)
    expected = mix(unmixed, data.num_classes)  # of normalised images: the same
    assert torch.allclose(mixed["image"], expected["image"], atol=1e-5)
    assert not torch.allclose(mixed["image"], unmixed["image"], atol=0.1)
    assert torch.equal(mixed["soft_label"], expected["soft_label"])
    assert mixed["soft_label"].shape == (8, 7)
    assert "soft_label" not in unmixed
    evaluated = data.on_after_batch_transfer(val, 0)
    assert torch.equal(evaluated["image"], plain.on_after_batch_transfer(val, 0)["image"])
    assert "soft_label" not in evaluated


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


@pytest.mark.parametrize(("size", "expected"), [(32, 512), (48, 512), (96, 217), (224, 39), (512, 16)])
def test_large_images_are_evaluated_in_smaller_batches(size: int, expected: int) -> None:
    assert StripesDataModule(image_size=size).eval_batch_size == expected
    assert StripesDataModule(image_size=size, eval_batch_size=7).eval_batch_size == 7


def test_a_set_smaller_than_a_batch_is_still_trained_on() -> None:
    assert len(StripesDataModule(train=14, batch_size=64).train_dataloader()) == 1


UNEQUAL = {"angry": 20, "disgust": 2, "fear": 8, "happy": 30, "sad": 10, "surprise": 12, "neutral": 18}


def unequal_table() -> SamplesTable:
    """Return 100 training rows of unequal classes and 14 validation rows."""
    table = stripes_table({"train": 7 * 30, "val": 14})
    counts = list(UNEQUAL.values())
    rows = [np.flatnonzero((table.labels == label) & (table.splits == "train"))[:n] for label, n in enumerate(counts)]
    return table.select(np.concatenate([*rows, table.rows("val")]))


def drawn(data: EmotionDataModule, epoch: int = 0) -> Counter[str]:
    """Return how often an epoch draws each class."""
    data._position = lambda: (epoch, 0)  # type: ignore[method-assign]
    labels = torch.cat([batch["label"] for batch in data.train_dataloader()]).tolist()
    return Counter(data.class_names[label] for label in labels)


def test_every_image_once_by_default() -> None:
    assert drawn(Fixed(unequal_table(), batch_size=1)) == UNEQUAL


def test_cap_takes_at_most_so_many_of_a_class() -> None:
    data = Fixed(unequal_table(), batch_size=1, balance="cap:10", seed=1)
    expected = {name: min(count, 10) for name, count in UNEQUAL.items()}
    assert data.class_counts == drawn(data) == expected
    assert len(data.table.rows("val")) == 14
    assert data.describe()["counts"]["train"] == sum(expected.values())
    other = Fixed(unequal_table(), balance="cap:10", seed=2).describe()["fingerprints"]["train"]
    assert other != data.describe()["fingerprints"]["train"]
    assert drawn(data, epoch=1) == expected


def test_oversampling_draws_every_class_like_the_largest() -> None:
    data = Fixed(unequal_table(), batch_size=1, balance="oversample")
    assert drawn(data) == dict.fromkeys(UNEQUAL, 30)
    assert data.class_counts == UNEQUAL  # what there is, not what is drawn


def test_weighted_draws_all_alike_in_an_epoch_of_the_same_length() -> None:
    counts = drawn(Fixed(unequal_table(), batch_size=1, balance="weighted"))
    assert sum(counts.values()) == 100
    assert set(counts.values()) == {14, 15}


def test_multipliers_draw_classes_more_often() -> None:
    data = Fixed(unequal_table(), batch_size=1, class_multipliers={"disgust": 3, "anger": 0.5, "happy": 0})
    assert drawn(data) == Counter({**UNEQUAL, "disgust": 6, "angry": 10, "happy": 0})
    both = Fixed(unequal_table(), batch_size=1, balance="oversample", class_multipliers={"fear": 2})
    assert drawn(both) == {**dict.fromkeys(UNEQUAL, 30), "fear": 60}


def test_a_subset_has_so_many_images_of_each_class() -> None:
    data = Fixed(unequal_table(), batch_size=1, per_class=8, seed=0)
    assert drawn(data) == {name: min(count, 8) for name, count in UNEQUAL.items()}
    smaller = Fixed(unequal_table(), per_class=4, seed=0)
    assert set(smaller.table.files[smaller.table.rows("train")]) < set(data.table.files[data.table.rows("train")])
    narrow = Fixed(unequal_table(), balance="cap:5", per_class=8)
    assert max(narrow.class_counts.values()) == 5


def test_only_the_rows_of_a_table_are_kept(tmp_path: Path) -> None:
    table = unequal_table()
    path = tmp_path / "keep.csv"
    path.write_text("path\n" + "\n".join(table.files[::2]) + "\n")
    data = Fixed(table, keep=str(path))
    assert np.array_equal(data.table.splits != "", np.arange(len(table)) % 2 == 0)
    assert len(data.table) == len(table)  # rows keep their numbers
    path.write_text("path\nstripes/99999\n")
    with pytest.raises(DataError, match="1 of 1 paths are not in the data set, the first: 'stripes/99999'"):
        _ = Fixed(table, keep=str(path)).table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": "cap"}, "unknown balance 'cap'"),
        ({"balance": "cap:0"}, "unknown balance 'cap:0'"),
        ({"per_class": 0}, "data.per_class must be at least 1, not 0"),
        ({"transform": "wild"}, "there is no transform preset 'wild'"),
        ({"transform": []}, "transforms must be a list"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StripesDataModule(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_multipliers": {"hapy": 2}}, "'hapy' is none of the classes .*did you mean 'happy'"),
        ({"class_multipliers": {"angry": 2, "anger": 3}}, "are the same class"),
        ({"class_multipliers": {"sad": -1}}, "must be a number of at least 0"),
        ({"class_multipliers": dict.fromkeys(UNEQUAL, 0.0)}, "no training image is left to draw"),
        ({"transform": [{"class_path": "RandomCrop", "init_args": {"height": 8, "width": 8}}]}, "size must stay"),
    ],
)
def test_what_cannot_be_trained_is_told_before_training(options: dict[str, Any], message: str) -> None:
    data = Fixed(unequal_table(), **options)
    data.setup("validate")
    with pytest.raises(ConfigError, match=message):
        data.setup("fit")


def test_processes_are_started_where_they_are_worth_it() -> None:
    assert StripesDataModule().train_dataloader().num_workers == 0
    transformed = StripesDataModule(transform="light")
    assert transformed.train_dataloader().num_workers == spare_cores() >= 1
    assert transformed.val_dataloader().num_workers == 0
    table = unequal_table()
    lazy = Fixed(replace(table, images=SubsetImages(table.images, np.arange(len(table)))))
    assert lazy.train_dataloader().num_workers == lazy.val_dataloader().num_workers == spare_cores()
    assert StripesDataModule(transform="light", num_workers=0).train_dataloader().num_workers == 0


def test_channels_may_be_those_of_the_data() -> None:
    assert StripesDataModule().channels == 1
    assert StripesDataModule(channels=3).preprocessing["mean"] == [0.5] * 3


def test_rows_that_are_not_there_are_described() -> None:
    table = replace(
        unequal_table(),
        left_out=(("a.png", "12 pixels"), ("b.png", "15 pixels"), ("c.png", "blank")),
        columns={"kind": np.where(np.arange(114) % 2, "real", "web")},
    )
    description = Fixed(table).describe()
    assert description["left_out"] == {
        "count": 3,
        "by_reason": {"# pixels": 2, "blank": 1},
        "first": ["a.png: 12 pixels", "b.png: 15 pixels", "c.png: blank"],
    }
    assert description["by_kind"] == {"real": {"train": 50, "val": 7}, "web": {"train": 50, "val": 7}}
    assert description["by_source"] == {"stripes": {"train": 100, "val": 14}}


def standing(rank: int = 0, world: int = 1) -> Any:
    """Return what a data module asks of a trainer, one that stands at batch 2 of epoch 3 of 12."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=2), total=SimpleNamespace(ready=41))
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        current_epoch=3,
        max_epochs=12,
        state=SimpleNamespace(fn="fit"),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=False),
    )


def read(loader: Any) -> list[int]:
    return [index for batch in loader for index in batch["index"].tolist()]


def test_each_row_is_evaluated_by_one_process() -> None:
    data = StripesDataModule(val=27)
    parts = []
    for rank in range(2):
        data.trainer = standing(rank, world=2)
        parts.append(read(data.val_dataloader()))
    assert sorted(parts[0] + parts[1]) == data.table.rows("val").tolist()
    assert [len(part) for part in parts] == [14, 13]


def test_each_loader_reads_its_split() -> None:
    data = StripesDataModule(train=8, val=4, test=3)
    loaders = data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()
    assert [read(loader) for loader in loaders] == [[8, 9, 10, 11], [12, 13, 14], [12, 13, 14]]


def test_the_place_in_a_run_is_that_of_the_trainer() -> None:
    data = StripesDataModule(train=24, batch_size=4, augment=BatchAugment(calm=0.75, calm_strength=0.0, flip=0.0))
    whole = read(data.train_dataloader())
    sampler = data.train_dataloader().sampler
    data.trainer = standing()
    sampler.start_at(3, 0)
    epoch = [row for row, _ in sampler]
    assert epoch != whole
    assert read(data.train_dataloader()) == epoch[8:]
    assert data._progress() == 0.25
    batch = next(iter(data.train_dataloader()))
    changed, plain = (each.on_after_batch_transfer(batch, 0)["image"] for each in (data, StripesDataModule()))
    assert torch.allclose(changed, plain, atol=1e-4)  # calm begins at this quarter of the run


def test_the_seed_of_the_run_is_taken_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    orders = [read(StripesDataModule(seed=seed).train_dataloader()) for seed in (None, 5, 0)]
    assert orders[0] == orders[1] != orders[2]


def test_gray_images_of_a_coloured_set_are_normalised_by_the_mean_of_its_channels() -> None:
    class Coloured(StripesDataModule):
        native_channels = 3
        native_mean = (0.5, 0.25, 0.0)
        native_std = (0.5, 0.25, 0.75)

    assert Coloured(channels=1).preprocessing["mean"] == [0.25]
    assert Coloured(channels=1).preprocessing["std"] == [0.5]
    assert Coloured().preprocessing["std"] == [0.5, 0.25, 0.75]


@pytest.mark.parametrize("near", [True, False])
def test_near_duplicates_stay_in_one_fold_if_that_is_wanted(near: bool, tmp_path: Path) -> None:
    table = stripes_table({"train": 80})
    images = pixels(table).copy()
    images[40:] = np.minimum(images[:40] + 3, 255)  # a little brighter
    data = Fixed(
        replace(table, images=images, labels=np.tile(table.labels[:40], 2), digests=content_digests(images)),
        folds=2,
        cache_dir=str(tmp_path),
    )
    data.near_duplicates = near
    assert (data.table.splits[:40].tolist() == data.table.splits[40:].tolist()) is near
