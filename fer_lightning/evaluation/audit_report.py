"""The report of an audit: a verdict in a sentence, tables and a drawing for each attribute, one page, JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_lightning import __version__
from fer_lightning.figures import COLORS, FAINT, figure_svg, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.pages import render
from fer_lightning.text import counted, joined, p_text, percent, points, table_lines

__all__ = ["SCHEMA", "audit_lines", "verdict", "verdicts", "write_audit"]

SCHEMA = 1
"""Version of the layout of ``audit.json``; it rises when a key changes its meaning or goes."""

_LEVEL = 0.05
_FEW = {"accuracy": "too few to say", "f1": "too few for F1", "": ""}
_INTERVAL = "95 % interval"
_WIDTH = 5.2  # inches of a drawing
_LISTED = 6  # names in a sentence

_EQUAL = 1e-9  # a difference below it is one of rounding

Rows = list[tuple[str, ...]]
"""Cells of a table, the head first."""


def verdict(found: Mapping[str, Any]) -> str:
    """Return which attributes make a difference to the accuracy, or to the recall of a class, beyond chance."""
    compared = [each for each in found["attributes"] if any(group.get("rest") for group in each["groups"])]
    if not compared:
        return "No attribute has two groups with images enough, and of the same classes, to be compared."
    sure = [each["name"] for each in compared if each["gap"]["p_holm"] < _LEVEL]
    recalls = [
        f"{gap['class']} between groups of {each['name']}"
        for each in compared
        for gap in each["classes"]
        if gap["p_holm"] * len(compared) < _LEVEL  # Holm over its classes, Bonferroni over attributes
    ]
    listed = [*recalls[:_LISTED], *[f"{len(recalls) - _LISTED} more"] * (len(recalls) > _LISTED)]
    also = f" By class, more than chance explains: recall of {joined(listed)}." if recalls else ""
    if not sure:
        names = joined([each["name"] for each in compared])
        return f"Chance explains every difference in accuracy between groups of {names}.{also}"
    others = [each["name"] for each in compared if each["name"] not in sure]
    rest = f"; chance explains those of {joined(others)}" if others else ""
    return f"Groups of {joined(sure)} differ in accuracy by more than chance explains{rest}.{also}"


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each attribute: its largest gap, and whether chance explains it."""
    sentences = []
    for each in found["attributes"]:
        gap = each["gap"]
        if gap is None:
            sentences.append(f"{each['name']}: fewer than two groups have images enough to be compared.")
            continue
        if all(group.get("rest") is None for group in each["groups"]):
            sentences.append(f"{each['name']}: the groups have no class in common, so that they cannot be compared.")
            continue
        if gap["observed"] < _EQUAL:
            sentences.append(f"{each['name']}: all groups are equally accurate at equal class mix.")
            continue
        size = f"{gap['best']} over {gap['worst']} by {100 * gap['observed']:.1f} points of accuracy at equal class mix"
        chance = f"chance alone makes {100 * gap['expected']:.1f} (95 % below {100 * gap['upper']:.1f})"
        told = "more than chance explains" if gap["p_holm"] < _LEVEL else "no more than chance explains"
        sentences.append(f"{each['name']}: {size}; {chance}: {told} (p {p_text(gap['p_holm'])}).")
    return sentences


def _group_rows(each: Mapping[str, Any], total: Mapping[str, Any]) -> Rows:
    head = (
        "images",
        "accuracy",
        _INTERVAL,
        "same class mix",
        "minus the rest",
        _INTERVAL,
        "p",
        "macro F1",
        _INTERVAL,
        "",
    )
    rows: Rows = [(each["name"], *head)]
    for group in [*each["groups"], total]:
        rest, low, high = group.get("rest"), group.get("f1_low"), group.get("f1_high")
        rows.append((
            group["name"],
            f"{group['images']:,}",
            percent(group["accuracy"]),
            f"{percent(group['accuracy_low'])} to {percent(group['accuracy_high'])}",
            percent(group["standardised"]),
            *(_rest(rest) if rest else ("", "", "")),
            percent(group["f1_macro"]),
            "" if low is None else f"{percent(low)} to {percent(high)}",
            _FEW[group["too_few"]],
        ))  # fmt: skip
    return rows


def _rest(rest: Mapping[str, float]) -> tuple[str, str, str]:
    return points(rest["value"]), f"{points(rest['low'])} to {points(rest['high'])}", p_text(rest["p"])


def _recall_rows(each: Mapping[str, Any], total: Mapping[str, Any], class_names: Sequence[str]) -> Rows:
    rows: Rows = [(each["name"], *class_names)]
    for group in [*each["groups"], total]:
        cells = []
        for place in range(len(class_names)):
            value, low, high = (group[key][place] for key in ("recall", "recall_low", "recall_high"))
            ends = "" if value is None else f"\n{100 * low:.0f} to {100 * high:.0f}"
            cells.append(f"{percent(value)}{ends}\nof {group['support'][place]:,}")
        rows.append((group["name"], *cells))
    return rows


def _class_rows(each: Mapping[str, Any]) -> Rows:
    head = ("class", "best", "worst", "largest gap in recall", "by chance", "95 % of those below", "p", "p, Holm")
    rows: Rows = [head]
    for gap in each["classes"]:
        sizes = [f"{100 * gap[key]:.1f}" for key in ("observed", "expected", "upper")]
        rows.append((gap["class"], gap["best"], gap["worst"], *sizes, p_text(gap["p"]), p_text(gap["p_holm"])))
    return rows


def _remarks(each: Mapping[str, Any]) -> list[str]:
    """Return what else is to be said of an attribute."""
    found = []
    apart = [group for group in each["groups"] if group.get("rest") and group["rest"]["p"] < _LEVEL]
    if len(each["groups"]) - len(each["left_out"]) > 2:  # of two, the gap has said it
        for group in apart:
            value, low, high = (group["rest"][key] for key in ("value", "low", "high"))
            side = "above" if value > 0 else "below"
            ends = f"{_INTERVAL} {points(low)} to {points(high)}"
            found.append(f"{group['name']}: {100 * abs(value):.1f} points {side} the rest ({ends}).")
    for gap in each["classes"]:
        if gap["p_holm"] < _LEVEL:
            size = f"{100 * gap['observed']:.1f} points between {gap['best']} and {gap['worst']}"
            found.append(f"Recall of {gap['class']}: {size}, more than chance explains (p {p_text(gap['p_holm'])}).")
    odds = each["equalised_odds"]
    if odds is not None and odds["observed"] >= _EQUAL:
        size = f"{100 * odds['observed']:.1f} points ({odds['score']}, {odds['best']} against {odds['worst']})"
        chance = f"chance alone makes {100 * odds['expected']:.1f} (95 % below {100 * odds['upper']:.1f})"
        found.append(f"Equalised-odds difference: {size}; {chance}, p {p_text(odds['p_holm'])}.")
    alone = [group["name"] for group in each["groups"] if "rest" in group and group["rest"] is None]
    if alone:
        found.append(f"No class in common with the other groups, so that differences say nothing: {'; '.join(alone)}.")
    if each["left_out"]:
        names = each["left_out"][:_LISTED] + ["..."] * (len(each["left_out"]) > _LISTED)
        what = f"{counted(len(each['left_out']), 'group')} with too few images to say anything, in no gap"
        found.append(f"{what}: {'; '.join(names)}.")
    if each["unknown"]:
        found.append(f'{counted(each["unknown"], "image")} of no known group: counted in the line "all" alone.')
    return found


def audit_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the audit as lines of a terminal."""
    lines = []
    for each in found["attributes"]:
        rows = [(*row[:8], row[-1]) for row in _group_rows(each, found["total"])]
        lines += [*table_lines(rows), *(f"  {remark}" for remark in _remarks(each)), ""]
    return [*lines, *verdicts(found), "", verdict(found)]


def write_audit(
    found: Mapping[str, Any], folder: Path, notes: Sequence[str] = (), origin: Mapping[str, Any] | None = None
) -> Path:
    """Write an audit (of ``audit``) as a page and as ``audit.json``; return the page.

    Args:
        found: the audit.
        folder: is made if it is missing.
        notes: what else must be known, a sentence each.
        origin: what else belongs into the JSON: ``command``, ``evaluation`` (its folder), ``run`` (of which it is) and
            ``weights`` (their digest).

    Raises:
        OSError: if it cannot be written.
    """
    told = {"verdict": verdict(found), "verdicts": verdicts(found), "notes": list(notes)}
    values = {"schema": SCHEMA, "fer_lightning": __version__, **(origin or {}), **found, **told}
    write_atomically(folder / "audit.json", json_text(values))
    parts = {f"attribute-{number}": each for number, each in enumerate(found["attributes"])}
    shows = (
        "Left: accuracy with 95 % intervals; hollow where a group has too few images; the line is all images. Right: "
        "accuracy at equal class mix minus that of all others, in points; the intervals hold for all groups at once."
    )
    page = render(
        "audit.html",
        sections={"verdict": "Verdict", **{id: each["name"] for id, each in parts.items()}},
        title=f"{(origin or {}).get('run') or found['model'] or 'a model'}, audited by group",
        about=f"{found['images']:,} images of {found['split'] or 'a split'}, {found['distinct']:,} of them distinct.",
        **told,
        parts={
            id: {
                "groups": _group_rows(each, found["total"]),
                "drawing": (figure_svg(_figure(each, found["total"]["accuracy"]), shows), shows),
                "recalls": _recall_rows(each, found["total"], found["class_names"]),
                "classes": _class_rows(each),
                "remarks": _remarks(each),
                "differs": any(gap["p_holm"] < _LEVEL for gap in each["classes"]),
            }
            for id, each in parts.items()
        },
        shuffles=found["shuffles"],
        draws=found["draws"],
        seed=found["seed"],
        origin=origin or {},
    )
    return write_atomically(folder / "index.html", page)


def _figure(each: Mapping[str, Any], total: float) -> Figure:
    groups = each["groups"]
    with house_style():
        figure = Figure(figsize=(_WIDTH, 1.0 + 0.34 * len(groups)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        left.axvline(100 * total, color=FAINT, linewidth=0.8)
        right.axvline(0, color=FAINT, linewidth=0.8)
        for place, group in enumerate(groups):
            hollow = group["too_few"] == "accuracy"
            ends = [100 * group[key] for key in ("accuracy", "accuracy_low", "accuracy_high")]
            _whisker(left, place, ends, hollow)
            if group.get("rest"):
                _whisker(right, place, [100 * group["rest"][key] for key in ("value", "low", "high")], False)
        left.set_yticks(range(len(groups)), [f"{_short(group['name'])} ({group['images']:,})" for group in groups])
        left.set_ylim(len(groups) - 0.4, -0.6)
        left.set_xlabel("accuracy, %")
        right.set_xlabel("minus the rest, points")
        for axes in (left, right):
            axes.grid(axis="x")
    return figure


def _whisker(axes: Axes, place: int, ends: Sequence[float], hollow: bool) -> None:
    value, low, high = ends
    if np.isfinite(ends).all():
        color = COLORS["blue"]
        error = [[max(value - low, 0)], [max(high - value, 0)]]
        axes.errorbar(value, place, xerr=error, fmt="o", color=color, capsize=3, mfc="white" if hollow else color)


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
