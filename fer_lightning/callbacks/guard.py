"""Stop before a non-finite loss reaches a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning.callbacks.checkpoints import checkpoint_folder
from fer_lightning.errors import NonFiniteError
from fer_lightning.files import write_atomically
from fer_lightning.runs.checkpoint import RESUME

__all__ = ["FiniteGuard"]


@dataclass(frozen=True)
class _Step:
    """A step whose loss has not been checked yet, because the device may still be computing it."""

    epoch: int
    batch: int
    loss: Tensor
    finite: Tensor
    index: Any


class FiniteGuard(Callback):
    """Ends the run, on every process, at the first loss that is NaN or infinite.

    The rows of the batch are written to ``non_finite_rank<n>.json`` in the run's folder.

    On the CPU the loss is checked before the backward pass. Reading it from an accelerator would stall each step, so
    there it is checked one step later, and always before a validation, the end of the epoch and every checkpoint. So no
    checkpoint holds weights that such a loss has changed.
    The processes agree on the device, in the order of the steps.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._batch_idx = 0
        self._open: _Step | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the last step of an earlier run."""
        self._open = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batch that is being computed."""
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check this loss on the CPU; on other devices, check that of the step before.

        Raises:
            NonFiniteError: if it is not finite on any process.
        """
        loss = loss.detach()
        finite = torch.isfinite(loss).all().int()
        if trainer.world_size > 1:
            dist.all_reduce(finite, op=dist.ReduceOp.MIN)
        index = self._batch.get("index") if isinstance(self._batch, dict) else None
        late = _is_asynchronous(loss.device)
        if late:
            self._check(trainer)
        self._open = _Step(trainer.current_epoch, self._batch_idx, loss, finite, index)
        if not late:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last loss before a validation."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last loss of the epoch."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the last loss before a checkpoint."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        step, self._open = self._open, None
        if step is None or bool(step.finite):
            return
        where = f"epoch {step.epoch}, batch {step.batch}"
        dump = Path(trainer.default_root_dir) / f"non_finite_rank{trainer.global_rank}.json"
        index = [] if step.index is None else step.index.tolist()
        write_atomically(dump, json.dumps({"epoch": step.epoch, "batch": step.batch, "index": index}))
        last_good = checkpoint_folder(trainer) / RESUME
        kept = f"last good checkpoint: {last_good}" if last_good.exists() else "no checkpoint was written yet"
        raise NonFiniteError(
            f"the training loss is {float(step.loss.mean()):g} at {where}; it is in no checkpoint, rows of the batch "
            f"are in {dump}, {kept}. Try a smaller learning rate, --trainer.gradient_clip_val 1 or precision 32-true"
        )


def _is_asynchronous(device: torch.device) -> bool:
    """Tell whether reading a number off a device waits for the work that was given to it."""
    return device.type != "cpu"
