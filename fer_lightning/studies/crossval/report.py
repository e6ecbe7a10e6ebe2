"""The files of a comparison of arms: numbers (JSON, CSV), a page and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fer_lightning import __version__
from fer_lightning.evaluation.spread import Spread
from fer_lightning.figures import figure_png, figure_svg
from fer_lightning.files import csv_text, json_text, write_atomically
from fer_lightning.studies.crossval.arms import verdict
from fer_lightning.studies.crossval.comparison import Comparison, notes_on
from fer_lightning.studies.crossval.page import page_html
from fer_lightning.studies.crossval.plots import gains_figure, runs_figure
from fer_lightning.studies.crossval.run_result import SCORES, TRAINED, TUNED, RunResult

__all__ = ["SCHEMA", "write_comparison"]

SCHEMA = 1
"""Version of the layout of ``crossval.json``; it rises when a key changes its meaning or goes."""


def write_comparison(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write ``crossval.json``, ``crossval.csv``, ``runs.csv``, ``crossval.html`` and the pictures; return their paths.

    The folder is made if it is missing. Files of an earlier report are replaced.
    """
    notes, split = notes_on(comparison), comparison.main_split
    by_score = {SCORES[score]: score for score in ("f1_macro", "accuracy")}
    kind = "95% interval over folds" if comparison.folds is not None else "95% interval over seeds"
    values = {
        title: {arm: comparison.values(split, TRAINED, score, arm) for arm in comparison.arms}
        for title, score in by_score.items()
    }
    spreads = {title: comparison.scores[split][TRAINED][score] for title, score in by_score.items()}
    several = len(comparison.runs) > len(comparison.arms)
    shown = f"{split} images; dots: runs, diamonds: means" + (f" with {kind}" if several else "")
    runs = runs_figure(values, spreads, comparison.name, shown)
    figures = {"scores": (runs, "Each run, the mean of each arm and its interval.")}
    if len(comparison.arms) > 1:
        found = comparison.differences[split][TRAINED]
        gains = {
            arm: {name: found[f"recall_{name}"][arm] for name in comparison.class_names} for arm in comparison.arms[1:]
        }
        figure = gains_figure(gains, comparison.class_names, comparison.arms[0], comparison.name, f"{split} images")
        figures["gains"] = figure, "What each arm gained and lost in the recall of each class."
    drawings = {stem: (figure_svg(figure, shows), shows) for stem, (figure, shows) in figures.items()}
    return {
        "json": write_atomically(folder / "crossval.json", _json(comparison, notes)),
        "csv": write_atomically(folder / "crossval.csv", _scores_csv(comparison)),
        "runs": write_atomically(folder / "runs.csv", _runs_csv(comparison)),
        **{stem: write_atomically(folder / f"{stem}.png", figure_png(figure)) for stem, (figure, _) in figures.items()},
        "page": write_atomically(folder / "crossval.html", page_html(comparison, notes, drawings)),
    }


def _json(comparison: Comparison, notes: Sequence[str]) -> str:
    values = {
        "schema": SCHEMA,
        "fer_lightning": __version__,
        "name": comparison.name,
        "arms": comparison.arms,
        "reference": comparison.arms[0],
        "folds": comparison.folds,
        "seeds": comparison.seeds,
        "class_names": comparison.class_names,
        "splits": comparison.splits,
        "settings": comparison.settings,
        "verdict": verdict(comparison),
        "notes": notes,
        "scores": _plain(comparison.scores),
        "differences": _plain(comparison.differences),
        "missing": [dict(zip(("arm", "fold", "seed"), key, strict=True)) for key in comparison.missing],
        "runs": [_run(run) for run in comparison.runs],
    }
    return json_text(values)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) if isinstance(value, Spread) else _plain(value) for name, value in values.items()}


def _run(run: RunResult) -> dict[str, Any]:
    values = {name: value for name, value in vars(run).items() if name not in ("key", "class_names", "folder")}
    return {**values, "fold": run.key[0], "seed": run.key[1], "folder": str(run.folder)}


def _scores_csv(comparison: Comparison) -> str:
    header = [
        "split", "decision", "score", "arm", "runs", "mean", "std", "low", "high",
        "difference", "difference_low", "difference_high", "p", "above", "below",
    ]  # fmt: skip
    rows = []
    for split, decisions in comparison.scores.items():
        for decision, scores in decisions.items():
            for score, by_arm in scores.items():
                for arm, found in by_arm.items():
                    gain = comparison.differences[split][decision][score].get(arm)
                    numbers = [found.mean, found.std, found.low, found.high]
                    paired = [None] * 4 if gain is None else [gain.mean, gain.low, gain.high, gain.p]
                    pairs = ["", ""] if gain is None else [gain.above, gain.below]
                    rows.append(
                        [split, decision, score, arm, found.runs, *map(_number, numbers), *map(_number, paired), *pairs]
                    )
    return csv_text(header, rows)


def _runs_csv(comparison: Comparison) -> str:
    scores = [*SCORES, *(f"{kind}_{name}" for kind in ("recall", "f1") for name in comparison.class_names)]
    header = ["arm", "fold", "seed", "split", "decision", "tau", *scores]
    header += ["images", "epochs", "best_epoch", "images_drawn", "seconds", "fingerprint", "folder"]
    rows = []
    for run in comparison.runs:
        for split, decisions in run.scores.items():
            for decision, found in decisions.items():
                tau = " ".join(f"{value:g}" for value in run.taus[split]) if decision == TUNED else ""
                cost = [run.counts.get(split), run.epochs, run.best_epoch, run.images]
                rows.append([
                    run.arm, *run.key, split, decision, tau, *(_number(found.get(score)) for score in scores),
                    *("" if value is None else value for value in cost),
                    "" if run.wall_s is None else f"{run.wall_s:.1f}", run.fingerprints.get(split, ""), run.folder,
                ])  # fmt: skip
    return csv_text(header, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
