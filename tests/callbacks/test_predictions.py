from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fer_lightning.emotions import SEVEN
from fer_lightning.types import prediction_columns
from tests.helpers.cli import fer, fit


def test_predictions_are_those_of_the_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path) == 0
    folder = tmp_path / "tiny/version_0"
    for verb in ("test", "predict"):
        assert fer(verb, f"--ckpt_path={folder}", "--trainer.enable_progress_bar=false") == 0
    assert str(folder / "predict/predictions.csv") in capsys.readouterr().out
    tables = []
    for verb in ("test", "predict"):
        with (folder / verb / "predictions.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    columns = prediction_columns(SEVEN.class_names)
    assert list(tables[1][0])[: len(columns)] == columns
    assert len(tables[0]) == len(tables[1]) == 28
    assert {row["model"] for row in tables[1]} == {"best.ckpt"}
    kept = [column for column in columns if column != "model"]
    assert [[row[c] for c in kept] for row in tables[0]] == [[row[c] for c in kept] for row in tables[1]]
