"""``fer runs``: lists, shows and connects runs. It only reads files and does not import torch."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from json import dumps as json_text
from pathlib import Path
from typing import Annotated, Any

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.files import csv_text
from fer_lightning.runs.changes import change_text, flat
from fer_lightning.runs.lineage import Node
from fer_lightning.runs.records import Run, RunRecord, find_run, read_record, read_records
from fer_lightning.runs.records import sorted_records as in_order
from fer_lightning.runs.tree import as_dot, as_tree, read_tree
from fer_lightning.text import table_lines

__all__ = ["lineage", "list_runs", "show"]

_GREEN, _CYAN, _RED, _YELLOW = 32, 36, 31, 33  # ANSI colours
_COLOURS = {"finished": _GREEN, "running": _CYAN, **dict.fromkeys(("failed", "unreadable"), _RED)}
_COLOURS |= dict.fromkeys(("killed", "stopped", "incomplete"), _YELLOW)


def list_runs(
    *, root: Path = Path("runs"), name: str | None = None, sort: Annotated[str | None, "KEY"] = None,
    json: bool = False, csv: bool = False,
) -> None:  # fmt: skip
    """List the runs, a line each.

    Args:
        root: the folder of all runs.
        name: only the runs of this experiment.
        sort: best first by a metric (val_acc, best, f1_macro), or by started, wall_s, size ...
        json: print JSON.
        csv: print CSV.
    """
    if json and csv:
        raise ConfigError("fer runs list: --csv is not allowed with --json")
    records = list(read_records(root, name))
    if sort:
        records = in_order(records, sort)
    if json:
        _print_json([asdict(record) for record in records])
    elif csv:
        _print_csv(records)
    elif not records:
        print(f"no runs in {root}" + (f" of the name '{name}'" if name else ""))
    else:
        _print_table(records)


def _print_json(values: Any) -> None:
    print(json_text(values, indent=1, ensure_ascii=False, default=str))


def _print_csv(records: Sequence[RunRecord]) -> None:
    names = [field.name for field in fields(RunRecord)]
    print(csv_text(names, [[getattr(record, name) for name in names] for record in records]), end="")


def _print_table(records: Sequence[RunRecord]) -> None:
    monitors = {record.monitor for record in records if record.monitor}
    best = f"best {next(iter(monitors))}" if len(monitors) == 1 else "best"
    header = ("run", "status", "backbone", "epochs", best, "macro F1", "started", "time", "size", "device")
    rows = [_cells(record, len(monitors) > 1) for record in records if not record.problem]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    head, *known = (line[:room] for line in table_lines((header, *rows), left=(0, 1, 2, 6, 9)))
    if rows:
        print(head)
    lines = iter(known)
    for record in records:
        if record.problem:
            print(f"{record.run}  {_coloured('unreadable', 'unreadable')}: {record.problem}")
        else:
            print(next(lines).replace(f"  {record.status}", f"  {_coloured(record.status, record.status)}", 1))


def _cells(record: RunRecord, name_monitor: bool) -> tuple[str, ...]:
    best = _number(record.best)
    return (
        record.run,
        record.status,
        record.backbone.rpartition(".")[2] if "." in record.backbone else record.backbone,
        "-" if record.epochs is None else str(record.epochs),
        f"{record.monitor} {best}" if name_monitor and record.monitor else best,
        _number(record.f1_macro),
        record.started[:16].replace("T", " ") or "-",
        "-" if record.wall_s is None else _duration(record.wall_s),
        _bytes(record.size),
        record.device or "-",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _coloured(text: str, status: str) -> str:
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or status not in _COLOURS:
        return text
    return f"\033[{_COLOURS[status]}m{text}\033[0m"


def show(run: str, *, root: Path = Path("runs"), json: bool = False) -> None:
    """Show configuration, results, starts and files of a run.

    Args:
        run: a name (its newest run), name/version_3, or a path.
        root: the folder of all runs.
        json: print JSON.
    """
    folder = find_run(run, root)
    record = read_record(folder, root if folder.is_relative_to(root) else folder.parent.parent)
    found = Run(folder)
    nodes: list[Node] = _try(lambda: found.lineage, [])
    config: dict[str, Any] = _try(lambda: found.config, {})
    if json:
        _print_json({**asdict(record), "nodes": [asdict(node) for node in nodes], "config": config})
        return
    print(f"{folder}  {_coloured(record.status, record.status)}")
    if record.problem:
        print(f"  {record.problem}")
    _print_results(record)
    _print_nodes(nodes)
    _print_config(config)
    print("\nfiles")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    _print_pairs([(path.relative_to(folder).as_posix(), f"{_bytes(path.stat().st_size):>9}") for path in files])


def _try(read: Callable[[], Any], instead: Any) -> Any:
    try:
        return read()
    except FERError as error:
        print(f"fer: {error}", file=sys.stderr)
        return instead


def _print_results(record: RunRecord) -> None:
    results = {
        "network": record.backbone,
        f"best {record.monitor}": _number(record.best),
        "accuracy": _number(record.accuracy),
        "macro F1": _number(record.f1_macro),
        "epochs": record.epochs,
        "time": None if record.wall_s is None else _duration(record.wall_s),
        "device": record.device,
        "size": _bytes(record.size),
    }
    _print_pairs([(name, str(value)) for name, value in results.items() if value not in (None, "", "-")])


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    for line in table_lines(pairs, left=(0, 1)):
        print(f"  {line}")


def _print_nodes(nodes: Sequence[Node]) -> None:
    if nodes:
        print("\nstarts")
    for node in nodes:
        reason = f" ({node.reason})" if node.reason else ""
        span = f"epochs {node.start.get('epochs', 0)} to {node.end.get('epochs', '?')}"
        print(f"  {node.id}  {node.started}  {node.status}{reason}, {span}, {_duration(node.wall_s)}")
        if node.parent is not None:
            what = "weights of" if node.parent.weights_only else "from"
            print(f"    {what} {node.parent.checkpoint} (sha256 {node.parent.sha256[:12]})")
        for change in node.changed:
            print(f"    {change_text(change)}")
    if nodes:
        code, data = nodes[-1].code, nodes[-1].data
        print("\ncode, data, packages (of the last start)")
        dirty = ", changed since" if code.get("dirty") else ""
        commit = f", commit {code['commit'][:12]}{dirty}" if code.get("commit") else ""
        print(f"  fer_lightning {code.get('package', '?')}{commit}")
        prints: Mapping[str, str] = data.get("fingerprints", {})
        counts: Mapping[str, int] = data.get("counts", {})
        listed = ", ".join(f"{split} {counts.get(split, 0):,} ({print_})" for split, print_ in prints.items())
        print(f"  {data.get('datamodule', '?')}: {listed}")
        print(f"  {', '.join(f'{name} {value}' for name, value in nodes[-1].environment.items())}")
        print(f"  seed {nodes[-1].seed}, {nodes[-1].command}")


def _print_config(config: Mapping[str, Any]) -> None:
    """Print the values that are set; those that are off, empty or ``None`` are left out."""
    off: tuple[Any, ...] = (None, False, [], {}, "", "none")
    shown = {key: value for key, value in flat(config) if not any(value is one or value == one for one in off)}
    if shown:
        print("\nconfiguration (what is off is left out)")
    _print_pairs([(key, str(value)) for key, value in shown.items()])


def lineage(run: str, *, root: Path = Path("runs"), dot: bool = False) -> None:
    """Show what a run comes from and what came from it, with what changed on the way.

    Args:
        run: a name (its newest run), name/version_3, or a path.
        root: the folder of all runs.
        dot: print a graph for Graphviz: ... | dot -Tsvg > runs.svg
    """
    folder = find_run(run, root)
    tree = read_tree(root, folder)
    for problem in tree.problems:
        print(f"fer: {problem}", file=sys.stderr)
    print("\n".join(as_dot(tree) if dot else as_tree(tree, _coloured)))
