from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fer_lightning.errors import ConfigError
from fer_lightning.optim import WarmupCosine, parameter_groups


def optimizer(lr: float = 0.2) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=lr)


def rates(schedule: WarmupCosine, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(schedule.get_last_lr()[0]))
        schedule.optimizer.step()
        schedule.step()
    return found


def test_rates_follow_the_formula() -> None:
    schedule = WarmupCosine(optimizer(), warmup=0.2, start=0.1, final=0.01)
    schedule.plan(10)
    found = rates(schedule, 10)
    assert found[0] == pytest.approx(0.02)
    assert found[1] == pytest.approx(0.2 * (0.1 + 0.9 * 0.5))
    assert found[2] == pytest.approx(0.2)
    expected = 0.2 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (7 - 2) / 8)))
    assert found[7] == pytest.approx(expected)
    assert float(schedule.get_last_lr()[0]) == pytest.approx(0.002)


def test_state_restores_the_rate() -> None:
    first = WarmupCosine(optimizer())
    first.plan(20)
    rates(first, 7)
    second = WarmupCosine(optimizer())
    second.plan(20)
    second.load_state_dict(first.state_dict())
    assert rates(second, 5) == rates(first, 5)


def test_a_run_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_epochs"):
        WarmupCosine(optimizer()).plan(float("inf"))


def test_warmup_is_a_share() -> None:
    with pytest.raises(ConfigError, match="warmup"):
        WarmupCosine(optimizer(), warmup=5)


def test_vectors_are_not_decayed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, plain = parameter_groups(network)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 1, 3, 3), (2, 4)]  # type: ignore[attr-defined]
    assert all(p.ndim == 1 for p in plain["params"])  # type: ignore[attr-defined]
    assert plain["weight_decay"] == 0
    (together,) = parameter_groups(network, decay_norm_and_bias=True)
    assert len(together["params"]) == 6  # type: ignore[arg-type]


def test_frozen_parameters_are_left_out() -> None:
    network = nn.Linear(3, 2)
    network.weight.requires_grad_(False)
    (only,) = parameter_groups(network)
    assert only["params"] == [network.bias]
