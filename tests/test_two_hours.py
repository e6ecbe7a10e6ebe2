"""Hours of video are recognized in little memory, and a killed process goes on; see tests/two_hours.py."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest

from tests.helpers.drawn_clip import HOLD_S, Minutes


def test_the_schedule_changes_after_each_interval_and_comes_again() -> None:
    minutes = Minutes(count=3)
    for person in (0, 1):
        times = [HOLD_S * (step + 0.5 * (1 - person)) for step in range(31)]
        shown = [minutes.expression(person, time) for time in times]
        assert shown[0] == shown[30]
        assert len(set(shown)) == 7
        assert sum(a == b for a, b in pairwise(shown)) <= 1
    assert not minutes.seen(27.5)
    assert not minutes.seen(60 * 5 + 52)
    assert minutes.seen(60 * 4 + 52)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_minutes_are_recognized_as_promised() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.two_hours", "--minutes=12", "--kills=5"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
