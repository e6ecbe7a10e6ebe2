"""Kill one unchanged command again and again, start it again each time, and compare the end with a run that lived.

``python -m tests.kill_loop`` kills forty times with no and with two loader processes; ``--help`` tells how to choose.

The command is ``fer fit ... --ckpt_path auto``. Each start is forked off this process, so that nothing is imported
twice, and says in shared memory what it is doing. A moment is an activity, how often it has begun, and a delay, all
drawn from a seed: parsing, making the folder, setting up, the validation before training, batches, saves, validations,
the end. Some starts are processes of their own that are killed while they import. Half of the kills are of the process
group, the others of the process alone, whose loaders live on for a moment, as after ``kill -9 PID``.

Every start is struck, however fast the machine: until the last kill no start may begin the last epoch, but waits before
it, and before the last kill none may end. A kill that comes too late all the same is a fault.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.cli import auto, place
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from fer_lightning.runs.lineage import read_lineage
from fer_lightning.runs.lock import LOCK
from tests.kill_grid import COMMON, PATIENCE_S, child, different, ended, forked, warm_up

ACTIVITIES = ("parsing", "folder", "setup", "sanity", "batch", "save", "validation", "end")
"""What a start does, in the order of a life; each counts in a byte of the shared memory how often it has begun."""
DELAY_S = {"parsing": 1.0, "folder": 0.05, "setup": 0.3, "sanity": 0.05, "batch": 0.03, "save": 0.02}
DELAY_S["validation"] = 0.05
IMPORTING_S = 4.0
TRAINING = ("batch", "batch", "save", "save", "validation")
STARTING = ("importing", "parsing", "parsing", "folder", "setup", "sanity")
counts = mmap.mmap(-1, len(ACTIVITIES) + 2)
MAY_TRAIN, WAITS = len(ACTIVITIES), len(ACTIVITIES) + 1
"""Places in the shared memory behind the activities: how many epochs may be trained, and whether a start waits for its
kill. One that is killed while it imports has a memory of its own, which lets it train none."""


def note(activity: str) -> None:
    """Count an activity that begins."""
    place = ACTIVITIES.index(activity)
    counts[place] = min(counts[place] + 1, 255)


def wait_if(held: bool) -> None:
    """Wait for the kill, if this start may not go on without it."""
    until = time.monotonic() + PATIENCE_S
    while held and time.monotonic() < until:
        counts[WAITS] = 1
        time.sleep(0.01)


class Activities(Callback):
    """Notes what a run does."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        note("setup")

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        note("sanity")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wait_if(trainer.current_epoch >= counts[MAY_TRAIN])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        note("batch")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            note("validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        note("end")
        wait_if(trainer.max_epochs == counts[MAY_TRAIN])


def noting(activity: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that notes an activity first."""

    def noted(*args: Any, **options: Any) -> Any:
        note(activity)
        return function(*args, **options)

    return noted


@contextmanager
def noted_functions() -> Iterator[None]:
    """Let the functions that make a folder and write a checkpoint note that they do."""
    places: list[tuple[Any, str, str]] = [
        (auto, "claim_run_folder", "folder"),
        (auto, "lock_run_folder", "folder"),
        (place, "lock_run_folder", "folder"),
        (AtomicCheckpointIO, "save_checkpoint", "save"),
    ]
    before = [getattr(holder, name) for holder, name, _ in places]
    for (holder, name, activity), function in zip(places, before, strict=True):
        setattr(holder, name, noting(activity, function))
    try:
        yield
    finally:
        for (holder, name, _), function in zip(places, before, strict=True):
            setattr(holder, name, function)


@dataclass(frozen=True)
class Moment:
    """When a start is killed: so long after an activity has begun for the n-th time; ``group``: its children too."""

    activity: str
    turn: int
    delay: float
    group: bool


def moments(kills: int, seed: int) -> Iterator[Moment]:
    """Draw the moments of all kills, at least a third of them before training begins; the last is at the end."""
    draw = random.Random(seed)
    for number in range(kills - 1):
        pool = STARTING if number % 5 in (0, 2) else TRAINING
        activity = draw.choice(pool)
        turn = {"batch": draw.randint(1, 8), "save": draw.randint(1, 3)}.get(activity, 1)
        delay = draw.uniform(0, IMPORTING_S if activity == "importing" else DELAY_S[activity])
        yield Moment(activity, turn, delay, draw.random() < 0.5)
    yield Moment("end", 1, 0.0, True)


def command(root: Path, workers: int, epochs: int) -> list[str]:
    """Return the command that is never changed."""
    own = [f"--trainer.default_root_dir={root}", f"--data.num_workers={workers}", f"--trainer.max_epochs={epochs}"]
    return ["fit", *COMMON, *own, "--trainer.callbacks+=tests.kill_loop.Activities", "--ckpt_path=auto"]


def struck(arguments: list[str], moment: Moment, epochs: int, log: Path) -> tuple[int, int, str]:
    """Start the command and kill it at a moment; ``epochs`` is how many it may train.

    Returns:
        Its number, how it ended, as ``ended`` says it, and what it was doing when it was struck.
    """
    counts[:] = bytes(len(counts))
    counts[MAY_TRAIN] = epochs
    if moment.activity == "importing":
        with log.open("ab") as out:
            line = [sys.executable, "-m", "fer_lightning", *arguments]
            pid = subprocess.Popen(line, stdout=out, stderr=out, start_new_session=True).pid
    else:
        pid = forked(arguments, log)
    doing = moment.activity
    if moment.activity in ACTIVITIES[1:]:
        place, until = ACTIVITIES.index(moment.activity), time.monotonic() + PATIENCE_S
        trains = ACTIVITIES.index("batch")
        while counts[place] < moment.turn and time.monotonic() < until:
            if counts[WAITS] or (place < trains and counts[trains]):  # a run that goes on does not validate first
                doing = "waiting" if counts[WAITS] else "batch"
                break
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(0.001)
    time.sleep(moment.delay)
    with suppress(ProcessLookupError):
        (os.killpg if moment.group else os.kill)(pid, signal.SIGKILL)
    return pid, ended(pid), doing


def loop(kills: int, workers: int, seed: int, folder: Path) -> list[str]:
    """Run a loop of kills, print what was struck, and return the faults."""
    epochs = max(3, -(-kills * 45 // 100))
    whole, root, log = folder / "whole", folder / f"killed, {workers} workers", folder / f"log {workers}.txt"
    counts[MAY_TRAIN] = 255
    if not whole.exists() and (code := child(command(whole, 0, epochs), folder / "log whole.txt")):
        return [f"exit code {code} of the run that nobody kills: {(folder / 'log whole.txt').read_text()[-2000:]}"]
    arguments, groups = command(root, workers, epochs), []
    hit: Counter[str] = Counter()
    faults: list[str] = []
    with noted_functions():
        for number, moment in enumerate(moments(kills, seed)):
            pid, code, doing = struck(arguments, moment, epochs - (moment.activity != "end"), log)
            groups.append(pid)
            hit[doing] += 1
            if code != -signal.SIGKILL:
                faults.append(f"kill {number}, {moment}: came too late: exit code {code}: {log.read_text()[-800:]}")
    counts[MAY_TRAIN] = 255
    if code := child(arguments, log):
        faults.append(f"exit code {code} of the last start: {log.read_text()[-800:]}")
    for pid in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # loaders that are left
    faults += _compared(root, whole, arguments, log)
    nodes = read_lineage(root / "run/version_0")
    print(f"{workers} workers, seed {seed}: {kills} kills in {dict(hit)}; {len(nodes)} starts began to train; ", end="")
    print(f"{len(faults)} faults", flush=True)
    return faults


def _compared(root: Path, whole: Path, arguments: list[str], log: Path) -> list[str]:
    """Return what is wrong with what the killed run has left."""
    run = root / "run/version_0"
    faults = different(root, run, whole, whole / "run/version_0")
    faults += [f"{path} was begun too" for path in (root / "run").iterdir() if path != run]
    left = [path for path in run.rglob("*") if path.name.startswith((LOCK, ".")) or path.name.endswith(".part")]
    faults += [f"{path} is left" for path in left]
    if (status := read_lineage(run)[-1].status) != "finished":
        faults.append(f"the run is {status}")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    if code := child(arguments, log):
        faults.append(f"exit code {code} of a start of the complete run")
    if {path: path.stat().st_mtime_ns for path in run.rglob("*")} != before:
        faults.append("a start of the complete run has changed files")
    return faults


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_loop", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, metavar="N", help="kills of each loop")
    parser.add_argument("--workers", nargs="+", type=int, choices=(0, 2), default=[0, 2], metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where the runs go; they stay there after a fault")
    return parser.parse_args(arguments)


def main(wanted: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    folder = wanted.folder or Path(tempfile.mkdtemp(prefix="fer_kill_loop_"))
    folder.mkdir(parents=True, exist_ok=True)
    warm_up(folder)
    faults = [fault for workers in wanted.workers for fault in loop(wanted.kills, workers, wanted.seed, folder)]
    print("\n".join(faults))
    if not faults and wanted.folder is None:
        shutil.rmtree(folder)
    return int(bool(faults))


if __name__ == "__main__":
    # the callback notes in the memory of the module that is imported by its name
    from tests import kill_loop

    sys.exit(kill_loop.main(kill_loop.parse()))
