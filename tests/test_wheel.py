"""What a wheel brings along, used where the repository is not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_configs_and_models_are_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("configs", "checkpoints"):
        own = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
        assert own
        assert {f"fer_lightning/{name}" for name in own} <= set(names)
    assert "fer_lightning/pages/templates/session.html" in names
    page = [path for path in (ROOT / "fer_lightning/inference/serve/page").rglob("*") if path.is_file()]
    assert {path.relative_to(ROOT).as_posix() for path in page} <= set(names)
    assert not [name for name in names if name.startswith("tests")]


def test_a_photograph_is_recognized_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import fer_lightning, numpy as np; from fer_lightning import Recognizer; print(fer_lightning.__file__);"
        "print(len(Recognizer.load(detector=None)(np.zeros((90, 90), np.uint8))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "site/fer_lightning/__init__.py"), "1"]


def test_configs_are_found_by_name_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    fer = [sys.executable, "-m", "fer_lightning"]
    shown = subprocess.run([*fer, "configs", "show", "quickstart"], cwd=tmp_path, env=environment, capture_output=True)
    assert str(tmp_path / "site/fer_lightning/configs/model/fer_b_fast.yaml") in shown.stdout.decode()
    command = [*fer, "fit", "--config", "quickstart", "--trainer", "trainer/ema.yaml", "--print_config"]
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "fer_b_fast" in told.stdout
    assert "max_epochs: 100" in told.stdout
