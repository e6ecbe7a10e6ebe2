from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fer_lightning.studies.crossval.study import _test


@pytest.mark.parametrize(("written", "tested"), [(None, True), (5, True), (20, False)])
def test_a_run_is_tested_unless_that_was_done_with_its_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None, tested: bool
) -> None:
    report, best = tmp_path / "test/report.json", tmp_path / "checkpoints/best.ckpt"
    for file, seconds in ((best, 10), (report, written)):
        if seconds is not None:
            file.parent.mkdir()
            file.write_text("{}")
            os.utime(file, (seconds, seconds))
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    facts: Any = SimpleNamespace(values={"trainer": {"accelerator": "cpu"}, "report": {"pictures": False}})
    assert _test(tmp_path, facts, tmp_path / "log") == (0, "")
    assert [f"--ckpt_path={tmp_path}" in command for command in commands] == [True] * tested
