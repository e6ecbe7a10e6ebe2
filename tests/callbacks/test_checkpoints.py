from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.callbacks.checkpoints import AtomicCheckpointIO, ResumeCheckpoint, check_checkpoint
from fer_lightning.errors import CheckpointError, ConfigError
from tests.helpers.cli import fit

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
    with pytest.raises(CheckpointError, match="disk full.*previous one is kept"):
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
    assert len(list(tmp_path.glob(".*.ckpt.part"))) == 1


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text"])
def test_damage_is_found_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1  # inside the weights: torch.load would not notice
        path.write_bytes(content)
    else:
        path.write_bytes({"empty": b"", "cut": bytes(content[: len(content) // 2]), "text": b"<html>"}[damage])
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        check_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(path)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("bomb",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, "bomb.ckpt")
    assert zipfile.is_zipfile("bomb.ckpt")
    with pytest.raises(CheckpointError, match="plain data"):
        AtomicCheckpointIO().load_checkpoint("bomb.ckpt")
    assert not Path("bomb").exists()


@pytest.mark.parametrize(
    ("batch", "accumulate", "is_last", "expected"),
    [(10, 1, False, True), (9, 1, False, False), (10, 4, False, False), (20, 4, False, True), (10, 1, True, False)],
)
def test_when_a_resume_checkpoint_is_due(batch: int, accumulate: int, is_last: bool, expected: bool) -> None:
    assert ResumeCheckpoint(every_n_steps=10).due(batch, accumulate, is_last) is expected


def test_epoch_ends_only_and_never_negative() -> None:
    assert not ResumeCheckpoint(every_n_steps=0).due(10, 1, False)
    with pytest.raises(ConfigError, match="every_n_steps"):
        ResumeCheckpoint(every_n_steps=-1)


def test_a_folder_that_cannot_be_written_stops_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    assert fit(tmp_path) == 2
    assert "checkpoints cannot be written to" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_leftovers_of_a_killed_writer_are_cleared_at_the_next_start(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    part = tmp_path / "tiny/version_0/checkpoints/.abc.ckpt.part"
    part.write_bytes(b"half")
    assert fit(tmp_path, "--ckpt_path=last", epochs=2) == 0
    assert not part.exists()
