from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.runs.lineage import LINEAGE, SCHEMA, Change, Node, Parent, lineage_text, read_lineage

NODES = [
    Node("a1", "2024-01-01T00:00:00+00:00", "stopped", "SIGTERM", "2024-01-01T00:00:10+00:00", 10.5, seed=3),
    Node(
        "b2", "2024-01-02T00:00:00+00:00", wall_s=1, start={"epochs": 2, "steps": 20}, mlflow={"uri": "u"},
        parent=Parent("a/checkpoints/resume.ckpt", "00ff", 2, 20, "a", "a1", True),
        changed=[Change("data.seed", 1, None), Change("trainer.max_epochs", 2, 5, harmless=True)],
    ),
]  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    """Write the nodes with other values at the top."""
    values = {**json.loads(lineage_text(NODES)), **changes}
    (folder / LINEAGE).write_text(json.dumps(values))
    return folder


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_lineage(written(tmp_path)) == NODES
    assert read_lineage(tmp_path / "none") == []


def test_what_a_later_version_has_added_is_left_out(tmp_path: Path) -> None:
    nodes = json.loads(lineage_text(NODES))["nodes"]
    nodes[1]["mood"] = nodes[1]["parent"]["mood"] = nodes[1]["changed"][0]["mood"] = "good"
    assert read_lineage(written(tmp_path, nodes=nodes)) == NODES


def test_the_next_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"newer fer_lightning \\(schema {SCHEMA + 1}\\): update"):
        read_lineage(written(tmp_path, schema=SCHEMA + 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 3) for name in ("id", "started", "status", "reason", "ended", "command")),
        *((name, [1]) for name in ("start", "end", "monitor", "code", "data", "environment", "device")),
        ("wall_s", "long"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, name: str, value: object) -> None:
    nodes = json.loads(lineage_text(NODES))["nodes"]
    nodes[1][name] = value
    with pytest.raises(ConfigError) as caught:
        read_lineage(written(tmp_path, nodes=nodes))
    assert str(caught.value) == f"{tmp_path / LINEAGE} is damaged: ValueError: '{name}' of a node is {value!r}"


def test_the_file_can_be_read_by_people() -> None:
    text = lineage_text([Node("a", "t", reason="É")])
    assert text.startswith(
        '{\n "schema": 1,\n "nodes": [\n  {\n   "id": "a",\n   "started": "t",\n   "status": "running",'
    )
    assert '"reason": "É"' in text
    assert text.endswith("}\n")
    assert json.loads(text)["nodes"][0]["parent"] is None
    defaults = Parent("c", "0"), Change("k", 1, 2)
    assert (defaults[0].weights_only, defaults[0].epoch, defaults[1].harmless) == (False, None, False)
