from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.cli.place import Place
from fer_lightning.errors import ConfigError
from fer_lightning.runs import lock as lock_module
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from fer_lightning.runs.folder import claim_run_folder
from fer_lightning.runs.lock import LOCK, Holder, living_holder, lock_run_folder, refuse_if_held
from tests.helpers.cli import fit
from tests.kill_grid import COMMON, child


def held_by(folder: Path, holder: Holder) -> Path:
    (folder / LOCK).write_text(json.dumps(asdict(holder)))
    return folder / LOCK


def dead_process() -> int:
    """Return the number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    assert lock.took_over is None
    with pytest.raises(
        ConfigError, match=rf"process {os.getpid()} on {socket.gethostname()}, since 2.*delete .*{LOCK}"
    ):
        lock_run_folder(tmp_path)
    lock.release()
    assert list(tmp_path.iterdir()) == []
    lock_run_folder(tmp_path).release()


@pytest.mark.parametrize("how", ["gone", "another of its number"])
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path, how: str) -> None:
    me = Holder.myself()
    if how != "gone" and not me.born:
        pytest.skip("this system does not tell when a process was started")
    before = replace(me, pid=dead_process()) if how == "gone" else replace(me, born="another boot/1")
    held_by(tmp_path, before)
    lock = lock_run_folder(tmp_path)
    assert lock.took_over == before
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_machine_that_is_never_refreshed_is_not_taken_over(tmp_path: Path) -> None:
    path = held_by(tmp_path, replace(Holder.myself(), host="elsewhere", beat_s=0.0, pid=dead_process()))
    os.utime(path, (1, 1))
    before = path.read_text()
    with pytest.raises(ConfigError, match=f"on elsewhere, since .*; if it is gone, delete {path}"):
        lock_run_folder(tmp_path)
    assert path.read_text() == before
    assert living_holder(path) is not None


def elsewhere(beat_s: float = 30.0) -> Holder:
    """Return a process of another machine; its number is that of one that is gone here."""
    return replace(Holder.myself(), host="elsewhere", pid=dead_process(), beat_s=beat_s)


@pytest.mark.parametrize(
    ("job", "restarts", "gone"), [("7", "2", True), ("7", "1", False), ("7", "", False), ("8", "2", False)]
)
def test_a_process_of_another_machine_is_gone_once_slurm_has_started_its_job_again(
    monkeypatch: pytest.MonkeyPatch, job: str, restarts: str, gone: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert Holder("elsewhere", 1, "", "", job="7", restarts=1).is_gone == gone


def refreshed_ago(folder: Path, holder: Holder, seconds: float) -> Path:
    """Write the lock of a process that has refreshed it last so long ago."""
    path = held_by(folder, holder)
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))
    return path


@pytest.mark.parametrize(("seconds", "lives"), [(0, True), (175, True), (185, False)])
def test_a_process_of_another_machine_lives_while_it_refreshes_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, lives: bool
) -> None:
    assert Holder.myself().beat_s == 30
    path = refreshed_ago(tmp_path, elsewhere(), seconds)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of this machine has no say
    assert (living_holder(path) == elsewhere_as_written(path)) is lives
    assert [each.name for each in tmp_path.iterdir()] == [LOCK]
    if not lives:
        assert lock_run_folder(tmp_path).took_over is not None


def elsewhere_as_written(path: Path) -> Holder:
    return Holder(**json.loads(path.read_text()))


def test_where_nothing_can_be_written_a_process_of_another_machine_is_taken_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = refreshed_ago(tmp_path, elsewhere(), 1000)

    def refused(self: Path) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refused)
    assert living_holder(path) is not None


def soon(do: Callable[[], object]) -> threading.Timer:
    """Do something in a moment, while a test waits."""
    timer = threading.Timer(0.1, do)
    timer.start()
    return timer


def test_another_machine_that_refreshes_its_lock_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = held_by(tmp_path, elsewhere(beat_s=1.0))
    before = path.read_text()
    soon(partial(os.utime, path))
    began = time.monotonic()
    with pytest.raises(ConfigError) as refused:
        refuse_if_held(tmp_path)
    assert time.monotonic() - began < 3  # not the whole patience
    holder = elsewhere_as_written(path)
    assert str(refused.value) == (
        f"another run writes into {tmp_path}: process {holder.pid} on elsewhere, since {holder.since}, which has "
        "refreshed its lock just now. Stop it there, or wait for its end; 6 s after that machine is gone the same "
        "command goes on"
    )
    assert f"waits up to 6 s for a sign of process {holder.pid} on elsewhere" in capsys.readouterr().out
    assert path.read_text() == before


def test_a_machine_that_was_there_a_moment_ago_is_waited_for_and_then_taken_over_from(tmp_path: Path) -> None:
    gone = elsewhere(beat_s=0.05)
    held_by(tmp_path, gone)
    refuse_if_held(tmp_path)
    assert elsewhere_as_written(tmp_path / LOCK) == gone  # asking takes nothing
    lock = lock_run_folder(tmp_path)
    assert lock.took_over == gone
    lock.release()


@pytest.mark.parametrize("clock", [-1000, 1000])
def test_a_file_system_whose_clock_was_set_back_is_waited_for_as_well(tmp_path: Path, clock: float) -> None:
    refreshed_ago(tmp_path, elsewhere(beat_s=0.05), clock)
    assert lock_run_folder(tmp_path).took_over is not None


def test_a_lock_that_is_released_while_it_is_waited_for_is_taken(tmp_path: Path) -> None:
    path = held_by(tmp_path, elsewhere(beat_s=1.0))
    soon(path.unlink)
    assert lock_run_folder(tmp_path).took_over is None


def test_a_lock_that_passes_on_while_it_is_waited_for_is_the_other_process_s(tmp_path: Path) -> None:
    held_by(tmp_path, elsewhere(beat_s=1.0))
    soon(partial(held_by, tmp_path, Holder.myself()))
    with pytest.raises(ConfigError, match=f"process {os.getpid()} on {socket.gethostname()}.*delete"):
        refuse_if_held(tmp_path)


def test_who_takes_over_on_another_machine_and_is_gone_is_taken_over_from(tmp_path: Path) -> None:
    gone = elsewhere()
    refreshed_ago(tmp_path, gone, 1000)
    turn = tmp_path / f"{LOCK}.takeover"
    turn.write_text(json.dumps(asdict(gone)))
    with pytest.raises(ConfigError, match="another run is taking over"):
        lock_run_folder(tmp_path)
    os.utime(turn, (1, 1))
    assert lock_run_folder(tmp_path).took_over == gone
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_BEAT_S", 0.02)


@pytest.mark.usefixtures("quick")
def test_the_owner_refreshes_its_lock_until_it_releases_it(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    for _ in range(2):
        os.utime(lock.path, (1, 1))
        wait_for(lambda: lock.path.stat().st_mtime > 1)
    assert lock.check()
    lock.release()
    assert not lock.path.exists()


@pytest.mark.usefixtures("quick")
def test_an_owner_whose_lock_was_taken_over_hears_of_it_once_and_leaves_it_alone(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    heard: list[Holder] = []
    lock.when_lost = heard.append
    other = elsewhere()
    part = tmp_path / "part"
    part.write_text(json.dumps(asdict(other)))
    os.utime(part, (1, 1))
    os.replace(part, lock.path)
    wait_for(lambda: bool(heard))
    assert not lock.check()
    assert lock.lost_to == other
    assert heard == [other]
    lock.release()
    assert lock.path.stat().st_mtime == 1


def test_a_lock_that_was_deleted_is_not_lost(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    lock.path.unlink()
    assert lock.check()
    lock.path.write_text("{")  # nor one that cannot be read now
    assert lock.check()


@pytest.mark.usefixtures("quick")
def test_a_process_that_was_suspended_ends_when_its_lock_was_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "runs/version_0"
    owner = os.fork()
    if owner == 0:
        os.dup2(os.open(tmp_path / "said", os.O_CREAT | os.O_WRONLY), 2)
        try:
            watch, place = EndWatch(), Place()
            place.claim = claim_run_folder(tmp_path, "runs")
            place.folder = place.claim.folder
            watch.clear = place.discard
            with watch:
                place.take_lock(watch.end)
                (tmp_path / "ready").touch()
                time.sleep(60)
        finally:
            os._exit(77)
    wait_for((tmp_path / "ready").exists)
    os.kill(owner, signal.SIGSTOP)
    other = elsewhere()
    held_by(folder, other)
    os.kill(owner, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(owner, 0)[1]) == 1
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"\nfer: {folder} was taken over by process {other.pid} on elsewhere, since ")
    assert elsewhere_as_written(folder / LOCK) == other


class Robber(Callback):
    """Takes the run over, as another machine does, before the n-th batch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 4:
            held_by(Path(trainer.default_root_dir), elsewhere())


def test_no_checkpoint_is_written_into_a_run_that_was_taken_over(tmp_path: Path) -> None:
    rob = "--trainer.callbacks+=tests.runs.test_lock.Robber"
    root = f"--trainer.default_root_dir={tmp_path / 'runs'}"
    assert child(["fit", *COMMON, root, rob], tmp_path / "log") == 1
    folder = tmp_path / "runs/run/version_0"
    assert AtomicCheckpointIO().load_checkpoint(folder / "checkpoints/resume.ckpt")["global_step"] == 3
    assert elsewhere_as_written(folder / LOCK).host == "elsewhere"
    assert json.loads((folder / "lineage.json").read_text())["nodes"][0]["status"] == "running"  # the other's to say
    assert "was taken over by process" in (tmp_path / "log").read_text()


def test_a_lock_that_others_took_is_left_to_them(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    path = held_by(tmp_path, replace(Holder.myself(), host="elsewhere", beat_s=0.0))
    lock.release()
    assert path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}', '{"host":"a","pid":"b","born":"","since":""}'])
def test_a_lock_that_says_nothing_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(ConfigError, match=f"{LOCK} does not say"):
        lock_run_folder(tmp_path)


def test_of_two_that_take_over_one_succeeds(tmp_path: Path) -> None:
    held_by(tmp_path, replace(Holder.myself(), pid=dead_process()))
    (tmp_path / f"{LOCK}.takeover").write_text(json.dumps(asdict(Holder.myself())))
    with pytest.raises(ConfigError, match="another run is taking over"):
        lock_run_folder(tmp_path)


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be locked"):
        lock_run_folder(tmp_path / "nowhere")


def test_a_second_run_into_one_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    written = (folder / "checkpoints/resume.ckpt").read_bytes()
    lock = lock_run_folder(folder)
    assert fit(tmp_path, "--ckpt_path=last", epochs=2) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer: error:")]
    assert len(errors) == 1
    assert f"process {os.getpid()} on {socket.gethostname()}" in errors[0]
    assert (folder / "checkpoints/resume.ckpt").read_bytes() == written
    assert (folder / LOCK).exists()
    lock.release()


def test_a_run_after_a_kill_takes_the_lock_over_and_removes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    assert not (folder / LOCK).exists()
    gone = replace(Holder.myself(), pid=dead_process())
    held_by(folder, gone)
    assert fit(tmp_path, "--ckpt_path=last", epochs=2) == 0
    assert f"took over {folder} from process {gone.pid}" in capsys.readouterr().out
    assert not (folder / LOCK).exists()


def test_a_lock_that_another_took_over_in_between_stays_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_by(tmp_path, replace(Holder.myself(), pid=dead_process()))
    faster, create = replace(Holder.myself(), host="elsewhere", beat_s=0.0), lock_module._create

    def create_late(path: Path, holder: Holder) -> bool:
        if path.name == f"{LOCK}.takeover":
            held_by(tmp_path, faster)
        return create(path, holder)

    monkeypatch.setattr(lock_module, "_create", create_late)
    with pytest.raises(ConfigError, match="another run has just taken over"):
        lock_run_folder(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text()) == asdict(faster)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
