from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from fer_lightning.inference.framing import Framing
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.inference.scenes import SceneSettings
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


@pytest.mark.parametrize(
    ("options", "settings", "drawn"),
    [
        ([], SceneSettings(960, 720, 60, 360, 4, 0), ("test", 1000, 0)),
        (
            ["--picture=800x400", "--sizes=40-90", "--most=2", "--seed=5", "--split=val", "--faces=1"],
            SceneSettings(800, 400, 40, 90, 2, 5),
            ("val", 1, 5),
        ),
    ],
)
def test_scenes_are_made_as_they_are_asked_for(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    settings: SceneSettings,
    drawn: tuple[object, ...],
) -> None:
    found: list[tuple[Any, ...]] = []
    faces = SimpleNamespace(labels=[0, 1, 2])

    def spy(result: Any, start: int = 0) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            found.append(args[start:])
            return result

        return call

    module = "fer_lightning.inference"
    monkeypatch.setattr(f"{module}.scenes.scene_faces", spy(faces))
    monkeypatch.setattr(f"{module}.scenes.scenes", spy("scenes"))
    monkeypatch.setattr(f"{module}.endtoend.answers_of", spy([], 2))
    monkeypatch.setattr(f"{module}.endtoend_report.endtoend_table", lambda *args, **more: [])
    monkeypatch.setattr(f"{module}.endtoend_report.write_endtoend", lambda *args, **more: None)
    assert fer("endtoend", str(model), *DRAWN, SQUARES, f"--out={tmp_path}", *options) == 0
    assert found[0][2:] == drawn
    assert found[1:] == [(faces, settings), ("scenes", 3)]


@pytest.mark.parametrize(("box", "framing"), [("face", Framing(0.9, 0.5, 0.5)), ("crop", None)])
def test_boxes_of_faces_are_cut_as_those_of_a_detector(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: str, framing: Framing | None
) -> None:
    truths: list[Framing | None] = []

    def answers(model: Any, detectors: Any, scenes: Any, total: int, truth: Framing | None) -> list[Any]:
        truths.append(truth)
        return []

    module = "fer_lightning.inference"
    monkeypatch.setattr(f"{module}.scene_files.read_boxes", lambda *args: "boxes")
    monkeypatch.setattr(f"{module}.endtoend.answers_of", answers)
    monkeypatch.setattr(f"{module}.endtoend_report.endtoend_table", lambda *args, **more: [])
    monkeypatch.setattr(f"{module}.endtoend_report.write_endtoend", lambda *args, **more: None)
    assert fer("endtoend", str(model), "--boxes=a.csv", f"--box={box}", SQUARES, f"--out={tmp_path}") == 0
    assert truths == [framing]


def test_what_does_not_go_together_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ([*DRAWN, "--boxes=a.csv"], "either --boxes FILE or a data set"),
        ([], "name the data set: fer endtoend PATH, or --data CLASS"),
        ([f"--boxes={tmp_path / 'a.csv'}"], "expected a CSV, Parquet or JSON file, found nothing"),
        ([*DRAWN, "--sizes=60-500"], "faces of 500 pixels have no room in 960x720: 360 at most"),
        ([*DRAWN, "--sizes=60"], "--sizes 60: expected two whole numbers, such as 60-360"),
        ([*DRAWN, "--sizes=60-x"], "--sizes 60-x: expected two whole numbers"),
        ([*DRAWN, "--picture=x720"], "--picture x720: expected two whole numbers, such as 960x720"),
        ([*DRAWN, "--split=tests"], "--split"),
        ([*DRAWN, "--faces=0"], "--faces"),
    ):
        assert fer("endtoend", str(model), *words, f"--out={tmp_path / 'out'}") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    assert fer("endtoend", str(model), *DRAWN, *SMALL, SQUARES, f"--out={tmp_path / 'file/out'}") == 2
    assert f"{tmp_path / 'file/out'}: cannot be written" in capsys.readouterr().err
