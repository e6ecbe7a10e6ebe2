"""What a table of trials says of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from fer_lightning.studies.tune import results as tune_results
from fer_lightning.studies.tune.options import TuneOptions
from fer_lightning.studies.tune.plots import TrialRow
from fer_lightning.studies.tune.results import Results, best_first, rows_of, trial_line, trials_csv
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


OPTIONS = TuneOptions(
    Path("space.yaml"), 7, None, "mysql://me:secret@host/db", "val_acc", "max", "random", "none", 3, 11, None
)


def finished_study(trials: int) -> optuna.Study:
    """Return a study whose trials get better and then worse again, with one that was pruned and one that failed."""
    study = optuna.create_study(study_name="faces_tune", direction="maximize")
    lr, batch = FloatDistribution(0, 1), IntDistribution(1, 99)
    states = [TrialState.PRUNED, TrialState.FAIL, *[TrialState.COMPLETE] * trials]
    for number, state in enumerate(states):
        value = 0.9 - abs(number - 4) / 10
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else None,
                params={"model.optimizer.init_args.lr": number / 20, "data.batch_size": 10 + number},
                distributions={"model.optimizer.init_args.lr": lr, "data.batch_size": batch},
                user_attrs={"seconds": 75.0, "run": f"runs/trial_{number}"},
                intermediate_values={} if state == TrialState.FAIL else {0: 0.1, 1: 0.0, 2: value, 3: 0.2},
            )
        )
    return study


TWO = {**SPACE, "data.batch_size": Parameter("data.batch_size", 1, 99)}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Results]:
    monkeypatch.setattr(tune_results, "figure_png", lambda _: b"")
    monkeypatch.setattr(tune_results, "best_config", lambda *given: f"{given}\n")
    return lambda trials: Results(finished_study(trials), TWO, ["--data=x", "--name=a b"], OPTIONS, tmp_path)


def test_the_summary_of_a_study_is_that_of_its_best_trial(results: Callable[[int], Results], tmp_path: Path) -> None:
    results(5).write()
    summary = json.loads((tmp_path / "study.json").read_text())
    expected = {
        "schema": 1, "study": "faces_tune", "storage": "mysql://me:***@host/db", "metric": "val_acc", "mode": "max",
        "sampler": "random", "pruner": "none", "seed": 11, "arguments": "--data=x '--name=a b'", "minutes": 8.75,
        "space": {key: parameter.described() for key, parameter in TWO.items()},
        "trials": {"complete": 5, "pruned": 1, "failed": 1, "running": 0, "waiting": 0},
        "best": {
            "number": 4, "value": 0.9, "epoch": 2, "run": "runs/trial_4",
            "parameters": {"model.optimizer.init_args.lr": 0.2, "data.batch_size": 14},
        },
        "importance": {},
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    head, text = (tmp_path / "best.yaml").read_text().splitlines()
    assert head == (
        f"# Trial 4 of the study faces_tune: val_acc 0.9000 in epoch 2. Use: fer fit --config {tmp_path / 'best.yaml'}"
    )
    params = {"model.optimizer.init_args.lr": 0.2, "data.batch_size": 14}
    assert text == f"{(['--data=x', '--name=a b'], params, 'faces_tune_best', 'val_acc', 'max')}"


def test_the_best_config_follows_the_best_trial(results: Callable[[int], Results], tmp_path: Path) -> None:
    made = results(1)
    made.write()
    assert "Trial 2 of" in (tmp_path / "best.yaml").read_text()
    made.study.add_trial(finished_study(3).get_trials()[4])
    made.write()
    assert "Trial 3 of" in (tmp_path / "best.yaml").read_text()


def test_the_table_names_the_best_five_and_what_to_type(results: Callable[[int], Results], tmp_path: Path) -> None:
    made = results(7)
    made.write(last=True)
    lines = [" ".join(line.split()) for line in made.table().strip().splitlines()]
    assert lines == [
        "Best trials of faces_tune",
        "",
        "trial val_acc epoch lr batch_size",
        "4 0.9000 2 0.2 14",
        "3 0.8000 2 0.15 13",
        "5 0.8000 2 0.25 15",
        "2 0.7000 2 0.1 12",
        "6 0.7000 2 0.3 16",
        "",
        f"results {tmp_path / 'trials.csv'}, history.png, slice.png",
        "best run runs/trial_4",
        f"train again fer fit --config {tmp_path / 'best.yaml'}",
    ]


def test_importance_needs_ten_complete_trials_that_differ(results: Callable[[int], Results], tmp_path: Path) -> None:
    results(9).write(last=True)
    assert json.loads((tmp_path / "study.json").read_text())["importance"] == {}
    assert not (tmp_path / "importance.png").exists()
    made = results(10)
    made.write(last=True)
    importance = json.loads((tmp_path / "study.json").read_text())["importance"]
    assert set(importance) == set(TWO)
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)
    made.space = SPACE  # of one setting alone there is nothing to say
    assert made._importance(rows_of(made.study)) == {}


def test_pictures_show_all_trials_under_short_names_and_are_drawn_twice_a_minute(
    results: Callable[[int], Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tune_results, "slice_figure", lambda *what: given.append(what))
    made = results(3)
    made.space = {**TWO, "model.optimizer.init_args.lr": Parameter("", 0.0, 1.0, log=True)}
    made.write()
    assert not given
    made._drawn -= 31
    made.write()
    made.write()
    [(rows, labels, logs, metric, mode, title)] = given
    assert rows[0].params == {"lr": 0.0, "batch_size": 10}
    assert len(rows) == 5
    assert (labels, logs, metric, mode, title) == (["lr", "batch_size"], {"lr"}, "val_acc", "max", "faces_tune")


def test_only_complete_trials_are_ranked() -> None:
    rows = [TrialRow(n, state, 0.9 - n / 10, 0, 1, {}) for n, state in enumerate(("pruned", "running", "complete"))]
    assert [row.number for row in best_first(rows, "max")] == [2]


def test_values_are_shown_short() -> None:
    shown = {0.123456: "0.1235", 1e-05: "1e-05", 64: "64", "torch.optim.AdamW": "AdamW", "fer_a": "fer_a", None: "None"}
    assert {value: tune_results._short(value) for value in shown} == shown
    described = '{"class_path": "a.b.SGD", "init_args": {"momentum": 0.9, "nesterov": true}}'
    assert tune_results._short(described) == "SGD(momentum=0.9, nesterov=True)"
    pruned = TrialRow(5, "pruned", 0.25, 1, 4, {})
    assert trial_line(pruned, "val_acc", {}) == "trial 5  val_acc 0.2500 in epoch 1  pruned after 4 epochs  0.0 min"
