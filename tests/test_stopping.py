"""Stopping a run of several processes at any moment of its start: it ends soon, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.processes import command, free_port, start, torchrun

SOON_S = 30  # on a busy machine; what is waited for is 2 s, and torchrun's own
FIRST, OTHER, MET = "GLOBAL_RANK: 0", "GLOBAL_RANK: 1", "All distributed"  # as Lightning tells the moments of the start

# Who gets which signal so many seconds behind which word of the output.
MOMENTS = [
    ("group", "SIGTERM", "", 1.0),
    ("group", "SIGINT", "", 6.0),
    ("group", "SIGTERM", FIRST, 0.0),
    ("group", "SIGINT", FIRST, 2.0),
    ("first", "SIGTERM", FIRST, 4.0),
    ("other", "SIGTERM", FIRST, 6.0),
    ("group", "SIGTERM", OTHER, 0.0),
    ("group", "SIGINT", MET, 0.0),
    ("group", "SIGTERM", MET, 0.3),
    ("first", "SIGINT", MET, 0.6),
]


def of_this_run(root: Path) -> list[int]:
    """Return the living processes that have a folder in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ours = str(root).encode() in (place / "environ").read_bytes()
            if ours and (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(place.name))
        except OSError:
            continue
    return found


def children_of(pid: int, root: Path) -> list[int]:
    """Return the processes of a run that a process has started."""
    parents = {
        one: int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]) for one in of_this_run(root)
    }
    return [one for one, parent in parents.items() if parent == pid]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["two", "four", "torchrun"])
@pytest.mark.parametrize(("whom", "name", "word", "after"), MOMENTS)
def test_the_start_can_be_stopped_and_leaves_nothing(
    tmp_path: Path, launcher: str, whom: str, name: str, word: str, after: float
) -> None:
    if launcher == "torchrun" and whom == "other":
        pytest.skip("torchrun itself ends all when one ends")
    count = 4 if launcher == "four" else 2
    devices = [f"--trainer.devices={count}", "--trainer.strategy=ddp", "--trainer.max_epochs=500"]
    line = command("fit", *devices, f"--trainer.default_root_dir={tmp_path}/runs")
    log = tmp_path / "log"
    process = start(
        torchrun(*line, port=free_port()) if launcher == "torchrun" else line, log, FER_TEST_RUN=str(tmp_path)
    )
    try:
        until = time.monotonic() + 300
        while word not in log.read_text() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(after)
        signum = getattr(signal, name)
        if whom == "group":
            os.killpg(process.pid, signum)
        elif others := children_of(process.pid, tmp_path) if whom == "other" else [process.pid]:
            os.kill(others[0], signum)
        code = process.wait(SOON_S)
        ended = time.monotonic()
        while (left := of_this_run(tmp_path)) and time.monotonic() < ended + 2:
            time.sleep(0.1)
        assert left == []
    finally:
        for pid in of_this_run(tmp_path):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    printed = log.read_text()
    if "epoch 1/" in printed or " steps; go on with " in printed:
        pytest.skip("this machine was too fast: the run had begun to train")
    assert code in (128 + signum, -signum, 1), printed[-2000:]  # torchrun itself ends with 1
    assert not (tmp_path / "runs").exists()
    assert printed.count("fer: ") <= 1


@pytest.mark.slow
def test_a_second_signal_ends_the_start_at_once(tmp_path: Path) -> None:
    line = command(
        "fit", "--trainer.devices=2", "--trainer.strategy=ddp", f"--trainer.default_root_dir={tmp_path}/runs"
    )
    log = tmp_path / "log"
    process = start(line, log, FER_TEST_RUN=str(tmp_path))
    while FIRST not in log.read_text():
        time.sleep(0.05)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.7)
    os.kill(process.pid, signal.SIGINT)
    try:
        assert process.wait(5) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "runs").exists()
