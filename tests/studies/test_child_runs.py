from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.callbacks.graceful_stop import GracefulStop
from fer_lightning.errors import ConfigError
from fer_lightning.runs.folder import newest_run
from fer_lightning.runs.lock import lock_run_folder
from fer_lightning.runs.records import History, Run
from fer_lightning.studies import child_runs
from fer_lightning.studies.child_runs import ChildResult, fit_in_child
from tests.helpers.cli import TINY, fer, fit, same_weights

FAKE = (sys.executable, "-m", "tests.helpers.fake_fit")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let children pretend, as planned."""
    monkeypatch.setattr(child_runs, "FIT", FAKE)

    def plan(**values: Any) -> None:
        monkeypatch.setenv("FAKE_FIT", json.dumps(values))

    return plan


def train(root: Path, *arguments: str, **options: Any) -> ChildResult:
    return fit_in_child(arguments, root=root, name="one", log=root / "one.log", **options)


def told(root: Path) -> str:
    return (root / "one.log").read_text()


def test_a_run_is_followed_epoch_by_epoch(tmp_path: Path, fake: Any) -> None:
    fake(epochs=3, seconds=0.4)
    seen: list[int] = []

    def follow(history: list[dict[str, float]]) -> bool:
        assert [row["epoch"] for row in history] == list(range(len(history)))
        seen.append(len(history))
        return True

    result = train(tmp_path, follow=follow)
    assert seen == [1, 2, 3]
    assert (result.folder, result.exit_code, result.stopped, result.message) == (
        tmp_path / "one/version_0",
        0,
        False,
        "",
    )
    assert [row["val_f1_macro"] for row in result.history] == [0.4, 0.6, 0.7]


def test_a_finished_run_is_not_run_again(tmp_path: Path, fake: Any) -> None:
    fake()
    first = train(tmp_path)
    before = told(tmp_path)
    assert train(tmp_path) == first
    assert told(tmp_path) == before
    assert train(tmp_path, resume=False).folder == tmp_path / "one/version_1"


def test_a_run_is_stopped_gently_and_goes_on(tmp_path: Path, fake: Any) -> None:
    fake(epochs=20, seconds=0.2)
    stopped = train(tmp_path, follow=lambda history: len(history) < 2)
    assert (stopped.exit_code, stopped.stopped, stopped.message) == (143, True, "")
    done = len(stopped.history)
    assert 2 <= done < 20
    fake(epochs=done + 2)
    seen: list[int] = []
    resumed = train(tmp_path, follow=lambda history: not seen.append(len(history)))  # type: ignore[func-returns-value]
    assert resumed.folder == stopped.folder
    assert f"epochs from {done}" in told(tmp_path)
    assert (resumed.exit_code, resumed.stopped) == (0, False)
    assert seen[-1] == len(resumed.history) == done + 2


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("error", 1, "error at epoch 1"),
        ("config", 2, "config at epoch 1"),
        ("crash", 1, "MemoryError: no memory left"),
        ("kill", 137, "ended by SIGKILL, perhaps for want of memory"),
    ],
)
def test_a_failure_is_told_in_one_line(tmp_path: Path, fake: Any, fault: str, code: int, message: str) -> None:
    fake(fail={"1": fault})
    result = train(tmp_path)
    assert (result.exit_code, result.message, result.stopped) == (code, message, False)
    assert len(result.history) == 1


def test_a_child_that_never_begins_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_runs, "FIT", (sys.executable, "-c", "import sys; sys.exit('fer: error: no such flag')"))
    result = train(tmp_path)
    assert result == ChildResult(tmp_path / "one", 1, [], False, "no such flag")


def test_the_run_of_another_process_is_left_alone(tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake()
    monkeypatch.setattr(child_runs, "ORPHAN_SECONDS", 0.0)
    (tmp_path / "one/version_0").mkdir(parents=True)
    lock = lock_run_folder(tmp_path / "one/version_0")
    with pytest.raises(ConfigError, match=r"another process writes into .*version_0"):
        train(tmp_path)
    lock.release()
    assert train(tmp_path).folder == tmp_path / "one/version_1"  # nothing to go on from in the first


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on(tmp_path: Path, fake: Any, signum: int) -> None:
    fake(epochs=100, seconds=0.2)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signum))
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    timer.start()
    with pytest.raises(SystemExit) as stop:
        train(tmp_path)
    assert stop.value.code == 128 + signum
    assert (tmp_path / "one/version_0/checkpoints/resume.ckpt").exists()
    assert not (tmp_path / "one/version_0/run.lock").exists()
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_error_of_the_follower_stops_the_child(tmp_path: Path, fake: Any) -> None:
    fake(epochs=100, seconds=0.2)

    def follow(history: list[dict[str, float]]) -> bool:
        raise ConfigError("no such metric")

    with pytest.raises(ConfigError, match="no such metric"):
        train(tmp_path, follow=follow)
    assert not (tmp_path / "one/version_0/run.lock").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_child_stops_gently_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from fer_lightning.studies import child_runs\n"
        f"child_runs.FIT = {FAKE!r}\n"
        f"root = Path({str(tmp_path)!r})\n"
        "child_runs.fit_in_child([], root=root, name='one', log=root / 'one.log')"
    )
    plan = {"FAKE_FIT": json.dumps({"epochs": 1000, "seconds": 0.2})}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, env={**os.environ, **plan})
    wait_for(lambda: (tmp_path / "one/version_0/metrics.csv").exists())
    parent.kill()
    parent.wait()
    wait_for(lambda: not (tmp_path / "one/version_0/run.lock").exists())
    assert json.loads((tmp_path / "one/version_0/lineage.json").read_text())["nodes"][0]["status"] == "stopped"


def wait_for(happened: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it has not happened"
        time.sleep(0.05)


def test_versions_are_counted_not_sorted_by_name(tmp_path: Path) -> None:
    for name in ("version_9", "version_10", "version_x", "other"):
        (tmp_path / "one" / name).mkdir(parents=True)
    assert newest_run(tmp_path, "one") == tmp_path / "one/version_10"
    assert newest_run(tmp_path, "two") is None


class WaitForStop(Callback):
    """Does not begin the third epoch before the run is told to stop, unless it goes on with one that was."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        (stop,) = (callback for callback in callbacks if isinstance(callback, GracefulStop))
        begins = trainer.global_step == trainer.current_epoch * trainer.num_training_batches
        if trainer.ckpt_path is None and trainer.current_epoch == 2 and begins:
            wait_for(lambda: stop._request())


def fit_here(
    command: list[str], log: Path, folder: Callable[[], Path | None], follow: Callable[[History], bool] | None
) -> tuple[int, bool, int]:
    """Do what a child is told to do, as ``child_runs._run`` does, in this process: importing takes most of its time."""
    code = fer(*command[command.index("fit") :])
    run = folder()
    if follow is not None and run is not None:
        assert follow(Run(run).history)
    return code, False, 0


@pytest.mark.parametrize("in_child", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_real_run_that_was_stopped_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_child: bool
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--trainer.max_epochs=4", "--resume_checkpoint.every_n_steps=2"]
    wait = "--trainer.callbacks+=tests.studies.test_child_runs.WaitForStop"
    stopped = train(tmp_path, *TINY, *options, wait, follow=lambda history: len(history) < 2)
    assert (stopped.exit_code, stopped.stopped) == (143, True)
    assert len(stopped.history) < 4
    if not in_child:
        monkeypatch.setattr(child_runs, "_run", fit_here)
    resumed = train(tmp_path, *TINY, *options)
    assert (resumed.exit_code, resumed.message, len(resumed.history)) == (0, "", 4)
    assert fit(tmp_path, *options, name="whole", epochs=4) == 0
    folders = [tmp_path / name / "version_0/checkpoints/resume.ckpt" for name in ("one", "whole")]
    assert same_weights(*folders)
