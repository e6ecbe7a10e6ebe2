from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_lightning.inference.framing import Framing, read_framing, write_framing
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import model_of_folder, write_model_folder
from fer_lightning.inference.recognizer import Recognizer
from tests.helpers.cli import fer, fit
from tests.helpers.folders import SEVEN_NAMES, save
from tests.inference.helpers import BrightSquares, tiny_model

SQUARES = "tests.inference.helpers.BrightSquares"


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A data set of 28 training images of 48 pixels: white squares of 24, 6 from the left and 12 from above."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(SEVEN_NAMES * 5):
        image = rng.integers(0, 120, (48, 48, 1)).astype(np.uint8)
        image[12:36, 6:30] = 255
        save(tmp_path / "data" / ("val" if number < 7 else "train") / name / f"{number}.png", image)
    return tmp_path / "data"


def measure(data: Path | None, out: Path, *more: str) -> int:
    return fer("data", "framing", *([] if data is None else [str(data)]), f"--out={out}", *more)


def test_the_framing_is_measured_and_drawn(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(squares, tmp_path / "out", "--detector", SQUARES, "--images=20") == 0
    found = json.loads((tmp_path / "out/framing.json").read_text())
    values = found["framing"]["BrightSquares"]
    assert (values["faces"], values["images"], values["tilt"]) == (20, 20, 0)
    assert [values[key] for key in ("size", "x", "y", "eyes")] == pytest.approx([0.5, 0.375, 0.5, 0.25], abs=0.03)
    assert found["found"] == {"BrightSquares": 20}
    with Image.open(tmp_path / "out/framing.png") as picture:
        assert picture.width > 300
    head, row = (line.split() for line in capsys.readouterr().out.splitlines()[1:3])
    assert head == ["detector", "faces", "box", "/", "side", "x", "y", "eyes", "tilt"]
    numbers = [f"{values[key]:.3f}" for key in ("size", "x", "y", "eyes")]
    assert row == ["BrightSquares", "20", "of", "20", *numbers, "0.0°"]


def test_a_model_folder_keeps_it(squares: Path, tmp_path: Path) -> None:
    model = tiny_model()
    model.framings = {"haar": Framing(0.9, 0.5, 0.5)}
    folder = write_model_folder(model, tmp_path / "model")
    assert measure(squares, tmp_path / "out", "--detector", SQUARES, f"--model={folder}") == 0
    framings = model_of_folder(folder).framings
    assert framings["haar"] == model.framings["haar"]
    assert framings["BrightSquares"].size == pytest.approx(0.5, abs=0.03)


def test_a_run_keeps_it_and_says_which_data_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    run = tmp_path / "tiny/version_0"
    assert measure(None, tmp_path / "out", "--detector", SQUARES, f"--model={run}") == 2
    assert "finds a face in 20 of" in capsys.readouterr().err
    assert not (run / "framing.json").exists()
    (run / "framing.json").write_text(json.dumps({"framing": {"haar": {"size": 0.9, "x": 0.5, "y": 0.6}}}))
    assert load_model(run).framings == {"haar": Framing(0.9, 0.5, 0.6)}
    (run / "framing.json").write_text("{")
    assert fer("recognize", str(tmp_path), f"--model={run}", "--no-detect") == 2


def test_a_new_measurement_takes_the_place_of_the_old_one_of_that_detector(squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/best.ckpt").touch()
    write_framing(run, {"BrightSquares": Framing(0.9, 0.1, 0.1), "haar": Framing(0.8, 0.5, 0.5)})
    assert measure(squares, tmp_path / "out", "--detector", SQUARES, "--images=20", f"--model={run}") == 0
    kept = read_framing(run)
    assert kept["haar"] == Framing(0.8, 0.5, 0.5)
    assert kept["BrightSquares"].size == pytest.approx(0.5, abs=0.03)


@pytest.mark.measures_framing
def test_a_fit_measures_it_at_its_end(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "fer_lightning.inference.faces.choice.detectors_named", lambda: {"BrightSquares": BrightSquares()}
    )
    data = ["--data=ImageFolderDataModule", f"--data.root={squares}", "--data.channels=1"]
    assert fit(tmp_path, *data, epochs=1) == 0
    run = tmp_path / "tiny/version_0"
    assert load_model(run).framings["BrightSquares"].size == pytest.approx(0.5, abs=0.03)
    assert "framing      how faces sit in the training images: measured by BrightSquares" in capsys.readouterr().out
    monkeypatch.setattr("fer_lightning.inference.faces.choice.detectors_named", lambda: 1 / 0)
    assert fit(tmp_path, *data, epochs=1, name="other") == 0
    assert "the framing was not measured (division by zero): fer data framing --model" in capsys.readouterr().err


def test_what_cannot_keep_it_is_refused(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model_folder(tiny_model(), tmp_path / "model")
    for words, message in (
        ([f"--model={folder}"], f"name the data set as well: fer data framing DATA --model {folder}"),
        ([str(squares), "--model=model.onnx"], "export that again"),
        ([str(squares), "--model=nowhere"], "there is no checkpoint nowhere"),
        ([str(squares), "--images=5"], "--images must be at least 20, not 5"),
        ([str(squares), "--detector=nose"], "unknown detector 'nose'"),
        ([str(squares), "--detector=yunet"], "the .onnx file of YuNet"),
        ([str(squares), "--detector=yunet.onnx"], "yunet.onnx does not exist; expected the file of YuNet"),
    ):
        assert fer("data", "framing", *words, f"--out={tmp_path / 'out'}") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_not_known_of_a_model_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model("of a test")
    folder = write_model_folder(model, tmp_path / "a")
    for _ in range(2):
        Recognizer.load(folder, SQUARES)
    said = capsys.readouterr().err
    assert said.count("fixed margin") == said.count("\n") == 1
    assert f"fer data framing DATA --model {folder}" in said
    model.framings = {"haar": Framing(0.9, 0.5, 0.5), "blazeface": Framing(0.8, 0.5, 0.5)}
    Recognizer.load(write_model_folder(model, tmp_path / "b"), SQUARES)
    assert "what blazeface sees is taken" in capsys.readouterr().err
    Recognizer.load(tmp_path / "b", "haar")
    assert capsys.readouterr().err == ""
