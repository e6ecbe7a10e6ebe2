"""Kill runs in many places and ways, resume them, and compare all that they leave with runs that were not killed.

``python -m tests.kill_grid`` runs every cell and prints a table; ``--help`` tells how to choose.

A cell is a way to die, a place, a number of loader processes and a set of options. Its run is a process of its own with
its own process group, forked off this one so that nothing is imported twice, and is struck from within, because only so
the place is certain. Compared are all values in ``resume.ckpt`` and ``best.ckpt``, tensors by hash, and ``metrics.csv``
byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import io
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fer_lightning import files
from fer_lightning.__main__ import main
from fer_lightning.errors import CheckpointError
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from tests.helpers.cli import TINY

STEPS = 10  # batches of 8 in an epoch of 84
NEEDED = (
    "fer_lightning.cli.trainer_verbs",
    "fer_lightning.callbacks.unfreezing",
    "tests.helpers.data",
    "tests.helpers.parts",
    "torch.utils.tensorboard",
)
"""Modules that all children need: imported before they are forked off."""
SIGNALS = {"TERM": signal.SIGTERM, "INT": signal.SIGINT, "KILL": signal.SIGKILL}
PLACES = ("first", "middle", "last", "next epoch", "validation", "save", "save best")
OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "ema": ("--trainer.callbacks=EMA", "--trainer.callbacks.decay=0.9"),
    "accumulate": ("--trainer.accumulate_grad_batches=2",),
    "bf16": ("--trainer.precision=bf16-mixed",),
    "mixup": ("--data.mix=BatchMix", "--data.mix.cutmix=1.0"),
    "plateau": ("--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience=0"),
    "early stopping": (
        "--trainer.callbacks=EarlyStopping",
        "--trainer.callbacks.monitor=val_acc",
        "--trainer.callbacks.mode=max",
        "--trainer.callbacks.min_delta=1.0",  # nothing is ever better: it stops after the third epoch
        "--trainer.callbacks.patience=2",
        "--trainer.max_epochs=5",
    ),
    "unfreezing": (
        "--trainer.callbacks+=fer_lightning.callbacks.unfreezing.GradualUnfreezing",
        "--trainer.callbacks.every=1",
        "--trainer.callbacks.backbone_lr_factor=0.5",
        "--model.lr_scheduler=WarmupCosine",
    ),
    "class focus": (  # 84 images are left to train on
        "--data.train=105",
        "--data.focus_fraction=0.2",
        "--model.prior_correction=true",
        "--trainer.callbacks+=fer_lightning.callbacks.class_focus.ClassFocus",
        "--trainer.callbacks.mode=bottom_k",
    ),
    "two processes": ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=4"),
    "two processes, ema, accumulate, bf16": (
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--data.batch_size=4",
        "--trainer.callbacks=EMA",
        "--trainer.callbacks.decay=0.9",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.precision=bf16-mixed",
    ),
    "two validations": (
        "--trainer.val_check_interval=5",
        "--resume_checkpoint.every_n_steps=5",
        "--trainer.max_epochs=3",
    ),
}
CORE = ("plain", "ema", "accumulate", "bf16", "two processes")
COMMON = [
    *TINY,
    "--name=run",
    "--trainer.max_epochs=2",
    "--data.augment=BatchAugment",
    "--data.eval_batch_size=8",
    "--model.optimizer=torch.optim.SGD",
    "--model.optimizer.lr=0.05",
    "--model.optimizer.momentum=0.9",
    "--resume_checkpoint.every_n_steps=3",
]
STRIKER = "--trainer.callbacks+=tests.kill_grid.Striker"
VARIABLE = "FER_TEST_STRIKE"
PATIENCE_S = 180


class Striker(Callback):
    """Sends a signal to the process group where the environment says: ``{"signal": ..., "place": ...}``."""

    def __init__(self) -> None:
        first = os.environ.get("LOCAL_RANK", "0") == "0"  # it strikes for all: they are one process group
        plan = json.loads(os.environ.get(VARIABLE, "{}")) if first else {}
        self.signum = plan.get("signal", 0)
        self.place = plan.get("place", "")
        self.batches = 0

    def strike(self) -> None:
        if self.place:
            self.place = ""
            os.killpg(os.getpgid(0), self.signum)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.place in ("save", "save best"):
            name, turn = ("resume.ckpt", 5) if self.place == "save" else ("best.ckpt", 1)
            strike_before_renaming(name, turn, self.strike)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self.batches += 1
        if self.batches == {"first": 1, "middle": 5, "last": STEPS, "next epoch": STEPS + 1}.get(self.place):
            self.strike()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.place == "validation" and not trainer.sanity_checking and batch_idx == 1:
            self.strike()


def strike_before_renaming(name: str, turn: int, strike: Callable[[], None]) -> None:
    """Let ``strike`` happen when a checkpoint of this name is written for the n-th time, but not yet in its place."""
    replace, count = os.replace, itertools.count(1)

    class Replacing:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(os, attribute)

        @staticmethod
        def replace(source: Any, target: Any) -> None:
            if Path(target).name == name and next(count) == turn:
                strike()
            replace(source, target)

    files.os = Replacing()  # type: ignore[attr-defined, assignment]


def child(arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> int:
    """Run ``fer`` in a forked process with its own process group and return its exit code, or minus the signal."""
    return ended(forked(arguments, log, environment))


def forked(arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> int:
    """Start ``fer`` in a forked process with its own process group and return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored where this runs
            os.environ.update(environment or {})
            # what Lightning starts the second of two processes by
            sys.argv = ["fer", *arguments]
            sys.modules["__main__"].__spec__ = importlib.util.find_spec("fer_lightning.__main__")
            code = main(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Wait for a forked process and return its exit code, minus the signal that ended it, or 124 if it hung."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


@dataclass(frozen=True)
class Cell:
    """One way to die."""

    signal: str
    place: str
    workers: int
    options: str

    def __str__(self) -> str:
        return f"SIG{self.signal} in {self.place}, {self.workers} workers, {self.options}"


def cells(options: Iterable[str] = tuple(OPTIONS)) -> Iterator[Cell]:
    """Return the whole grid: with two loader processes for the options of the core only."""
    for name in options:
        for workers, (place, signame) in itertools.product((0, 2), itertools.product(PLACES, SIGNALS)):
            if workers == 0 or name in CORE:
                yield Cell(signame, place, workers, name)


def digest(value: Any, root: str) -> Any:
    """Return what is compared of a value: tensors as hashes, the folder of the runs left out of paths."""
    if isinstance(value, Tensor):
        raw = value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(raw).hexdigest()
    return anywhere(repr(value), root)


def anywhere(text: str, root: str) -> str:
    """Leave out where a run is; one that was killed before its first checkpoint is started anew beside it."""
    return re.sub(r"version_\d+", "version", text.replace(root, ""))


def leaves(value: Any, root: str, place: str = "") -> Iterator[tuple[str, Any]]:
    """Return everything in a checkpoint by its place."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from leaves(part, root, f"{place}/{anywhere(str(key), root)}")
    elif isinstance(value, (list, tuple)) and value:
        for key, part in enumerate(value):
            yield from leaves(part, root, f"{place}/{key}")
    else:
        yield place, digest(value, root)


# When and in which start of a run a checkpoint was written, and with how many loader processes.
LEFT_OUT = ("/fer/written", "/fer_lineage", "/fer_config/data/init_args/num_workers")


def content(checkpoint: Path, root: Path) -> dict[str, Any]:
    """Return what must be the same in the checkpoints of two runs."""
    loaded = torch.load(checkpoint, weights_only=True)
    return {place: value for place, value in leaves(loaded, str(root)) if not place.startswith(LEFT_OUT)}


def different(root: Path, run: Path, other_root: Path, other: Path) -> list[str]:
    """Return in what two runs differ."""
    files = ("metrics.csv", "checkpoints/resume.ckpt", "checkpoints/best.ckpt")
    found = [f"{file} is missing" for file in files if not (run / file).is_file()]
    if found:
        return found
    if (run / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        found.append("metrics.csv")
    for file in ("resume.ckpt", "best.ckpt"):
        one, two = content(run / "checkpoints" / file, root), content(other / "checkpoints" / file, other_root)
        found += [f"{file}{place}" for place in sorted(one.keys() | two.keys()) if one.get(place) != two.get(place)]
    return found


class Grid:
    """Runs cells in a folder; runs that nobody kills are run once for each set of options.

    Args:
        folder: where the runs are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole: dict[str, Path] = {}

    def arguments(self, root: Path, cell: Cell) -> list[str]:
        own = [f"--trainer.default_root_dir={root}", f"--data.num_workers={cell.workers}", *OPTIONS[cell.options]]
        return ["fit", *COMMON, *own, STRIKER]

    def reference(self, cell: Cell) -> Path:
        """Return the folder of runs in which the run of these options is that was not killed; it has no workers."""
        if cell.options not in self.whole:
            root = self.folder / f"whole {cell.options}"
            root.mkdir()
            alone = Cell("", "", 0, cell.options)
            if code := child(self.arguments(root, alone), root / "log.txt"):
                raise RuntimeError(
                    f"the run without a kill ended with {code}: {(root / 'log.txt').read_text()[-2000:]}"
                )
            self.whole[cell.options] = root
        return self.whole[cell.options]

    def fault(self, cell: Cell) -> str:
        """Run a cell and return what is wrong, empty if nothing is."""
        whole = self.reference(cell)
        root = self.folder / str(cell)
        root.mkdir()
        log, signum = root / "log.txt", SIGNALS[cell.signal]
        plan = {VARIABLE: json.dumps({"signal": int(signum), "place": cell.place})}
        code = child(self.arguments(root, cell), log, plan)
        expected = -signum if signum == signal.SIGKILL else 128 + signum
        if code != expected:
            return f"exit code {code}, not {expected}: {log.read_text()[-600:]}"
        run = root / "run/version_0"
        resume = [*self.arguments(root, cell), "--ckpt_path=last"]
        if not (run / "checkpoints/resume.ckpt").exists():  # killed before the first: nothing to go on from
            if (code := child(resume, log)) != 2:
                return f"exit code {code} of 'last' without any checkpoint, not 2"
            run, resume = root / "run/version_1", self.arguments(root, cell)
        if code := child(resume, log):
            return f"exit code {code} of the resumed run: {log.read_text()[-600:]}"
        wrong = different(root, run, whole, whole / "run/version_0")
        wrong += [f"left over: {part.name}" for part in (run / "checkpoints").glob(".*")]
        if not wrong:
            shutil.rmtree(root)
        return f"differs in {', '.join(wrong[:6])} ({len(wrong)})" if wrong else ""


def storm(kills: int, folder: Path) -> list[str]:
    """Kill a run many times while it writes a checkpoint, go on each time, and return the faults.

    Unlike the cells, which are struck from within, the run is killed from here, anywhere in the writing.
    """
    torch.set_num_threads(1)
    warm_up(folder)
    run = ["fit", *COMMON, f"--trainer.default_root_dir={folder}", "--resume_checkpoint.every_n_steps=1"]
    run += ["--model.backbone.width=512", "--data.train=16"]  # 19 MB, most of the time
    checkpoints, log = folder / "run/version_0/checkpoints", folder / "log.txt"
    if code := child([*run, "--trainer.max_epochs=1"], log):
        return [f"exit code {code} of the first run: {log.read_text()[-600:]}"]
    faults, within, step = [], 0, 0
    for turn in range(kills):
        stale = set(checkpoints.glob(".*.ckpt.*.part"))  # of the turn before
        pid, end = forked([*run, "--trainer.max_epochs=100000", "--ckpt_path=last"], log), time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with suppress(FileNotFoundError):  # renamed at this very moment
                parts = set(checkpoints.glob(".*.ckpt.*.part")) - stale
                if any(part.stat().st_size > turn * 400_000 for part in parts):
                    break
        os.killpg(pid, signal.SIGKILL)
        if (code := ended(pid)) != -signal.SIGKILL:
            faults.append(f"turn {turn}: exit code {code}: {log.read_text()[-600:]}")
        within += any(checkpoints.glob(".*.ckpt.*.part"))
        for path in checkpoints.glob("*.ckpt"):
            try:
                steps = AtomicCheckpointIO().load_checkpoint(path)["global_step"]
            except CheckpointError as error:
                faults.append(f"turn {turn}: {error}")
                continue
            if path.name == "resume.ckpt":
                if steps < step:
                    faults.append(f"turn {turn}: {path} went back from step {step} to {steps}")
                step = steps
    print(f"{kills} kills, {within} of them while a checkpoint was being written; {len(faults)} faults; step {step}")
    if within <= kills // 2:
        faults.append(f"only {within} of {kills} kills came while a checkpoint was being written")
    return faults


def warm_up(folder: Path) -> None:
    """Do here what all children would do first: import, and build what the parsers keep."""
    for module in NEEDED:
        importlib.import_module(module)
    rehearsal = ["--trainer.fast_dev_run=true", f"--trainer.default_root_dir={folder}"]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main(["fit", *COMMON, *rehearsal])


def run(chosen: Iterable[Cell], folder: Path) -> list[str]:
    """Run cells, print each and a table, and return the faults."""
    torch.set_num_threads(1)
    warm_up(folder)
    grid, faults = Grid(folder), []
    passed: Counter[tuple[str, int, str]] = Counter()
    total: Counter[tuple[str, int, str]] = Counter()
    seconds: Counter[tuple[str, int, str]] = Counter()
    for cell in chosen:
        start = time.monotonic()
        fault = grid.fault(cell)
        row = (cell.options, cell.workers, cell.signal)
        total[row] += 1
        passed[row] += not fault
        seconds[row] += time.monotonic() - start  # type: ignore[assignment]
        if fault:
            faults.append(f"{cell}: {fault}")
        print(f"{time.monotonic() - start:5.1f} s  {'FAULT' if fault else 'same '}  {cell}  {fault}", flush=True)
    print(f"\n{'options':<36} {'workers':>7}  {'signal':<6} {'cells':>5} {'same':>5} {'seconds':>8}")
    for row, count in total.items():
        print(f"{row[0]:<36} {row[1]:>7}  {row[2]:<6} {count:>5} {passed[row]:>5} {seconds[row]:>8.0f}")
    print(f"{'all':<36} {'':>7}  {'':<6} {total.total():>5} {passed.total():>5} {seconds.total():>8.0f}")
    return faults


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_grid", description=__doc__.splitlines()[0])
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS), metavar="NAME")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=list(SIGNALS), metavar="NAME")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES), metavar="NAME")
    parser.add_argument("--workers", nargs="+", type=int, choices=(0, 2), default=[0, 2], metavar="N")
    parser.add_argument("--storm", type=int, metavar="N", help="instead: kill one run N times while it writes")
    parser.add_argument("--folder", type=Path, help="where the runs go; faulty ones stay there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    wanted = parse()
    where = wanted.folder or Path(tempfile.mkdtemp(prefix="fer_kill_grid_"))
    where.mkdir(parents=True, exist_ok=True)
    if wanted.storm:
        found = storm(wanted.storm, where)
        print("\n".join(found))
        sys.exit(1 if found else 0)
    selected = [
        cell
        for cell in cells(wanted.options)
        if cell.signal in wanted.signals and cell.place in wanted.places and cell.workers in wanted.workers
    ]
    sys.exit(1 if run(selected, where) else 0)
