"""What ``lineage.json`` of a run folder holds: a node for each start or resume, and what it came from.

Nothing heavy is imported here: listing runs must not take longer than looking at their files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fer_lightning.errors import ConfigError

__all__ = ["ENDED", "LINEAGE", "SCHEMA", "Change", "Node", "Parent", "lineage_text", "read_lineage"]

LINEAGE = "lineage.json"
"""Name of the file in the folder of a run."""
SCHEMA = 1
"""Version of its form."""

ENDED = ("finished", "stopped", "failed", "incomplete", "killed")
"""How a node can end: ``finished`` when all epochs are done or a callback stopped it early, ``stopped`` by a signal,
``failed`` by an error, ``incomplete`` by ``max_time``, ``killed`` with no time to write. Before, it is ``running``."""


@dataclass(frozen=True)
class Change:
    """A value of the configuration that differs from the parent's.

    Attributes:
        key: its place, joined by dots.
        before: the parent's value, ``None`` where it has none.
        after: the value now, ``None`` where there is none.
        harmless: whether, as far as is known, it does not change what is learned, except by training longer.
    """

    key: str
    before: Any
    after: Any
    harmless: bool = False


@dataclass(frozen=True)
class Parent:
    """The checkpoint that a node started from.

    Attributes:
        checkpoint: its path, relative to the folder of all runs if it lies there.
        sha256: of the file.
        epoch: number of epochs that were done in it, ``None`` where it does not say.
        step: number of optimizer steps that were done in it.
        run: the run folder it lay in, relative like ``checkpoint``; ``None`` if in none.
        node: id of the node that wrote it, ``None`` if it does not say.
        weights_only: only its weights were taken, for fine-tuning.
    """

    checkpoint: str
    sha256: str
    epoch: int | None = None
    step: int | None = None
    run: str | None = None
    node: str | None = None
    weights_only: bool = False


@dataclass
class Node:
    """One start or resume of a run.

    Attributes:
        id: short hash, unique over all runs.
        started: local time with zone, ISO 8601.
        status: ``running`` or one of ``ENDED``.
        reason: why it ended: a signal, an error, early stopping; empty if there is nothing to say.
        ended: like ``started``, empty as long as it is running.
        wall_s: seconds of training, the end's reports included.
        parent: what it started from, ``None`` for a fresh start.
        changed: how its configuration differs from the parent's.
        start: ``epochs`` and ``steps`` that were done when it began.
        end: likewise when it ended.
        monitor: ``name``, ``mode``, ``best`` value and the ``epoch`` of it.
        seed: of everything random.
        command: the command line.
        code: ``package`` version, and ``commit`` and ``dirty`` of its repository, ``None`` where there is none.
        data: what the data module says of itself.
        environment: versions, ``hostname`` and ``os``.
        device: ``hardware``, ``count``, ``precision`` and ``strategy``.
        mlflow: ``uri`` and ``run_id`` where the run is tracked there.
    """

    id: str
    started: str
    status: str = "running"
    reason: str = ""
    ended: str = ""
    wall_s: float = 0.0
    parent: Parent | None = None
    changed: list[Change] = field(default_factory=list)
    start: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)
    monitor: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    command: str = ""
    code: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    mlflow: dict[str, str] | None = None


def lineage_text(nodes: list[Node]) -> str:
    """Return the content of a ``lineage.json``."""
    values = {"schema": SCHEMA, "nodes": [asdict(node) for node in nodes]}
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def read_lineage(folder: Path) -> list[Node]:
    """Return the nodes of a run folder, oldest first; none where there is no ``lineage.json``.

    Raises:
        ConfigError: if the file is damaged or of a newer form.
    """
    path = folder / LINEAGE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        values = json.loads(text)
        if values["schema"] > SCHEMA:
            raise ConfigError(f"{path} was written by a newer fer_lightning (schema {values['schema']}): update")
        return [_node(node) for node in values["nodes"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _node(values: dict[str, Any]) -> Node:
    parent = values.get("parent")
    node = Node(**_known(Node, values))
    node.parent = None if parent is None else Parent(**_known(Parent, parent))
    node.changed = [Change(**_known(Change, change)) for change in values.get("changed", [])]
    for name, kind in _KINDS.items():
        if not isinstance(getattr(node, name), kind):
            raise ValueError(f"'{name}' of a node is {getattr(node, name)!r}")
    return node


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "started", "status", "reason", "ended", "command"), str),
    **dict.fromkeys(("start", "end", "monitor", "code", "data", "environment", "device"), dict),
    "wall_s": (int, float),
}


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a later version may have added."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
