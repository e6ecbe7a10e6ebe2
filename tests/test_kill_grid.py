"""Runs that are killed and resumed leave what runs leave that are not; see tests/kill_grid.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill_grid import OPTIONS, Cell, cells

FEW = (
    Cell("KILL", "save", 0, "ema"),
    Cell("TERM", "middle", 0, "ema"),
    Cell("INT", "validation", 0, "ema"),
    Cell("KILL", "middle", 0, "plain"),
    Cell("KILL", "next epoch", 2, "plain"),
    Cell("TERM", "middle", 2, "accumulate"),
    Cell("INT", "middle", 0, "accumulate"),
)


def passes(*arguments: str) -> None:
    """Run the grid in a process that has done nothing else, because it forks."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def grid(folder: Path, *choice: str) -> None:
    passes("-m", "tests.kill_grid", f"--folder={folder}", *choice)


def test_the_grid_holds_every_way_to_die() -> None:
    everything = list(cells())
    assert len(set(everything)) == len(everything)
    assert Cell("KILL", "save", 2, "ema") in everything
    assert {cell.options for cell in everything} == set(OPTIONS)


def test_killed_runs_go_on_exactly(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.kill_grid import Cell, run\n"
        f"sys.exit(1 if run({FEW!r}, Path({str(tmp_path)!r})) else 0)"
    )
    passes("-c", code)


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
