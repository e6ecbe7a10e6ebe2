"""The names of the package, and the scripts of the documentation that use them."""

from __future__ import annotations

import dataclasses
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_lightning
from fer_lightning import audit, compare, evaluate
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.inference.loading import DEFAULT_MODEL
from tests.helpers.cli import fit
from tests.helpers.predictions import guessed, write_evaluation

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "docs/scripts"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert fit(root, epochs=1) == 0
    return root


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, groups = tmp_path_factory.mktemp("evaluations"), np.array(["f", "m"] * 150, np.str_)
    first = guessed(0.6, 0)
    first = dataclasses.replace(first, groups={"gender": groups[first.index]})
    return write_evaluation(folder / "one", first), write_evaluation(folder / "two", guessed(0.9, 1))


def ran(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out


def test_every_script_is_run_here() -> None:
    text = Path(__file__).read_text()
    assert all(f'ran("{path.stem}"' in text for path in SCRIPTS.glob("*.py"))
    assert set(dir(fer_lightning)) == set(fer_lightning.__all__)


def test_recognize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "a.png")
    out = ran("recognize", monkeypatch, capsys, tmp_path / "a.png")
    assert out.startswith(f"Recognizer({DEFAULT_MODEL}: ")
    assert "a.png: no face found" in out


def test_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "('angry', 'disgust', " in ran("model", monkeypatch, capsys)


def test_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'val_acc': " in ran("train", monkeypatch, capsys, 70)


def test_evaluate(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = ran("evaluate", monkeypatch, capsys, runs / "tiny/version_0")
    assert "macro F1" in out
    assert out.rstrip().endswith("/test")
    other = evaluate(runs / "tiny/version_0", report__pictures=False, trainer__precision="bf16-mixed")
    assert other.folder is not None
    assert other.folder.name.startswith("test-")  # of this call, beside the first one
    found = evaluate(runs / "tiny/version_0", split="val", report__pictures=False)
    assert found.folder == runs / "tiny/version_0/validate"
    assert repr(found).startswith("val: ")
    assert 0 <= found["accuracy"] <= 1


def test_compare(
    evaluations: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ran("compare", monkeypatch, capsys, *evaluations)
    assert "two" in out
    assert repr(compare(*evaluations)) in out


def test_audit(
    evaluations: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ran("audit", monkeypatch, capsys, evaluations[0])
    assert "gender" in out
    assert repr(audit(evaluations[0], ["gender"])) in out


def test_what_is_wrong_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        evaluate(tmp_path / "nothing/version_0")
    with pytest.raises(ConfigError, match="expected two evaluations or more"):
        compare(tmp_path)
    with pytest.raises(ConfigError, match="did you mean"):
        evaluate(tmp_path, repotr__pictures=False)


def test_the_page_shows_the_scripts_as_they_are() -> None:
    page = (ROOT / "docs/python.md").read_text()
    assert all(f"```python\n{path.read_text()}```" in page for path in SCRIPTS.glob("*.py"))
