"""Stop before a non-finite loss reaches the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning.callbacks.checkpoints import checkpoint_folder
from fer_lightning.errors import NonFiniteError

__all__ = ["FiniteGuard"]


class FiniteGuard(Callback):
    """Ends the run, on every process, at the first loss that is NaN or infinite.

    The check comes before the backward pass, so weights, optimizer and checkpoints are still good. The rows of the
    batch are written to ``non_finite_rank<n>.json`` in the run's folder.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._batch_idx = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the batch that is being worked on."""
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the loss.

        Raises:
            NonFiniteError: if it is not finite on any process.
        """
        finite = bool(torch.isfinite(loss).all())
        everywhere = trainer.strategy.reduce_boolean_decision(finite) if trainer.world_size > 1 else finite
        if everywhere:
            return
        where = f"epoch {trainer.current_epoch}, batch {self._batch_idx}"
        dump = Path(trainer.default_root_dir) / f"non_finite_rank{trainer.global_rank}.json"
        index = self._batch["index"].tolist() if isinstance(self._batch, dict) and "index" in self._batch else []
        dump.parent.mkdir(parents=True, exist_ok=True)
        dump.write_text(json.dumps({"epoch": trainer.current_epoch, "batch": self._batch_idx, "index": index}))
        last_good = checkpoint_folder(trainer) / "resume.ckpt"
        kept = f"last good checkpoint: {last_good}" if last_good.exists() else "no checkpoint was written yet"
        raise NonFiniteError(
            f"the training loss is {float(loss.detach()):g} at {where}; weights are those before it, rows of the batch "
            f"are in {dump}, {kept}. Try a smaller learning rate, --trainer.gradient_clip_val 1 or precision 32-true"
        )
