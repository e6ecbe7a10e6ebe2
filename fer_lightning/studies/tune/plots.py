"""Pictures of a search: the value of each trial, over trials and over settings, and how much each setting matters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fer_lightning.figures import COLORS, FAINT, INK, house_style

__all__ = ["TrialRow", "history_figure", "importance_figure", "slice_figure"]

FEW_TRIALS = 50
"""With fewer trials, importance is a hint at best: with 20, the share of a setting still varies by a third."""
_LABEL = 26  # characters of a choice on an axis; longer ones are cut


@dataclass(frozen=True)
class TrialRow:
    """What is known of one trial of a study.

    Attributes:
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        value: the best of its epochs, ``None`` if it has none; ``best_epoch``, from 0, has it.
        epochs: how many epochs are known.
        run: its run folder.
        message: why it failed, else empty.
    """

    number: int
    state: str
    value: float | None
    best_epoch: int | None
    epochs: int
    params: dict[str, Any]
    minutes: float = 0.0
    run: str = ""
    message: str = ""


def history_figure(rows: Sequence[TrialRow], metric: str, mode: str, title: str) -> Figure:
    """Draw the value of each trial by its number, and the best so far (by ``mode``, max or min) as a step line.

    Trials that failed without a value are marked at the lower edge.
    """
    done = _with_value(rows, "complete")
    with house_style():
        figure = Figure(figsize=(6.4, 3.9), layout="constrained")
        axes = figure.add_subplot()
        axes.grid()
        _draw_kinds(axes, rows, lambda row: row.number)
        if done:
            best = (np.maximum if mode == "max" else np.minimum).accumulate([value for _, value in done])
            last = max(row.number for row in rows)
            steps = [*(row.number for row, _ in done), last], [*best, best[-1]]
            label = f"best so far, now {best[-1]:.4f}"
            axes.plot(*steps, drawstyle="steps-post", color=COLORS["vermillion"], linewidth=1.4, label=label, zorder=1)
        failed = [row.number for row in rows if row.state == "failed"]
        if failed:
            axes.plot(
                failed, [0.015] * len(failed), "x", transform=axes.get_xaxis_transform(), color=INK, label="failed"
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.04, y=0.1)
        axes.set(xlabel="trial", ylabel=metric, title=title)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4)
    return figure


def _with_value(rows: Sequence[TrialRow], state: str) -> list[tuple[TrialRow, float]]:
    """Return the trials of a state that have a finite value, with it."""
    of_state = [(row, row.value) for row in rows if row.state == state]
    return [(row, value) for row, value in of_state if value is not None and math.isfinite(value)]


def _draw_kinds(axes: Axes, rows: Sequence[TrialRow], place: Any) -> None:
    """Draw complete trials as dots, pruned ones as rings; ``place`` returns the x value of a trial."""
    full: dict[str, Any] = {"color": COLORS["blue"], "markeredgecolor": "white", "markersize": 6.5, "zorder": 3}
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": FAINT, "markersize": 5.5, "zorder": 2}
    for state, label, look in (("complete", "complete", full), ("pruned", "pruned: best until then", ring)):
        shown = _with_value(rows, state)
        if shown:
            axes.plot([place(row) for row, _ in shown], [value for _, value in shown], "o", label=label, **look)


def importance_figure(shares: Mapping[str, float], metric: str, trials: int, title: str) -> Figure:
    """Draw the importance of each setting as bars, the largest on top.

    It is the share of the variance between trials that a setting explains: functional ANOVA on a random forest
    (Hutter et al. 2014, ICML). The shares, together 1, come from so many ``trials``.
    """
    names = sorted(shares, key=lambda name: shares[name])
    with house_style():
        figure = Figure(figsize=(6.0, 0.42 * len(names) + 1.7), layout="constrained")
        axes = figure.add_subplot()
        bars = axes.barh(names, [shares[name] for name in names], 0.62, color=COLORS["blue"])
        axes.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=4, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.1)
        axes.set_title(title, pad=21.0)
        doubt = f"; fewer than {FEW_TRIALS} give a hint at best" if trials < FEW_TRIALS else ""
        subtitle = f"importance for {metric} (fANOVA), {trials} trials{doubt}"
        axes.annotate(subtitle, (0.5, 1.0), (0, 7), xycoords="axes fraction", textcoords="offset points", ha="center")
    return figure


def slice_figure(
    rows: Sequence[TrialRow], keys: Sequence[str], logs: Collection[str], metric: str, mode: str, title: str
) -> Figure:
    """Draw the value of each trial over each setting, a panel for each; the best trial is marked in all panels.

    Of the settings in ``keys``, those in ``logs`` have a logarithmic axis.
    """
    columns = min(3, len(keys))
    lines = math.ceil(len(keys) / columns)
    done = _with_value(rows, "complete")
    best = (max if mode == "max" else min)(done, key=lambda pair: pair[1], default=None)
    with house_style():
        figure = Figure(figsize=(max(4.4, 3.1 * columns), 2.9 * lines + 0.8), layout="constrained")
        figure.suptitle(title)
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(keys) :]:
            axes.set_axis_off()
        for place, (axes, key) in enumerate(zip(grid.flat, keys, strict=False)):
            _draw_slice(axes, [row for row in rows if key in row.params], key, key in logs, best)
            axes.set_xlabel(key)
            if place % columns == 0:
                axes.set_ylabel(metric)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw_slice(axes: Axes, rows: Sequence[TrialRow], key: str, log: bool, best: tuple[TrialRow, float] | None) -> None:
    values = [row.params[key] for row in rows]
    is_choice = any(isinstance(value, (str, bool)) or value is None for value in values)
    order = sorted({str(value) for value in values}) if is_choice else []

    def place(row: TrialRow) -> Any:
        return order.index(str(row.params[key])) if is_choice else row.params[key]

    axes.grid(axis="y")
    _draw_kinds(axes, rows, place)
    if best is not None:
        row, value = best
        ring: dict[str, Any] = {
            "markerfacecolor": "none",
            "markeredgecolor": COLORS["vermillion"],
            "markeredgewidth": 1.8,
        }
        label = f"best, trial {row.number}"
        axes.plot([place(row)], [value], "o", markersize=11, label=label, zorder=4, **ring)
    if is_choice:
        texts = [text if len(text) <= _LABEL else f"{text[: _LABEL - 3]}..." for text in order]
        wide = max(map(len, texts)) > 8
        axes.set_xticks(
            range(len(order)), texts, rotation=25 if wide else 0, ha="right" if wide else "center", size=8.0
        )
        axes.set_xlim(-0.5, len(order) - 0.5)
    elif log:
        _logarithmic(axes, values)
    elif len(set(values)) <= 5:
        axes.set_xticks(sorted(set(values)))
    axes.margins(x=0.08, y=0.12)


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    decades = math.log10(max(values) / min(values)) if values else 0.0
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 1.5 else (1.0, 2.0, 5.0), numticks=6))
    axes.xaxis.set_minor_formatter(NullFormatter())
    # matplotlib's own labels are formulas, which our style does not draw: a "$" in a name is a dollar
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e-")))
