"""``fer predict``: a table of predictions, one row per sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning.callbacks.reports import datamodule_of, gather_rows
from fer_lightning.evaluation.predictions import PREDICTIONS, predictions_of, write_predictions

__all__ = ["PredictionWriter"]


class PredictionWriter(Callback):
    """Writes ``predictions.csv``, with the columns of :func:`.prediction_columns`, into the trainer's folder."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise :class:`ConfigError` if the data module is not one of ours, with a samples table."""
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
        self._rows.append({"index": outputs["index"], "probs": outputs["logits"].softmax(dim=1)})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        rows, self._rows = gather_rows(self._rows), []
        if not trainer.is_global_zero:
            return
        data = datamodule_of(trainer)
        path = Path(trainer.default_root_dir) / PREDICTIONS
        model = Path(str(trainer.ckpt_path)).name
        write_predictions(path, predictions_of(data.table, rows["index"], rows["probs"], "test", model))
        print(f"predictions  {path}")
