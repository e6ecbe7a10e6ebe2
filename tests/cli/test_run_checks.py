"""What is known of a run before its data are read."""

from __future__ import annotations

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import BaseFinetuning, DeviceStatsMonitor, LearningRateMonitor, TQDMProgressBar

from fer_lightning.cli.class_names import check_backbone, looked_up
from fer_lightning.cli.lightning_parts import check_part, check_parts
from fer_lightning.cli.run_checks import check_accelerator, check_monitors
from fer_lightning.errors import ConfigError


def test_what_training_logs_may_be_watched() -> None:
    for metric in ("train_loss", "train_loss_step", "train_loss_epoch", "val_f1_a", "focus_acc"):
        check_monitors({"checkpoint.monitor": metric}, [], ["a", "b"])
    for metric in ("test_acc", "val_f1_c", "loss"):
        with pytest.raises(ConfigError, match=rf"checkpoint\.monitor: no metric is called '{metric}'"):
            check_monitors({"checkpoint.monitor": metric}, [], ["a", "b"])


@pytest.mark.parametrize("accelerator", ["auto", "cpu", None, 3])
def test_an_accelerator_that_is_there_passes(accelerator: object) -> None:
    check_accelerator(accelerator)


@pytest.mark.parametrize("there", ["cuda", "mps", ""])
def test_a_gpu_is_of_either_kind(monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: there == "cuda"))
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: there == "mps"))
    refused = {"gpu": not there, "cuda": there != "cuda", "mps": there != "mps"}
    names = {"gpu": "GPU", "cuda": "GPU", "mps": "MPS"}
    for accelerator in refused:
        if refused[accelerator]:
            with pytest.raises(ConfigError, match=f"accelerator {accelerator}: there is no {names[accelerator]} that"):
                check_accelerator(accelerator)
        else:
            check_accelerator(accelerator)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.overfit_batches", 1),
        ("trainer.overfit_batches", "0.1"),
        ("trainer.profiler", "xla"),
        ("trainer.barebones", True),
        ("trainer.enable_checkpointing", "false"),
        ("trainer.callbacks", "lightning.pytorch.callbacks.swa.StochasticWeightAveraging"),
    ],
)
def test_a_part_that_does_not_go_with_a_run_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match="does not go with a run: .*; instead: "):
        check_part(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("trainer.overfit_batches", "0.0"), ("trainer.profiler", "simple"), ("trainer.barebones", False)],
)
def test_a_part_that_goes_with_a_run_passes(key: str, value: object) -> None:
    check_part(key, value)


class OwnFinetuning(BaseFinetuning):
    """Derived from what is only a base class."""


TRAINER = {
    "barebones": False,
    "enable_checkpointing": None,
    "fast_dev_run": False,
    "logger": None,
    "overfit_batches": 0.0,
    "enable_progress_bar": None,
}


def test_parts_that_need_each_other() -> None:
    check_parts(TRAINER, [OwnFinetuning(), LearningRateMonitor(), TQDMProgressBar()])
    with pytest.raises(ConfigError, match="BaseFinetuning does not go with a run"):
        check_parts(TRAINER, [BaseFinetuning()])
    for monitor in (LearningRateMonitor(), DeviceStatsMonitor()):
        with pytest.raises(ConfigError, match="needs a logger: leave out --trainer.logger false"):
            check_parts({**TRAINER, "logger": False}, [monitor])
    with pytest.raises(ConfigError, match="is a progress bar: leave out"):
        check_parts({**TRAINER, "enable_progress_bar": False}, [TQDMProgressBar()])


def test_a_class_that_is_not_there_is_told_with_the_nearest_or_all() -> None:
    with pytest.raises(ConfigError, match="torch.optim has no 'FocalLos'; did you mean 'FocalLoss'"):
        looked_up("model.loss", "torch.optim.FocalLos", "X", own_classes=False)
    with pytest.raises(ConfigError, match=r"X: there is no loss 'Zzzzqq'; there are \w+, \w+, \w+"):
        looked_up("model.loss", "Zzzzqq", "X", own_classes=False)


def test_a_backbone_may_have_a_tag_or_be_a_class() -> None:
    for name in ("resnet18", "resnet18.tag_of_its_own", "EmotionTask", "my:thing"):
        check_backbone(name, "X")
    with pytest.raises(ConfigError, match=r"X: .*resnet18"):
        check_backbone("resnet18s", "X")
