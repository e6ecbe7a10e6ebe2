"""How a study searches, and which trials it cuts off: what optuna is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from fer_lightning.studies.tune.study import _pruner, _StudyRun


def sampler_of(kind: str, seed: int, number: int) -> Any:
    study: Any = SimpleNamespace(options=SimpleNamespace(seed=seed, sampler=kind), grid=[])
    return _StudyRun._sampler(study, number)


def proposed(sampler: optuna.samplers.BaseSampler) -> list[float]:
    """Return what a sampler proposes as first, which is random for every kind."""
    trial = optuna.create_study(sampler=sampler).ask()
    return [trial.suggest_float(name, 0, 1) for name in "ab"]


def test_settings_are_proposed_together_and_with_a_look_at_running_trials() -> None:
    sampler = sampler_of("tpe", 0, 3)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._multivariate
    assert sampler._constant_liar
    assert type(sampler_of("random", 0, 3)) is optuna.samplers.RandomSampler


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_proposals_belong_to_seed_and_trial(kind: str) -> None:
    assert proposed(sampler_of(kind, 1, 2)) == proposed(sampler_of(kind, 1, 2))
    draws = {tuple(proposed(sampler_of(kind, seed, number))) for seed in (1, 2) for number in (1, 2)}
    assert len(draws) == 4


@pytest.mark.parametrize("warmup", [0, 3])
def test_trials_are_cut_off_after_the_warm_up_and_five_others(warmup: int) -> None:
    options: Any = SimpleNamespace(pruner="median", warmup=warmup)
    study = optuna.create_study(direction="maximize", pruner=_pruner(options, 10))
    for _ in range(5):
        good = study.ask()
        for epoch in range(8):
            good.report(0.9, epoch)
        study.tell(good, 0.9)
    bad = study.ask()
    cut = []
    for epoch in range(8):
        bad.report(0.1, epoch)
        cut.append(bad.should_prune())
    assert cut.index(True) == warmup
    few = optuna.create_study(direction="maximize", pruner=_pruner(options, 10))
    for value in (0.9, 0.9, 0.9, 0.9, 0.1):
        trial = few.ask()
        trial.report(value, 5)
        assert not trial.should_prune()
        few.tell(trial, value)


def test_other_ways_of_cutting_off() -> None:
    hyperband: Any = _pruner(SimpleNamespace(pruner="hyperband", warmup=2), 27)  # type: ignore[arg-type]  # two options
    assert (hyperband._min_resource, hyperband._max_resource, hyperband._reduction_factor) == (2, 27, 3)
    assert _pruner(SimpleNamespace(pruner="hyperband", warmup=0), 9)._min_resource == 1  # type: ignore[arg-type, attr-defined]
    assert isinstance(_pruner(SimpleNamespace(pruner="none", warmup=0), 9), optuna.pruners.NopPruner)  # type: ignore[arg-type]
