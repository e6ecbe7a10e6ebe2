"""The reader of a run folder, and the lines of ``fer runs list``. A run that was killed is read like any other."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.errors import ConfigError, DataError, FERError
from fer_lightning.files import file_digest
from fer_lightning.runs.checkpoint import CHECKPOINTS, checkpoint_in
from fer_lightning.runs.folder import CONFIG, config_files, run_folders
from fer_lightning.runs.lineage import LINEAGE, Node, read_lineage
from fer_lightning.runs.lock import LOCK, living_holder
from fer_lightning.text import excerpt, folded

__all__ = [
    "METRICS",
    "REPORT",
    "History",
    "Run",
    "RunRecord",
    "find_run",
    "read_record",
    "read_records",
    "read_report",
    "sorted_records",
]

METRICS = "metrics.csv"
"""Name of the table of all epochs in the folder of a run."""
REPORT = "report.json"
"""Name of the file of an evaluation's numbers."""
_TRACES = (LINEAGE, CONFIG, METRICS, CHECKPOINTS, LOCK)
"""Any of these makes a folder ``version_<k>`` a run."""


History = list[dict[str, float]]
"""The rows of ``metrics.csv``, one for each epoch: ``epoch``, ``step``, ``lr`` and whatever was logged, by name."""


@dataclass(frozen=True)
class Run:
    """The reader of a run folder. Every property reads its file anew, so that a run in progress can be followed."""

    folder: Path

    @property
    def exists(self) -> bool:
        """Whether the folder holds anything of a run."""
        return any((self.folder / trace).exists() for trace in _TRACES)

    @property
    def status(self) -> str:
        """How the run stands, by its ``lineage.json`` and its lock.

        ``finished``, ``stopped`` (by a signal), ``failed`` (by an error), ``incomplete`` (``max_time`` was up),
        ``killed`` (it ended without a word), ``running``, or ``unknown`` where nothing tells.
        """
        try:
            nodes, holder = self.lineage, living_holder(self.folder / LOCK, attempts=1)
        except FERError:
            return "unknown"
        if holder is not None:
            return "running"
        if nodes and nodes[-1].status != "running":
            return nodes[-1].status
        return "killed" if nodes or (self.folder / LOCK).exists() else "unknown"

    @property
    def lineage(self) -> list[Node]:
        """Its starts, oldest first; see ``read_lineage``."""
        return read_lineage(self.folder)

    @property
    def history(self) -> History:
        """The rows of ``metrics.csv``, none before its first epoch has ended; ``ConfigError`` if damaged."""
        path = self.folder / METRICS
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
            raise ConfigError(f"{path} is damaged: {error}") from error

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of its last start, empty before its first; ``ConfigError`` if the file is damaged."""
        return self._configuration(max)

    @property
    def first_config(self) -> dict[str, Any]:
        """The configuration of its first start, likewise; later starts differ in nothing that is learned by."""
        return self._configuration(min)

    def _configuration(self, choose: Callable[[dict[int, Path]], int]) -> dict[str, Any]:
        files = config_files(self.folder)
        if not files:
            return {}
        path = files[choose(files)]
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is damaged: {folded(error)}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} is no configuration")
        return values

    def has_report(self, split: str) -> bool:
        """Tell whether a split was evaluated: ``val`` by the training, others by verbs of their own."""
        return (self.folder / split / REPORT).is_file()

    def evaluation(self, verb: str, checkpoint: Path, fingerprint: str = "") -> str | None:
        """Return the folder in the run that holds what ``test`` or ``validate`` has said of a checkpoint as it is now.

        With a fingerprint, those of a split that is known to have another are left out. Evaluations under other
        settings than the checkpoint's own are left out. Of older versions, whose reports do not say which weights
        they are of, one that is younger than the checkpoint is taken; if there is no such checkpoint any more,
        ``<verb>`` itself. Damaged reports count for nothing.
        """
        names = [path.parent.name for path in sorted(self.folder.glob(f"{verb}*/{REPORT}"))]
        names = [name for name in names if name == verb or name.startswith(f"{verb}-")]
        if not checkpoint.is_file():
            return verb if verb in names else None
        sha256, changed = file_digest(checkpoint, "sha256"), checkpoint.stat().st_mtime
        for name in names:
            try:
                report = self.report(name)
            except DataError:
                continue
            context = report.get("context", {})
            own = context.get("data", {}).get("fingerprints", {}).get(report.get("split"))
            if fingerprint and own and own != fingerprint:
                continue
            written = (self.folder / name / REPORT).stat().st_mtime
            of_it = context.get("sha256") == sha256 if "sha256" in context else written >= changed
            if of_it and not context.get("settings"):
                return name
        return None

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The reports of its evaluations by the name of their folder, ``val`` of the training among them.

        A report that is damaged is left out. An evaluation without a run of its own, as of a model folder, is called
        ``.``.
        """
        found = {}
        for path in sorted([*self.folder.glob(REPORT), *self.folder.glob(f"*/{REPORT}")]):
            name = str(path.parent.relative_to(self.folder))
            with suppress(DataError):
                found[name] = self.report(name)
        return found

    def report(self, split: str) -> dict[str, Any]:
        """Return the ``report.json`` of a split; raise ``DataError`` if there is none, or it is damaged."""
        return read_report(self.folder / split / REPORT)

    def checkpoint(self, file: str) -> Path:
        """Return a checkpoint by its name; see ``checkpoint_in``."""
        return checkpoint_in(self.folder, file)


def read_report(path: Path) -> dict[str, Any]:
    """Return what stands in a ``report.json``; raise ``DataError`` if there is none, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; a run has it after a validation") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is no report of an evaluation")
    if wrong := _misshapen(values):
        raise DataError(f"{path} is damaged: {wrong}")
    return values


def _misshapen(report: dict[str, Any]) -> str:
    """Return which of the values that are read of every report is of another kind than it must be; empty if none."""
    inner: Any = report
    for name in ("context", "data", "fingerprints"):
        inner = inner.get(name, {})
        if not isinstance(inner, dict):
            return f"'{name}' is no JSON object"
    seen = report.get("seen") or {"train": None}
    if not isinstance(seen, dict):
        return "'seen' is no JSON object"
    for role in ("train", "val"):
        if (role == "train" and role not in seen) or not isinstance(seen.get(role), int | None):
            return f"seen.{role} is {excerpt(str(seen.get(role)))}, not a number of images"
    return ""


@dataclass(frozen=True)
class RunRecord:
    """A run, in a line.

    Attributes:
        run: its folder, relative to the folder of all runs.
        status: see ``Run.status``; ``unreadable`` where a file of the run is damaged.
        epochs: that are done.
        monitor: name of the metric that decides which epoch is best; ``best`` is its best value.
        f1_macro: macro F1 of the best validation; ``accuracy`` likewise.
        started: local time with zone, ISO 8601.
        wall_s: seconds of all its starts together.
        size: bytes on the disk.
        parent: the run that it goes on from or took weights from, empty for none.
        problem: what cannot be read.
    """

    run: str
    status: str
    backbone: str = ""
    epochs: int | None = None
    monitor: str = ""
    best: float | None = None
    f1_macro: float | None = None
    accuracy: float | None = None
    device: str = ""
    started: str = ""
    wall_s: float | None = None
    size: int = 0
    parent: str = ""
    problem: str = ""


def read_records(root: Path, name: str | None = None) -> Iterator[RunRecord]:
    """Read all runs under a folder, by name and version.

    Args:
        root: the folder of all runs.
        name: only those of this experiment and of experiments in it.

    Raises:
        ConfigError: if there is no such folder.
    """
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}: give the folder of all runs with --root")
    for folder in run_folders(root):
        run = folder.relative_to(root)
        inside = name is None or run.parent == Path(name) or Path(name) in run.parents
        if inside and Run(folder).exists:
            yield read_record(folder, root)


def read_record(folder: Path, root: Path) -> RunRecord:
    """Return the line of a run in ``root``, the folder of all runs; ``problem`` says which file of it is damaged."""
    name, size = folder.relative_to(root).as_posix(), _size(folder)
    try:
        return _record(Run(folder), name, size)
    except (FERError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = folded(error).replace(f"{folder}/", "") or type(error).__name__
        return RunRecord(name, "unreadable", size=size, problem=said)


def _record(run: Run, name: str, size: int) -> RunRecord:
    nodes, rows, report = run.lineage, run.history, run.report("val") if run.has_report("val") else {}
    context: Mapping[str, Any] = report.get("context", {})
    monitor = nodes[-1].monitor if nodes else {}
    if not monitor:
        monitor = _monitor_of(rows, run.config)
    origin = nodes[0].parent if nodes else None
    return RunRecord(
        run=name,
        status=run.status,
        backbone=str(context.get("model", "")) or _backbone(run.config),
        epochs=nodes[-1].end.get("epochs") if nodes and nodes[-1].end else _epochs(rows, nodes),
        monitor=monitor.get("name", ""),
        best=monitor.get("best"),
        f1_macro=report.get("f1_macro"),
        accuracy=report.get("accuracy"),
        device=nodes[-1].device.get("hardware", "") if nodes else context.get("hardware", ""),
        started=nodes[0].started if nodes else _first_config(run.folder),
        wall_s=round(sum(node.wall_s for node in nodes), 1) if nodes else None,
        size=size,
        parent="" if origin is None else origin.run or origin.checkpoint,
    )


def _size(folder: Path) -> int:
    """Return the bytes of all files; a name that is linked twice counts once."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))
            except OSError:
                continue  # removed in between
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def _backbone(config: dict[str, Any]) -> str:
    backbone = config.get("model", {}).get("backbone", "")
    return str(backbone.get("class_path", "")) if isinstance(backbone, dict) else str(backbone)


def _monitor_of(rows: list[dict[str, float]], config: dict[str, Any]) -> dict[str, Any]:
    """Return the best value of the monitored metric, by the metrics alone."""
    chosen = config.get("checkpoint", {})
    name, mode = chosen.get("monitor", "val_acc"), chosen.get("mode", "max")
    values = [row[name] for row in rows if name in row]
    return {"name": name, "best": (max if mode == "max" else min)(values)} if values else {}


def _epochs(rows: list[dict[str, float]], nodes: list[Node]) -> int | None:
    if rows and "epoch" in rows[-1]:
        return int(rows[-1]["epoch"]) + 1
    return nodes[-1].start.get("epochs", 0) if nodes else None


def _first_config(folder: Path) -> str:
    """Return when the first configuration was written, local time in ISO 8601, empty if there is none."""
    files = config_files(folder)
    if not files:
        return ""
    return datetime.fromtimestamp(files[min(files)].stat().st_mtime).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z")


def sorted_records(records: Sequence[RunRecord], key: str) -> list[RunRecord]:
    """Sort runs, best or newest first; those that lack the value come last.

    Args:
        records: the runs.
        key: an attribute of ``RunRecord``, or the name of the monitored metric. A leading ``-`` turns it round.

    Raises:
        ConfigError: if there is no such key.
    """
    turned, key = key.startswith("-"), key.removeprefix("-")
    columns = {"best": "best", "val_acc": "accuracy", "val_f1_macro": "f1_macro"}
    columns |= {record.monitor: "best" for record in records if record.monitor}
    column = columns.get(key, key)
    if column not in RunRecord.__dataclass_fields__:
        known = sorted({*columns, *RunRecord.__dataclass_fields__} - {"problem"})
        raise ConfigError(f"runs cannot be sorted by '{key}'; known: {', '.join(known)}")
    values = [(asdict(record)[column], record) for record in records]
    there = [(value, record) for value, record in values if value not in (None, "")]
    upwards = isinstance(there[0][0], str) and column != "started" if there else False
    there.sort(key=lambda pair: pair[0], reverse=upwards if turned else not upwards)
    return [record for _, record in there] + [record for value, record in values if value in (None, "")]


def find_run(wanted: str, root: Path) -> Path:
    """Find a run folder.

    Args:
        wanted: a name (its newest run), ``name/version_3``, or a path.
        root: the folder of all runs.

    Raises:
        ConfigError: if there is none; the message names what there is.
    """
    for folder in (root / wanted, Path(wanted)):
        if folder.is_dir():
            if Run(folder).exists:
                return folder
            versions = [path for path in run_folders(folder) if path.parent == folder and Run(path).exists]
            if versions:
                return versions[-1]
    known = sorted({folder.parent.relative_to(root).as_posix() for folder in run_folders(root) if Run(folder).exists})
    listed = f"; there is {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}" if known else ""
    raise ConfigError(f"there is no run '{wanted}' in {root}{listed}")
