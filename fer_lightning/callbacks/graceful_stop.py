"""Stopping: a signal ends a run where it can go on exactly, an error leaves a dump of the state."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch.utils.data import DataLoader

from fer_lightning.callbacks.checkpoints import checkpoint_folder, is_rehearsal, may_stop_here, write_resume
from fer_lightning.errors import NonFiniteError, StorageError
from fer_lightning.runs.checkpoint import RESUME, SAVED_KEY
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from fer_lightning.signals import STOPPING, TIME_IS_UP, Stopped, in_main_thread, signal_name
from fer_lightning.text import first_line

__all__ = ["GracefulStop", "requeue_signal_of"]


class _LoaderStart:
    """First work of a loader's process: to outlive one SIGTERM, and every Ctrl-C; then the loader's own first work.

    A signal to the whole group reaches the loader's processes too, and the run still needs their batches; torch's own
    handler would end them. The second SIGTERM is obeyed: the loader itself sends it to a process that hangs.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGTERM, _once)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGUSR1"):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if self.then is not None:
            self.then(worker)


def _once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)


def _harden(loaders: Any) -> None:
    """Let the future processes of loaders outlive a signal to the group."""
    for loader in loaders if isinstance(loaders, list) else [loaders]:
        if (
            isinstance(loader, DataLoader)
            and loader.num_workers
            and not isinstance(loader.worker_init_fn, _LoaderStart)
        ):
            loader.worker_init_fn = _LoaderStart(loader.worker_init_fn)


class GracefulStop(Checkpoint):
    """Ends a run that gets a signal, or whose time is up, where it can go on exactly; dumps its state at an error.

    From the first batch on, SIGTERM, SIGUSR1 and the first Ctrl-C, to any of the processes, only set a flag; the
    processes agree on it after each batch. At the next batch that ``may_stop_after`` allows, or at the end of the
    epoch, ``checkpoints/resume.ckpt`` is written and the run ends with the exit code 143, 138 or 130. A second Ctrl-C
    ends it at once. Before training, and in an evaluation, the handlers from before Lightning's stay in place: its own
    talks to the other processes from inside the handler, which can hang.

    ``max_time`` ends it in the same way, with the exit code 0. Lightning's own timer would take the epoch that it cuts
    off for a whole one. The time counts from the start of training in this process: a resumed run has all of it again.

    Where Lightning would requeue a SLURM job at a signal (SIGUSR1), the run ends at it in the same way instead, so that
    it goes on from an exact checkpoint; whoever started it asks SLURM for the requeue when all is written.

    An error in training leaves ``checkpoints/dump.ckpt``, marked inexact: half a step may be in it. ``--ckpt_path
    last`` never takes it. After a non-finite loss there is none, because the state is not worth keeping, nor at a full
    disk.

    It is a ``Checkpoint`` so that Lightning calls it behind all callbacks whose state
    belongs into the checkpoint; among the checkpoint callbacks it must be the last.

    Attributes:
        signum: number of the signal that ended the run, ``TIME_IS_UP``, or 0.
        max_seconds: time after which the run stops, ``None`` for no limit.
        requeue_signal: number of the signal at which SLURM is to start the job again, ``None`` for none.
        installed: whether signals only set the flag now.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.max_seconds: float | None = None
        self.requeue_signal: int | None = None
        self._deadline: float | None = None
        self._flag = 0
        self._presses = 0
        self._owner = os.getpid()
        self._speaks = True
        self._trained = False
        self._ending = False
        self._written = False
        self.installed = False
        self._previous: dict[int, Any] = {}
        self._before_lightning: dict[int, Any] = {}

    def limit(self, max_time: str | timedelta | dict[str, int] | None) -> None:
        """Take over a ``max_time`` of the trainer; raise Lightning's error if it is not ``DD:HH:MM:SS``."""
        self.max_seconds = None if max_time is None else Timer(max_time).time_remaining()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run of the same trainer, and take signals and requeueing over from Lightning."""
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self.requeue_signal = requeue_signal_of(environment)
            environment.auto_requeue = False  # else its handler saves mid-batch
        self.signum = self._flag = self._presses = 0
        self.installed = self._trained = self._ending = self._written = False
        self._deadline = None
        self._previous = {}
        self._before_lightning = {number: signal.getsignal(number) for number in STOPPING}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a loader's process that is just starting
        if signum == signal.SIGINT:
            self._presses += 1
            if self._presses > 1:
                raise KeyboardInterrupt
            if self._speaks:  # not print: its buffer may be in use at this very moment
                os.write(2, b"\nstopping after this batch; Ctrl-C again to stop at once\n")
        self._flag = max(self._flag, signum)

    def install(self, trainer: Trainer) -> None:
        """Take over the signals, unless that is done or this is a rehearsal or not the main thread."""
        if self.installed or is_rehearsal(trainer) or not in_main_thread():
            return
        self.installed, self._owner, self._speaks = True, os.getpid(), trainer.is_global_zero
        requeue = () if self.requeue_signal is None else (self.requeue_signal,)
        for signum in {*STOPPING, *requeue}:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # ignored on purpose stays so
                self._previous[signum] = signal.signal(signum, self._handle)
        if self.requeue_signal is not None:
            self._say(f"at {_name(self.requeue_signal)} the run stops and SLURM starts this job again")

    def restore(self) -> None:
        """Give the signals back, where they are still ours."""
        for signum, handler in self._previous.items():
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self.installed, self._previous = False, {}

    def _say(self, text: str) -> None:
        if self._speaks:
            print(f"fer: {text}", file=sys.stderr)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the handlers that were there before Lightning's; let the loader's processes live into training."""
        self._undo_lightning()
        self._harden_validation(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the handlers that were there before Lightning's."""
        self._undo_lightning()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the handlers that were there before Lightning's."""
        self._undo_lightning()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the handlers that were there before Lightning's."""
        self._undo_lightning()

    def _undo_lightning(self) -> None:
        if self.installed or not in_main_thread():
            return
        for number, handler in self._before_lightning.items():
            if handler is not None:
                signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, and stop if one has come in the meantime; no step has been trained yet.

        Raises:
            Stopped: if a signal has come.
        """
        self._undo_lightning()
        self.install(trainer)
        self._harden_validation(trainer)
        if self.max_seconds is not None:
            self._deadline = time.monotonic() + self.max_seconds
        if self._agreed(trainer)[0]:
            self._stop(trainer)

    def _harden_validation(self, trainer: Trainer) -> None:
        if in_main_thread() and not is_rehearsal(trainer):
            trainer.fit_loop.epoch_loop.val_loop.setup_data()  # Lightning makes the loaders now and not a moment later
            _harden(trainer.val_dataloaders)

    def _request(self) -> int:
        """Return the signal that came to this process, or that the time is up, or 0."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return max(self._flag, TIME_IS_UP if late else 0)

    def _agreed(self, trainer: Trainer, blocked: bool = False) -> tuple[int, bool]:
        """Return why any process is to stop, 0 for not at all, and whether any process cannot stop here."""
        if trainer.world_size == 1:
            self.signum = self._request()
            return self.signum, blocked
        state = torch.tensor([self._request(), int(blocked)], device=trainer.strategy.root_device)
        flag, stays = trainer.strategy.reduce(state, reduce_op="max").tolist()
        self.signum = int(flag)
        return self.signum, bool(stays)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint if the run is to stop and may stop here."""
        self._trained = True
        signum, blocked = self._agreed(trainer, not may_stop_here(trainer, batch_idx))
        if signum and not blocked:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint if the run is to stop: the epoch and its validation are done."""
        if self._agreed(trainer)[0]:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not is_rehearsal(trainer):
            self._written = write_resume(trainer)
            self._ending = True

    # Write the checkpoint in one hook and raise in the next, so that Lightning can log this step in between.

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Raise ``Stopped`` if the checkpoint to stop at is written."""
        if self._ending:
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ``Stopped`` if the checkpoint to stop at is written; keep the loader's processes alive."""
        if self._ending:
            self._stop(trainer)
        if self.installed:
            _harden(trainer.train_dataloader)

    def _stop(self, trainer: Trainer) -> None:
        file = checkpoint_folder(trainer) / RESUME
        if not file.exists():
            progress = f"after {trainer.global_step} steps, without any checkpoint" if self._trained else _NOTHING
        elif self._ending and not self._written:
            progress = f"after {trainer.global_step} steps, which are lost; go on from the steps before with"
        else:
            progress = f"after {trainer.global_step} steps; go on with"
        how = f" --ckpt_path {file}" if file.exists() else ""
        self._say(f"stopped by {_name(self.signum)} {progress}{how}")
        raise Stopped(self.signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note a signal that came after the last step: the run is complete, but the program exits with its code."""
        self._deadline = None
        if self._agreed(trainer)[0]:
            self._say(f"{_name(self.signum)} came when training was done: the run is complete")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back; after an error Lightning does."""
        self.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Dump the state at an error. If that fails too, the first error is still the one that is reported."""
        if not self._trained or not isinstance(exception, Exception) or isinstance(exception, _NO_DUMP):
            return
        rank = trainer.global_rank
        path = checkpoint_folder(trainer) / (f"dump_rank{rank}.ckpt" if rank else "dump.ckpt")
        try:
            message = _dump(trainer, path, exception)
        except Exception as error:
            message = f"the state at the error could not be kept: {first_line(error)}"
        print(f"fer: {message}", file=sys.stderr)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say so if a run goes on from a dump."""
        if checkpoint.get(SAVED_KEY, {}).get("exact", True) is False and trainer.is_global_zero:
            print("fer: this checkpoint is the dump of an error: going on from it is not exact", file=sys.stderr)


def requeue_signal_of(environment: object) -> int | None:
    """Return the number of the signal at which a cluster environment starts a job again, ``None`` for none."""
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return None
    return None if environment.requeue_signal is None else int(environment.requeue_signal)


_NO_DUMP = (NonFiniteError, StorageError)
_NOTHING = "before the first step"


def _name(signum: int) -> str:
    return "trainer.max_time, incomplete" if signum == TIME_IS_UP else signal_name(signum)


def _dump(trainer: Trainer, path: Path, exception: Exception) -> str:
    """Write a checkpoint that is marked inexact and return what to say of it.

    Not by ``trainer.save_checkpoint``, which waits for the other processes: they may know of no error.
    """
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        strategy = type(trainer.strategy).__name__
        return f"the state at the error is not kept: with {strategy} its parts lie on several devices"
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    checkpoint[SAVED_KEY] = {**checkpoint.get(SAVED_KEY, {}), "exact": False, "error": repr(exception)[:500]}
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    resume = checkpoint_folder(trainer) / RESUME
    kept = f"the last exact checkpoint is {resume}" if resume.exists() else "there is no exact checkpoint yet"
    return f"the state at the error is in {path}, which is not exact; {kept}"
