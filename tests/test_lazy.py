from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fer_lightning
import fer_lightning.data


def test_every_exported_name_is_there() -> None:
    for package in (fer_lightning, fer_lightning.data):
        for name in package.__all__:
            assert getattr(package, name) is not None
    assert fer_lightning.data.FER2013DataModule.__module__ == "fer_lightning.data.sets.fer2013.fer2013"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'fer_lightning.data' has no attribute 'FER2014DataModule'"):
        fer_lightning.data.FER2014DataModule  # noqa: B018


def modules_after(code: str) -> set[str]:
    code = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_itself_imports_next_to_nothing() -> None:
    found = modules_after("import fer_lightning")
    assert {name for name in found if name.startswith("fer_lightning")} == {"fer_lightning", "fer_lightning.lazy"}
    assert {"numpy", "torch"} & found == set()


def test_a_trained_model_is_used_without_lightning_and_timm() -> None:
    found = modules_after("from fer_lightning import Recognizer")
    assert {"lightning", "timm", "torchvision", "torchmetrics", "albumentations"} & found == set()


def test_a_missing_picture_or_package_is_told_without_torch(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    lines = [["recognize", "none.jpg"], ["recognize", str(tmp_path)], ["export", "fer2013-a", "--out", "x"]]
    absent = "sys.modules.update(av=None, onnx=None); from fer_lightning.__main__ import main"
    assert "torch" not in modules_after(f"{absent}; assert [main(line) for line in {lines}] == [2, 2, 2]")
