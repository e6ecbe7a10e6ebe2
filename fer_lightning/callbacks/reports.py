"""Reports as files and pictures: of each better validation, and of a test."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fer_lightning.callbacks.checkpoints import is_rehearsal
from fer_lightning.callbacks.full_disk import told_if_full
from fer_lightning.callbacks.provenance import PACKAGES, command_line, hardware
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.plots import curves_figure
from fer_lightning.evaluation.report import PICTURES, EvaluationResult, text_table, write_report
from fer_lightning.figures import figure_png
from fer_lightning.files import write_atomically

__all__ = ["EvaluationReport", "datamodule_of", "gather_rows", "hardware", "improved"]

Rows = dict[str, NDArray[Any]]
"""Predictions by column: ``index``, ``probs`` and, where known, ``target``."""


def improved(value: float, best: float | None, mode: str) -> bool:
    """Tell whether a monitored value is better than the best one so far."""
    if best is None:
        return value == value  # not NaN
    return value > best if mode == "max" else value < best


def gather_rows(rows: list[dict[str, Tensor]]) -> Rows:
    """Join what batches gave, over all processes, in the order of ``index``.

    Args:
        rows: of each batch, tensors ``(N, ...)`` by name, among them ``index``.

    Returns:
        Arrays by name, each sample once.
    """
    joined = {name: torch.cat([row[name] for row in rows]).cpu().numpy() for name in rows[0]} if rows else {}
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, joined)
        parts = [part for part in parts if part]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not joined:
        return joined
    _, first = np.unique(joined["index"], return_index=True)
    return {name: values[first] for name, values in joined.items()}


class EvaluationReport(Callback):
    """Writes what an evaluation found: numbers, predictions and pictures, in the run's folder and in TensorBoard.

    During ``fit``: ``val/`` holds the report of the best validation so far, ``metrics.csv`` and ``curves.png`` what was
    logged at each epoch. ``validate`` and ``test`` write into a folder of their own beside the checkpoints.

    Args:
        monitor: logged metric that decides which validation is best; that of ``checkpoint``.
        mode: ``max`` or ``min``.
        pictures: draw the pictures.
    """

    def __init__(self, monitor: str = "val_acc", mode: str = "max", pictures: bool = True) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"report.mode must be 'max' or 'min', not '{mode}'")
        self.monitor = monitor
        self.mode = mode
        self.pictures = pictures
        self.best: float | None = None
        self.history: list[dict[str, float]] = []
        self._rows: list[dict[str, Tensor]] = []
        self._best: tuple[Rows, dict[str, Any]] | None = None
        self._rate = 0.0
        self._table = ""

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far and the metrics of all epochs."""
        return {"best": self.best, "history": self.history, "table": self._table}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.history, self._table = state_dict["best"], state_dict["history"], state_dict["table"]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch; those of the focus part are none of an evaluation."""
        if dataloader_idx:
            return
        probs = outputs["logits"].float().softmax(dim=1)
        self._rows.append({"index": outputs["index"], "target": outputs["label"], "probs": probs})

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report if this validation is the best so far, or the only one."""
        rows, self._rows = gather_rows(self._rows), []
        if trainer.sanity_checking:
            return
        folder = Path(trainer.default_root_dir)
        if trainer.state.fn == "fit":
            value = trainer.callback_metrics.get(self.monitor)
            if value is None:
                known = ", ".join(sorted(map(str, trainer.callback_metrics)))
                raise ConfigError(f"checkpoint.monitor '{self.monitor}' is not logged; logged are: {known}")
            if not improved(float(value), self.best, self.mode):
                return
            self.best, self._best = float(value), (rows, _context(trainer, "val"))
            # the other pictures take seconds: they are drawn once, at the end
            with told_if_full(f"the report in {folder / 'val'}"):
                self._write(trainer, folder / "val", *self._best, pictures=PICTURES[:1])
            return
        self._write(trainer, folder, rows, _context(trainer, "val"))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of the test."""
        rows, self._rows = gather_rows(self._rows), []
        self._write(trainer, Path(trainer.default_root_dir), rows, _context(trainer, "test"))

    def _write(
        self, trainer: Trainer, folder: Path, rows: Rows, context: dict[str, Any], pictures: Sequence[str] = PICTURES
    ) -> None:
        data = datamodule_of(trainer)
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        result = EvaluationResult(tuple(data.class_names), rows["index"], rows["target"], rows["probs"])
        table, drawn = data.table, pictures if self.pictures else ()
        paths = write_report(folder, result, context, table.files, _model_name(trainer), table.images, drawn)
        self._table = text_table(json.loads(paths["report"].read_text(encoding="utf-8")))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name in drawn:
                    pixels = np.asarray(Image.open(paths[name]).convert("RGB"))
                    logger.experiment.add_image(
                        f"{context['split']}/{name}", pixels, trainer.global_step, dataformats="HWC"
                    )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate: a plateau schedule may change it before the epoch's row is written."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row of metrics, and draw the curves."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": float(trainer.current_epoch), "step": float(trainer.global_step), "lr": self._rate, **values}
        self.history = [*(past for past in self.history if past["epoch"] < row["epoch"]), row]
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        folder = Path(trainer.default_root_dir)
        with told_if_full(f"{folder / 'metrics.csv'}"):
            write_atomically(folder / "metrics.csv", _history_csv(self.history))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what came out and where it is."""
        if not trainer.is_global_zero or is_rehearsal(trainer) or not self._table:
            return
        folder = Path(trainer.default_root_dir)
        with told_if_full(f"the report in {folder / 'val'}"):
            if self._best is not None:
                self._write(trainer, folder / "val", *self._best)
            if self.pictures and self.history:
                write_atomically(
                    folder / "curves.png", figure_png(curves_figure(_curves(self.history), _model_name(trainer)))
                )
        print(f"\nBest validation ({self.monitor} {self.best:.4f})\n\n{self._table}\n")
        print(f"report       {folder / 'val' / 'report.json'}")
        print(f"checkpoint   {folder / 'checkpoints' / 'best.ckpt'}")
        print(f"watch        tensorboard --logdir {folder.parent}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the table of an evaluation."""
        if stage in ("validate", "test") and trainer.is_global_zero and self._table and not trainer.interrupted:
            print(f"\n{self._table}\n\nreport       {Path(trainer.default_root_dir) / 'report.json'}")


def datamodule_of(trainer: Trainer) -> EmotionDataModule:
    """Return the data module of a run, which can name its samples.

    Raises:
        ConfigError: if it is none of ours.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, EmotionDataModule):
        raise ConfigError("reports and predictions need a data module derived from EmotionDataModule")
    return data


def _model_name(trainer: Trainer) -> str:
    backbone = trainer.lightning_module.hparams.get("backbone", "")
    return backbone if isinstance(backbone, str) else str(backbone.get("class_path", type(backbone).__name__))


def _context(trainer: Trainer, split: str) -> dict[str, Any]:
    """Return what one must know to repeat an evaluation."""
    data = datamodule_of(trainer).describe()
    return {
        "split": split,
        "overlap_with_train": data["overlap_with_train"].get(split),
        **({"epoch": trainer.current_epoch, "step": trainer.global_step} if trainer.state.fn == "fit" else {}),
        "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
        "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
        "model": _model_name(trainer),
        "parameters": sum(parameter.numel() for parameter in trainer.lightning_module.parameters()),
        "precision": trainer.precision,
        "devices": f"{trainer.world_size} x {trainer.strategy.root_device.type}",
        "hardware": hardware(),
        "command": command_line(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("fer_lightning", *PACKAGES)},
        "data": data,
    }


def _history_csv(history: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow(
            {name: int(value) if name in ("epoch", "step") else f"{value:.6g}" for name, value in row.items()}
        )
    return text.getvalue()


def _curves(history: list[dict[str, float]]) -> dict[str, list[tuple[float, float]]]:
    names = ("train_loss", "val_loss", "train_acc", "val_acc", "val_f1_macro")
    curves = {name: [(row["epoch"], row[name]) for row in history if name in row] for name in names}
    return {name: points for name, points in curves.items() if points}
