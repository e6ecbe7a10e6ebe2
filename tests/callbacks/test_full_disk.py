"""What a run does when its disk is full: a real small one where one can be mounted, or a limit on file sizes."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning import files
from fer_lightning.callbacks.full_disk import RunLogger, grouped
from fer_lightning.runs.checkpoint import BEST, read_checkpoint
from fer_lightning.runs.records import Run
from tests.helpers.cli import TINY, fit
from tests.kill_grid import child

STEPS = 10
FILL = "--trainer.callbacks+=tests.callbacks.test_full_disk.Fill"
BIG = ["--model.backbone.width=64", "--resume_checkpoint.every_n_steps=2"]  # a checkpoint of half a megabyte
VARIABLE = "FER_TEST_FULL"


class Fill(Callback):
    """Fills the disk after a step and frees it after another: ``{"file": ..., "full": 12, "free": 15}``.

    With ``file`` it fills up the file system with that file, with ``"refuse": true`` nothing can be flushed; without
    either it limits the size of all files that this process writes.
    """

    def __init__(self) -> None:
        self.plan: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
        self.flush = files.flush

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.plan.get("full"):
            self.fill()
        if trainer.global_step == self.plan.get("free"):
            if "file" in self.plan:
                Path(self.plan["file"]).unlink()
            elif "refuse" in self.plan:
                files.flush = self.flush
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def fill(self) -> None:
        if "refuse" in self.plan:
            files.flush = refuse
            return
        if "file" not in self.plan:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            return
        with open(self.plan["file"], "wb", buffering=0) as handle:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        handle.write(b"0" * size)
                except OSError:
                    pass


def refuse(path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True)
class Disk:
    """A disk that can be filled: its folder, what ``Fill`` is told of it, and how little room is left then."""

    folder: Path
    plan: dict[str, Any]
    room: str


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Mount a file system of four megabytes; where that is not allowed, take a folder that can refuse to be flushed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield Disk(folder, {"file": str(folder / "filler")}, "0.0")
        subprocess.run(["umount", str(folder)], check=True)
    else:
        monkeypatch.setattr(files, "flush", files.flush)
        yield Disk(folder, {"refuse": True}, "")


def filled(disk: Disk, steps: dict[str, int], *options: str, epochs: int = 3) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, json.dumps({**disk.plan, **steps}))
        return fit(disk.folder, *BIG, FILL, *options, epochs=epochs)


def whole(root: Path) -> dict[str, int]:
    """Return the step of each checkpoint, all of which must be readable."""
    folder = root / "tiny/version_0/checkpoints"
    return {path.name: read_checkpoint(path)["global_step"] for path in folder.iterdir()}


def test_a_disk_that_is_full_for_a_while_costs_nothing(small_disk: Disk, capfd: pytest.CaptureFixture[str]) -> None:
    assert filled(small_disk, {"full": 13, "free": 16}) == 0
    told = capfd.readouterr().err
    assert "cannot write checkpoint" in told
    assert "trying again at the next one (1 of 3)" in told
    assert whole(small_disk.folder)["resume.ckpt"] == 3 * STEPS
    rows = (small_disk.folder / "tiny/version_0/metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]


def test_a_disk_that_stays_full_ends_the_run_and_keeps_the_last_checkpoint(
    small_disk: Disk, capfd: pytest.CaptureFixture[str]
) -> None:
    assert filled(small_disk, {"full": 13}) == 1
    told = capfd.readouterr().err
    assert "(2 of 3)" in told
    assert f"(disk full?): No space left on device; need 0.5 MB, have {small_disk.room}" in told
    assert " MB; the previous one is kept" in told
    assert "(3 times in a row)" in told
    assert "Traceback" not in told
    assert whole(small_disk.folder) == {"resume.ckpt": 12, "best.ckpt": STEPS}


def test_reports_at_a_full_disk_are_whole_or_not_there(small_disk: Disk, capfd: pytest.CaptureFixture[str]) -> None:
    assert filled(small_disk, {"full": 2 * STEPS - 1, "free": 2 * STEPS + 1}) == 0  # over the end of an epoch
    told = capfd.readouterr().err
    assert "metrics.csv" in told
    run = small_disk.folder / "tiny/version_0"
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    json.loads((run / "val/report.json").read_text())
    assert not list(run.rglob("*.part"))


@pytest.mark.parametrize(("free", "code"), [(16, 0), (99, 1)])
def test_a_limit_on_file_sizes_is_met_like_a_full_disk(tmp_path: Path, free: int, code: int) -> None:
    log = tmp_path / "log.txt"
    run = ["fit", *TINY, *BIG, FILL, "--name=tiny", "--trainer.max_epochs=3", f"--trainer.default_root_dir={tmp_path}"]
    assert child(run, log, {VARIABLE: json.dumps({"full": 13, "free": free})}) == code, log.read_text()
    assert "File too large" in log.read_text()
    steps = whole(tmp_path)
    assert steps["resume.ckpt"] == (3 * STEPS if code == 0 else 12)


@pytest.mark.parametrize(("free", "code"), [(2 * STEPS + 1, 0), (99, 1)])
def test_at_a_full_disk_checkpoint_report_and_lineage_agree_on_the_best_validation(
    tmp_path: Path, free: int, code: int
) -> None:
    log = tmp_path / "log.txt"
    run = ["fit", *TINY, *BIG, FILL, "--name=tiny", "--trainer.max_epochs=3", f"--trainer.default_root_dir={tmp_path}"]
    run += ["--checkpoint.monitor=val_loss", "--checkpoint.mode=min"]
    plan = {VARIABLE: json.dumps({"full": 2 * STEPS - 1, "free": free})}
    assert child(run, log, plan) == code, log.read_text()
    assert "best.ckpt (disk full?): File too large" in log.read_text()
    left = Run(tmp_path / "tiny/version_0")
    losses = [row["val_loss"] for row in left.history]
    assert losses[1] < losses[0]  # the second validation was better, and its checkpoint could not be written
    checkpoint, context = read_checkpoint(left.checkpoint(BEST)), left.report("val")["context"]
    best = left.lineage[-1].monitor
    assert checkpoint["epoch"] == context["epoch"] == best["epoch"] == (2 if code == 0 else 0)
    assert checkpoint["global_step"] == context["step"]
    assert best["best"] == pytest.approx(losses[best["epoch"]], rel=1e-5)


def test_after_a_full_disk_events_go_into_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = RunLogger(str(tmp_path), "tiny")
    first = logger.experiment
    for _ in range(2):
        with logger._if_there_is_room():
            raise ValueError("as Lightning says it") from OSError(errno.ENOSPC, "No space left on device")
    assert logger.experiment is not first
    assert capsys.readouterr().err == "fer: TensorBoard's events could not be written: No space left on device\n"
    with pytest.raises(ValueError, match="something else"), logger._if_there_is_room():
        raise ValueError("something else")


def test_metrics_are_grouped_by_split_and_score() -> None:
    names = ("train_loss", "val_recall_sad", "test_precision_sad", "focus_f1_sad", "lr", "train_f1_macro", "my_val_acc")
    assert [grouped(name) for name in names] == [
        "train/loss",
        "val/recall/sad",
        "test/precision/sad",
        "focus/f1/sad",
        "lr",
        "train/f1/macro",
        "my_val_acc",
    ]
