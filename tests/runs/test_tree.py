from __future__ import annotations

from pathlib import Path

from fer_lightning.runs.lineage import LINEAGE, Node, Parent, lineage_text
from fer_lightning.runs.tree import as_tree, read_tree


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
