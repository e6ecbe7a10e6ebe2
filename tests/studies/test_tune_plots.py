from __future__ import annotations

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
