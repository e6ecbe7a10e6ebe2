"""``fer predict``: a table of predictions, one row per sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning.callbacks.checkpoints import is_rehearsal
from fer_lightning.callbacks.reports import datamodule_of, gather_rows
from fer_lightning.evaluation.predictions import PREDICTIONS, predictions_of, write_predictions
from fer_lightning.models.calibration import Calibration

__all__ = ["PredictionWriter"]


class PredictionWriter(Callback):
    """Writes ``predictions.csv``, with the columns of ``prediction_columns``, into the trainer's folder.

    Args:
        calibration: makes the probabilities of the logits.
        coverage: also write prediction sets; ``None`` for none.

    Raises:
        ConfigError: if the calibration has no sets for the coverage.
    """

    def __init__(self, calibration: Calibration | None = None, coverage: float | None = None) -> None:
        self.calibration = Calibration() if calibration is None else calibration
        self.coverage = coverage
        if coverage is not None:
            self.calibration.check_coverage(coverage)
        self._rows: list[dict[str, Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise ``ConfigError`` if the data module is not one of ours, with a samples table."""
        datamodule_of(trainer)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch."""
        logits = outputs["logits"].float().cpu()
        self._rows.append({"index": outputs["index"].cpu(), "probs": self.calibration.probabilities(logits)})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file; nothing in a rehearsal, which computes a few batches."""
        rows, self._rows = gather_rows(self._rows), []
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        data = datamodule_of(trainer)
        path = Path(trainer.default_root_dir) / PREDICTIONS
        model = Path(str(trainer.ckpt_path)).name
        predictions = predictions_of(data.table, rows["index"], rows["probs"], "test", model)
        write_predictions(path, predictions, self.calibration, self.coverage)
        print(f"predictions  {path}")
