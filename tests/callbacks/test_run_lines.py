from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import nn

from fer_lightning.callbacks.learning_rate import LearningRate
from fer_lightning.callbacks.progress import OneLineBar
from fer_lightning.callbacks.run_lines import epoch_line, network_line
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import fit
from tests.helpers.data import StripesDataModule

HEADER = "--trainer.enable_model_summary=null"
BAR = "--trainer.enable_progress_bar=null"
ROW = {"epoch": 1.0, "lr": 2.5e-05, "train_loss": 1.25, "val_acc": 0.45, "val_f1_macro": 0.5, "val_loss": 1.5}


@pytest.mark.parametrize(
    ("epochs", "seconds", "monitor", "best", "end"),
    [
        (12, 9.4, "val_acc", {"best": 0.5, "epoch": 0}, "9 s  best 50.0 % (epoch 1)"),
        (12, 700.0, "val_f1_macro", {"best": 0.5, "epoch": 1}, "12 min  best macro F1 50.0 % (epoch 2)"),
        (-1, 1.0, "val_loss", {"best": 1.25, "epoch": 0}, "1 s  best val_loss 1.2500 (epoch 1)"),
        (None, 1.0, "val_recall_sad", {"best": 0.25, "epoch": 0}, "1 s  best val_recall_sad 25.0 % (epoch 1)"),
        (12, 1.0, "val_acc", {}, "1 s"),
        (12, 599.4, "val_acc", {}, "599 s"),
        (12, 600.0, "val_precision_sad", {"best": 0.5, "epoch": 9}, "10 min  best val_precision_sad 50.0 % (epoch 10)"),
    ],
)
def test_the_line_of_an_epoch(epochs: int | None, seconds: float, monitor: str, best: dict[str, Any], end: str) -> None:
    number = "2/12" if epochs == 12 else "2"
    line = epoch_line(ROW, epochs, seconds, monitor, best)
    assert line == f"epoch {number}  loss 1.2500  val acc 45.0 %  macro F1 50.0 %  lr 2.5e-05  {end}"


def test_an_epoch_without_validation_has_a_line() -> None:
    assert epoch_line({"epoch": 0.0, "lr": 0.1, "train_loss": 2.0}, 3, 2.0, "val_acc", {}) == (
        "epoch 1/3  loss 2.0000  lr 0.1  2 s"
    )


@pytest.mark.parametrize(
    ("options", "checkpoint", "expected"),
    [
        ({"backbone": "fer_b"}, None, r"fer_b, [\d,]+ parameters, random weights"),
        ({"backbone": "fer_b"}, "a/resume.ckpt", r"fer_b, [\d,]+ parameters, goes on from a/resume\.ckpt"),
        ({"backbone": "resnet10t"}, None, r"resnet10t, .* random weights \(--model\.pretrained true\)"),
    ],
)
def test_the_line_of_the_network(options: dict[str, Any], checkpoint: str | None, expected: str) -> None:
    shape: Any = {"image_size": 48, "channels": 1, "mean": [0.5], "std": [0.5]}
    task = EmotionTask(**options, class_names=["a", "b"], num_classes=2, preprocessing=shape)
    assert re.fullmatch(expected, network_line(task, checkpoint))


def test_a_network_of_ones_own_is_named_by_its_class() -> None:
    task = EmotionTask.__new__(EmotionTask)
    nn.Module.__init__(task)
    for backbone in ({"class_path": "my.Net"}, nn.Flatten()):
        task._set_hparams({"backbone": backbone, "weights": "start.pth"})
        assert re.match(r"(Net|Flatten), 0 parameters, weights of start\.pth", network_line(task, None))


def test_data_and_task_are_told_in_a_line() -> None:
    data = StripesDataModule(train=1400, test=0, channels=3, image_size=32)
    assert repr(data) == str(data) == "StripesDataModule: not read yet; 7 classes, 32x32 colour"
    _ = data.table
    assert repr(data) == "StripesDataModule: train 1,400, val 28; 7 classes, 32x32 colour"
    task = EmotionTask("fer_nano", class_names=list(data.class_names), num_classes=7, preprocessing=data.preprocessing)
    assert re.fullmatch(r"EmotionTask: fer_nano, [\d,]+ parameters; 7 classes, 32x32 colour", repr(task))


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"backbone": "resnet10t", "weights": "a.pth", "pretrained": True}, "weights of a.pth"),
        ({"backbone": "resnet10t", "pretrained": True}, "pretrained weights"),
        ({"backbone": "hf:folder"}, "weights of that folder"),
        ({"backbone": "fer_a"}, "random weights"),
        ({"backbone": "resnet10t"}, "random weights (--model.pretrained true)"),
    ],
)
def test_what_the_network_starts_from(options: dict[str, Any], start: str) -> None:
    task = EmotionTask.__new__(EmotionTask)
    nn.Module.__init__(task)
    task._set_hparams(options)
    assert network_line(task, None) == f"{options['backbone']}, 0 parameters, {start}"
    assert network_line(task, "a.ckpt") == f"{options['backbone']}, 0 parameters, goes on from a.ckpt"


def test_the_bar_shows_each_value_under_its_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"v_num": 3, "train_loss_step": 1.23456, "val_acc": 0.5, "val_f1_macro": 0.25, "val_loss": 9.0}
    monkeypatch.setattr(TQDMProgressBar, "get_metrics", lambda *args: values)
    bar, nothing = OneLineBar(), SimpleNamespace()
    assert bar.get_metrics(nothing, nothing) == {"loss": "1.235"}  # type: ignore[arg-type]  # those of the sanity check
    bar._validated = True
    assert bar.get_metrics(nothing, nothing) == {"loss": "1.235", "acc": "0.500", "f1": "0.250"}  # type: ignore[arg-type]


def test_the_logged_rate_is_that_of_the_first_group_at_its_step() -> None:
    logged: list[tuple[Any, int]] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))
    trainer: Any = SimpleNamespace(
        _logger_connector=SimpleNamespace(should_update_logs=True),
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.01}])],
        loggers=[logger, logger],
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=7)),
    )
    module: Any = None
    LearningRate().on_train_batch_end(trainer, module, None, None, 0)
    assert logged == [({"lr": 0.1}, 7)] * 2
    trainer._logger_connector.should_update_logs = False
    LearningRate().on_train_batch_end(trainer, module, None, None, 0)
    assert len(logged) == 2


def test_a_log_file_tells_what_begins_and_each_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, HEADER, BAR, epochs=2) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "data         StripesDataModule: train 84, val 28, test 28; 7 classes, 16x16 gray"
    assert re.fullmatch(r"network      TinyBackbone, [\d,]+ parameters, random weights", lines[1])
    assert lines[2] == f"run          32-true, 1 x cpu, seed 0, in {tmp_path / 'tiny/version_0'}"
    for number, line in enumerate(lines[3:5], start=1):
        start, end = rf"epoch {number}/2  loss \d\.\d{{4}}  ", r"lr \S+  \d+ s  best \d+\.\d % \(epoch \d\)"
        assert re.fullmatch(rf"{start}val acc \d+\.\d %  macro F1 \d+\.\d %  {end}", line)
    assert not any(word in captured.out + captured.err for word in ("FLOPs", "GPU", "TPU", "Epoch", "Seed set"))


def test_a_resumed_run_counts_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    capsys.readouterr()
    assert fit(tmp_path, HEADER, "--ckpt_path=last", epochs=2) == 0
    out = capsys.readouterr().out
    assert f"goes on from {tmp_path / 'tiny/version_0/checkpoints/resume.ckpt'}\n" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch ")] == ["2/2"]
    assert "Restor" not in out


def test_a_terminal_shows_one_bar_and_no_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert fit(tmp_path, BAR, "--trainer.num_sanity_val_steps=1", epochs=2) == 0
    out = capsys.readouterr().out
    frames = [frame for frame in re.split(r"[\r\n]", out) if frame.startswith("epoch ")]
    assert {frame.split("|")[0].split()[1] for frame in frames} == {"1/2", "2/2"}
    first = next(frame for frame in frames if "loss=" in frame)
    assert "acc=" not in first
    assert "acc=" in frames[-1]
    assert "f1=" in frames[-1]
    assert "macro F1 " not in out.partition("Best validation")[0]


def test_another_progress_bar_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--trainer.callbacks=lightning.pytorch.callbacks.TQDMProgressBar", "--trainer.callbacks.leave=true"]
    assert fit(tmp_path, BAR, *options, epochs=1) == 0
    out = capsys.readouterr().out
    assert "Epoch 0" in out
    assert "epoch 1/1  loss" in out
