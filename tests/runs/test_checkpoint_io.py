from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.errors import CheckpointError
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
