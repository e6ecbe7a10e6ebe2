"""Malformed data, as a user meets it: `fer fit` ends in one line, exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.test_fer2013_malformed import BAD_CSV, BAD_FOLDERS
from tests.helpers.cli import fer


def refused(data: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run ``fer fit``, check that it refuses, and return the only line it says so with."""
    before = sorted(data.rglob("*"))
    arguments = ["--data=FER2013DataModule", f"--data.root={data}", "--model.backbone=fer_b_fast"]
    assert fer("fit", *arguments, f"--trainer.default_root_dir={runs}") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer: error:")]
    assert len(lines) == 1
    assert not runs.exists()
    assert sorted(data.rglob("*")) == before
    return lines[0]


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_malformed_csv(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "fer2013.csv").write_bytes(BAD_CSV[case][0])
    message = refused(data, tmp_path / "runs", capsys)
    assert "fer2013.csv" in message
    assert BAD_CSV[case][1] in message


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_malformed_folder(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    BAD_FOLDERS[case][0](data)
    assert BAD_FOLDERS[case][1] in refused(data, tmp_path / "runs", capsys)
