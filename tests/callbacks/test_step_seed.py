from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fer_lightning.callbacks.step_seed import StepSeed


def draw(epoch: int, batch: int, rank: int = 0) -> float:
    trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    module: Any = None
    StepSeed().on_train_batch_start(trainer, module, None, batch)
    return float(torch.rand(()))


def test_numbers_belong_to_seed_epoch_batch_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw(1, 2) == draw(1, 2)
    others = {draw(1, 2), draw(1, 3), draw(2, 2), draw(1, 2, rank=1)}
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert len(others | {draw(1, 2)}) == 5


def test_the_seed_of_a_step_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another one would change the dropout of runs that began before it.
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    draw(2, 3, rank=1)
    assert torch.initial_seed() == 7_372_830_721
