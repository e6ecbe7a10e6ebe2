"""The checkpoints that a run writes: the best one, the one to resume from, and those that are kept."""

from __future__ import annotations

import copy
import math
import os
import shutil
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from fer_lightning.errors import ConfigError
from fer_lightning.files import parts_in, replacing
from fer_lightning.runs.checkpoint import CHECKPOINTS, RESUME, SAVED_KEY
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO

__all__ = [
    "BestCheckpoint",
    "FollowsBest",
    "ResumeCheckpoint",
    "best_checkpoint",
    "checkpoint_folder",
    "first_callback",
    "improved",
    "is_rehearsal",
    "may_stop_after",
    "may_stop_here",
    "write_resume",
]

Kind = TypeVar("Kind", bound=Callback)


def first_callback(trainer: Trainer, kind: type[Kind]) -> Kind | None:
    """Return the first callback of a class that a trainer has, ``None`` if there is none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def checkpoint_folder(trainer: Trainer) -> Path:
    """Return the folder in which a run keeps its checkpoints."""
    return Path(trainer.default_root_dir) / CHECKPOINTS


def is_rehearsal(trainer: Trainer) -> bool:
    """Tell whether this is a ``fast_dev_run``, which writes nothing."""
    return bool(getattr(trainer, "fast_dev_run", False))


def may_stop_after(batch: int, accumulate: int, epoch_ends: bool, validates: bool) -> bool:
    """Tell whether a run that stops after a batch can go on exactly.

    It cannot inside an accumulation window, because no checkpoint holds gradients; nor between a batch and the
    validation or the end of the epoch that follows, because the resumed run would skip them.

    Args:
        batch: number of batches of the epoch that are done, from 1.
        accumulate: batches in an optimizer step.
        epoch_ends: whether the epoch ends with this batch.
        validates: whether a validation comes next.
    """
    return batch % accumulate == 0 and not epoch_ends and not validates


def may_stop_here(trainer: Trainer, batch_idx: int) -> bool:
    """Ask ``may_stop_after`` for a trainer that is in ``on_train_batch_end``."""
    loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None  # a batch has been fetched
    ends = loop.batch_progress.is_last_batch or loop._is_training_done or trainer.should_stop
    return may_stop_after(batch_idx + 1, trainer.accumulate_grad_batches, ends, loop._should_check_val_fx(fetcher))


def _prepare(folder: Path) -> None:
    """Create a checkpoint folder, see that it can be written, and clear what a killed writer left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe") as probe:
            probe.write(b"probe")
    except OSError as error:
        raise ConfigError(f"checkpoints cannot be written to {folder}: {error.strerror}") from error
    for part in parts_in(folder):
        part.unlink(missing_ok=True)
        print(f"fer: removed {part}, which a killed run had not finished", file=sys.stderr)


def _was_written(trainer: Trainer) -> bool:
    """Tell whether the last checkpoint was written, the same on all processes; only the first one writes."""
    io = trainer.strategy.checkpoint_io
    wrote = io.wrote if isinstance(io, AtomicCheckpointIO) else True
    return bool(trainer.strategy.broadcast(wrote)) if trainer.world_size > 1 else wrote


def write_resume(trainer: Trainer, kept: str | None = None) -> bool:
    """Write ``resume.ckpt`` of a run, together with the other processes.

    Args:
        trainer: the run.
        kept: name of a second file in the same folder that later writes leave alone. It is written first and costs no
            second write: ``resume.ckpt`` becomes a hard link to it, a copy where the file system has none.

    Returns:
        Whether it was written. If not, a message has been printed, and the files are as they were.
    """
    if is_rehearsal(trainer):
        return False
    resume = checkpoint_folder(trainer) / RESUME
    trainer.save_checkpoint(resume if kept is None else resume.with_name(kept), weights_only=False)
    if not _was_written(trainer):
        return False
    if kept is not None and trainer.is_global_zero:
        _link(resume.with_name(kept), resume)
    return True


def _link(source: Path, target: Path) -> None:
    """Replace a file by a hard link to another one, by a copy where the file system has no links."""
    try:
        with replacing(target) as part:
            try:
                os.link(source, part)
            except OSError:  # no hard links here
                shutil.copyfile(source, part)
    except OSError as error:
        print(
            f"fer: {source} is written, but not {target}: {error.strerror}; the previous one is kept", file=sys.stderr
        )


class _NotWrittenError(Exception):
    """The best checkpoint could not be written, and the run goes on."""


class FollowsBest(Callback, ABC):
    """A callback that ``BestCheckpoint`` tells of each better validation."""

    @abstractmethod
    def on_better_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called when the last validation was the best so far and its checkpoint is on the disk."""


def improved(value: float, best: float | None, mode: str) -> bool:
    """Tell whether a value is better, by ``mode`` (max or min), than the best so far (``None``: none); NaN never is."""
    if best is None:
        return not math.isnan(value)
    return value > best if mode == "max" else value < best


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation as ``checkpoints/best.ckpt`` of the run.

    It alone decides which validation is the best so far. The report and the lineage are called once its checkpoint is
    on the disk; where that cannot be written, all of them stay with the best one before.

    The checkpoint of a validation at the end of an epoch is written after all other hooks of that end, so that a run
    that goes on from it repeats none and misses none.

    Args:
        monitor: logged metric that decides.
        mode: ``max`` or ``min``.
        save_top_k: how many of the best to keep.
        filename: name of the file, without ``.ckpt``; may contain logged metrics, as Lightning's.

    Attributes:
        best: ``best`` value so far and its ``epoch``, from 0; empty before the first validation.

    Raises:
        ConfigError: if the mode is another word.
    """

    def __init__(
        self, monitor: str = "val_acc", mode: str = "max", save_top_k: int = 1, filename: str = "best"
    ) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"checkpoint.mode must be 'max' or 'min', not '{mode}'")
        super().__init__(
            monitor=monitor, mode=mode, save_top_k=save_top_k, filename=filename, enable_version_counter=save_top_k > 1
        )
        self.best: dict[str, Any] = {}
        self._at_epoch_end = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder and check before training starts that it can be written."""
        self.dirpath = str(checkpoint_folder(trainer))
        if stage == "fit" and trainer.is_global_zero and not is_rehearsal(trainer):
            _prepare(Path(self.dirpath))
        super().setup(trainer, pl_module, stage)

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state and the best validation so far."""
        return {**super().state_dict(), "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, also with the last score, which Lightning forgets.

        A run folder may have been moved in the meantime. A run that branches off into a new folder has no best
        validation yet.
        """
        folder = Path(str(self.dirpath))
        if (folder / Path(state_dict["best_model_path"]).name).is_file():
            state_dict = _moved(state_dict, folder)
        super().load_state_dict(state_dict)
        self.current_score = state_dict["current_score"]
        score = state_dict["best_model_score"]  # all that older checkpoints hold of the best validation
        best = state_dict.get("best", {} if score is None else {"best": float(score)})
        self.best = best if state_dict["dirpath"] == self.dirpath else {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide inside the epoch; raise ``ConfigError`` if the monitored metric is not logged."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(map(str, trainer.callback_metrics)))
            raise ConfigError(f"checkpoint.monitor '{self.monitor}' is not logged; logged are: {known}")
        self._at_epoch_end = self._should_save_on_train_epoch_end(trainer)
        if not self._at_epoch_end:
            self._decide(trainer, pl_module, super().on_validation_end)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide at the end of the epoch, if it was validated there or is never."""
        if self._at_epoch_end or sum(trainer.num_val_batches) == 0:
            self._decide(trainer, pl_module, super().on_train_epoch_end)
        self._at_epoch_end = False

    def _should_save_on_train_epoch_end(self, trainer: Trainer) -> bool:
        return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if not _was_written(trainer):
            raise _NotWrittenError

    def _decide(
        self, trainer: Trainer, pl_module: LightningModule, write: Callable[[Trainer, LightningModule], None]
    ) -> None:
        """Write what is to be kept of the last validation, and call the callbacks that follow if it is the best so far.

        A checkpoint that cannot be written leaves the state as it was, so that the next validation is compared with
        what is on the disk.
        """
        before = copy.deepcopy(self.state_dict())
        saved = self._last_global_step_saved, self._last_checkpoint_saved
        value = trainer.callback_metrics.get(str(self.monitor))
        better = False
        if value is not None and improved(float(value), self.best.get("best"), self.mode):
            better, self.best = True, {"best": float(value), "epoch": trainer.current_epoch}
        try:
            write(trainer, pl_module)
        except BaseException as error:
            self.load_state_dict(before)
            self._last_global_step_saved, self._last_checkpoint_saved = saved
            if isinstance(error, _NotWrittenError):
                return
            raise
        if better:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, FollowsBest):
                    callback.on_better_validation(trainer, pl_module)


def _moved(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the state of a ``BestCheckpoint`` with the paths that its files have in another folder."""

    def here(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    kept = {here(path): score for path, score in state["best_k_models"].items()}
    return {**state, **paths, "best_k_models": kept, "dirpath": str(folder)}


def best_checkpoint(trainer: Trainer) -> BestCheckpoint:
    """Return the callback that decides which validation of a run is the best so far."""
    return next(callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint))


class ResumeCheckpoint(Checkpoint):
    """Keeps ``checkpoints/resume.ckpt``, from which the run goes on exactly, bit for bit.

    It is written every ``every_n_steps`` batches and at the end of each epoch. It is not written inside an accumulation
    window (its gradients would be lost) nor between a batch and the validation or the epoch's end that follows (a
    resumed run would skip them), but after the next batch where that is possible.

    Args:
        every_n_steps: batches between two writes inside an epoch; 0 for epoch ends only.
        keep_every_n_epochs: keep the checkpoint of each n-th epoch as ``epoch_<epoch>.ckpt``, counted from 0 as in
            ``metrics.csv``; 0 for none.
        keep_steps: keep those inside epochs too, as ``step_<optimizer steps>.ckpt``.
    """

    def __init__(self, every_n_steps: int = 100, keep_every_n_epochs: int = 0, keep_steps: bool = False) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep_every_n_epochs", keep_every_n_epochs)):
            if value < 0:
                raise ConfigError(f"resume_checkpoint.{name} must not be negative, not {value}")
        if keep_steps and every_n_steps == 0:
            raise ConfigError("resume_checkpoint.keep_steps needs resume_checkpoint.every_n_steps above 0")
        self.every_n_steps = every_n_steps
        self.keep_every_n_epochs = keep_every_n_epochs
        self.keep_steps = keep_steps
        self._owed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training starts that the folder can be written."""
        self._owed = False
        if stage == "fit" and trainer.is_global_zero and not is_rehearsal(trainer):
            _prepare(checkpoint_folder(trainer))

    def due(self, batch: int) -> bool:
        """Tell whether a checkpoint is to be written after so many batches of an epoch, or as soon as is exact."""
        return self.every_n_steps > 0 and batch % self.every_n_steps == 0

    def kept(self, epoch: int) -> str | None:
        """Return the name under which the checkpoint at the end of an epoch, from 0, is kept; ``None`` if it is not."""
        keep = self.keep_every_n_epochs > 0 and (epoch + 1) % self.keep_every_n_epochs == 0
        return f"epoch_{epoch:04d}.ckpt" if keep else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write inside the epoch."""
        self._owed = self._owed or self.due(batch_idx + 1)
        if self._owed and may_stop_here(trainer, batch_idx):
            write_resume(trainer, f"step_{trainer.global_step:08d}.ckpt" if self.keep_steps else None)
            self._owed = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write at the end of the epoch, after validation."""
        write_resume(trainer, self.kept(trainer.current_epoch))
        self._owed = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the time, by which the newest of several checkpoints is found."""
        checkpoint[SAVED_KEY] = {**checkpoint.get(SAVED_KEY, {}), "exact": True, "written": time.time()}
