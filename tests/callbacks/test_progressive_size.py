from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.callbacks import progressive_size
from fer_lightning.callbacks.progressive_size import ProgressiveSize
from fer_lightning.errors import ConfigError
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import fit
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import PooledBackbone

NETWORK = "--model.backbone=resnet10t"
PATH = "--trainer.callbacks+=ProgressiveSize"
SIZES = "--trainer.callbacks.schedule={0: 8, 0.5: 12, 0.75: 16}"


class Sizes(Callback):
    """Notes the sides of training and validation images."""

    seen: ClassVar[list[tuple[str, int, int]]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen.append(("train", trainer.current_epoch, batch["image"].shape[-1]))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.seen.append(("val", trainer.current_epoch, batch["image"].shape[-1]))


def test_the_size_follows_from_the_share_of_the_run() -> None:
    callback = ProgressiveSize({0.5: 40, 0: 32, 0.8: 48})
    assert [callback.decide(epoch / 10, 48)[0] for epoch in range(10)] == [32] * 5 + [40] * 3 + [48] * 2
    assert callback.decide(0.55, 48)[1] == "from 0.5 of the run on"


def test_a_share_is_reached_in_spite_of_rounding() -> None:
    assert ProgressiveSize({0: 8, 0.1 + 0.2: 16}).decide(3 / 10, 48)[0] == 16


def test_before_the_first_share_images_have_full_size() -> None:
    assert ProgressiveSize({0.5: 24}).decide(0.2, 48) == (48, "full size before 0.5 of the run")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({}, "the schedule is empty"),
        ({1.0: 24}, "1 is no share of the run"),
        ({-0.1: 24}, "-0.1 is no share of the run"),
        ({0.0: 4}, "at least 8 pixels, not 4"),
    ],
)
def test_schedules_that_make_no_sense(schedule: dict[float, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProgressiveSize(schedule)


def test_training_images_grow_and_validation_images_do_not(tmp_path: Path) -> None:
    Sizes.seen.clear()
    record = "--trainer.callbacks+=tests.callbacks.test_progressive_size.Sizes"
    options = ["--data.augment=BatchAugment", "--data.mix=BatchMix", "--trainer.limit_train_batches=2"]
    assert fit(tmp_path, NETWORK, PATH, SIZES, record, *options, epochs=4) == 0
    sides = {epoch: {side for part, at, side in Sizes.seen if (part, at) == ("train", epoch)} for epoch in range(4)}
    assert sides == {0: {8}, 1: {8}, 2: {12}, 3: {16}}
    assert {side for part, _, side in Sizes.seen if part == "val"} == {16}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([SIZES], "the backbone TinyBackbone, built for 16 pixels, does not work with 8"),
        (
            ["--model.backbone=fer_a", "--data.image_size=48", SIZES],
            "FERNet, built for 48 pixels, does not",
        ),
        (
            ["--model.backbone=vit_tiny_patch16_224", "--data.image_size=32", SIZES],
            "built for 32 pixels, does not",
        ),
        ([NETWORK, "--trainer.callbacks.schedule={0: 24}"], "24 pixels are more than the data's 16"),
        ([NETWORK, SIZES, "--trainer.max_epochs=-1", "--trainer.max_steps=2"], "set trainer.max_epochs"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, PATH, *options, epochs=1) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_change_of_the_size_is_told_once_and_the_data_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progressive_size, "rank_zero_info", said.append)
    callback, data = ProgressiveSize({0: 8, 0.5: 16}), StripesDataModule()
    task = EmotionTask(
        PooledBackbone(), class_names=list(data.class_names), num_classes=7, preprocessing=data.preprocessing
    )
    trainer: Any = SimpleNamespace(datamodule=data, max_epochs=4)
    for _ in range(2):
        said.clear()
        callback.setup(trainer, task, "fit")
        assert data.steps.training_size is not None
        assert [data.steps.training_size(share) for share in (0.0, 0.4, 0.5)] == [8, 8, 16]
        for trainer.current_epoch in (0, 0, 1, 2, 3):
            callback.on_train_batch_start(trainer, task, None, 0)
        assert said == [
            "epoch 0: training images of 8 pixels (from 0 of the run on)",
            "epoch 2: training images of 16 pixels (from 0.5 of the run on)",
        ]
        callback.teardown(trainer, task, "fit")
        assert data.steps.training_size is None
    callback.setup(trainer, task, "fit")
    callback.on_train_batch_start(trainer, task, None, 0)
    assert said.pop().startswith("epoch 3: training images of 16 pixels")  # another run tells it again
    for trainer.max_epochs in (None, -1, 0):
        with pytest.raises(ConfigError, match="must know the length of the run"):
            callback.setup(trainer, task, "fit")
