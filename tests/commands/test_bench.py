from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.cli import TINY, fer


def test_every_kind_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.01", "--data.augment=BatchAugment"]
    assert fer("bench", "train", *TINY, *options, "--steps=3", "--rounds=2", "--against-loop") == 0
    out = capsys.readouterr().out
    for kind in ("pure", "data", "full", "loop"):
        assert re.search(rf"^{kind} +\d+\.\d +\d+\.\d to \d+\.\d +[\d,]+ ", out, re.MULTILINE)
    assert re.search(r"data/pure speed \d+\.\d{3}", out)
    assert re.search(r"full/pure speed \d\.\d{3}", out)
    assert re.search(r"full/loop speed \d\.\d{3}", out)
    assert "batch 8" in out
    assert "epoch" not in out


@pytest.mark.parametrize("args", [["train", "--steps=1"], ["train", "--rounds=x"], ["test"]])
def test_wrong_arguments_are_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench", *args) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_verb_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench") == 0
    assert "  storage  " in capsys.readouterr().out


def test_storage_is_measured_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench", "storage", "--images=1000", "--size=32", f"--folder={tmp_path}") == 0
    out = capsys.readouterr().out
    for form in ("folders", "arrow", "shards"):
        numbers = re.search(rf"^{form} +(.*)$", out, re.MULTILINE)
        assert numbers is not None
        assert all(float(number.replace(",", "")) >= 0 for number in numbers[1].split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [["--images=0"], ["--size=2"], ["--image=5"], ["--folder=/nowhere/at/all"]])
def test_wrong_storage_arguments_are_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench", "storage", *args) == 2
    assert capsys.readouterr().err.count("\n") == 1
