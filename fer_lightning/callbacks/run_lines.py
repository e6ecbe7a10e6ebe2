"""The lines that a training prints: three when it begins, and one for each epoch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from fer_lightning.callbacks.checkpoints import best_checkpoint, first_callback, is_rehearsal
from fer_lightning.callbacks.reports import EvaluationReport, datamodule_of
from fer_lightning.models.backbones import BACKBONES, backbone_name

__all__ = ["RunLines", "epoch_line", "network_line", "shows_bar"]


class RunLines(Callback):
    """Prints three lines when training begins, and one for each epoch where no progress bar is shown.

    Only the first process prints. Each line is flushed, so that it is in a log file at once. Without ``header`` the
    three lines are left out; ``precision`` says why the precision was chosen.
    """

    def __init__(self, header: bool = True, precision: str = "") -> None:
        self.header = header
        self.precision = precision
        self._begun = 0.0
        self._finished: float | None = None  # seconds of an epoch whose line is not printed yet

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print data, network and devices."""
        if not self.header or not trainer.is_global_zero:
            return
        reason = f" ({self.precision})" if self.precision else ""
        devices = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
        place = "nothing is written" if is_rehearsal(trainer) else f"in {trainer.default_root_dir}"
        print(f"data         {datamodule_of(trainer)}")
        print(f"network      {network_line(pl_module, trainer.ckpt_path)}")
        seed = os.environ.get("PL_GLOBAL_SEED", "0")
        print(f"run          {trainer.precision}{reason}, {devices}, seed {seed}, {place}", flush=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._say(trainer)
        self._begun = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time; the line comes when the best checkpoint has been chosen too."""
        self._finished = time.monotonic() - self._begun

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch."""
        self._say(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Print the line of an epoch after which the run was stopped."""
        self._say(trainer)

    def _say(self, trainer: Trainer) -> None:
        seconds, self._finished = self._finished, None
        if seconds is None or not trainer.is_global_zero or shows_bar(trainer):
            return
        report, best = first_callback(trainer, EvaluationReport), best_checkpoint(trainer)
        assert report is not None  # every run has one
        row = report.history[-1]
        print(epoch_line(row, trainer.max_epochs, seconds, str(best.monitor), best.best), flush=True)


def shows_bar(trainer: Trainer) -> bool:
    """Tell whether a progress bar is drawn on a terminal."""
    return sys.stdout.isatty() and first_callback(trainer, ProgressBar) is not None


def network_line(task: LightningModule, checkpoint: str | Path | None) -> str:
    """Return name and parameters of a network, and which weights it starts from."""
    given: dict[str, Any] = dict(task.hparams)
    backbone = given.get("backbone", "")
    name, is_timm = backbone_name(backbone), isinstance(backbone, str) and backbone not in BACKBONES
    count = sum(parameter.numel() for parameter in task.parameters())
    if checkpoint:
        weights = f"goes on from {checkpoint}"
    elif given.get("weights"):
        weights = f"weights of {given['weights']}"
    elif given.get("pretrained"):
        weights = "pretrained weights"
    elif name.startswith("hf:"):
        weights = "weights of that folder"
    else:
        weights = "random weights" + (" (--model.pretrained true)" if is_timm else "")
    return f"{name}, {count:,} parameters, {weights}"


def epoch_line(
    row: Mapping[str, float], epochs: int | None, seconds: float, monitor: str, best: Mapping[str, Any]
) -> str:
    """Return the line of an epoch.

    Args:
        row: metrics of the epoch, with its number ``epoch``, from 0, and ``lr``.
        epochs: how many there will be, ``None`` or -1 if that is not known.
        seconds: that the epoch took.
        monitor: metric that decides which checkpoint is best.
        best: its ``best`` value and the ``epoch`` of that, from 0; empty if there is none.

    Example:
        >>> row = {"epoch": 0, "train_loss": 0.8134, "val_acc": 0.612, "val_f1_macro": 0.589, "lr": 0.0029}
        >>> epoch_line(row, 12, 9.2, "val_acc", {"best": 0.612, "epoch": 0})
        'epoch 1/12  loss 0.8134  val acc 61.2 %  macro F1 58.9 %  lr 0.0029  9 s  best 61.2 % (epoch 1)'
    """
    parts = [f"epoch {row['epoch'] + 1:.0f}" + (f"/{epochs}" if epochs is not None and epochs > 0 else "")]
    parts += [f"loss {row['train_loss']:.4f}"] if "train_loss" in row else []
    parts += [f"val acc {_percent(row['val_acc'])}"] if "val_acc" in row else []
    parts += [f"macro F1 {_percent(row['val_f1_macro'])}"] if "val_f1_macro" in row else []
    parts += [f"lr {row['lr']:.2g}", f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"]
    if best:
        is_share = monitor.startswith(("val_acc", "val_f1", "val_recall", "val_precision"))
        text = _percent(best["best"]) if is_share else f"{best['best']:.4f}"
        name = {"val_acc": "", "val_f1_macro": "macro F1 "}.get(monitor, f"{monitor} ")
        parts.append(f"best {name}{text} (epoch {best['epoch'] + 1})")
    return "  ".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
