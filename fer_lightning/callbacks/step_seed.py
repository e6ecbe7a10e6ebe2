"""Seeds the random numbers of each training step, so that a resumed run draws the same."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["StepSeed"]


class StepSeed(Callback):
    """Seeds torch before each training batch with (seed, epoch, batch, rank).

    Dropout and everything else that draws inside a step is then the same in a resumed run, with nothing to save.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed all devices."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        step = seed * 1_000_003 + trainer.current_epoch * 100_003 + batch_idx
        torch.manual_seed((step * 1024 + trainer.global_rank) % 2**63)
