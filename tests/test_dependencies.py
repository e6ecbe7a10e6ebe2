"""Every package that the code imports is declared in pyproject.toml: for all, or in the extra whose code it is."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from fer_lightning.errors import MissingExtraError
from fer_lightning.extras import need_extra

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fer_lightning"
DISTRIBUTIONS = {  # that are not called as what is imported
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "markupsafe": "jinja2",
    "mlflow": "mlflow-skinny",
    "starlette": "fastapi",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
EXTRAS = {  # the code that needs each
    "large": (
        "data/storage/",
        "data/sets/arrow.py",
        "data/sets/shards.py",
        "data/sets/labels/hugging_face.py",
        "data/table/table_rows.py",
        "inference/rows.py",
    ),
    "explain": ("inspection/embedding.py", "explanation/features.py"),
    "tune": ("studies/tune/",),
    "track": ("cli/tracking.py",),
    "hf": ("models/hf_folder.py",),
    "video": ("inference/video/reading.py",),
    "export": ("inference/export/", "inference/faces/blazeface.py", "inference/faces/conversion.py"),
    "serve": ("inference/serve/", "commands/serve.py"),
}
USED_BY_OTHERS = {
    "torchvision",
    "tensorboard",
    "alembic",
    "scikit-learn",
    "python-multipart",
    "onnxscript",
}  # timm; Lightning; MLflow; optuna; starlette; torch.onnx
BY_NAME = {"import_module", "need"}  # functions that import what a text names


def declared() -> dict[str, set[str]]:
    """Return the names of the distributions of each extra, and under ``""`` those for all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        name: {normal(re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0]) for line in lines}
        for name, lines in groups.items()
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(path: Path) -> set[tuple[str, int]]:
    """Return the distributions that a file imports, with the lines: at its head, in functions, and by name."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in BY_NAME:
            names = [str(node.args[0].value)] if isinstance(node.args[0], ast.Constant) else []
        else:
            continue
        tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {PACKAGE.name}
        found |= {(normal(DISTRIBUTIONS.get(top, top)), node.lineno) for top in tops}
    return found


def undeclared(path: Path) -> list[str]:
    known = declared()
    place = path.relative_to(PACKAGE).as_posix()
    allowed = known[""].union(*(known[extra] for extra, places in EXTRAS.items() if place.startswith(places)))
    return [f"{place}:{line}: {name}" for name, line in sorted(imported(path)) if name not in allowed]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_imported_is_declared(path: Path) -> None:
    assert undeclared(path) == []


def test_what_is_declared_is_imported() -> None:
    used = {name for path in PACKAGE.rglob("*.py") for name, _ in imported(path)}
    needed = set().union(*(names for extra, names in declared().items() if extra not in ("all", "dev", "docs")))
    assert needed - used - USED_BY_OTHERS == set()


def test_a_missing_extra_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    need_extra("video", "videos need", "os")
    for name in ("av", "sklearn"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingExtraError, match=r"^videos need PyAV, scikit-learn: pip install 'fer_lightning\[video\]'$"
    ):
        need_extra("video", "videos need", "av", "os", "sklearn")


def test_the_extra_that_is_proposed_has_the_packages() -> None:
    proposed = {
        (node.args[0].value, arg.value)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "need_extra"
        for arg in node.args[2:]
        if isinstance(arg, ast.Constant) and isinstance(node.args[0], ast.Constant)
    }
    assert len(proposed) > 10
    for extra, package in proposed:
        assert normal(DISTRIBUTIONS.get(str(package), str(package))) in declared()[str(extra)]


def test_an_undeclared_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_dependencies.PACKAGE", tmp_path / "fer_lightning")
    path = tmp_path / "fer_lightning" / "models" / "new.py"
    path.parent.mkdir(parents=True)
    path.write_text("import yaml, os\n\ndef f():\n    import optuna.storages\n    need('litdata.streaming')\n")
    assert undeclared(path) == ["models/new.py:5: litdata", "models/new.py:4: optuna"]


def test_the_version_stands_in_one_place() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    number = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])".encode())
    texts = [*PACKAGE.rglob("*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.*"), ROOT / "Makefile"]
    told = {path.name for path in texts if path.is_file() and number.search(path.read_bytes())}
    assert told - {"CHANGELOG.md", "constraints.txt"} == {"pyproject.toml"}
