"""The report of a comparison: a verdict in a sentence, tables, drawings, one page and the numbers as JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_lightning import __version__
from fer_lightning.evaluation.speeds import speed_figure, speed_remarks, speed_rows
from fer_lightning.figures import COLORS, FAINT, figure_svg, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.pages import render
from fer_lightning.text import joined, p_text, percent, points, table_lines

__all__ = ["SCHEMA", "comparison_lines", "verdict", "write_comparison"]

SCHEMA = 1
"""Version of the layout of ``compare.json``; it rises when a key changes its meaning or goes."""

_LEVEL = 0.05
_TITLES = {"accuracy": "accuracy", "f1_macro": "macro F1"}
_INTERVAL = "95 % interval"
_WIDTH = 5.2  # inches of a drawing
_LISTED = 3  # models that are listed by name even if they are all
_NAME = 22  # characters of a name beside a drawing


def verdict(found: Mapping[str, Any]) -> str:
    """Return in a sentence which model is most accurate, and which others chance could have put behind it.

    A difference counts if its p value, corrected for the number of pairs, is below 0.05.
    """
    best = max(found["models"], key=lambda model: float(model["accuracy"]["value"]))["name"]
    pairs = {each: pair for pair in found["pairs"] for each in _others(pair, best)}
    if len(pairs) == 1:
        [(other, pair)] = pairs.items()
        value, low, high = _seen_from(pair, best)
        if not value:
            ends = f"{_INTERVAL} of the difference {points(low)} to {points(high)}"
            return f"{best} and {other} are equally accurate on these images ({ends})."
        size = f"by {100 * value:.1f} points ({_INTERVAL} {points(low)} to {points(high)}, p {p_text(pair['p_holm'])})"
        if pair["p_holm"] < _LEVEL:
            return f"{best} is more accurate than {other} {size}."
        return f"{best} is more accurate than {other} {size}, which is no more than chance makes on these images."
    behind = [other for other, pair in pairs.items() if pair["p_holm"] < _LEVEL and _seen_from(pair, best)[0] > 0]
    beside = [other for other in pairs if other not in behind]
    parts = []
    if behind:
        parts.append(f"its lead over {_listed(behind, pairs)} is more than chance makes")
    if beside:
        parts.append(f"chance explains its lead over {_listed(beside, pairs)}")
    return f"{best} is the most accurate on these images; {'; '.join(parts)}."


def _listed(names: Sequence[str], of: Collection[str]) -> str:
    """Return names as a sentence lists them; many that are all of them are not listed."""
    return "all others" if len(names) == len(of) > _LISTED else joined(names)


def _others(pair: Mapping[str, Any], name: str) -> list[str]:
    """Return the other one of a pair, if the name is one of its two."""
    both = [pair["first"], pair["second"]]
    return [each for each in both if each != name] if name in both else []


def _seen_from(pair: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    """Return accuracy of a model minus that of the other of its pair, with both ends of the interval."""
    value, low, high = (float(pair["accuracy"][key]) for key in ("value", "low", "high"))
    return (value, low, high) if pair["second"] == name else (-value, -high, -low)


Rows = list[tuple[str, ...]]
"""Cells of a table, the head first."""


def _model_rows(found: Mapping[str, Any]) -> Rows:
    rows: Rows = [("model", "accuracy", _INTERVAL, "macro F1", _INTERVAL, "ECE", "NLL", "Brier")]
    for model in found["models"]:
        cells = []
        for score in _TITLES:
            value = model[score]
            cells += [f"{value['value']:.2%}", f"{value['low']:.2%} to {value['high']:.2%}"]
        rows.append((model["name"], *cells, f"{model['ece']:.2%}", f"{model['nll']:.3f}", f"{model['brier']:.3f}"))
    return rows


def _pair_rows(found: Mapping[str, Any]) -> Rows:
    head = ("difference", "accuracy", _INTERVAL, "macro F1", _INTERVAL, "only first", "only second", "p", "p, Holm")
    rows: Rows = [head]
    for pair in found["pairs"]:
        cells = []
        for score in _TITLES:
            value = pair[score]
            cells += [points(value["value"], 2), f"{points(value['low'], 2)} to {points(value['high'], 2)}"]
        counts = (f"{pair['first_only']:,}", f"{pair['second_only']:,}")
        rows.append(
            (f"{pair['second']} minus {pair['first']}", *cells, *counts, p_text(pair["p"]), p_text(pair["p_holm"]))
        )
    return rows


def _class_rows(found: Mapping[str, Any]) -> Rows:
    first, several = found["models"][0]["name"], len(found["models"]) > 2
    rows: Rows = [
        (
            *(["model"] if several else []),
            "class",
            "images",
            f"recall of {first}",
            "its recall",
            "change",
            "change of F1",
        )
    ]
    rows[0] = (*rows[0], "p", "p, Holm")
    for entry in found["classes"]:
        changes = (points(entry["recall"], 2), points(entry["f1"], 2), p_text(entry["p"]), p_text(entry["p_holm"]))
        recalls = (percent(entry["before"]), percent(entry["after"]))
        model = [entry["model"]] if several else []
        rows.append((*model, entry["class"], f"{entry['images']:,}", *recalls, *changes))
    return rows


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the comparison as lines of a terminal; differences are in points."""
    return [*table_lines(_model_rows(found)), "", *table_lines(_pair_rows(found)), "", verdict(found)]


def write_comparison(
    found: Mapping[str, Any],
    folder: Path,
    notes: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
    speeds: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write a comparison (of ``comparison``) as a page and as ``compare.json``; return the page.

    Args:
        found: the comparison.
        folder: is made if it is missing.
        notes: what makes the comparison unfair, a sentence each.
        origin: what else belongs into the JSON: ``command``, and ``evaluations``, the folder of each by its name.
        speeds: by name of a model, what ``fer bench infer`` has written of it; those that were not measured lack.

    Raises:
        OSError: if it cannot be written.
    """
    speeds = speeds or {}
    values = {"schema": SCHEMA, "fer_lightning": __version__, **(origin or {}), **found, "speeds": speeds}
    write_atomically(folder / "compare.json", json_text({**values, "verdict": verdict(found), "notes": list(notes)}))
    images = f"{found['images']:,} images of {found['split'] or 'a split'}, {found['distinct']:,} of them distinct"
    names = [model["name"] for model in found["models"]]
    first = names[0]
    shown = {
        "differences": (_difference_figure(found), f"Differences of accuracy and macro F1, with {_INTERVAL}s."),
        "classes": (_class_figure(found), f"Recall of each class, in points more than {first}; * p < 0.05 after Holm."),
    }
    if speeds:
        shows = f"Accuracy, with its {_INTERVAL}, against the time for one face and the size of the file, in float32."
        shown["speed"] = (speed_figure(found, speeds), shows)
    page = render(
        "compare.html",
        sections={
            "verdict": "Verdict",
            "differences": "Differences",
            "classes": "Gained and lost, class by class",
            "speed": "Size and speed",
        },
        title=" against ".join(names) if len(names) <= _LISTED else f"{len(names)} models on the same images",
        about=f"{images}. Intervals are over test images, not over trainings: fer crossval compares those.",
        verdict=verdict(found),
        notes=list(notes),
        models=_model_rows(found),
        pairs=_pair_rows(found),
        classes=_class_rows(found),
        speeds=speed_rows(speeds),
        measured=speed_remarks(names, speeds),
        drawings={id: (figure_svg(figure, what), what) for id, (figure, what) in shown.items()},
        luck=f"{100 * found['luck']:.1f}",
        draws=found["draws"],
        seed=found["seed"],
        origin=origin or {},
    )
    return write_atomically(folder / "index.html", page)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def _difference_figure(found: Mapping[str, Any]) -> Figure:
    pairs = found["pairs"]
    names = [f"{_short(pair['second'])}\nminus {_short(pair['first'])}" for pair in pairs]
    with house_style():
        figure = Figure(figsize=(_WIDTH, 1.2 + 0.62 * len(pairs)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for (score, title), shift, color in zip(_TITLES.items(), (-0.16, 0.2), ("blue", "orange"), strict=True):
            values, low, high = (
                np.array([100 * pair[score][key] for pair in pairs]) for key in ("value", "low", "high")
            )
            places = np.arange(len(pairs)) + shift
            error = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
            axes.errorbar(values, places, xerr=error, fmt="o", color=COLORS[color], capsize=3, label=title)
            for value, place in zip(values, places, strict=True):
                axes.annotate(f"{value:+.2f}", (value, place), (0, 4), textcoords="offset points", ha="center", size=8)
        axes.set_yticks(range(len(pairs)), names)
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_xlabel("points")
        axes.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _class_figure(found: Mapping[str, Any]) -> Figure:
    names, models = found["class_names"], [model["name"] for model in found["models"][1:]]
    with house_style():
        size = (_WIDTH, 0.9 + len(names) * max(0.36, 0.21 * len(models)))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=FAINT, linewidth=0.8)
        height = 0.8 / len(models)
        for number, model in enumerate(models):
            own = [entry for entry in found["classes"] if entry["model"] == model]
            _class_bars(axes, own, number, height)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlabel(f"recall, points more than {_short(found['models'][0]['name'])}")
        axes.grid(axis="x")
        if len(models) > 1:
            figure.legend(loc="outside lower center", ncols=2)
    return figure


def _class_bars(axes: Any, entries: Sequence[Mapping[str, Any]], number: int, height: float) -> None:
    """Draw the bars of one model, the ``number``-th of those behind the first."""
    changes: NDArray[np.float64] = np.array([100 * (entry["recall"] or 0.0) for entry in entries])
    places = np.arange(len(entries)) - 0.4 + height * (number + 0.5)
    color = list(COLORS.values())[number % len(COLORS)]
    axes.barh(places, changes, height=0.9 * height, color=color, label=_short(entries[0]["model"]))
    for entry, change, place in zip(entries, changes, places, strict=True):
        star = " *" if entry["p_holm"] < _LEVEL else ""
        side, aligned = (4, "left") if change >= 0 else (-4, "right")
        text = "n/a" if entry["recall"] is None else f"{change:+.1f}{star}"
        axes.annotate(text, (change, place), (side, 0), textcoords="offset points", ha=aligned, va="center", size=8)
