"""Where a run comes from and how it ended, as ``lineage.json`` of its folder."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from fer_lightning.callbacks.checkpoints import FollowsBest, best_checkpoint, first_callback, is_rehearsal
from fer_lightning.callbacks.provenance import (
    changes_since,
    code_state,
    command_line,
    device,
    environment,
    origin_of_weights,
    parent_of,
)
from fer_lightning.callbacks.reports import datamodule_of
from fer_lightning.callbacks.run_config import RunConfig
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.files import write_atomically
from fer_lightning.runs.checkpoint import LINEAGE_KEY, STOPPED_KEY, epochs_in
from fer_lightning.runs.completion import NO_BETTER
from fer_lightning.runs.lineage import LINEAGE, Change, Node, Parent, lineage_text, read_lineage
from fer_lightning.signals import TIME_IS_UP, Stopped, signal_name
from fer_lightning.text import folded

__all__ = ["Lineage", "data_changes", "how_it_ended", "how_it_failed"]


class Lineage(FollowsBest):
    """Keeps ``lineage.json``: a node for each start or resume of the run, with what it came from and how it ended.

    The file is written when training starts, at each better validation, after each epoch and at the end. A run that is
    killed leaves its node ``running``; readers see by the lock that it is not. Checkpoints carry the id of
    the node that wrote them and the fingerprints of its data. A resume with other training or validation data is
    refused.

    Attributes:
        changes: how the configuration differs from that of the checkpoint.
        branched: the run goes on from the checkpoint of another one, whose folder stays as it is.
        allow_changed_data: go on although the data differs.
        complete: nothing is left to train; an earlier start was killed before it had written all of its end.
        mlflow: ``uri`` and ``run_id`` of the run that MLflow keeps of it.
        first_step: optimizer steps that were done before.
        node: the node of this start, ``None`` before training and in processes that write nothing.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.branched = False
        self.allow_changed_data = False
        self.complete = False
        self.mlflow: dict[str, str] | None = None
        self.first_step = 0
        self.node: Node | None = None
        self._id = ""
        self._earlier: list[Node] = []
        self._begun = 0.0
        self._data: dict[str, Any] = {}
        self._from: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin a node, and store counts and fingerprints of the data."""
        if stage != "fit":
            return
        self._begun, self.node, self._from = time.monotonic(), None, None
        self._data = datamodule_of(trainer).describe()
        self._id = hashlib.sha256(f"{socket.gethostname()}/{os.getpid()}/{time.time_ns()}".encode()).hexdigest()[:8]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note which checkpoint the run goes on from, and check that it may.

        Raises:
            DataError: if the data differs and that is not allowed.
            ConfigError: if a changed run has nothing left to train.
        """
        if trainer.state.fn != "fit":
            return
        written = checkpoint.get(LINEAGE_KEY, {})
        self.first_step = checkpoint.get("global_step", 0)
        self._from = {"epoch": epochs_in(checkpoint), "step": self.first_step, "node": written.get("node")}
        for line in data_changes(written.get("data", {}), self._data):
            if not self.allow_changed_data and line.startswith(("train", "val")):
                raise DataError(
                    f"the data is not what the checkpoint was trained with: {line}; put it back, or pass "
                    "--allow_changed_data true to go on with it in a new run"
                )
            if trainer.is_global_zero:
                print(f"changed data: {line}")
        if self.branched and trainer.max_epochs is not None and 0 <= trainer.max_epochs <= self._from["epoch"]:
            raise ConfigError(
                f"nothing is left to train with the changes: the checkpoint has {self._from['epoch']} epochs done; "
                f"raise --trainer.max_epochs, which is {trainer.max_epochs}"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the new node behind those of earlier starts; train nothing if nothing is left.

        Raises:
            ConfigError: if the file cannot be read or written.
        """
        if self.complete:
            trainer.should_stop = True  # Lightning forgets that a callback had stopped the run
        if is_rehearsal(trainer) or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        self._earlier = read_lineage(folder)
        for node in self._earlier:
            if node.status == "running":
                node.status = "killed"
        self.node = self._begin(trainer)
        try:
            self._write(trainer)
        except OSError as error:
            raise ConfigError(f"{folder / LINEAGE} cannot be written: {error.strerror}") from error

    def _begin(self, trainer: Trainer) -> Node:
        values = _configuration(trainer)
        parent, changes = self._parent(trainer, values), self.changes
        if parent is not None and parent.weights_only:
            changes = changes_since(Path(values["model"]["weights"]), values)
        done = self._from or {"epoch": 0, "step": 0}
        return Node(
            id=self._id,
            started=_now(),
            parent=parent,
            changed=changes,
            start={"epochs": done["epoch"], "steps": done["step"]},
            monitor=_monitor(trainer),
            seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),
            command=command_line(),
            code=code_state(),
            mlflow=self.mlflow,
            data=self._data,
            environment=environment(),
            device=device(trainer),
        )

    def _parent(self, trainer: Trainer, values: Mapping[str, Any]) -> Parent | None:
        folder = Path(trainer.default_root_dir)
        root = folder.absolute().parents[len(Path(values.get("name", "run")).parts)]
        if trainer.ckpt_path is not None and self._from is not None:
            return parent_of(Path(trainer.ckpt_path), root, **self._from)
        weights = values.get("model", {}).get("weights")
        if not weights or not Path(weights).is_file():
            return None
        return parent_of(Path(weights), root, **origin_of_weights(Path(weights)), weights_only=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint which node wrote it, what the data was, and whether a callback has ended the run."""
        data = {name: self._data.get(name, {}) for name in ("counts", "fingerprints")}
        checkpoint[LINEAGE_KEY] = {"node": self._id, "data": data, STOPPED_KEY: _why_early(trainer)}

    def on_better_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the best value of the monitored metric."""
        self._update(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how far the run is."""
        self._update(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that training is done."""
        status, reason = how_it_ended(_epochs_done(trainer), trainer.max_epochs, _why_early(trainer))
        self._update(trainer, status, reason)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the end of a start that had nothing left to train: Lightning calls no ``on_train_end`` then."""
        if self.node is not None and self.node.status == "running":
            self.on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note what ended the run; a signal after the end of training leaves it finished."""
        status, reason = how_it_failed(exception)
        if self.node is not None and self.node.status == "finished" and status != "failed":
            status, reason = self.node.status, reason
        self._update(trainer, status, reason)

    def close(self, trainer: Trainer, reason: BaseException) -> None:
        """Note what ends the process before the trainer can: a signal, or an error. What has ended stays so."""
        if self.node is not None and self.node.status == "running":
            self._update(trainer, *how_it_failed(reason))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the time again, now with that of the reports."""
        if stage == "fit" and self.node is not None:
            self._update(trainer, self.node.status, self.node.reason)

    def _update(self, trainer: Trainer, status: str = "running", reason: str = "") -> None:
        node = self.node
        if node is None:
            return
        node.status, node.reason = status, reason
        node.ended = "" if status == "running" else _now()
        node.wall_s = round(time.monotonic() - self._begun, 1)
        node.end = {"epochs": _epochs_done(trainer), "steps": trainer.global_step}
        node.monitor = _monitor(trainer)
        try:
            self._write(trainer)
        except OSError as error:  # training goes on without it
            print(f"fer: {LINEAGE} could not be written: {error.strerror}", file=sys.stderr)

    def _write(self, trainer: Trainer) -> None:
        assert self.node is not None  # the caller has checked
        write_atomically(Path(trainer.default_root_dir) / LINEAGE, lineage_text([*self._earlier, self.node]))


def _monitor(trainer: Trainer) -> dict[str, Any]:
    best = best_checkpoint(trainer)
    return {"name": best.monitor, "mode": best.mode, **best.best}


def how_it_ended(epochs: int, max_epochs: int | None, early: str) -> tuple[str, str]:
    """Return status and reason after ``epochs`` of ``max_epochs`` (``None`` or -1: no limit); ``early`` says why."""
    whole = max_epochs is not None and 0 <= max_epochs <= epochs
    return "finished", "" if whole else early


def how_it_failed(exception: BaseException) -> tuple[str, str]:
    """Return status and reason of a run that an exception ended: a signal, the time limit, or an error."""
    if isinstance(exception, Stopped):
        if exception.signum == TIME_IS_UP:
            return "incomplete", "trainer.max_time was up"
        return "stopped", signal_name(exception.signum)
    if isinstance(exception, KeyboardInterrupt):
        return "stopped", "SIGINT"
    if isinstance(exception, SystemExit):
        return "stopped", f"exit {exception.code}"
    lines = str(exception).strip().splitlines()
    return "failed", f"{type(exception).__name__}: {lines[0]}" if lines else type(exception).__name__


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any], splits: Collection[str] | None = None) -> list[str]:
    """Return a line for each split whose samples are not those of before; none where before is not known.

    Args:
        before: ``counts`` and ``fingerprints`` by split, as a data module's ``describe`` gives them.
        now: likewise.
        splits: the splits to look at, ``None`` for all.
    """
    old, new = before.get("fingerprints", {}), now.get("fingerprints", {})
    lines = []
    for split in dict.fromkeys((*old, *new)) if old else ():
        if splits is not None and split not in splits:
            continue
        if old.get(split) != new.get(split):
            counts = [source.get("counts", {}).get(split, 0) for source in (before, now)]
            prints = [str(source.get(split, "none"))[:12] for source in (old, new)]
            lines.append(f"{split} {counts[0]:,} -> {counts[1]:,} samples (fingerprint {prints[0]} -> {prints[1]})")
    return lines


def _epochs_done(trainer: Trainer) -> int:
    return int(trainer.fit_loop.epoch_progress.state_dict()["current"]["processed"])


def _why_early(trainer: Trainer) -> str:
    """Return why a callback stopped training, empty if none did."""
    if not trainer.should_stop:
        return ""
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            return f"early stopping: {callback.monitor} {NO_BETTER} for {callback.wait_count} validations"
        if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
            return f"early stopping: {folded(callback.stopping_reason_message or '')}"
    return "a callback stopped it"


def _configuration(trainer: Trainer) -> dict[str, Any]:
    config = first_callback(trainer, RunConfig)
    return {} if config is None else config.values


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
