from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.callbacks.changed_options import ChangedOptions, scale_rates, set_option
from fer_lightning.models.task import EmotionTask
from fer_lightning.optim import StepSchedule
from fer_lightning.runs.lineage import Change
from tests.helpers.cli import fit

SGD = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05", "--model.optimizer.momentum=0.9"]


def resumed(root: Path, *options: str, epochs: int = 2, first: tuple[str, ...] = tuple(SGD)) -> dict[str, Any]:
    """Train an epoch, go on with other options, and return the last checkpoint."""
    assert fit(root, *first, epochs=1) == 0
    assert fit(root, *options, "--ckpt_path=last", epochs=epochs) == 0
    newest = sorted((root / "tiny").iterdir())[-1]
    loaded: dict[str, Any] = torch.load(newest / "checkpoints/resume.ckpt", weights_only=True)
    return loaded


def groups(checkpoint: dict[str, Any], option: str) -> list[Any]:
    return [group[option] for group in checkpoint["optimizer_states"][0]["param_groups"]]


def test_a_changed_learning_rate_is_trained_with(tmp_path: Path) -> None:
    assert set(groups(resumed(tmp_path, "--model.optimizer.lr=0.01"), "lr")) == {0.01}
    rows = (tmp_path / "tiny/version_1/metrics.csv").read_text().splitlines()
    assert [float(row.split(",")[rows[0].split(",").index("lr")]) for row in rows[1:]] == [0.05, 0.01]


def test_a_changed_weight_decay_spares_the_groups_that_have_none(tmp_path: Path) -> None:
    first = (*SGD, "--model.optimizer.weight_decay=0.1")
    assert groups(resumed(tmp_path, "--model.optimizer.weight_decay=0.2", first=first), "weight_decay") == [0.2, 0.0]


def test_an_exchanged_optimizer_starts_without_the_others_state(tmp_path: Path) -> None:
    checkpoint = resumed(tmp_path, "--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=1e-3")
    assert set(groups(checkpoint, "lr")) == {1e-3}
    assert "exp_avg" in checkpoint["optimizer_states"][0]["state"][0]


def test_a_new_schedule_of_ours_begins_at_its_place_in_the_run(tmp_path: Path) -> None:
    cosine = ("--model.lr_scheduler=WarmupCosine", "--model.lr_scheduler.warmup=0")
    resumed(tmp_path / "changed", *cosine, epochs=3)
    assert fit(tmp_path / "whole", *SGD, *cosine, epochs=3) == 0

    def rates(folder: Path) -> list[str]:
        rows = (folder / "metrics.csv").read_text().splitlines()
        return [row.split(",")[rows[0].split(",").index("lr")] for row in rows[1:]]

    ours, whole = rates(tmp_path / "changed/tiny/version_1"), rates(tmp_path / "whole/tiny/version_0")
    assert ours[0] == "0.05"
    assert ours[1:] == whole[1:]


def test_a_changed_patience_counts(tmp_path: Path) -> None:
    stopping = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_loss"]
    first = (*SGD, *stopping, "--trainer.callbacks.patience=5")
    checkpoint = resumed(tmp_path, *stopping, "--trainer.callbacks.patience=7", first=first)
    (state,) = [state for name, state in checkpoint["callbacks"].items() if name.startswith("EarlyStopping")]
    assert state["patience"] == 7


def test_rates_are_scaled_with_their_shares_and_the_schedule() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    given: list[dict[str, Any]] = [{"params": layer.parameters()} for layer in layers]
    given[1]["lr"] = 0.01
    optimizer = torch.optim.SGD(given, lr=0.1)
    schedule = LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    schedule.step()
    scale_rates(optimizer, [schedule], 0.1, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.001])
    assert schedule.get_last_lr() == pytest.approx([0.01, 0.001])
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.0005])


def test_a_changed_rate_is_that_of_a_run_that_began_with_it_to_the_last_digit() -> None:
    before, after = 0.001, 0.009
    assert before * (after / before) != after
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=before)
    scale_rates(optimizer, [], before, after)
    assert optimizer.param_groups[0]["lr"] == after


def test_options_are_set_where_they_had_the_old_value() -> None:
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters(), betas=(0.9, 0.99))
    set_option(optimizer, "betas", [0.9, 0.99], [0.8, 0.99])
    set_option(optimizer, "nothing", 1, 2)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    assert "nothing" not in optimizer.param_groups[0]
    given = [{"params": [nn.Parameter(torch.zeros(1))], "weight_decay": decay} for decay in (0.1, 0.0)]
    groups = torch.optim.SGD(given, lr=0.1)
    for before, after, expected in ((0.1, 0.2, [0.2, 0.0]), (None, 0.3, [0.3, 0.3])):
        set_option(groups, "weight_decay", before, after)
        assert [group["weight_decay"] for group in groups.param_groups] == expected


def going_on(*changes: Change, schedules: list[Any], plateau: Any = None, callbacks: tuple[Any, ...] = ()) -> Any:
    """Begin a resumed training with changes; return the optimizer, whose groups have the rates 0.1 and 0.01."""
    given: list[dict[str, Any]] = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.01)]
    optimizer = torch.optim.SGD(given, lr=0.1, momentum=0.9)
    task: Any = EmotionTask.__new__(EmotionTask)
    nn.Module.__init__(task)
    task.plateau = SimpleNamespace(schedule=plateau)
    trainer: Any = SimpleNamespace(
        lr_scheduler_configs=[SimpleNamespace(scheduler=schedule) for schedule in schedules], optimizers=[optimizer],
        callbacks=list(callbacks), global_step=30, estimated_stepping_batches=100,
    )  # fmt: skip
    callback = ChangedOptions()
    callback.changes = changes
    callback.on_train_start(trainer, task)
    return optimizer


def test_a_changed_rate_reaches_every_schedule() -> None:
    schedule: Any = SimpleNamespace(base_lrs=[0.1, 0.01], _last_lr=[0.05, 0.005])
    plateau: Any = SimpleNamespace(_last_lr=[0.1, 0.01], factor=0.5)
    changes = Change("model.optimizer.lr", 0.1, 0.02), Change("model.optimizer.momentum", 0.9, 0.8)
    optimizer = going_on(*changes, Change("model.optimizer.deep.lr", 1, 2), schedules=[schedule], plateau=plateau)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.002])
    assert [group["momentum"] for group in optimizer.param_groups] == [0.8, 0.8]
    assert (schedule.base_lrs, schedule._last_lr) == (pytest.approx([0.02, 0.002]), pytest.approx([0.01, 0.001]))
    assert plateau._last_lr == pytest.approx([0.02, 0.002])


def test_changed_options_reach_schedules_and_callbacks_that_have_them() -> None:
    schedule, plateau = SimpleNamespace(gamma=0.9), SimpleNamespace(factor=0.5, patience=3)
    stopping, other = EarlyStopping("val_loss", patience=3), SimpleNamespace(patience=1)
    going_on(
        *(Change("model.lr_scheduler.gamma", 0.9, 0.8), Change("model.lr_scheduler.factor", 0.5, 0.1)),
        *(Change("trainer.callbacks.EarlyStopping.patience", 3, 7), Change("trainer.callbacks.EarlyStopping.x", 1, 2)),
        schedules=[schedule], plateau=plateau, callbacks=(other, stopping),
    )  # fmt: skip
    assert vars(schedule) == {"gamma": 0.8}
    assert vars(plateau) == {"factor": 0.1, "patience": 3}
    assert (stopping.patience, other.patience, hasattr(stopping, "x")) == (7, 1, False)


@pytest.mark.parametrize("key", ["model.optimizer", "model.lr_scheduler", "model.optimizer.lr"])
def test_of_what_was_exchanged_the_state_is_left_out_and_a_schedule_of_ours_begins_in_the_middle(key: str) -> None:
    callback, nothing = ChangedOptions(), Any
    callback.changes = [Change(key, "a", "b")]
    state: dict[str, Any] = {"optimizer_states": [1], "lr_schedulers": [2]}
    callback.on_load_checkpoint(nothing, nothing, state)  # type: ignore[arg-type]  # neither is asked
    assert state["optimizer_states"] == ([] if key == "model.optimizer" else [1])
    assert state["lr_schedulers"] == ([2] if key == "model.optimizer.lr" else [])
    planned: list[int] = []
    ours: Any = StepSchedule.__new__(StepSchedule)
    ours.plan, ours.last_epoch, theirs = planned.append, 0, SimpleNamespace(last_epoch=0)
    going_on(Change(key, 1.0, 1.0), schedules=[theirs, ours])
    assert (ours.last_epoch, planned) == ((0, []) if key == "model.optimizer.lr" else (30, [100]))
    assert theirs.last_epoch == 0
