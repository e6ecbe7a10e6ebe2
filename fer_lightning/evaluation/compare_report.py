"""The report of a comparison: a verdict in a sentence, tables, two pictures, one page and the numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fer_lightning.figures import COLORS, FAINT, INK, figure_png, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.pages import render
from fer_lightning.text import table_lines

__all__ = ["comparison_lines", "verdict", "write_comparison"]

_LEVEL = 0.05
_TITLES = {"accuracy": "accuracy", "f1_macro": "macro F1"}
_WIDTH = "95 % interval"


def verdict(found: Mapping[str, Any]) -> str:
    """Return in a sentence which models differ: those whose corrected p value is below 0.05."""
    sure = [pair for pair in found["pairs"] if pair["p_holm"] < _LEVEL and pair["accuracy"]["value"]]
    if not sure:
        return "No two of them differ in accuracy by more than chance makes on these images."
    parts = []
    for pair in sure:
        better, worse = (pair["second"], pair["first"])[:: 1 if pair["accuracy"]["value"] > 0 else -1]
        low, high = sorted(abs(pair["accuracy"][end]) for end in ("low", "high"))
        points = (
            f"{100 * abs(pair['accuracy']['value']):.1f} points (95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )
        parts.append(f"{better} is more accurate than {worse} by {points}")
    return "; ".join(parts) + "."


def _model_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("model", "accuracy", "95 % interval", "macro F1", "95 % interval", "ECE", "NLL", "Brier")
    ]
    for model in found["models"]:
        cells = []
        for score in _TITLES:
            value = model[score]
            cells += [f"{value['value']:.2%}", f"{value['low']:.2%} to {value['high']:.2%}"]
        rows.append((model["name"], *cells, f"{model['ece']:.2%}", f"{model['nll']:.3f}", f"{model['brier']:.3f}"))
    return rows


def _pair_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            "second minus first",
            "accuracy",
            "95 % interval",
            "macro F1",
            "95 % interval",
            "only first",
            "only second",
            "p",
            "p, Holm",
        )
    ]
    for pair in found["pairs"]:
        cells = []
        for score in _TITLES:
            value = pair[score]
            cells += [_points(value["value"]), f"{_points(value['low'])} to {_points(value['high'])}"]
        counts = (f"{pair['first_only']:,}", f"{pair['second_only']:,}")
        rows.append((f"{pair['second']} - {pair['first']}", *cells, *counts, _p(pair["p"]), _p(pair["p_holm"])))
    return rows


def _class_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("model", "class", "images", "recall, points", "p", "p, Holm")]
    for entry in found["classes"]:
        change = "n/a" if entry["recall"] is None else _points(entry["recall"])
        rows.append(
            (entry["model"], entry["class"], f"{entry['images']:,}", change, _p(entry["p"]), _p(entry["p_holm"]))
        )
    return rows


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the comparison as lines of a terminal; differences are in points."""
    return [*table_lines(_model_rows(found)), "", *table_lines(_pair_rows(found)), "", verdict(found)]


def write_comparison(found: Mapping[str, Any], folder: Path, notes: Sequence[str] = ()) -> Path:
    """Write a comparison (of :func:`.comparison`) as page, pictures and ``compare.json``; return the page.

    Raises:
        OSError: if it cannot be written.
    """
    figures = {
        "differences.png": (_difference_figure(found), "second minus first, with 95 % intervals over the test images"),
        "classes.png": (_class_figure(found), f"recall of each class minus that of {found['models'][0]['name']}"),
    }
    for file, (figure, _) in figures.items():
        write_atomically(folder / file, figure_png(figure))
    write_atomically(folder / "compare.json", json_text({**found, "verdict": verdict(found), "notes": list(notes)}))
    images = f"{found['images']:,} images of {found['split'] or 'a split'}, {found['distinct']:,} of them distinct"
    shown = [(file, shows) for file, (_, shows) in figures.items()]
    page = render(
        "compare.html",
        sections={"verdict": "Verdict", "differences": "Differences", "classes": "What each class gained and lost"},
        title=" against ".join(model["name"] for model in found["models"]),
        about=f"{images}. Intervals are over test images, not over trainings: fer crossval compares those.",
        verdict=verdict(found),
        notes=list(notes),
        models=_model_rows(found),
        pairs=_pair_rows(found),
        classes=_class_rows(found),
        figures=shown,
        draws=found["draws"],
    )
    return write_atomically(folder / "index.html", page)


def _difference_figure(found: Mapping[str, Any]) -> Figure:
    pairs = found["pairs"]
    names = [f"{pair['second']}\nminus {pair['first']}" for pair in pairs]
    with house_style():
        figure = Figure(figsize=(7.5, 1.2 + 0.55 * len(pairs)), layout="constrained")
        for axes, (score, title) in zip(figure.subplots(1, 2, sharey=True), _TITLES.items(), strict=True):
            values, low, high = (
                np.array([100 * pair[score][key] for pair in pairs]) for key in ("value", "low", "high")
            )
            places = np.arange(len(pairs))
            axes.axvline(0, color=FAINT, linewidth=0.8)
            axes.errorbar(values, places, xerr=[values - low, high - values], fmt="o", color=COLORS["blue"], capsize=3)
            for value, place in zip(values, places, strict=True):
                axes.annotate(
                    f"{value:+.2f}", (value, place), (0, 6), textcoords="offset points", ha="center", color=INK
                )
            axes.set_yticks(places, names)
            axes.set_ylim(len(pairs) - 0.4, -0.6)
            axes.set_title(title)
            axes.set_xlabel("points")
            axes.grid(axis="x")
    return figure


def _class_figure(found: Mapping[str, Any]) -> Figure:
    names, models = found["class_names"], [model["name"] for model in found["models"][1:]]
    with house_style():
        figure = Figure(figsize=(7.5, 0.9 + 0.42 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=FAINT, linewidth=0.8)
        height = 0.8 / len(models)
        for number, model in enumerate(models):
            own = [entry for entry in found["classes"] if entry["model"] == model]
            changes = [0.0 if entry["recall"] is None else 100 * entry["recall"] for entry in own]
            places = np.arange(len(names)) - 0.4 + height * (number + 0.5)
            color = list(COLORS.values())[number % len(COLORS)]
            axes.barh(places, changes, height=0.9 * height, color=color, label=model)
            for entry, change, place in zip(own, changes, places, strict=True):
                star = " *" if entry["p_holm"] < _LEVEL else ""
                axes.annotate(
                    f"{change:+.1f}{star}",
                    (change, place),
                    (4 if change >= 0 else -4, 0),
                    textcoords="offset points",
                    ha="left" if change >= 0 else "right",
                    va="center",
                )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(f"recall, points more than {found['models'][0]['name']}  (* p < 0.05, Holm)")
        axes.grid(axis="x")
        if len(models) > 1:
            figure.legend(loc="outside lower center", ncols=len(models))
    return figure
