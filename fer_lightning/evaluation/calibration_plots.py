"""Pictures of a calibration: functions from its plain values to figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_lightning.figures import COLORS, FAINT, GRID, INK, house_style

__all__ = ["reliability_pair", "risk_figure", "sets_figure"]

_SHADE = "#D5D5D5"
_WIDTH = 5.2  # inches: text of the page can then be read on a phone


def reliability_pair(found: Mapping[str, Any]) -> Figure:
    """Draw the share of right answers in each bin of confidence before and after, with the band of a perfect model."""
    with house_style():
        figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3.2, 1.0))
        for place, name in enumerate(("before", "after")):
            bins = found["bins"][name]
            stated, right, low, high = (
                np.array([each[key] for each in bins]) for key in ("confidence", "accuracy", "low", "high")
            )
            images = np.array([each["images"] for each in bins])
            upper, lower = grid[0][place], grid[1][place]
            upper.grid()
            upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.8)
            upper.fill_between(stated, low, high, color=_SHADE, linewidth=0, label="perfect model, 95 %")
            upper.plot(stated, right, "o-", color=COLORS["blue"], markersize=3.5, linewidth=1.2, label="measured")
            upper.set(xlim=(0, 1), ylim=(0, 1), title=name)
            lower.bar(stated, images / images.sum(), 0.05, color=FAINT)
            lower.set(xlabel="confidence")
            lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        grid[0][0].set_ylabel("share of right answers")
        grid[1][0].set_ylabel("images")
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def risk_figure(found: Mapping[str, Any]) -> Figure:
    """Draw the risk of answering the surest images, before and after, with the chosen threshold."""
    risk = found["risk"]
    with house_style():
        figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.grid()
        for name, color, dash in (("before", COLORS["orange"], "--"), ("after", COLORS["blue"], "-")):
            curve = risk["curves"][name]
            axes.plot(curve["coverage"], curve["risk"], color=color, linestyle=dash, label=name)
        axes.axhline(risk["wanted"], color=FAINT, linewidth=0.8)
        axes.annotate(
            f"wanted {risk['wanted']:.1%}", (0.02, risk["wanted"]), (0, 3), textcoords="offset points", color=FAINT
        )
        if risk["reached"] and risk["risk"] is not None:
            value, low, high = (risk["risk"][key] for key in ("value", "low", "high"))
            axes.errorbar(
                risk["answered"],
                value,
                [[value - low], [high - value]],
                fmt="o",
                color=COLORS["vermillion"],
                capsize=3,
                label=f"threshold {risk['threshold']:.3f}",
            )
        axes.set(
            xlim=(0, 1.01), ylim=(0, None), xlabel="share of images that are answered", ylabel="share of wrong answers"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        figure.legend(loc="outside lower center", ncols=3)
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
            axes.barh(place, row["high"] - row["low"], 0.6, left=row["low"], color=_SHADE)
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
