from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.runs.lineage import LINEAGE, Change, Node, Parent, lineage_text
from fer_lightning.runs.tree import as_dot, as_tree, read_tree


def written(folder: Path, *nodes: Node) -> Path:
    folder.mkdir(parents=True)
    (folder / LINEAGE).write_text(lineage_text(list(nodes)))
    return folder


def test_each_start_says_how_it_went_and_what_it_came_from(tmp_path: Path) -> None:
    resumed = Parent("a/version_0/checkpoints/resume.ckpt", "0", 2, 30, "a/version_0", "n1")
    tuned = Parent("a/version_0/checkpoints/best.ckpt", "0", 3, 40, "a/version_0", weights_only=True)
    best = {"name": "val_acc", "mode": "max", "best": 0.54321}
    first = Node("n1", "t", "stopped", ended="t", start={"epochs": 0}, end={"epochs": 2})
    second = Node(
        "n2", "t", "finished", ended="t", parent=resumed, start={"epochs": 2}, end={"epochs": 5}, monitor=best
    )
    written(tmp_path / "a/version_0", first, second)
    asked = written(tmp_path / "b/version_0", Node("n3", "t", "failed", ended="t", parent=tuned, end={"epochs": 1}))
    assert as_tree(read_tree(tmp_path, asked)) == [
        "a/version_0  n1  stopped, epochs 0 to 2",
        "└─ a/version_0  n2  finished, epochs 2 to 5, val_acc 0.5432",
        "   │    resume.ckpt at epoch 2, step 30",
        "   └─ b/version_0  n3  failed, epochs 0 to 1 *",
        "           weights of best.ckpt at epoch 3, step 40",
    ]


def test_a_start_that_names_itself_comes_from_nothing(tmp_path: Path) -> None:
    own = Node("n1", "t", "finished", ended="t", parent=Parent("c", "0", run="a/version_0", node="n1"))
    tree = read_tree(tmp_path, written(tmp_path / "a/version_0", own))
    assert [(start.node.id, start.after) for start in tree.tops] == [("n1", [])]


def a_node(name: str, parent: Parent | None = None, **values: Any) -> Node:
    return Node(name, "t", "finished", ended="t", parent=parent, start={"epochs": 1}, end={"epochs": 4}, **values)


def test_branches_and_what_changed_are_drawn(tmp_path: Path) -> None:
    above = Parent("a/version_0/checkpoints/resume.ckpt", "0", 4, 40, "a/version_0", "n1")
    asked = written(tmp_path / "a/version_0", a_node("n1", changed=[Change("x", 1, 2)]))
    changes = [Change("model.tau", 1.0, 0.5), Change("data.seed", None, 3)]
    written(tmp_path / "b/version_0", a_node("n2", above, changed=changes))
    written(tmp_path / "b/version_1", a_node("n3", Parent("b/x.ckpt", "0", None, None, "b/version_0", "gone")))
    written(tmp_path / "c/version_0", a_node("n4", above))
    written(tmp_path / "d/version_0", a_node("n5"))
    assert as_tree(read_tree(tmp_path, asked), lambda text, status: f"<{text}>") == [
        "a/version_0  n1  <finished>, epochs 1 to 4 *",
        "├─ b/version_0  n2  <finished>, epochs 1 to 4",
        "│  │    resume.ckpt at epoch 4, step 40",
        "│  │    model.tau 1 -> 0.5",
        "│  │    data.seed none -> 3",
        "│  └─ b/version_1  n3  <finished>, epochs 1 to 4",
        "│          x.ckpt",
        "└─ c/version_0  n4  <finished>, epochs 1 to 4",
        "        resume.ckpt at epoch 4, step 40",
    ]
    assert as_dot(read_tree(tmp_path, tmp_path / "b/version_1")) == [
        "digraph runs {",
        '  node [shape=box, fontname="sans-serif"];',
        '  edge [fontname="sans-serif"];',
        '  "n1" [label="a/version_0  n1  finished, epochs 1 to 4"];',
        '  "n1" -> "n2" [label="resume.ckpt at epoch 4, step 40\\nmodel.tau 1 -> 0.5\\ndata.seed none -> 3"];',
        '  "n2" [label="b/version_0  n2  finished, epochs 1 to 4"];',
        '  "n2" -> "n3" [label="x.ckpt"];',
        '  "n3" [label="b/version_1  n3  finished, epochs 1 to 4", style=bold];',
        '  "n1" -> "n4" [label="resume.ckpt at epoch 4, step 40"];',
        '  "n4" [label="c/version_0  n4  finished, epochs 1 to 4"];',
        "}",
    ]


def test_the_last_start_stands_as_it_does_now_and_earlier_ones_as_they_ended(tmp_path: Path) -> None:
    lost = [Node("n1", "t", "running", start={"epochs": 2}), Node("n2", "t", "running")]
    tree = read_tree(tmp_path, written(tmp_path / "a/version_0", *lost))
    assert as_tree(tree) == [
        "a/version_0  n1  running, epochs 2 to ? *",
        "a/version_0  n2  killed, epochs 0 to ? *",
    ]


def test_a_circle_of_starts_ends(tmp_path: Path) -> None:
    one = a_node("n1", Parent("c", "0", run="a/version_0", node="n2"))
    tree = read_tree(tmp_path, written(tmp_path / "a/version_0", one, a_node("n2", Parent("c", "0", node="n1"))))
    assert {start.node.id for start in tree.tops} <= {"n1", "n2"}


def test_runs_elsewhere_and_damaged_ones(tmp_path: Path) -> None:
    root, quote = tmp_path / "runs", 'say "a\\b"'
    other = written(tmp_path / "else/version_3", a_node("n1", Parent(f"{tmp_path}/x.ckpt", "0", 7, 8)))
    damaged = written(root / "z/version_0", a_node("n2"))
    (damaged / LINEAGE).write_text("{")
    tree = read_tree(root, other)
    assert [start.run for start in tree.tops] == [str(other)]
    (problem,) = tree.problems
    assert problem.startswith(f"{damaged / LINEAGE} is damaged: ")
    with pytest.raises(ConfigError, match="is damaged"):
        read_tree(root, damaged)
    with pytest.raises(ConfigError) as caught:
        read_tree(root, tmp_path / "none")
    assert str(caught.value).startswith(f"{tmp_path / 'none'} has no lineage.json: it was trained by an older version")
    odd = written(tmp_path / "odd" / quote / "version_0", a_node("n3"))
    (line,) = [line for line in as_dot(read_tree(tmp_path / "odd", odd)) if "label" in line]
    assert line == '  "n3" [label="say \\"a\\\\b\\"/version_0  n3  finished, epochs 1 to 4", style=bold];'
