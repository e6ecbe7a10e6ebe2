"""The layers of the package, and what CONTRIBUTING promises of its files and functions.

A module imports only from rooms to its left. Inside a room that is listed with its inner rooms, the same holds for
these; inside the innermost rooms modules may import each other, but no import may lead back to where it started.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fer_lightning"

# From left to right; rooms in one tuple do not import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "lazy", "shipped"),
    ("emotions", "extras", "types", "text", "files", "randomness", "signals"),
    ("backbone_names", "class_weights", "figures", "outputs", "pages", "preprocessing"),
    ("runs",),
    ("data", "losses", "metrics", "optim"),
    ("models",),
    ("evaluation", "inspection"),
    ("explanation",),
    ("callbacks",),
    ("inference",),
    ("cli",),
    ("studies",),
    ("api",),
    ("commands",),
    ("__main__", "__init__"),
)
INNER: dict[str, tuple[tuple[str, ...], ...]] = {
    "data": (
        ("data.table",),
        ("data.splitting",),
        ("data.files", "data.batches"),
        ("data.datamodule",),
        ("data.files_datamodule",),
        ("data.storage",),
        ("data.sets",),
        ("data.detect",),
    ),
    "studies": (("studies.child_runs", "studies.rehearsal"), ("studies.crossval", "studies.tune")),
}
# A network knows nothing of a data set, so `models` may not use the room to its left that is called `data`.
FORBIDDEN = {("models", "data")}
MOST_LINES = {"file": 400, "function": 60}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Return the name of a module below the package, such as ``data.table.samples``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room(module: str, level: int = 1) -> str:
    return ".".join(module.split(".")[:level])


def edges(path: Path) -> list[tuple[str, int]]:
    """Return (imported module below the package, line) of every import of ours in a file, also inside functions."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append((full if is_module(full) else node.module, node.lineno))
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
    ours = [(module, line) for module, line in found if module.split(".")[0] == PACKAGE.name]
    return [(module.partition(".")[2], line) for module, line in ours]


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def places(layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: place for place, names in enumerate(layers) for name in names}


def violations(path: Path) -> list[str]:
    own = dotted(path)
    faults = []
    for target, line in edges(path):
        if not target or own == room(own) or room(own) != room(target):
            here, there, order = room(own), room(target), places(LAYERS)
        elif room(own) in INNER:
            here, there, order = room(own, 2), room(target, 2), places(INNER[room(own)])
        else:
            continue
        if not there or here == there:
            continue
        missing = [name for name in (here, there) if name not in order]
        if missing:
            faults.append(f"{path.relative_to(PACKAGE)}:{line}: {missing[0]} has no place in LAYERS")
        elif order[there] >= order[here] or (here, there) in FORBIDDEN:
            faults.append(f"{path.relative_to(PACKAGE)}:{line}: {here} must not import {there}")
    return faults


def circles() -> list[str]:
    """Return every way of imports that comes back to where it began, once each, as ``a -> b -> a``."""
    graph = {dotted(path): {target for target, _ in edges(path)} for path in modules()}
    found: set[tuple[str, ...]] = set()
    finished: set[str] = set()

    def follow(module: str, way: list[str]) -> None:
        if module in way:
            circle = way[way.index(module) :]
            first = circle.index(min(circle))
            found.add((*circle[first:], *circle[:first]))
            return
        if module in finished:
            return
        for target in sorted(graph.get(module, ())):
            follow(target, [*way, module])
        finished.add(module)

    for module in sorted(graph):
        follow(module, [])
    return sorted(" -> ".join((*circle, circle[0])) for circle in found)


def too_long(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(PACKAGE)
    lines = text.count("\n")
    faults = [f"{name}: {lines} lines"] if lines > MOST_LINES["file"] else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
            size = node.end_lineno - node.lineno + 1
            if size > MOST_LINES["function"]:
                faults.append(f"{name}:{node.lineno}: {node.name} has {size} lines")
    return faults


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    assert violations(path) == []


def test_no_import_leads_back_to_where_it_began() -> None:
    assert circles() == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    assert too_long(path) == []


def test_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fer_lightning"
    monkeypatch.setattr("tests.test_layers.PACKAGE", package)
    for name, text in {
        "data/bad.py": "def f():\n    from fer_lightning.models import heads\n",
        "data/table/low.py": "from fer_lightning.data.splitting.high import x\n",
        "data/splitting/high.py": "from fer_lightning.data.table.low import y\n",
        "nowhere.py": "import fer_lightning.errors\n",
        "errors.py": "",
        "long.py": "def f() -> None:\n" + "    pass\n" * 400,
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert violations(package / "data/bad.py") == ["data/bad.py:2: data must not import models"]
    low = package / "data/table/low.py"
    assert violations(low) == ["data/table/low.py:1: data.table must not import data.splitting"]
    assert violations(package / "data/splitting/high.py") == []
    assert violations(package / "nowhere.py") == ["nowhere.py:1: nowhere has no place in LAYERS"]
    assert circles() == ["data.splitting.high -> data.table.low -> data.splitting.high"]
    assert too_long(package / "long.py") == ["long.py: 401 lines", "long.py:1: f has 401 lines"]
