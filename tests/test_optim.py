from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from fer_lightning.errors import ConfigError
from fer_lightning.optim import OneCycle, PlateauWatch, ScaledRates, WarmupCosine, parameter_groups


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
    with pytest.raises(ConfigError, match="max_epochs"):
        WarmupCosine(optimizer()).plan(0)
    WarmupCosine(optimizer()).plan(1)


def test_warmup_is_a_share() -> None:
    for warmup in (5, 1, -0.1):
        with pytest.raises(ConfigError, match="warmup is a share of the run"):
            WarmupCosine(optimizer(), warmup=warmup)


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


def test_one_cycle_is_that_of_torch() -> None:
    steps = 2000
    parameters = [nn.Parameter(torch.zeros(2))]
    own = OneCycle(torch.optim.SGD(parameters, lr=0.2, momentum=0.9))
    own.plan(steps)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD(parameters, lr=0.2, momentum=0.9), max_lr=0.2, total_steps=steps
    )
    for step in range(steps):
        if step % 100 == 0:  # up to a step apart, in which the rate changes by 5e-4 at most
            assert own.optimizer.param_groups[0]["lr"] == pytest.approx(theirs.get_last_lr()[0], abs=6e-4)
            assert own.optimizer.param_groups[0]["momentum"] == pytest.approx(
                theirs.optimizer.param_groups[0]["momentum"], abs=6e-4
            )
        for schedule in (own, theirs):
            schedule.optimizer.step()
            if step < steps - 1:
                schedule.step()


def test_one_cycle_turns_the_first_beta_of_adam() -> None:
    adam = torch.optim.AdamW([nn.Parameter(torch.zeros(2))], lr=0.1, betas=(0.9, 0.999))
    schedule = OneCycle(adam, peak=0.5, momentum=(0.8, 0.9))
    schedule.plan(4)
    seen = [adam.param_groups[0]["betas"]]
    for _ in range(2):
        adam.step()
        schedule.step()
        seen.append(adam.param_groups[0]["betas"])
    assert [first for first, _ in seen] == pytest.approx([0.9, 0.85, 0.8])
    assert {second for _, second in seen} == {0.999}
    assert float(schedule.get_last_lr()[0]) == pytest.approx(0.1)


def test_one_cycle_leaves_momentum_alone_if_told_so() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.7)
    schedule = OneCycle(sgd, momentum=None)
    schedule.plan(4)
    assert sgd.param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize("momentum", [(0.0, 0.9), (0.9, 0.9)])
def test_one_cycle_takes_momentum_from_0_and_one_that_stays(momentum: tuple[float, float]) -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.7)
    schedule = OneCycle(sgd, peak=0.5, momentum=momentum)
    schedule.plan(2)
    assert sgd.param_groups[0]["momentum"] == momentum[1]
    sgd.step()
    schedule.step()
    assert sgd.param_groups[0]["momentum"] == pytest.approx(momentum[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peak": 0.0}, "peak is a share of the run between 0 and 1, not 0.0"),
        ({"peak": 1.0}, "peak is a share of the run between 0 and 1, not 1.0"),
        ({"momentum": (0.9, 0.8)}, "two ascending values"),
        ({"momentum": (0.85, 1.0)}, "two ascending values"),
        ({}, "SGD uses no momentum"),
    ],
)
def test_one_cycle_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OneCycle(optimizer(), **options)


def test_one_cycle_refuses_a_single_group_without_momentum() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": parameters[:1], "momentum": 0.0}, {"params": parameters[1:]}]
    with pytest.raises(ConfigError, match="SGD uses no momentum"):
        OneCycle(torch.optim.SGD(groups, lr=0.1, momentum=0.9))


def test_a_plateau_sees_the_named_metric_and_keeps_its_state() -> None:
    watch = PlateauWatch("val_acc")
    watch.step({})  # without a schedule there is nothing to show it to
    assert watch.state_dict() is None
    watch.take(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer(), mode="max", patience=0, factor=0.5))
    assert watch.schedule is not None
    for value in (0.5, 0.6, 0.4):
        watch.step({"val_acc": torch.tensor(value), "val_loss": torch.tensor(9.0)})
    assert watch.schedule.best == pytest.approx(0.6)
    assert watch.schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="model.monitor 'val_acc' is not logged; known: a, b"):
        watch.step({"b": torch.tensor(0.0), "a": torch.tensor(0.0)})
    for early in (True, False):
        later = PlateauWatch("val_acc")
        if early:
            later.load_state_dict(watch.state_dict())  # before there is a schedule
        later.take(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer(), mode="max", patience=0))
        later.load_state_dict(None)  # changes nothing
        if not early:
            later.load_state_dict(watch.state_dict())
        assert later.schedule is not None
        assert later.schedule.best == pytest.approx(0.6)


def test_a_schedule_that_goes_on_longer_is_planned_anew() -> None:
    short = WarmupCosine(optimizer(), warmup=0)
    short.plan(10)
    rates(short, 10)
    assert float(short.get_last_lr()[0]) == pytest.approx(0)
    longer = WarmupCosine(optimizer(), warmup=0)
    longer.plan(20)
    longer.load_state_dict(short.state_dict())
    longer.optimizer.step()
    longer.step()
    assert float(longer.get_last_lr()[0]) == pytest.approx(0.2 * 0.5 * (1 + math.cos(math.pi * 11 / 20)))


def test_every_group_keeps_its_share_of_the_rate() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    made = ScaledRates(lambda groups: torch.optim.SGD(groups, lr=0.2, momentum=0.9), {second: 0.1})
    schedule = OneCycle(made([first, second]))
    schedule.plan(10)
    made.check(schedule.optimizer)
    for _ in range(10):
        high, low = (group["lr"] for group in schedule.optimizer.param_groups)
        assert low == pytest.approx(high / 10)
        schedule.optimizer.step()
        schedule.step()


def test_after_the_planned_end_the_last_rate_stays() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    for schedule, last in ((OneCycle(sgd, final=0.3), 0.03), (WarmupCosine(optimizer(), final=0.3), 0.06)):
        schedule.plan(4)
        for _ in range(7):
            schedule.optimizer.step()
            schedule.step()
        assert float(schedule.get_last_lr()[0]) == pytest.approx(last)
    assert sgd.param_groups[0]["momentum"] == pytest.approx(0.95)


def test_a_schedule_that_sets_rates_of_its_own_is_refused_beside_shares() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def made(share: float) -> tuple[ScaledRates, torch.optim.Optimizer]:
        scaled = ScaledRates(lambda groups: torch.optim.SGD(groups, lr=0.2, momentum=0.9), {second: share})
        return scaled, scaled([first, second])

    scaled, built = made(0.1)
    torch.optim.lr_scheduler.OneCycleLR(built, max_lr=0.5, total_steps=10)
    with pytest.raises(ConfigError, match="sets the learning rates itself"):
        scaled.check(built)
    scaled, built = made(1.0)
    torch.optim.lr_scheduler.OneCycleLR(built, max_lr=0.5, total_steps=10)
    scaled.check(built)  # nothing is lost
    scaled, built = made(0.1)
    torch.optim.lr_scheduler.LinearLR(built, 0.5)
    scaled.check(built)
    assert [group["lr"] for group in built.param_groups] == pytest.approx([0.1, 0.01])
    assert [group["lr_factor"] for group in built.param_groups] == [1.0, 0.1]


def test_a_rate_of_zero_has_no_share_to_lose() -> None:
    weight = nn.Parameter(torch.zeros(2))
    scaled = ScaledRates(lambda groups: torch.optim.SGD(groups, lr=0.0), {weight: 0.1})
    scaled.check(scaled([weight, nn.Parameter(torch.zeros(2))]))


def test_groups_are_split_by_share_and_keep_their_own_options() -> None:
    decayed, plain = ([nn.Parameter(torch.zeros(1)) for _ in range(2)] for _ in range(2))
    scaled = ScaledRates(
        lambda groups: torch.optim.SGD(groups, lr=0.2, weight_decay=0.1), {decayed[0]: 0.5, plain[1]: 0.5}
    )
    made = scaled([{"params": decayed}, {"params": plain, "weight_decay": 0.0}])
    assert [(group["params"], group["lr"], group["weight_decay"]) for group in made.param_groups] == [
        *(([decayed[1]], 0.2, 0.1), ([decayed[0]], 0.1, 0.1)),
        *(([plain[0]], 0.2, 0.0), ([plain[1]], 0.1, 0.0)),
    ]


@pytest.mark.parametrize(("rate", "share"), [(5e-4, 0.1), (0.2, 0.99)])
def test_shares_that_are_lost_are_told_however_small_the_rate_or_the_difference(rate: float, share: float) -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    scaled = ScaledRates(lambda groups: torch.optim.SGD(groups, lr=rate, momentum=0.9), {second: share})
    built = scaled([first, second])
    torch.optim.lr_scheduler.LambdaLR(built, [lambda epoch: 1.0, lambda epoch: 0.5])  # each group by a rule of its own
    scaled.check(built)
    torch.optim.lr_scheduler.OneCycleLR(built, max_lr=rate, total_steps=10)
    with pytest.raises(ConfigError, match="sets the learning rates itself"):
        scaled.check(built)
