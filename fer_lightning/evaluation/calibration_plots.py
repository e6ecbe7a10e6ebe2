"""Pictures of how far stated probabilities can be believed: reliability, the risk of answering, prediction sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fer_lightning.evaluation.confidence import confidence_bins
from fer_lightning.figures import COLORS, FAINT, GRID, INK, house_style, wrapped
from fer_lightning.metrics import CALIBRATION_BINS

__all__ = ["reliability_figure", "risk_figure", "sets_figure"]

_WIDTH = 5.2  # inches: text of a page can then be read on a phone
_TALL, _FLAT = 5.8, 3.8  # inches: of one diagram, and of two side by side
_LINES = ((COLORS["blue"], "-"), (COLORS["orange"], "--"))  # of risk curves, the last first
Bins = Sequence[Mapping[str, float]]
Curve = Mapping[str, Any]


def reliability_figure(bins: Mapping[str, Bins], title: str = "") -> Figure:
    """Draw accuracy against confidence above a histogram of the confidences, once or for several stages side by side.

    The gray band holds 95 % of what a perfectly calibrated model of these confidences shows: the fewer images in a bin,
    the wider it is. The calibration error (ECE) stands above each diagram.

    Args:
        bins: of ``reliability_bins``, by the name of the stage, such as ``before``; a single one may be ``""``.
        title: headline, ``""`` for none.
    """
    with house_style():
        figure = Figure(figsize=(_WIDTH, _TALL if len(bins) == 1 else _FLAT), layout="constrained")
        if title:
            figure.suptitle(wrapped(title, figure))
        grid = figure.subplots(2, len(bins), sharex=True, sharey="row", squeeze=False, height_ratios=(3.2, 1.0))
        for place, (name, own) in enumerate(bins.items()):
            _reliability(grid[0][place], grid[1][place], own)
            grid[0][place].set_title(f"{name}\n{_summary(own)}".strip(), size=9, weight="normal")
        grid[0][0].set(ylabel="accuracy")
        grid[1][0].set(ylabel="samples", ylim=(0, None if any(bins.values()) else 1))
        grid[1][0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        grid[1][0].yaxis.set_major_locator(MaxNLocator(3))
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _reliability(upper: Axes, lower: Axes, bins: Bins) -> None:
    stated, right, low, high = (
        np.array([each[key] for each in bins], np.float64) for key in ("confidence", "accuracy", "low", "high")
    )
    images, width = np.array([each["images"] for each in bins], np.float64), 1 / CALIBRATION_BINS
    edges = confidence_bins(stated) * width
    upper.grid()
    upper.bar(edges, high - low, width, low, align="edge", color=GRID, label="95 % of perfect models")
    upper.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.0, label="perfect calibration")
    upper.plot(stated, right, "o-", color=COLORS["blue"], markersize=4, label="this model")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    lower.grid(axis="y")
    lower.bar(edges + width / 2, images / max(1.0, images.sum()), 0.94 * width, color=FAINT)
    lower.set(xlabel="confidence")


def _summary(bins: Bins) -> str:
    """Return the calibration error and the number of samples, for a headline."""
    samples = sum(each["images"] for each in bins)
    if not samples:
        return "no ECE, no samples"
    error = sum(each["images"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / samples
    return f"ECE {error:.3f}, {samples:,.0f} samples"


def risk_figure(
    curves: Mapping[str, Curve], wanted: float | None = None, chosen: Mapping[str, Any] | None = None
) -> Figure:
    """Draw how many answers are wrong if only the most confident are kept, over the share that is kept.

    Args:
        curves: ``coverage`` and ``risk`` (of ``risk_points``) by the name of the stage, such as ``before``; a
            single one may be ``""``.
        wanted: share of wrong answers that a threshold was chosen for; ``None`` for none.
        chosen: what a threshold does: ``threshold``, ``answered`` (share of the images) and ``risk`` (``value, low,
            high``, or ``None``); ``None`` for none.
    """
    with house_style():
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.grid()
        looks = reversed(_LINES[: len(curves)])  # what holds now is the solid line
        for (name, curve), (color, dash) in zip(curves.items(), looks, strict=True):
            axes.plot(curve["coverage"], curve["risk"], color=color, linestyle=dash, label=name or None)
        if wanted is not None:
            axes.axhline(wanted, color=FAINT, linewidth=0.8)
            axes.annotate(f"wanted {wanted:.1%}", (0.02, wanted), (0, 3), textcoords="offset points", color=FAINT)
        if chosen is not None and chosen["risk"] is not None:
            value, low, high = (chosen["risk"][key] for key in ("value", "low", "high"))
            axes.errorbar(
                chosen["answered"],
                value,
                [[value - low], [high - value]],
                fmt="o",
                color=COLORS["vermillion"],
                capsize=3,
                label=f"threshold {chosen['threshold']:.3f}",
            )
        highest = max((max(curve["risk"], default=0.0) for curve in curves.values()), default=0.0)
        axes.set(xlim=(0, 1.01), ylim=(0, None if highest else 1))
        axes.set(xlabel="share of the answers kept, most confident first", ylabel="wrong among them")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if handles := axes.get_legend_handles_labels()[0]:
            figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def sets_figure(found: Mapping[str, Any]) -> Figure:
    """Draw how often sets hold the true class, for each class, in the range that chance leaves."""
    sets, names = found["sets"], found["class_names"]
    with house_style():
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(sets["coverage"], color=INK, linestyle="--", linewidth=0.8)
        for place, row in enumerate(sets["classes"]):
            if row["coverage"] is None:
                axes.annotate("no images", (sets["coverage"], place), va="center", color=FAINT)
                continue
            axes.barh(place, row["high"] - row["low"], 0.6, left=row["low"], color=GRID)
            inside = row["low"] <= row["coverage"] <= row["high"]
            axes.plot(row["coverage"], place, "o", color=COLORS["blue" if inside else "vermillion"])
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.use_sticky_edges = False
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("sets that hold the true class")
        axes.grid(axis="x", color=GRID)
    return figure
