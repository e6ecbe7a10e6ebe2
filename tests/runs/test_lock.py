from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.runs import lock as lock_module
from fer_lightning.runs.lock import LOCK, Holder, lock_run_folder
from tests.helpers.cli import fit


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


def test_the_lock_of_another_machine_is_never_taken_over(tmp_path: Path) -> None:
    path = held_by(tmp_path, replace(Holder.myself(), host="elsewhere", pid=dead_process()))
    before = path.read_text()
    with pytest.raises(ConfigError, match="on elsewhere"):
        lock_run_folder(tmp_path)
    assert path.read_text() == before


def test_a_lock_that_others_took_is_left_to_them(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    path = held_by(tmp_path, replace(Holder.myself(), host="elsewhere"))
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
    faster, create = replace(Holder.myself(), host="elsewhere"), lock_module._create

    def create_late(path: Path, holder: Holder) -> bool:
        if path.name == f"{LOCK}.takeover":
            held_by(tmp_path, faster)
        return create(path, holder)

    monkeypatch.setattr(lock_module, "_create", create_late)
    with pytest.raises(ConfigError, match="another run has just taken over"):
        lock_run_folder(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text()) == asdict(faster)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
