from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fer_lightning.inference.framing import Framing
from fer_lightning.inference.model_folder import write_model_folder
from tests.helpers.cli import fer
from tests.inference.helpers import tiny_model

DRAWN = ["--data=SketchDataModule", "--data.train=7", "--data.val=7", "--data.test=7"]
SMALL = ["--picture=320x240", "--sizes=60-100"]
SQUARES = "--detector=tests.inference.helpers.BrightSquares"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = tiny_model()
    model.framings = {"haar": Framing(0.9, 0.5, 0.5)}
    return write_model_folder(model, tmp_path / "model")


def test_drawn_scenes_are_scored_written_and_scored_again(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert fer("endtoend", str(model), *DRAWN, *SMALL, SQUARES, f"--out={out}", f"--write={tmp_path / 'scenes'}") == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert " ".join(head.split()) == "detector cut by faces found false on crops end to end lost misses wrong"
    made = json.loads((out / "endtoend.json").read_text())
    assert made["faces"] == 7
    with Image.open(out / "endtoend.png") as picture:
        assert picture.width > 1000
    again = ["endtoend", str(model), f"--boxes={tmp_path / 'scenes/boxes.csv'}", "--box=crop", SQUARES]
    assert fer(*again, f"--out={tmp_path / 'again'}") == 0
    assert json.loads((tmp_path / "again/endtoend.json").read_text())["scores"] == made["scores"]


def test_what_does_not_go_together_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ([*DRAWN, "--boxes=a.csv"], "either --boxes FILE or a data set"),
        ([], "name the data set: fer endtoend PATH, or --data CLASS"),
        ([f"--boxes={tmp_path / 'a.csv'}"], "expected a CSV, Parquet or JSON file, found nothing"),
        ([*DRAWN, "--sizes=60-500"], "faces of 500 pixels have no room in 960x720: 360 at most"),
        ([*DRAWN, "--sizes=60"], "--sizes 60: expected two whole numbers, such as 60-360"),
        ([*DRAWN, "--split=tests"], "--split"),
        ([*DRAWN, "--faces=0"], "--faces"),
    ):
        assert fer("endtoend", str(model), *words, f"--out={tmp_path / 'out'}") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
