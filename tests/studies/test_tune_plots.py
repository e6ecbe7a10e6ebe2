from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.figures import figure_png
from fer_lightning.studies.tune.plots import TrialRow, history_figure, importance_figure, slice_figure

VALUES = [0.3, 0.5, None, 0.4, 0.6]
STATES = ["complete", "complete", "failed", "pruned", "complete"]
ROWS = [
    TrialRow(number, state, value, 0, 1, {"lr": 10.0**-number, "batch": 2**number, "optimizer": "Adam", "flip": True})
    for number, (state, value) in enumerate(zip(STATES, VALUES, strict=True))
]


def test_the_best_so_far_only_gets_better() -> None:
    steps = {}
    for mode in ("max", "min"):
        axes = history_figure(ROWS, "val_acc", mode, "study").axes[0]
        line = next(line for line in axes.lines if str(line.get_label()).startswith("best so far"))
        steps[mode] = list(line.get_ydata())  # type: ignore[arg-type]  # an array
    assert steps == {"max": [0.3, 0.5, 0.6, 0.6], "min": [0.3, 0.3, 0.3, 0.3]}


def test_each_kind_of_trial_is_in_the_history() -> None:
    axes = history_figure(ROWS, "val_acc", "max", "study").axes[0]
    drawn = {str(line.get_label()): list(line.get_xdata()) for line in axes.lines}  # type: ignore[arg-type]  # an array
    assert drawn["complete"] == [0, 1, 4]
    assert drawn["pruned: best until then"] == [3]
    assert drawn["failed"] == [2]


def test_a_slice_has_a_panel_for_each_setting_and_marks_the_best() -> None:
    figure = slice_figure(ROWS, ["lr", "batch", "optimizer", "flip"], {"lr"}, "val_acc", "max", "study")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_xlabel() for axes in panels] == ["lr", "batch", "optimizer", "flip"]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear", "linear"]
    best = [line for line in panels[1].lines if line.get_label() == "best, trial 4"]
    assert [list(line.get_xdata()) for line in best] == [[16]]  # type: ignore[arg-type]  # an array


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[2:3], [TrialRow(0, "running", 0.1, 0, 1, {})]])
def test_pictures_of_any_study_can_be_written(rows: list[TrialRow]) -> None:
    for figure in (
        history_figure(rows, "val_acc", "max", "study"),
        slice_figure(rows, ["lr", "optimizer"], {"lr"}, "val_acc", "max", "study"),
    ):
        assert figure_png(figure).startswith(b"\x89PNG")


def test_few_trials_are_doubted() -> None:
    def told(trials: int) -> str:
        return " ".join(
            text.get_text() for text in importance_figure({"lr": 0.9, "b": 0.1}, "m", trials, "s").axes[0].texts
        )

    assert "a hint at best" in told(12)
    assert "a hint at best" not in told(80)
    bars = importance_figure({"a": 0.1, "lr": 0.9}, "m", 80, "s").axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.1, 0.9]  # type: ignore[attr-defined]  # rectangles


def test_trials_stand_at_their_settings_and_choices_in_the_order_of_their_names() -> None:
    given = [("sgd", 0.1, 0.3), ("adam", 0.001, 0.5), ("sgd", 0.01, 0.4), ("adam", 0.1, 0.2)]
    rows = [
        TrialRow(number, "pruned" if number == 3 else "complete", value, 0, 1, {"optimizer": name, "lr": lr})
        for number, (name, lr, value) in enumerate(given)
    ]
    figure = slice_figure(rows, ["optimizer", "lr"], {"lr"}, "val_loss", "min", "study")
    choices, rates = figure.axes
    for axes, places in ((choices, [1.0, 0.0, 1.0]), (rates, [0.1, 0.001, 0.01])):
        full, ring, best = axes.lines
        assert np.stack(full.get_data(), 1).tolist() == [
            list(pair) for pair in zip(places, (0.3, 0.5, 0.4), strict=True)
        ]
        assert list(best.get_data()) == [[places[0]], [0.3]]
        assert ring.get_label() == "pruned: best until then"
        assert best.get_label() == "best, trial 0"
    assert [label.get_text() for label in choices.get_xticklabels()] == ["adam", "sgd"]
    assert (choices.get_ylabel(), rates.get_ylabel()) == ("val_loss", "")
    assert rates.xaxis.get_major_formatter()(0.001, 0) == "0.001"
    assert rates.xaxis.get_major_formatter()(1e-5, 0) == "1e-5"


def test_the_most_important_setting_is_on_top() -> None:
    [axes] = importance_figure({"b": 0.3, "lr": 0.55, "a": 0.15}, "m", 33, "s").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "lr"]
    assert {"15%", "30%", "55%"} <= {text.get_text() for text in axes.texts}
    assert "importance for m (fANOVA), 33 trials" in " ".join(text.get_text() for text in axes.texts)
