from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.callbacks.changed_options import scale_rates, set_option
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
