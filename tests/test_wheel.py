"""What the source distribution and the wheel bring along, installed and used where the repository is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PACKAGE = "fer_lightning"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OF_THE_REPOSITORY = (".ci/", ".gitignore", ".pre-commit-config.yaml")  # what has no use outside of it
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command without this repository on the path and without a network."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "XDG_DATA_HOME": str(cwd / "data")}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=check
    )


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", build, cwd=ROOT)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the source distribution gives, as ``python -m build`` makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def fer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of a new environment that holds the wheel, and by reference the dependencies of this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    python = place / "bin/python"
    run(*PIP, "--python", python, "install", "--no-deps", wheel, cwd=place)
    site = next(place.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    return place / "bin/fer"


def test_the_source_distribution_holds_the_repository(sdist: Path) -> None:
    tracked = run("git", "ls-files", cwd=ROOT).stdout.split("\n")[:-1]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in tracked if not name.startswith(OF_THE_REPOSITORY)} - names == set()
    assert not [name for name in names if name.startswith((".git", ".venv", "build", "web/node_modules"))]


def test_the_wheel_holds_the_package_with_configs_and_models(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = run("git", "ls-files", PACKAGE, cwd=ROOT).stdout.split("\n")[:-1]
    shipped = [*(ROOT / "configs").rglob("*"), *(ROOT / "checkpoints").rglob("*")]
    expected = {*tracked, *(f"{PACKAGE}/{path.relative_to(ROOT).as_posix()}" for path in shipped if path.is_file())}
    assert expected - names == set()
    fetched = (f"{PACKAGE}/inference/serve/page/ort/", f"{PACKAGE}/inference/faces/files/")  # by `make web`
    assert {name for name in names - expected if not name.startswith(fetched)} == set()


def test_the_wheel_holds_what_make_web_has_fetched(wheel: Path) -> None:
    page = [path for path in (ROOT / PACKAGE / "inference/serve/page").rglob("*") if path.is_file()]
    assert {path.relative_to(ROOT).as_posix() for path in page} <= set(zipfile.ZipFile(wheel).namelist())


def test_a_photograph_is_recognized(fer: Path, tmp_path: Path) -> None:
    where = run(fer.parent / "python", "-c", "import fer_lightning; print(fer_lightning.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(fer.parents[1]))
    Image.fromarray(np.zeros((90, 90), np.uint8)).save(tmp_path / "face.png")
    told = run(fer, "recognize", "face.png", "--no_detect", cwd=tmp_path).stdout
    assert told.endswith("1 file, 1 face\n")
    assert run(fer.parent / "python", *PIP[1:], "check", cwd=tmp_path).stdout == "No broken requirements found.\n"


def test_the_quickstart_is_trained(fer: Path, tmp_path: Path) -> None:
    shown = run(fer, "configs", "show", "quickstart", cwd=tmp_path).stdout
    assert "site-packages/fer_lightning/configs/model/fer_b_fast.yaml" in shown
    little = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--report.pictures=false"]
    run(fer, "fit", "--config", "quickstart", *little, cwd=tmp_path)
    assert (tmp_path / "runs/quickstart/version_0/val/report.json").is_file()


def test_the_released_soft_labels_are_found(fer: Path, tmp_path: Path) -> None:
    done = run(fer, "fit", "--config", "released/fer2013_a", "--data", "SketchDataModule", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "no probabilities for" in done.stderr  # of drawn faces
