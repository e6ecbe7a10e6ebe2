"""Runs that are killed and resumed leave what runs leave that are not; see tests/kill_grid.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill_grid import OPTIONS, Cell, cells


def grid(folder: Path, *choice: str) -> None:
    """Run cells in a process that has done nothing else: it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_grid", f"--folder={folder}", *choice],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_grid_holds_every_way_to_die() -> None:
    everything = list(cells())
    assert len(set(everything)) == len(everything)
    assert Cell("KILL", "save", 2, "ema") in everything
    assert {cell.options for cell in everything} == set(OPTIONS)


@pytest.mark.parametrize(("signame", "place"), [("KILL", "save"), ("TERM", "middle"), ("INT", "validation")])
def test_a_killed_run_goes_on_exactly(tmp_path: Path, signame: str, place: str) -> None:
    grid(tmp_path, "--signals", signame, "--places", place, "--workers", "0", "--options", "ema")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_cell(tmp_path: Path, options: str) -> None:
    grid(tmp_path, "--options", options)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_during_saves_leave_no_unreadable_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    grid(tmp_path, "--storm", "25")
