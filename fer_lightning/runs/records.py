"""What the files of a run folder say of the run, whoever wrote them and however they ended."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.runs.lineage import Node, read_lineage
from fer_lightning.runs.folder import run_folders, run_status
from fer_lightning.text import folded

__all__ = ["RunRecord", "find_run", "read_config", "read_record", "read_records", "sorted_records"]

_TRACES = ("lineage.json", "config.yaml", "metrics.csv", "checkpoints", "run.lock")
"""Any of these makes a folder ``version_<k>`` a run."""


@dataclass(frozen=True)
class RunRecord:
    """A run, in a line.

    Attributes:
        run: its folder, relative to the folder of all runs.
        status: see :func:`~fer_lightning.runs.folder.run_status`; ``unreadable`` where a file of the run is damaged.
        backbone: name of the network.
        epochs: that are done.
        monitor: name of the metric that decides which epoch is best.
        best: its best value.
        f1_macro: macro F1 of the best validation.
        accuracy: of the best validation.
        device: what it ran on.
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
        if inside and _is_run(folder):
            yield read_record(folder, root)


def _is_run(folder: Path) -> bool:
    return any((folder / trace).exists() for trace in _TRACES)


def read_record(folder: Path, root: Path) -> RunRecord:
    """Read a run; what is damaged is told in ``problem``."""
    run, size = folder.relative_to(root).as_posix(), _size(folder)
    try:
        return _record(folder, run, size)
    except (FERError, OSError, ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        said = folded(error) or type(error).__name__
        return RunRecord(run, "unreadable", size=size, problem=said)


def _record(folder: Path, run: str, size: int) -> RunRecord:
    nodes, report, rows = read_lineage(folder), _report(folder), _metrics(folder)
    monitor = nodes[-1].monitor if nodes else {}
    if not monitor:
        monitor = _monitor_of(rows, read_config(folder))
    origin = nodes[0].parent if nodes else None
    return RunRecord(
        run=run,
        status=run_status(folder),
        backbone=str(report.get("context", {}).get("model", "")) or _backbone(read_config(folder)),
        epochs=nodes[-1].end.get("epochs") if nodes and nodes[-1].end else (_epochs(rows, nodes)),
        monitor=monitor.get("name", ""),
        best=monitor.get("best"),
        f1_macro=report.get("f1_macro"),
        accuracy=report.get("accuracy"),
        device=nodes[-1].device.get("hardware", "") if nodes else report.get("context", {}).get("hardware", ""),
        started=nodes[0].started if nodes else _first_trace(folder),
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


def _report(folder: Path) -> dict[str, Any]:
    path = folder / "val" / "report.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path.relative_to(folder)} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path.relative_to(folder)} is no report")
    return values


def _metrics(folder: Path) -> list[dict[str, float]]:
    try:
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"metrics.csv is damaged: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """Return the newest configuration that a run wrote, empty if none.

    Raises:
        ConfigError: if it is damaged.
    """
    numbered = sorted(folder.glob("config_*.yaml"), key=lambda path: (len(path.name), path.name))
    path = numbered[-1] if numbered else folder / "config.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name} is no configuration")
    return values


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


def _first_trace(folder: Path) -> str:
    """Return when the configuration was written, empty if there is none."""
    path = folder / "config.yaml"
    if not path.exists():
        return ""
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z")


def sorted_records(records: Sequence[RunRecord], key: str) -> list[RunRecord]:
    """Sort runs, best or newest first; those that lack the value come last.

    Args:
        records: the runs.
        key: an attribute of :class:`RunRecord`, or the name of the monitored metric. A leading ``-`` turns it round.

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
            if _is_run(folder):
                return folder
            versions = [path for path in run_folders(folder) if path.parent == folder and _is_run(path)]
            if versions:
                return versions[-1]
    known = sorted({folder.parent.relative_to(root).as_posix() for folder in run_folders(root) if _is_run(folder)})
    listed = f"; there is {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}" if known else ""
    raise ConfigError(f"there is no run '{wanted}' in {root}{listed}")
