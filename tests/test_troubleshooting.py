"""Each line that docs/troubleshooting.md quotes is said by ``fer``: the words of the page, where it has no dots."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.cli import TINY, fer
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import write_folders

PAGE = Path(__file__).parents[1] / "docs/troubleshooting.md"
QUOTED = re.compile(r"^\| [^`|\n]*`([^`]+)`", re.M)
FACES = ("--data=ImageFolderDataModule", "--data.root=faces")


def written(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "x.yaml").write_text(content)


def faces(**counts: int) -> Callable[[Path], object]:
    return lambda folder: write_folders(folder / "faces", counts, ("train", "val"))


def short_row(folder: Path) -> None:
    file = write_fer2013(folder / "faces", "csv") / "fer2013.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace(" ", "", 1), *lines[2:]]))


def no_image(folder: Path) -> None:
    faces(angry=6, disgust=6, fear=6, happy=6, sad=6, surprise=6, neutral=6)(folder)
    next((folder / "faces/train/sad").iterdir()).write_text("no image")


def bare_weights(folder: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, folder / "w.pt")


def later(folder: Path) -> None:
    model = shutil.copytree(Path(__file__).parents[1] / "checkpoints/fer2013-a", folder / "model")
    config = model / "config.json"
    config.write_text(re.sub(r'"schema": 1', '"schema": 999', config.read_text()))


def damaged(folder: Path) -> None:
    model = shutil.copytree(Path(__file__).parents[1] / "checkpoints/fer2013-a", folder / "model")
    (model / "model.safetensors").write_bytes(b"\0" * 64)


def broken(folder: Path) -> None:
    (folder / "broken.ckpt").write_bytes(b"PK" + bytes(200))


LINES: dict[str, tuple[tuple[str, ...], Callable[[Path], object] | None]] = {
    "there is no verb 'train'; did you mean fer fit?": (("train",), None),
    "there is no option --lr; did you mean ...": (("fit", "--lr=0.1"), None),
    "there is no config file x.yaml": (("fit", "--config=x.yaml"), None),
    "X is no YAML: line 3 is not indented as the lines around it": (
        ("fit", "--config=x.yaml"),
        written("model:\n  backbone: fer_b\n loss: null\n"),
    ),
    "'model' is there twice": (("fit", "--config=x.yaml"), written("model: {}\nmodel: {}\n")),
    "trainer.max_epochs must be a whole number, not 'three'": (("fit", *TINY, "--trainer.max_epochs=three"), None),
    "'subprocess.Popen' may not be named in a configuration": (("fit", *TINY, "--model.loss=subprocess.Popen"), None),
    "fer test needs --ckpt_path": (("test",), None),
    "there is no GPU that torch can use": (("fit", *TINY, "--trainer.accelerator=gpu"), None),
    "fer tune needs optuna: pip install 'fer_lightning[tune]'": (
        ("tune", "--data=SketchDataModule", "--model.backbone=fer_b_fast", "--space=x.yaml"),
        written("a: {}\n"),
    ),
    "unknown class names 'one', 'two'": (("fit", *FACES), faces(one=6, two=6)),
    "no training image of disgust, fear": (("fit", *FACES), faces(angry=6, happy=6, sad=6, surprise=6, neutral=6)),
    "fer2013.csv, line 2: expected 2304 pixel values (48x48), found 2303": (
        ("fit", "--data=FER2013DataModule", "--data.root=faces"),
        short_row,
    ),
    "expected an image, found something else": (("fit", *FACES), no_image),
    "'test' needs the test split, which holds no sample": (
        ("test", "--ckpt_path=fer2013-a", *FACES),
        faces(angry=3, disgust=3, fear=3, happy=3, sad=3, surprise=3, neutral=3),
    ),
    "no metric is called 'val_accuracy'; did you mean ... val_acc": (
        ("fit", *TINY, "--checkpoint.monitor=val_accuracy"),
        None,
    ),
    "... is a file of weights alone": (("recognize", "x.png", "--model=w.pt"), bare_weights),
    "... is of a later version of this package": (("recognize", "x.png", "--model=model"), later),
    "... is not the file that ... was written with": (("recognize", "x.png", "--model=model"), damaged),
    "... is damaged": (("test", "--ckpt_path=broken.ckpt"), broken),
}
REMARKS = {
    "... of them also in the training part",
    "misses about a quarter of them",
    "how blazeface sees faces in its training images is not known",
}
"""Lines that are no errors; the tests of the modules that say them hold their words."""


def quoted() -> list[str]:
    """Return the lines that the page quotes: the first code in the first column of its tables."""
    return QUOTED.findall(PAGE.read_text(encoding="utf-8"))


def test_every_quoted_line_has_its_command() -> None:
    assert set(quoted()) == LINES.keys() | REMARKS


@pytest.mark.parametrize("line", LINES)
def test_a_quoted_line_is_said(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args, prepared = LINES[line]
    if TINY[0] not in args:  # that one is found from here
        monkeypatch.chdir(tmp_path)
    if prepared is not None:
        prepared(tmp_path)
        (tmp_path / "x.png").touch()
    if "optuna" in line:
        monkeypatch.setitem(sys.modules, "optuna", None)
    if "GPU" in line and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert fer(*args) == 2
    said = " ".join(capsys.readouterr().err.split())
    parts = [part.strip() for part in line.replace("X is no YAML", "x.yaml is no YAML").split("...")]
    assert re.search(".*".join(map(re.escape, parts)), said), said
