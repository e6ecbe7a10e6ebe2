"""Logging to TensorBoard and, if asked for, to MLflow."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from fer_lightning.callbacks.checkpoints import first_callback
from fer_lightning.callbacks.full_disk import RunLogger
from fer_lightning.callbacks.lineage_writer import Lineage, how_it_failed
from fer_lightning.callbacks.run_config import RunConfig
from fer_lightning.errors import ConfigError, FERError
from fer_lightning.extras import need_extra
from fer_lightning.runs.changes import flat
from fer_lightning.runs.records import Run
from fer_lightning.text import first_line

__all__ = ["MLflowTracker", "RunLogger", "RunTracking", "start_tracking", "tracking_uri"]

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "incomplete": "KILLED"}


def tracking_uri(wanted: bool | str | None, root: Path) -> str | None:
    """Return the address of the MLflow store.

    Args:
        wanted: ``true`` for that of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the folder of all runs; an address; or
            nothing.
        root: the folder of all runs.

    Raises:
        ConfigError: if it is no address that a run can be tracked at.
    """
    if wanted is None or wanted is False:
        return None
    address = os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(root / "mlflow.db") if wanted is True else wanted
    scheme = re.match(r"([a-z]+)(\+[a-z0-9]+)?://?", address)
    if address != "databricks" and (scheme is None or scheme[1] not in _SCHEMES):
        raise ConfigError(
            f"mlflow must be true, a database such as sqlite:///mlflow.db or a server such as http://127.0.0.1:5000, "
            f"not '{address}' (MLflow no longer writes into plain folders)"
        )
    return address


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path.absolute().as_posix()}"


class MLflowTracker(MLFlowLogger):
    """A run of MLflow. Metrics are sent by a thread of their own: training does not wait for the store.

    A store that fails during training is reported once and does not end the run. ``run_id`` is the run to go on with;
    without it a new one is made. ``artifacts`` is where a new experiment keeps its files.

    Attributes:
        uri: address of the store.
        status: what the run is closed with, in MLflow's words.
        ended: whether it is closed.
    """

    def __init__(self, uri: str, experiment: str, run_name: str, run_id: str | None, artifacts: str | None) -> None:
        super().__init__(experiment, run_name, uri, run_id=run_id, artifact_location=artifacts, synchronous=False)
        self.uri = uri
        self.status = "FINISHED"
        self.ended = False
        self._failed = False

    @rank_zero_only
    def start(self) -> str:
        """Open the run, or go on with it, and return its id."""
        if self._run_id is not None and not self._is_there(self._run_id):
            self._run_id = None
        run_id = self.run_id
        assert run_id is not None  # the property creates it
        self.experiment.update_run(run_id, status="RUNNING")
        return run_id

    def _is_there(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            there = self._mlflow_client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            there = False
        if not there:
            print(f"fer: MLflow has no run {run_id} any more; a new one is begun", file=sys.stderr)
        return there

    def send(self, what: str, function: Any, *arguments: Any) -> None:
        """Call a function of the client; if it fails, say so once and go on."""
        if self._failed:
            return
        try:
            function(*arguments)
        except Exception as error:  # whatever the store's driver raises: training is worth more
            self._failed = True
            print(f"fer: MLflow at {self.uri} failed ({what}): {_reason(error)}", file=sys.stderr)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue metrics."""
        self.send("metrics", super().log_metrics, metrics, step)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Wait for queued metrics and close the run with ``status``."""
        import mlflow

        self.send("metrics", mlflow.flush_async_logging)
        self.send("end", self.experiment.set_terminated, self._run_id, self.status)
        self.ended = True


class RunTracking(Callback):
    """Sends a run to MLflow: parameters and tags when it starts, files (also ``best.ckpt`` if wanted) when it ends."""

    def __init__(self, tracker: MLflowTracker, checkpoints: bool = False) -> None:
        self.tracker = tracker
        self.checkpoints = checkpoints

    def attach(self, trainer: Trainer) -> dict[str, str]:
        """Let a trainer log to the run, and return its ``uri`` and ``run_id``."""
        trainer.loggers = [*trainer.loggers, self.tracker]
        trainer.callbacks.append(self)  # type: ignore[attr-defined]  # after the report, whose files it sends
        return {"uri": self.tracker.uri, "run_id": str(self.tracker.run_id)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send parameters, tags and the configuration."""
        config, lineage = first_callback(trainer, RunConfig), first_callback(trainer, Lineage)
        tags: dict[str, Any] = {"fer.folder": trainer.default_root_dir}
        if lineage is not None and lineage.node is not None:
            node = lineage.node
            tags |= {"fer.node": node.id, "fer.commit": node.code["commit"], "fer.device": node.device["hardware"]}
            tags |= {f"fer.data.{split}": value for split, value in node.data.get("fingerprints", {}).items()}
            tags["fer.parent"] = None if node.parent is None else node.parent.node or node.parent.checkpoint
        self._tag(tags)
        self.tracker.send("parameters", self._parameters, {} if config is None else config.values)
        self._upload(Path(trainer.default_root_dir), ("config*.yaml", "lineage.json"))

    def _tag(self, tags: Mapping[str, Any]) -> None:
        for name, value in tags.items():
            if value is not None:
                self.tracker.send("tags", self.tracker.experiment.set_tag, self.tracker.run_id, name, value)

    def _parameters(self, values: Mapping[str, Any]) -> None:
        """Send those that the run does not have yet: MLflow lets no parameter change."""
        there = self.tracker.experiment.get_run(self.tracker.run_id).data.params
        named = {re.sub(r"[^\w./: -]", "_", key): value for key, value in flat(values)}
        self.tracker.log_hyperparams({key: value for key, value in named.items() if key not in there})

    def _upload(self, folder: Path, patterns: tuple[str, ...]) -> None:
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                inside = path.parent.relative_to(folder).as_posix()
                place = None if inside == "." else inside
                tracker = self.tracker
                tracker.send(path.name, tracker.experiment.log_artifact, tracker.run_id, str(path), place)

    def close(self, status: str) -> None:
        """Close the run, without its files, if the trainer has not: the process ends before it can."""
        if not self.tracker.ended:
            self._set_status(status)
            self.tracker.finalize()

    def _set_status(self, status: str) -> None:
        self._tag({"fer.status": status})
        self.tracker.status = _STATUS.get(status, "FINISHED")

    def _finish(self, trainer: Trainer, status: str) -> None:
        """Send the files, and set the status: that of the lineage, or ``status`` where there is none."""
        lineage = first_callback(trainer, Lineage)
        if lineage is not None and lineage.node is not None:
            status = lineage.node.status
        self._set_status(status)
        files = ("config*.yaml", "lineage.json", "metrics.csv", "*.csv", "*.png", "val/*")
        self._upload(Path(trainer.default_root_dir), (*files, *(("checkpoints/best.ckpt",) * self.checkpoints)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the files."""
        self._finish(trainer, "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Send what there is."""
        self._finish(trainer, how_it_failed(exception)[0])


def start_tracking(
    wanted: bool | str | None, folder: Path, root: Path, name: str, checkpoints: bool
) -> RunTracking | None:
    """Open the MLflow run of a run folder; that of its last start, where there is one at this address.

    ``wanted`` and ``root`` are those of ``tracking_uri``; ``name`` is the experiment.

    Raises:
        MissingExtraError: if MLflow is not installed.
        ConfigError: if its store cannot be used.
    """
    uri = tracking_uri(wanted, root)
    if uri is None:
        return None
    needed = ("mlflow", "sqlalchemy", "alembic") if uri.startswith("sqlite") else ("mlflow",)
    need_extra("track", "--mlflow needs", *needed)
    _quiet_mlflow()
    try:
        earlier = [node.mlflow["run_id"] for node in Run(folder).lineage if node.mlflow and node.mlflow["uri"] == uri]
    except FERError:
        earlier = []  # the callback that writes this file reports what is wrong
    artifacts = (root / "mlartifacts").absolute().as_uri() if uri.startswith("sqlite") else None
    run_name = f"{name}/{folder.name}"
    try:
        tracker = MLflowTracker(uri, name, run_name, earlier[-1] if earlier else None, artifacts)
        tracker.start()
    except Exception as error:  # MLflow's, the server's or the driver's
        raise ConfigError(f"MLflow at {uri} cannot be used: {_reason(error)}") from error
    return RunTracking(tracker, checkpoints)


def _quiet_mlflow() -> None:
    """Make MLflow give up soon on a server that does not answer, and hide its messages."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # "not found. Creating it."


def _reason(error: Exception) -> str:
    return "the server does not answer" if "Max retries exceeded" in str(error) else first_line(error, 300)
