from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fer_lightning.errors import CheckpointError, StorageError
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO

STATE = {"state_dict": {"weight": torch.arange(1000.0)}, "epoch": 3}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    loaded = AtomicCheckpointIO().load_checkpoint(path)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["weight"], STATE["state_dict"]["weight"])  # type: ignore[index]
    assert [found.name for found in path.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64\nmore")])
def test_a_failed_write_keeps_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    before = path.read_bytes()

    def fail(checkpoint: Any, file: Any) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"disk full.*need 0\.0 MB, have [0-9.]+ MB; the previous one is kept"):
        AtomicCheckpointIO().save_checkpoint({**STATE, "epoch": 4}, path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_killed_writer_leaves_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    monkeypatch.setattr(os, "replace", lambda *_: os._exit(9))
    child = os.fork()
    if child == 0:
        AtomicCheckpointIO().save_checkpoint({**STATE, "epoch": 4}, path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert AtomicCheckpointIO().load_checkpoint(path)["epoch"] == 3
    assert len(list(tmp_path.glob(".*.ckpt.*.part"))) == 1


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        calls.append(f"{kind} of {os.fstat(handle).st_size > 0}" if kind == "file" else kind)
        fsync(handle)

    def note_replace(one: Any, other: Any) -> None:
        calls.append("replace")
        rename(one, other)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    AtomicCheckpointIO().save_checkpoint(STATE, tmp_path / "a.ckpt")
    assert calls[:2] == ["file of True", "replace"]  # a power cut leaves one of both, whole


def test_only_failures_in_a_row_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, save = AtomicCheckpointIO(attempts=2), torch.save

    def fail(checkpoint: Any, file: Any) -> None:
        raise OSError(28, "No space left on device")

    def write(step: int, fails: bool) -> bool:
        monkeypatch.setattr(torch, "save", fail if fails else save)
        writer.save_checkpoint({**STATE, "global_step": step}, tmp_path / "a.ckpt")
        return writer.wrote

    assert [write(step, fails) for step, fails in enumerate([True, False, True, False, True])] == [
        *(False, True, False, True, False),
    ]
    assert not write(4, True)  # another file of the same step
    with pytest.raises(CheckpointError, match="2 times in a row"):
        write(5, True)


def test_half_a_file_without_an_error_does_not_replace_the_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: file.write(before[: len(before) // 2]))
    with pytest.raises(CheckpointError, match="the file is incomplete"):
        AtomicCheckpointIO().save_checkpoint(STATE, path)
    assert path.read_bytes() == before


def test_it_tells_whether_the_last_write_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, save = AtomicCheckpointIO(attempts=3), torch.save
    told = []
    for works in (True, False, True):
        monkeypatch.setattr(torch, "save", save if works else lambda checkpoint, file: file.write(b"half"))
        io.save_checkpoint(STATE, tmp_path / "a.ckpt")
        told.append(io.wrote)
    assert told == [True, False, True]


@pytest.mark.parametrize(
    ("error", "behind", "reason"),
    [
        (RuntimeError("unexpected pos 64\nmore"), OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("unexpected pos 64\nmore"), None, "unexpected pos 64"),
        (OSError("the file is odd"), None, "the file is odd"),
        (OSError(122, "Disk quota exceeded"), None, "Disk quota exceeded"),
    ],
)
def test_a_failed_write_says_why_and_how_much_room_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, behind: OSError | None, reason: str
) -> None:
    def fail(checkpoint: Any, file: Any) -> None:
        try:
            if behind is not None:
                raise behind
        finally:
            raise error

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1_260_000))
    state = {"a": [torch.zeros(100_000), {"b": (torch.zeros(50_000, dtype=torch.float64),)}], "c": torch.zeros(250_000)}
    path = tmp_path / "a.ckpt"
    with pytest.raises(StorageError) as caught:
        AtomicCheckpointIO().save_checkpoint(state, path)
    assert str(caught.value) == (
        f"cannot write checkpoint {path} (disk full?): {reason}; need 1.8 MB, have 1.3 MB; there is no previous one"
    )


def test_a_place_that_cannot_be_written_is_told_in_short(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        AtomicCheckpointIO().save_checkpoint(STATE, tmp_path / "file/a.ckpt")
    assert str(caught.value) == f"cannot write checkpoint {tmp_path / 'file/a.ckpt'}: File exists"


def test_whoever_looks_before_the_renaming_finds_a_whole_file_beside_the_place(tmp_path: Path) -> None:
    io, path, seen = AtomicCheckpointIO(), tmp_path / "a.ckpt", []

    def look() -> None:
        (part,) = tmp_path.iterdir()
        seen.append((part.name == path.name, torch.load(part)["epoch"]))

    io.before_renaming = look
    io.save_checkpoint(STATE, path)
    assert seen == [(False, 3)]
    assert io.wrote
