"""The layers of the package: a module imports only from layers to its left."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fer_lightning"

# Lower numbers are further left. Rooms with the same number do not import each other.
LAYERS = {
    "errors": 0,
    "emotions": 1,
    "types": 1,
    "lineage": 1,
    "class_weights": 2,
    "config_changes": 2,
    "data": 3,
    "losses": 3,
    "metrics": 3,
    "optim": 3,
    "models": 4,
    "evaluation": 5,
    "callbacks": 6,
    "inference": 7,
    "tracking": 7,
    "runs": 8,
    "peers": 8,
    "run_arguments": 8,
    "stored_config": 8,
    "parsing": 8,
    "commands": 9,
    "cli": 9,
    "__main__": 10,
}
# A network knows nothing of a data set, so `models` may not use the room to its left that is called `data`.
FORBIDDEN = {("models", "data")}
# The entry point and the verbs share a layer: `bench` drives the CLI, the CLI uses the commands' parsing helpers.
SIBLINGS = {("commands", "cli"), ("cli", "commands")}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def edges(path: Path) -> list[tuple[str, int]]:
    """Return (imported room, line) of every import of ours in a file, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, node.lineno)]
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
    return [(room(module), line) for module, line in found if module.split(".")[0] == "fer_lightning"]


def violations(path: Path) -> list[str]:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    faults = []
    for target, line in edges(path):
        if target in ("", own) or (own, target) in SIBLINGS:
            continue
        if LAYERS[target] >= LAYERS[own] or (own, target) in FORBIDDEN:
            faults.append(f"{path.relative_to(PACKAGE)}:{line}: {own} must not import {target}")
    return faults


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert edges(path) == []
        return
    assert violations(path) == []


def test_a_wrong_edge_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_layers.PACKAGE", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.py").write_text("def f():\n    from fer_lightning.models import heads\n")
    assert violations(tmp_path / "data" / "bad.py") == ["data/bad.py:2: data must not import models"]
