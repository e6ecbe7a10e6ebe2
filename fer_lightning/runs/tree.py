"""What runs come from, over all run folders: as a tree of characters or a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.runs.changes import change_text
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.lineage import Node
from fer_lightning.runs.records import Run

__all__ = ["RunTree", "Start", "as_dot", "as_tree", "read_tree"]


@dataclass
class Start:
    """A node of the lineage, among those of all runs.

    Attributes:
        run: the run folder, relative to the folder of all runs.
        node: what ``lineage.json`` says.
        status: that of the node; of a run's last one, as it is now.
        after: the starts that go on from it.
        asked: it belongs to the run that was asked for.
    """

    run: str
    node: Node
    status: str
    after: list[Start] = field(default_factory=list)
    asked: bool = False


@dataclass
class RunTree:
    """What is related to a run: the starts that come from no other, with those after them, and unreadable files."""

    tops: list[Start]
    problems: list[str]


def read_tree(root: Path, folder: Path) -> RunTree:
    """Read what a run comes from and what came from that; raise ``ConfigError`` if nothing is known of it."""
    starts, problems = _read_starts(root, folder)
    by_id = {start.node.id: start for start in starts}
    last = {start.run: start for start in starts}
    above: dict[str, Start] = {}
    for start in starts:
        parent = start.node.parent
        origin = None if parent is None else by_id.get(parent.node or "") or last.get(parent.run or "")
        if origin is not None and origin is not start:
            above[start.node.id] = origin
            origin.after.append(start)
    tops: dict[str, Start] = {}
    for start in starts:
        if start.asked:
            seen = {start.node.id}
            while start.node.id in above and above[start.node.id].node.id not in seen:
                start = above[start.node.id]
                seen.add(start.node.id)
            tops[start.node.id] = start
    if not tops:
        raise ConfigError(f"{folder} has no lineage.json: it was trained by an older version, or never began")
    return RunTree(list(tops.values()), problems)


def _read_starts(root: Path, folder: Path) -> tuple[list[Start], list[str]]:
    starts, problems = [], []
    folders = run_folders(root) if root.is_dir() else []
    if not any(one.resolve() == folder.resolve() for one in folders):
        folders.append(folder)
    for one in folders:
        asked = one.resolve() == folder.resolve()
        try:
            nodes = Run(one).lineage
        except ConfigError as error:
            if asked:
                raise
            problems.append(str(error))
            continue
        run = one.relative_to(root).as_posix() if one.is_relative_to(root) else str(one)
        now = Run(one).status
        starts += [Start(run, node, now if node is nodes[-1] else node.status, asked=asked) for node in nodes]
    return starts, problems


def _title(start: Start, status: str) -> str:
    node = start.node
    done = node.end.get("epochs", "?")
    best = f", {node.monitor['name']} {node.monitor['best']:.4f}" if "best" in node.monitor else ""
    mark = " *" if start.asked else ""
    return f"{start.run}  {node.id}  {status}, epochs {node.start.get('epochs', 0)} to {done}{best}{mark}"


def _edge(start: Start) -> Iterator[str]:
    """Return what led to a start: the checkpoint, and what changed."""
    parent = start.node.parent
    if parent is None:
        return
    file = Path(parent.checkpoint).name if start.node.parent and parent.run else parent.checkpoint
    at = "" if parent.step is None else f" at epoch {parent.epoch}, step {parent.step}"
    yield f"{'weights of ' if parent.weights_only else ''}{file}{at}"
    yield from (change_text(change) for change in start.node.changed)


def as_tree(tree: RunTree, coloured: Callable[[str, str], str] = lambda text, status: text) -> list[str]:
    """Return lines that draw the tree; the run that was asked for is marked with ``*``."""
    lines: list[str] = []

    def draw(start: Start, first: str, others: str) -> None:
        lines.append(first + _title(start, coloured(start.status, start.status)))
        bar = "│    " if start.after else "     "
        lines.extend(f"{others}{bar}{text}" for text in _edge(start))
        for number, one in enumerate(start.after, start=1):
            end = number == len(start.after)
            draw(one, others + ("└─ " if end else "├─ "), others + ("   " if end else "│  "))

    for top in tree.tops:
        draw(top, "", "")
    return lines


def as_dot(tree: RunTree) -> list[str]:
    """Return the tree in the language of Graphviz."""
    lines = ["digraph runs {", '  node [shape=box, fontname="sans-serif"];', '  edge [fontname="sans-serif"];']

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    def draw(start: Start) -> None:
        style = ", style=bold" if start.asked else ""
        title = _title(start, start.status).removesuffix(" *")
        lines.append(f"  {quoted(start.node.id)} [label={quoted(title)}{style}];")
        for one in start.after:
            label = quoted("\n".join(_edge(one)))
            lines.append(f"  {quoted(start.node.id)} -> {quoted(one.node.id)} [label={label}];")
            draw(one)

    for top in tree.tops:
        draw(top)
    return [*lines, "}"]
