from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_lightning.emotions import SEVEN
from fer_lightning.models.calibration import Calibration, plain_calibration
from fer_lightning.runs.looks import LOG, read_looks
from fer_lightning.types import prediction_columns
from tests.helpers.cli import QUICK, fer, fit


def test_predictions_are_those_of_the_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path) == 0
    folder = tmp_path / "tiny/version_0"
    for verb in ("test", "predict"):
        assert fer(verb, f"--ckpt_path={folder}", *QUICK) == 0
    looks = read_looks(tmp_path)
    assert [look.verb for look in looks] == ["test", "predict"]
    assert (looks[0].key, looks[1].n) == (looks[1].key, 28)  # the same weights and images: a repeat
    assert str(folder / "predict/predictions.csv") in capsys.readouterr().out
    tables = []
    for verb in ("test", "predict"):
        with (folder / verb / "predictions.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    columns = prediction_columns(SEVEN.class_names)
    assert list(tables[1][0])[: len(columns)] == columns
    assert len(tables[0]) == len(tables[1]) == 28
    assert {row["model"] for row in tables[1]} == {"best.ckpt"}
    assert {row["uncertain"] for row in tables[1]} == {""}
    kept = [column for column in columns if column != "model"]
    assert [[row[c] for c in kept] for row in tables[0]] == [[row[c] for c in kept] for row in tables[1]]
    _calibrated(folder, tables[1], capsys)


def _calibrated(folder: Path, before: list[dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Check what the calibration of a run makes of its predictions."""
    predict = ("predict", f"--ckpt_path={folder}", "--trainer.enable_progress_bar=false", "--set=0.9")
    assert fer(*predict) == 2
    assert "no prediction sets for a coverage of 0.9 (this model has none): fer calib" in capsys.readouterr().err
    assert fer("test", *predict[1:]) == 2
    assert "there is no option --set: fer predict and fer recognize take it" in capsys.readouterr().err
    step = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["global_step"]
    calibration = Calibration(2.0, threshold=0.3, sets={"0.9": (0.14,) * 7})
    (folder / "calibration.json").write_text(json.dumps({"step": step, "calibration": plain_calibration(calibration)}))
    assert fer(*predict) == 0
    captured = capsys.readouterr()
    assert "probabilities are calibrated\n" in captured.out
    assert "set" not in captured.out.replace("best.ckpt", "")  # no word of a changed configuration
    with (folder / "predict/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = prediction_columns(SEVEN.class_names, sets=True)
    assert list(rows[0])[: len(columns)] == columns
    for row, raw in zip(rows, before, strict=True):
        roots = np.sqrt([float(raw[f"p_{name}"]) for name in SEVEN.class_names])
        shares = [float(row[f"p_{name}"]) for name in SEVEN.class_names]
        assert shares == pytest.approx(roots / roots.sum(), abs=1e-5)
        assert row["uncertain"] == str(max(shares) < 0.3).lower()
        inside = [name for name, share in zip(SEVEN.class_names, shares, strict=True) if share >= 0.14]
        assert sorted(filter(None, row["set"].split("|"))) == sorted(inside)
    assert fer(*predict[:-1], "--model.views=flip") == 0
    assert [look.settings for look in read_looks(folder.parents[1])][-2:] == [{}, {"model.views": "flip"}]
    assert fer(*predict[:-1], "--trainer.fast_dev_run=true") == 0
    assert len(read_looks(folder.parents[1])) == 4  # two of them at the top; a trial looks at nothing
    assert "are not calibrated: fer calibrate measured them without model.views\n" in capsys.readouterr().out
    with (folder / "predict/predictions.csv").open() as file:
        assert {row["uncertain"] for row in csv.DictReader(file)} == {""}


def test_a_look_that_cannot_be_noted_stops_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    (tmp_path / LOG).mkdir()
    folder = tmp_path / "tiny/version_0"
    assert fer("predict", f"--ckpt_path={folder}", "--trainer.enable_progress_bar=false") == 2
    assert f"the look at the test split cannot be noted in {tmp_path / LOG}" in capsys.readouterr().err
    assert not (folder / "predict/predictions.csv").exists()
