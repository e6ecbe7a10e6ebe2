"""Reports as files and pictures: of each better validation, and of a test."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.callbacks.checkpoints import FollowsBest, best_checkpoint, checkpoint_folder, is_rehearsal
from fer_lightning.callbacks.full_disk import warn_if_full
from fer_lightning.callbacks.provenance import code_state, command_line, hardware, versions
from fer_lightning.callbacks.run_page import curves, training_of
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.beside import PAGE
from fer_lightning.evaluation.looks import looks_content
from fer_lightning.evaluation.page import Training
from fer_lightning.evaluation.page_parts import refresh_pages
from fer_lightning.evaluation.plots import curves_figure
from fer_lightning.evaluation.predictions import predictions_of
from fer_lightning.evaluation.report import PICTURES, report_content, text_table, write_report
from fer_lightning.evaluation.seen import seen_images, seen_rows
from fer_lightning.figures import figure_png
from fer_lightning.files import csv_text, write_atomically
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS
from fer_lightning.runs.looks import Standing
from fer_lightning.runs.records import METRICS, REPORT, Run
from fer_lightning.runs.trained_on import TrainedOn

__all__ = ["EvaluationReport", "datamodule_of", "gather_rows"]

Rows = dict[str, NDArray[Any]]
"""Predictions by column: ``index``, ``probs`` and, where known, ``target``."""


def gather_rows(rows: list[dict[str, Tensor]]) -> Rows:
    """Join the tensors ``(N, ...)`` of all batches and processes by name, each sample once, ordered by ``index``."""
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


class EvaluationReport(FollowsBest):
    """Writes what an evaluation found: numbers, predictions and pictures, in the run's folder and in TensorBoard.

    During ``fit``: ``val/`` holds the report of the best validation so far, ``metrics.csv`` and ``curves.png`` what was
    logged at each epoch. ``validate`` and ``test`` write into a folder of their own beside the checkpoints.

    Args:
        pictures: draw the pictures.

    Attributes:
        trained_on: which images the model was trained on, ``None`` if it does not say.
        subject: further facts of what is evaluated, for the report.
        standing: how often the test split was looked at, ``None`` if that is not counted.
    """

    def __init__(self, pictures: bool = True) -> None:
        self.pictures = pictures
        self.trained_on: TrainedOn | None = None
        self.subject: dict[str, Any] = {}
        self.standing: Standing | None = None
        self.history: list[dict[str, float]] = []
        self._batches: list[dict[str, Tensor]] = []
        self._validated: Rows = {}
        self._best: tuple[Rows, dict[str, Any]] | None = None  # predictions and context of the best validation
        self._data: dict[str, Any] = {}
        self._code: dict[str, Any] = {}
        self._unwritten = False
        self._rate = 0.0
        self._table = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Describe the data, once for all reports of the run."""
        if trainer.is_global_zero and stage != "predict":
            self._data, self._code = datamodule_of(trainer).describe(), code_state()

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics of all epochs."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.history = state_dict["history"]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch, except for those of the focus part, which are not reported."""
        if dataloader_idx:
            return
        probs = outputs["logits"].float().softmax(dim=1)
        self._batches.append({"index": outputs["index"], "target": outputs["label"], "probs": probs})

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the predictions of all processes; write the report of a validation that is not part of a training."""
        if trainer.state.fn == "fit":
            self._validated = self._joined()
        else:
            self._write_evaluation(trainer, "val")

    def on_better_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of the best validation so far."""
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        self._best = self._validated, self._context(trainer, "val", self._validated)
        self._write_best(trainer)

    def _write_best(self, trainer: Trainer, at_end: bool = False) -> None:
        """Write the report of the best validation: while training, without what takes seconds to draw."""
        folder = Path(trainer.default_root_dir)
        self._unwritten = True
        with warn_if_full(f"the report in {folder / 'val'}"):
            if self._best is not None:
                page = folder / PAGE if at_end and self.pictures else None
                told = None if page is None else training_of(folder, curves(self.history))
                pictures = PICTURES if at_end else PICTURES[:1]
                self._write(trainer, folder / "val", *self._best, pictures, page, told)
            self._unwritten = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of the test."""
        self._write_evaluation(trainer, "test")

    def _write_evaluation(self, trainer: Trainer, split: str) -> None:
        rows = self._joined()
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            self._write(trainer, folder, rows, self._context(trainer, split, rows), page=folder / PAGE)
            if not is_rehearsal(trainer) and (folder.parent / CHECKPOINTS).is_dir():
                refresh_pages(folder.parent)

    def _joined(self) -> Rows:
        batches, self._batches = self._batches, []
        return gather_rows(batches)

    def _write(
        self,
        trainer: Trainer,
        folder: Path,
        rows: Rows,
        context: dict[str, Any],
        pictures: Sequence[str] = PICTURES,
        page: Path | None = None,
        training: Training | None = None,
    ) -> None:
        if is_rehearsal(trainer):
            return
        data = datamodule_of(trainer)
        split, model = context["split"], _model_name(trainer)
        result = predictions_of(data.table, rows["index"], rows["probs"], split, model, rows["target"])
        right = float((result.preds == result.target).mean()) if len(result.index) else None
        looks = looks_content(self.standing, right, len(result.index))
        context = {**context, "seen": seen_images(result, self.trained_on), "looks": looks}

        def show(name: str, pixels: NDArray[np.uint8]) -> None:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    tag = f"{context['split']}/{name}"
                    logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")

        self._table = text_table(report_content(result, context))
        table, shown = data.table, pictures if self.pictures else ()
        seen, page = seen_rows(result, self.trained_on), page if self.pictures else None
        seen = self._seen(trainer, split, rows) if seen is None else seen
        write_report(folder, result, context, table.images, shown, show, seen, page, training)

    def _shared(self, trainer: Trainer, split: str, rows: Rows) -> int | None:
        """Return how many of the scored rows are in the training part too, ``None`` if the split holds no row."""
        if split not in self._data["overlap_with_train"]:
            return None
        return int(self._seen(trainer, split, rows).sum())

    def _seen(self, trainer: Trainer, split: str, rows: Rows) -> NDArray[np.bool_]:
        """Return which of the scored rows are in the training part too, bool ``(N,)``."""
        if not self._data["overlap_with_train"].get(split):
            return np.zeros(len(rows["index"]), np.bool_)
        return np.isin(rows["index"], datamodule_of(trainer).table.overlap(split, "train"))

    def _context(self, trainer: Trainer, split: str, rows: Rows) -> dict[str, Any]:
        """Return the facts that are needed to repeat an evaluation."""
        return {
            "split": split,
            "overlap_with_train": self._shared(trainer, split, rows),
            **({"epoch": trainer.current_epoch, "step": trainer.global_step} if trainer.state.fn == "fit" else {}),
            "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            **self.subject,
            "model": _model_name(trainer),
            "parameters": sum(parameter.numel() for parameter in trainer.lightning_module.parameters()),
            "precision": trainer.precision,
            "devices": f"{trainer.world_size} x {trainer.strategy.root_device.type}",
            "hardware": hardware(),
            "command": command_line(),
            "python": platform.python_version(),
            "versions": dict(versions()),
            "code": self._code,
            "data": self._data,
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate: a plateau schedule may change it before the epoch's row is written."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row to ``metrics.csv``."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": float(trainer.current_epoch), "step": float(trainer.global_step), "lr": self._rate, **values}
        self.history = [*(past for past in self.history if past["epoch"] < row["epoch"]), row]
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        if self._unwritten:
            self._write_best(trainer)  # the disk was full: there may be room by now
        path = Path(trainer.default_root_dir) / METRICS
        with warn_if_full(str(path)):
            write_atomically(path, _history_csv(self.history))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table of the best validation, and the paths of report and checkpoint."""
        folder, best = Path(trainer.default_root_dir), best_checkpoint(trainer)
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        self._write_best(trainer, at_end=True)
        if self._best is None:  # nothing was better than what an earlier start of the run has reported
            with suppress(DataError):
                self._table = text_table(Run(folder).report("val"))
        if not self._table or not best.best:
            return
        if self.pictures and self.history:
            with warn_if_full(f"{folder / 'curves.png'}"):
                figure = curves_figure(curves(self.history), _model_name(trainer))
                write_atomically(folder / "curves.png", figure_png(figure))
        print(f"\nBest validation ({best.monitor} {best.best['best']:.4f})\n\n{self._table}\n")
        print(f"report       {folder / 'val' / REPORT}")
        print(f"checkpoint   {checkpoint_folder(trainer) / BEST}")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                place = folder.parent if Path(logger.log_dir) == folder else logger.root_dir
                print(f"watch        tensorboard --logdir {place}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the table of an evaluation."""
        if stage in ("validate", "test") and trainer.is_global_zero and self._table and not trainer.interrupted:
            folder = Path(trainer.default_root_dir)
            print(f"\n{self._table}\n\nreport       {folder / REPORT}")
            if self.pictures and (folder / PAGE).is_file():
                print(f"page         {folder / PAGE}")


def datamodule_of(trainer: Trainer) -> EmotionDataModule:
    """Return the data module of a run, which can name its samples; raise ``ConfigError`` if it is none of ours."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, EmotionDataModule):
        raise ConfigError("reports and predictions need a data module derived from EmotionDataModule")
    return data


def _model_name(trainer: Trainer) -> str:
    backbone = trainer.lightning_module.hparams.get("backbone", "")
    return backbone if isinstance(backbone, str) else str(backbone.get("class_path", type(backbone).__name__))


def _history_csv(history: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in history for name in row))
    forms = {"epoch": ".0f", "step": ".0f"}
    rows = [[f"{row[name]:{forms.get(name, '.6g')}}" if name in row else "" for name in columns] for row in history]
    return csv_text(columns, rows)
