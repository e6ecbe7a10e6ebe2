"""The learning rate, for the loggers."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["LearningRate"]


class LearningRate(Callback):
    """Logs the rate of the first layer group as ``lr`` wherever Lightning logs a training step.

    Lightning's ``LearningRateMonitor`` would add the rates to the metrics that are kept of each epoch, under names that
    contain the optimizer's.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rate."""
        if trainer._logger_connector.should_update_logs:
            rate = float(trainer.optimizers[0].param_groups[0]["lr"])
            for logger in trainer.loggers:
                logger.log_metrics({"lr": rate}, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
