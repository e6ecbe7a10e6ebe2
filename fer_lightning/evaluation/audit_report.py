"""The report of an audit: a verdict in a sentence, a table and a picture for each attribute, one page, JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fer_lightning.figures import COLORS, FAINT, figure_png, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.pages import render
from fer_lightning.text import counted, table_lines

__all__ = ["audit_lines", "verdicts", "write_audit"]

_LEVEL = 0.05
_FEW = {"accuracy": "too few to say", "f1": "too few for F1", "": ""}


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each attribute: its largest gap, and whether chance explains it."""
    sentences = []
    for each in found["attributes"]:
        gap = each["gap"]
        if gap is None:
            sentences.append(f"{each['name']}: fewer than two groups have images enough to be compared.")
            continue
        size = f"{gap['best']} over {gap['worst']} by {100 * gap['observed']:.1f} points of accuracy at equal class mix"
        chance = f"chance alone makes {100 * gap['expected']:.1f} (95 % below {100 * gap['upper']:.1f})"
        told = "more than chance explains" if gap["p_holm"] < _LEVEL else "no more than chance explains"
        sentences.append(f"{each['name']}: {size}; {chance}: {told} (p {_p(gap['p_holm'])}).")
    return sentences


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _rows(each: Mapping[str, Any], class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the table of an attribute, its head first."""
    head = (
        "images",
        "accuracy",
        "95 % interval",
        "same class mix",
        "macro F1",
        *(f"recall {name}" for name in class_names),
    )
    rows: list[tuple[str, ...]] = [(each["name"], *head, "")]
    for group in each["groups"]:
        interval = f"{group['accuracy_low']:.1%} to {group['accuracy_high']:.1%}"
        shares = [group["accuracy"], group["standardised"], group["f1_macro"], *group["recall"]]
        accuracy, mixed, f1, *recalls = (_share(value) for value in shares)
        few = _FEW[group["too_few"]]
        rows.append((group["name"], f"{group['images']:,}", accuracy, interval, mixed, f1, *recalls, few))
    return rows


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def audit_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the audit as lines of a terminal."""
    lines = []
    for each in found["attributes"]:
        lines += [*table_lines([(*row[:6], row[-1]) for row in _rows(each, found["class_names"])]), ""]
    return [*lines, *verdicts(found)]


def write_audit(found: Mapping[str, Any], folder: Path) -> Path:
    """Write an audit (of :func:`.audit`) as page, pictures and ``audit.json``; return the page.

    Raises:
        OSError: if it cannot be written.
    """
    figures: dict[str, list[tuple[str, str]]] = {}
    for number, each in enumerate(found["attributes"]):
        file = f"groups_{number}.png"
        write_atomically(folder / file, figure_png(_figure(each)))
        shows = (
            "accuracy with 95 % intervals; hollow where a group has too few images; the line is all of them together"
        )
        figures[f"attribute-{number}"] = [(file, shows)]
    write_atomically(folder / "audit.json", json_text({**found, "verdicts": verdicts(found)}))
    page = render(
        "audit.html",
        sections={
            "verdict": "Verdict",
            **{f"attribute-{number}": each["name"] for number, each in enumerate(found["attributes"])},
        },
        title=f"{found['model'] or 'a model'}, audited by group",
        about=f"{counted(found['images'], 'image')} of {found['split'] or 'a split'}.",
        verdicts=verdicts(found),
        figures=figures,
        tables={
            f"attribute-{number}": _rows(each, found["class_names"]) for number, each in enumerate(found["attributes"])
        },
        classes={f"attribute-{number}": _class_rows(each) for number, each in enumerate(found["attributes"])},
        remarks={f"attribute-{number}": _remarks(each) for number, each in enumerate(found["attributes"])},
        draws=found["draws"],
    )
    return write_atomically(folder / "index.html", page)


def _class_rows(each: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("class", "largest gap in recall", "best", "worst", "p", "p, Holm")]
    for entry in each["classes"]:
        numbers = (
            f"{100 * entry['gap']:.1f} points",
            entry["best"],
            entry["worst"],
            _p(entry["p"]),
            _p(entry["p_holm"]),
        )
        rows.append((entry["class"], *numbers))
    return rows


def _remarks(each: Mapping[str, Any]) -> list[str]:
    found = []
    if each["unknown"]:
        found.append(f"{counted(each['unknown'], 'image')} of no known group stand apart.")
    if each["left_out"]:
        found.append(f"Too few images, so not in the gap: {', '.join(each['left_out'])}.")
    if each["equalised_odds"] is not None:
        found.append(f"Equalised-odds difference: {100 * each['equalised_odds']:.1f} points.")
    return found


def _figure(each: Mapping[str, Any]) -> Figure:
    groups = each["groups"]
    values, low, high = np.array(
        [[100 * group[key] for group in groups] for key in ("accuracy", "accuracy_low", "accuracy_high")]
    )
    total = sum(group["accuracy"] * group["images"] for group in groups) / max(
        sum(group["images"] for group in groups), 1
    )
    with house_style():
        figure = Figure(figsize=(7.0, 1.0 + 0.34 * len(groups)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(100 * total, color=FAINT, linewidth=0.8)
        for place, group in enumerate(groups):
            few = group["too_few"] == "accuracy"
            axes.errorbar(
                values[place],
                place,
                xerr=[[values[place] - low[place]], [high[place] - values[place]]],
                fmt="o",
                color=COLORS["blue"],
                capsize=3,
                markerfacecolor="white" if few else COLORS["blue"],
            )
        axes.set_yticks(range(len(groups)), [f"{group['name']} ({group['images']:,})" for group in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x")
    return figure
