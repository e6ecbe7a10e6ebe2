"""One unchanged command that is killed again and again ends as if it had lived; see tests/kill_loop.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill_loop import STARTING, TRAINING, moments


def test_the_moments_cover_a_whole_life_and_come_from_the_seed() -> None:
    drawn = list(moments(40, seed=0))
    assert len(drawn) == 40
    assert {moment.activity for moment in drawn} == {*STARTING, *TRAINING, "end"}
    assert drawn == list(moments(40, seed=0)) != list(moments(40, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_loop_of_kills_ends_with_the_weights_of_the_run_that_was_never_killed(tmp_path: Path, workers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_loop", f"--folder={tmp_path}", "--kills=8", f"--workers={workers}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
