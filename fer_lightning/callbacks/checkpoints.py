"""Checkpoints that are whole or not there: an atomic writer, the best one, and the one to resume from."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fer_lightning.errors import CheckpointError, ConfigError

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "ResumeCheckpoint",
    "check_checkpoint",
    "checkpoint_folder",
    "is_rehearsal",
]

PART_SUFFIX = ".ckpt.part"


def checkpoint_folder(trainer: Trainer) -> Path:
    """Return the folder in which a run keeps its checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"


def is_rehearsal(trainer: Trainer) -> bool:
    """Tell whether this is a ``fast_dev_run``, which writes nothing."""
    return bool(getattr(trainer, "fast_dev_run", False))


def check_checkpoint(path: Path) -> None:
    """Read a checkpoint file through and compare its checksums, which loading it does not do.

    Raises:
        CheckpointError: if the file is missing, cut off, or has a flipped bit.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of '{damaged}' does not match")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the destination, flushes, looks at the result and renames.

    Whatever happens in between (a kill, a full disk), the previous file stays whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: if it could not be written; the previous file at ``path`` is untouched.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(prefix=".", suffix=PART_SUFFIX, dir=target.parent)
        except OSError as error:
            raise CheckpointError(f"cannot write checkpoint {target}: {error.strerror}") from error
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if not zipfile.is_zipfile(part):
                raise OSError("the file is incomplete")
            os.chmod(part, 0o644)
            os.replace(part, target)
            _flush_folder(target.parent)
        except (OSError, RuntimeError) as error:  # a full disk inside torch.save is a RuntimeError
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            raise CheckpointError(
                f"cannot write checkpoint {target} (disk full?): {reason}; the previous one is kept"
            ) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = lambda storage, loc: storage, weights_only: Any = True
    ) -> dict[str, Any]:
        """Read a checkpoint whose checksums are right, without running code from it.

        Raises:
            CheckpointError: if it is missing, damaged, or holds more than plain data and tensors.
        """
        check_checkpoint(Path(path))
        try:
            loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path} cannot be loaded as plain data and tensors: {reason}") from error
        return loaded


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prepare(folder: Path) -> None:
    """Create a checkpoint folder, see that it can be written, and clear what a killed writer left.

    Raises:
        ConfigError: if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe") as probe:
            probe.write(b"probe")
    except OSError as error:
        raise ConfigError(f"checkpoints cannot be written to {folder}: {error.strerror}") from error
    for part in folder.glob(f".*{PART_SUFFIX}"):
        part.unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation as ``checkpoints/best.ckpt`` of the run.

    Args:
        monitor: logged metric that decides.
        mode: ``max`` or ``min``.
        save_top_k: how many of the best to keep.
        filename: name of the file, without ``.ckpt``; may contain logged metrics, as Lightning's.
    """

    def __init__(
        self, monitor: str = "val_acc", mode: str = "max", save_top_k: int = 1, filename: str = "best"
    ) -> None:
        super().__init__(
            monitor=monitor, mode=mode, save_top_k=save_top_k, filename=filename, enable_version_counter=save_top_k > 1
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder and see that it can be written before training starts."""
        self.dirpath = str(checkpoint_folder(trainer))
        if stage == "fit" and trainer.is_global_zero and not is_rehearsal(trainer):
            _prepare(Path(self.dirpath))
        super().setup(trainer, pl_module, stage)


class ResumeCheckpoint(Checkpoint):
    """Keeps ``checkpoints/resume.ckpt``, from which the run goes on exactly, bit for bit.

    It is written every ``every_n_steps`` batches and at the end of each epoch. It is not written inside an accumulation
    window (its gradients would be lost) nor after the last batch of an epoch before validation (the hooks of the
    epoch's end would be skipped): there the epoch's end follows at once.

    Args:
        every_n_steps: batches between two writes inside an epoch; 0 for epoch ends only.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 0:
            raise ConfigError(f"resume_checkpoint.every_n_steps must not be negative, not {every_n_steps}")
        self.every_n_steps = every_n_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that the folder can be written before training starts."""
        if stage == "fit" and trainer.is_global_zero and not is_rehearsal(trainer):
            _prepare(checkpoint_folder(trainer))

    def due(self, batch: int, accumulate: int, is_last: bool) -> bool:
        """Tell whether a checkpoint is to be written after a batch.

        Args:
            batch: number of batches of the epoch that are done, from 1.
            accumulate: batches in an optimizer step.
            is_last: whether it was the last batch of the epoch.
        """
        return self.every_n_steps > 0 and batch % self.every_n_steps == 0 and batch % accumulate == 0 and not is_last

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write inside the epoch."""
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.due(batch_idx + 1, trainer.accumulate_grad_batches, is_last):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write at the end of the epoch, after validation."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not is_rehearsal(trainer):
            trainer.save_checkpoint(checkpoint_folder(trainer) / "resume.ckpt", weights_only=False)
