"""What a table of trials says of them."""

from __future__ import annotations

import csv
import io
import math
from typing import Any, Literal

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from fer_lightning.studies.tune.results import best_first, rows_of, trial_line, trials_csv
from fer_lightning.studies.tune.search_space import Parameter

Direction = Literal["maximize", "minimize"]
SPACE = {"model.optimizer.init_args.lr": Parameter("model.optimizer.init_args.lr", 0.0, 1.0)}


def study_of(direction: Direction) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for lr, values, told in (
        (0.1 + 0.2, [math.nan, 0.2, 0.5, 0.5, 0.4], {"seconds": 90.0, "run": "runs/a"}),
        (0.5, [0.6, 0.1], {"seconds": 30.0}),
        (0.6, [0.9], {"surplus": True}),
        (0.7, [], {"message": "boom"}),
    ):
        trial: Any = create_trial(
            state=TrialState.COMPLETE if values else TrialState.FAIL, value=1.0 if values else None,
            params={"model.optimizer.init_args.lr": lr}, user_attrs=told, intermediate_values=dict(enumerate(values)),
            distributions={"model.optimizer.init_args.lr": FloatDistribution(0, 1)},
        )  # fmt: skip
        study.add_trial(trial)
    return study


@pytest.mark.parametrize(
    ("direction", "best"), [("maximize", [(0.5, 2), (0.6, 0)]), ("minimize", [(0.2, 1), (0.1, 1)])]
)
def test_a_trial_is_worth_the_best_of_its_epochs_and_the_first_of_equal_ones(
    direction: Direction, best: list[tuple[float, int]]
) -> None:
    rows = rows_of(study_of(direction))
    assert [(row.value, row.best_epoch) for row in rows] == [*best, (None, None)]
    assert [row.number for row in rows] == [0, 1, 3]  # the surplus one is left out
    assert [row.epochs for row in rows] == [5, 2, 0]
    assert [row.minutes for row in rows] == [1.5, 0.5, 0.0]
    assert rows[0].params == {"model.optimizer.init_args.lr": 0.3}  # without the digits of a sum
    ranked = best_first(rows, "max" if direction == "maximize" else "min")
    assert [row.number for row in ranked] == [1, 0]


def test_a_table_and_a_line_say_what_the_rows_hold() -> None:
    rows = rows_of(study_of("maximize"))
    read = list(csv.DictReader(io.StringIO(trials_csv(rows, SPACE))))
    assert [(row["number"], row["state"], row["value"], row["best_epoch"], row["minutes"]) for row in read] == [
        ("0", "complete", "0.5", "2", "1.50"), ("1", "complete", "0.6", "0", "0.50"), ("3", "failed", "", "", "0.00"),
    ]  # fmt: skip
    assert trial_line(rows[0], "val_acc", SPACE) == "trial 0  val_acc 0.5000 in epoch 2  lr 0.3  1.5 min"
    assert trial_line(rows[2], "val_acc", SPACE) == "trial 3  failed: boom  lr 0.7  0.0 min"
