from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from fer_lightning.callbacks import guard
from fer_lightning.errors import NonFiniteError
from tests.helpers.cli import fit, weights

LOSS = "--model.loss=tests.helpers.parts.NaNLoss"


def test_a_non_finite_loss_stops_the_run_with_good_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, LOSS, "--model.loss.after=13", "--resume_checkpoint.every_n_steps=1") == 1
    folder = tmp_path / "tiny/version_0"
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the training loss is nan at epoch 1, batch 3" in message
    assert str(folder / "checkpoints/resume.ckpt") in message
    dump = json.loads((folder / "non_finite_rank0.json").read_text())
    assert (dump["epoch"], dump["batch"]) == (1, 3)
    assert len(dump["index"]) == 8
    assert all(torch.isfinite(value).all() for value in weights(folder / "checkpoints/resume.ckpt").values())


@pytest.mark.parametrize(
    ("after", "every", "batch"),
    [(13, 1, (1, 3)), (13, 0, (1, 3)), (9, 0, (0, 9)), (19, 0, (1, 9))],
    ids=["before a checkpoint", "one step later", "before a validation", "last of all"],
)
def test_where_the_device_is_not_waited_for_no_checkpoint_is_written_either(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    after: int,
    every: int,
    batch: tuple[int, int],
) -> None:
    monkeypatch.setattr(guard, "_is_asynchronous", lambda device: True)
    assert fit(tmp_path, LOSS, f"--model.loss.after={after}", f"--resume_checkpoint.every_n_steps={every}") == 1
    folder = tmp_path / "tiny/version_0"
    dump = json.loads((folder / "non_finite_rank0.json").read_text())
    assert (dump["epoch"], dump["batch"]) == batch
    assert len(dump["index"]) == 8
    assert "the training loss is nan" in capsys.readouterr().err
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        assert all(torch.isfinite(value).all() for value in weights(checkpoint).values())
    assert not (folder / "checkpoints/dump.ckpt").exists()
    assert (folder / "checkpoints/resume.ckpt").exists() is (after > 9)


def test_the_loss_is_looked_at_one_step_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = guard.FiniteGuard._check

    def note(self: guard.FiniteGuard, trainer: Trainer) -> None:
        looked.append(-1 if self._open is None else self._open.batch)
        look(self, trainer)

    monkeypatch.setattr(guard, "_is_asynchronous", lambda device: True)
    monkeypatch.setattr(guard.FiniteGuard, "_check", note)
    assert fit(tmp_path, "--resume_checkpoint.every_n_steps=0", "--trainer.num_sanity_val_steps=0", epochs=1) == 0
    assert looked[:11] == [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # the eleventh look is that of the validation


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_no_loss_that_is_not_finite_passes(tmp_path: Path, value: float) -> None:
    stopper = guard.FiniteGuard()
    fitting = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    stopper.on_before_backward(fitting, LightningModule(), torch.tensor(3e38))
    with pytest.raises(NonFiniteError, match="the training loss is"):
        stopper.on_before_backward(fitting, LightningModule(), torch.tensor(value))


def test_one_process_with_a_bad_loss_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_reduce(value: Tensor, op: Any) -> None:  # with another process, whose loss is not finite
        value.clamp_(max=0) if op == dist.ReduceOp.MIN else value.clamp_(min=0)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    trainer: Any = SimpleNamespace(world_size=2, current_epoch=3, default_root_dir=str(tmp_path), global_rank=1)
    with pytest.raises(NonFiniteError, match="at epoch 3, batch 0"):
        guard.FiniteGuard().on_before_backward(trainer, LightningModule(), torch.tensor(1.0))
    assert (tmp_path / "non_finite_rank1.json").exists()


def test_only_the_cpu_is_not_waited_for() -> None:
    devices = ("cpu", "cuda:1", "mps", "xpu")
    assert [guard._is_asynchronous(torch.device(name)) for name in devices] == [False, True, True, True]
