from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import torch

import fer_lightning
from fer_lightning.callbacks.provenance import (
    changes_since,
    code_state,
    command_line,
    origin_of_weights,
    parent_of,
    stored_data,
)


def test_a_module_that_is_run_is_called_by_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/env/lib/fer_lightning/__main__.py", "test", "--ckpt_path", "last"])
    assert command_line() == "fer test --ckpt_path last"
    monkeypatch.setattr("sys.argv", ["/home/me/study.py", "--seed", "1"])
    assert command_line() == "study.py --seed 1"


def test_a_parent_is_named_by_its_place_and_its_content(tmp_path: Path) -> None:
    file = tmp_path / "runs/a/version_0/checkpoints/best.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    parent = parent_of(file, tmp_path / "runs", epoch=3)
    assert (parent.checkpoint, parent.run, parent.epoch) == ("a/version_0/checkpoints/best.ckpt", "a/version_0", 3)
    assert parent.sha256 == hashlib.sha256(b"weights").hexdigest()
    other = tmp_path / "other.pth"
    other.write_bytes(b"")
    assert (parent_of(other, tmp_path / "runs").checkpoint, parent_of(other, tmp_path / "runs").run) == (
        str(other),
        None,
    )


def test_the_code_is_that_of_a_commit_and_what_was_changed_since(tmp_path: Path) -> None:
    def git(*args: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *name, *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "__init__.py").touch()
    nothing = {"package": fer_lightning.__version__, "commit": None, "dirty": None}
    assert code_state(tmp_path) == nothing
    git("init", "-q")
    assert code_state(tmp_path) == nothing  # installed into the repository of another
    git("add", ".")
    git("commit", "-qm", "a")
    assert code_state(tmp_path) == {**nothing, "commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "__init__.py").write_text("a = 1\n")
    assert code_state(tmp_path)["dirty"] is True


def test_weights_say_where_they_are_from_and_what_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    model = {"backbone": "fer_a", "weights": None, "pretrained": False, "tau": 0.0}
    progress = {"epoch_progress": {"current": {"processed": 4}}}
    content = {"global_step": 70, "epoch": 3, "loops": {"fit_loop": progress}, "fer_lineage": {"node": "n"}}
    torch.save({**content, "fer_config": {"model": model}}, file)
    assert origin_of_weights(file) == {"epoch": 4, "step": 70, "node": "n"}
    changes = changes_since(file, {"model": {**model, "weights": str(file), "pretrained": True, "tau": -1.0}})
    assert [(change.key, change.before, change.after) for change in changes] == [("model.tau", 0.0, -1.0)]
    torch.save({"weight": torch.zeros(1)}, file)
    assert origin_of_weights(file) == {}
    assert changes_since(file, {"model": model}) == []
    assert stored_data(file) == {}
