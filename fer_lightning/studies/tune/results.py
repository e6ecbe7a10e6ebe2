"""The files of a study: a table of its trials, a config of the best one, a summary and pictures."""

from __future__ import annotations

import json
import math
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from fer_lightning.figures import figure_png
from fer_lightning.files import csv_text, json_text, write_atomically
from fer_lightning.studies.tune.config import best_config
from fer_lightning.studies.tune.options import TuneOptions
from fer_lightning.studies.tune.plots import TrialRow, history_figure, importance_figure, slice_figure
from fer_lightning.studies.tune.search_space import SearchSpace, tidy
from fer_lightning.studies.tune.storage import shown
from fer_lightning.text import table_lines

__all__ = ["Results", "best_first", "counted", "rows_of", "trial_line", "trials_csv"]

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

PICTURE_SECONDS = 30.0
"""Pictures are drawn at most so often, as a study may have many short trials."""
LEAST_TRIALS = 10
"""With fewer complete trials, importance is not computed: every setting would seem to have some."""


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials without the surplus ones, which another process had begun before the number was reached."""
    return [trial for trial in trials if not trial.user_attrs.get("surplus")]


def rows_of(study: optuna.Study) -> list[TrialRow]:
    """Return what is known of each trial but the surplus ones, by number; values that are not finite are left out."""
    better = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min
    rows = []
    for trial in counted(study.get_trials(deepcopy=False)):
        reached = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
        best = better(reached.values()) if reached else None
        best_epoch = next((epoch for epoch, value in sorted(reached.items()) if value == best), None)
        params, epochs = {key: tidy(value) for key, value in trial.params.items()}, len(trial.intermediate_values)
        stored = trial.user_attrs
        ended = stored.get("seconds", 0.0) / 60, stored.get("run", ""), stored.get("message", "")
        rows.append(TrialRow(trial.number, STATES[trial.state], best, best_epoch, epochs, params, *ended))
    return rows


def best_first(rows: Sequence[TrialRow], mode: str) -> list[TrialRow]:
    """Return the complete trials, the best first; of equal ones the older first."""
    done = [row for row in rows if row.state == "complete" and row.value is not None]
    sign = -1 if mode == "max" else 1
    return sorted(done, key=lambda row: (sign * (row.value or 0.0), row.number))


def trials_csv(rows: Sequence[TrialRow], space: SearchSpace) -> str:
    """Return the table of all trials as CSV; ``value`` is the best of a trial's epochs, counted from 0."""
    header = ("number", "state", "value", "best_epoch", "epochs", *space, "minutes", "run", "message")
    return csv_text(
        header,
        (
            (
                *(row.number, row.state, "" if row.value is None else f"{row.value:.6g}"),
                *("" if row.best_epoch is None else row.best_epoch, row.epochs),
                *(row.params.get(key, "") for key in space),
                *(f"{row.minutes:.2f}", row.run, row.message),
            )
            for row in rows
        ),
    )


def trial_line(row: TrialRow, metric: str, space: SearchSpace) -> str:
    """Return the line that is printed when a trial has ended."""
    value = "" if row.value is None else f"{metric} {row.value:.4f} in epoch {row.best_epoch}"
    end = {"failed": f"failed: {row.message}", "pruned": f"pruned after {row.epochs} epochs"}.get(row.state, "")
    settings = ", ".join(f"{short_key(key, space)} {_short(row.params.get(key))}" for key in space)
    return "  ".join(part for part in (f"trial {row.number}", value, end, settings, f"{row.minutes:.1f} min") if part)


def short_key(key: str, space: SearchSpace) -> str:
    """Return the shortest end of a key that no other key of the space has."""
    parts = [part for part in key.split(".") if part != "init_args"]
    others = [[part for part in other.split(".") if part != "init_args"] for other in space if other != key]
    for length in range(1, len(parts)):
        if not any(other[-length:] == parts[-length:] for other in others):
            return ".".join(parts[-length:])
    return ".".join(parts)


def _short(value: Any) -> str:
    """Return a value for tables and pictures: four digits, and classes without their module."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, str):
        return str(value)
    try:
        described = json.loads(value)
        path, arguments = described["class_path"], described.get("init_args", {})
    except (ValueError, TypeError, KeyError, AttributeError):
        return value.rpartition(".")[2] if re.fullmatch(r"[a-z_]\w*(\.\w+)*\.[A-Z]\w*", value) else value
    return f"{path.rpartition('.')[2]}({', '.join(f'{key}={one}' for key, one in arguments.items())})"


class Results:
    """Writes the results of a study into its folder."""

    def __init__(
        self, study: optuna.Study, space: SearchSpace, of_fit: Sequence[str], options: TuneOptions, folder: Path
    ) -> None:
        self.study = study
        self.space = space
        self.of_fit = of_fit
        self.options = options
        self.folder = folder
        self._best: int | None = None
        self._drawn = time.monotonic()

    def write(self, last: bool = False) -> None:
        """Write all files anew; the pictures only every half minute, and when ``last`` is set."""
        rows = rows_of(self.study)
        write_atomically(self.folder / "trials.csv", trials_csv(rows, self.space))
        ranked = best_first(rows, self.options.mode)
        importance = self._importance(rows)
        if ranked and ranked[0].number != self._best:
            self._best = ranked[0].number
            write_atomically(self.folder / "best.yaml", self._best_yaml(ranked[0]))
        write_atomically(self.folder / "study.json", json_text(self._summary(rows, ranked, importance)))
        if last or time.monotonic() - self._drawn > PICTURE_SECONDS:
            self._draw(rows, importance)
            self._drawn = time.monotonic()

    def _best_yaml(self, best: TrialRow) -> str:
        options, name = self.options, f"{self.study.study_name}_best"
        text = best_config(self.of_fit, best.params, name, options.metric, options.mode)
        return (
            f"# Trial {best.number} of the study {self.study.study_name}: {options.metric} {best.value:.4f} "
            f"in epoch {best.best_epoch}. Use: fer fit --config {self.folder / 'best.yaml'}\n{text}"
        )

    def _importance(self, rows: Sequence[TrialRow]) -> dict[str, float]:
        """Return the importance of each parameter, the largest first; nothing where the trials are too few or alike."""
        values = [row.value for row in rows if row.state == "complete"]
        if len(values) < LEAST_TRIALS or len(set(values)) < 2 or len(self.space) < 2:
            return {}
        try:
            return dict(get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0)))
        except (ValueError, RuntimeError):  # too few trials, or all of one setting
            return {}

    def _summary(
        self, rows: Sequence[TrialRow], ranked: Sequence[TrialRow], importance: dict[str, float]
    ) -> dict[str, Any]:
        options = self.options
        best = ranked[0] if ranked else None
        return {
            "schema": 1,
            "study": self.study.study_name,
            "storage": shown(options.storage or str(self.folder / "study.log")),
            "metric": options.metric,
            "mode": options.mode,
            "sampler": options.sampler,
            "pruner": options.pruner,
            "seed": options.seed,
            "optuna": optuna.__version__,
            "arguments": shlex.join(self.of_fit),
            "space": {key: parameter.described() for key, parameter in self.space.items()},
            "trials": {state: sum(row.state == state for row in rows) for state in dict.fromkeys(STATES.values())},
            "minutes": round(sum(row.minutes for row in rows), 2),
            "best": None
            if best is None
            else {
                "number": best.number,
                "value": best.value,
                "epoch": best.best_epoch,
                "parameters": best.params,
                "run": best.run,
            },
            "importance": {key: round(share, 4) for key, share in importance.items()},
        }

    def _draw(self, rows: Sequence[TrialRow], importance: dict[str, float]) -> None:
        options, name = self.options, self.study.study_name
        labels = {key: short_key(key, self.space) for key in self.space}
        logs = {labels[key] for key, parameter in self.space.items() if parameter.log}
        named = [replace(row, params=self._shown(row.params, labels)) for row in rows]
        if not any(row.value is not None for row in named):
            return
        figures = {
            "history": history_figure(named, options.metric, options.mode, name),
            "slice": slice_figure(named, list(labels.values()), logs, options.metric, options.mode, name),
        }
        if importance:
            done = sum(row.state == "complete" for row in rows)
            shares = {labels[key]: share for key, share in importance.items()}
            figures["importance"] = importance_figure(shares, options.metric, done, name)
        for kind, figure in figures.items():
            write_atomically(self.folder / f"{kind}.png", figure_png(figure))

    @staticmethod
    def _shown(params: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
        known = {labels[key]: value for key, value in params.items() if key in labels}
        return {label: _short(value) if isinstance(value, str) else value for label, value in known.items()}

    def table(self, count: int = 5) -> str:
        """Return the best trials as text, with the paths of the results."""
        ranked = best_first(rows_of(self.study), self.options.mode)[:count]
        labels = [short_key(key, self.space) for key in self.space]
        lines = [("trial", self.options.metric, "epoch", *labels)]
        for row in ranked:
            value = "" if row.value is None else f"{row.value:.4f}"
            settings = (_short(row.params[key]) for key in self.space)
            lines.append((str(row.number), value, str(row.best_epoch), *settings))
        text = "\n".join(table_lines(lines, left=()))
        if not ranked:
            return f"results      {self.folder / 'trials.csv'}"
        pictures = ", ".join(path.name for path in sorted(self.folder.glob("*.png")))
        return (
            f"\nBest trials of {self.study.study_name}\n\n{text}\n\n"
            f"results      {self.folder / 'trials.csv'}, {pictures}\n"
            f"best run     {ranked[0].run}\n"
            f"train again  fer fit --config {self.folder / 'best.yaml'}"
        )
