"""Pictures of a comparison of arms: runs with mean and interval, and the differences in the recall of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_lightning.evaluation.spread import Key, Spread
from fer_lightning.figures import BLANK, COLORS, FAINT, INK, house_style

__all__ = ["gains_figure", "runs_figure"]

_ARM_COLORS = [COLORS[name] for name in ("blue", "orange", "green", "vermillion", "purple", "sky", "black")]
_ROW = 0.68  # height of the row of an arm, in inches
_TOP, _BOTTOM, _MEAN = -0.34, 0.06, 0.22  # in rows below its middle: the first run, the last one, and the mean
_WIDTH = 5.6  # inches: what can be read on a phone
_NAME = 24  # letters of an arm's name that are shown


def runs_figure(
    values: Mapping[str, Mapping[str, Mapping[Key, float | None]]],
    spreads: Mapping[str, Mapping[str, Spread]],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw a row for each arm: a dot for each run, and below them the mean with its 95 % interval.

    Thin lines join the runs of the same fold and seed. Each score has its own panel, one below the other; values are
    0..1 by arm and run. The subtitle names the split and what the interval counts.
    """
    arms = list(next(iter(values.values())))
    keys = sorted({key for by_arm in values.values() for runs in by_arm.values() for key in runs})
    shifts = np.linspace(_TOP, _BOTTOM, len(keys)) if len(keys) > 1 else np.full(len(keys), (_TOP + _BOTTOM) / 2)
    place_of = dict(zip(keys, shifts.tolist(), strict=True))
    with house_style():
        height = len(values) * (_ROW * len(arms) + 0.6) + 0.9
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        figure.suptitle(title)
        figure.supxlabel(subtitle, size=9.0, color=FAINT)
        panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
        for axes, (score, by_arm) in zip(panels, values.items(), strict=True):
            _panel(axes, by_arm, spreads[score], place_of)
            axes.set_xlabel(f"{score}, %")
            axes.set_yticks(range(len(arms)), [_short(arm) for arm in arms])
            axes.set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _panel(
    axes: Axes,
    by_arm: Mapping[str, Mapping[Key, float | None]],
    spreads: Mapping[str, Spread],
    place_of: Mapping[Key, float],
) -> None:
    for key, place in place_of.items():
        joined = [
            (100 * value, row + place)
            for row, runs in enumerate(by_arm.values())
            if (value := runs.get(key)) is not None
        ]
        if len(joined) > 1:
            axes.plot(*zip(*joined, strict=True), color=FAINT, linewidth=0.6, alpha=0.4, zorder=1)
    for row, (arm, runs) in enumerate(by_arm.items()):
        color, found = _ARM_COLORS[row % len(_ARM_COLORS)], spreads[arm]
        dots = [(100 * value, row + place_of[key]) for key, value in runs.items() if value is not None]
        places = np.array(dots, np.float64).reshape(-1, 2)
        axes.scatter(places[:, 0], places[:, 1], s=22, color=color, edgecolor="white", linewidth=0.5, zorder=3)
        if found.mean is None:
            axes.text(0.5, row, "no run", transform=axes.get_yaxis_transform(), color=FAINT, ha="center", va="center")
            continue
        below = row + _MEAN
        if found.low is not None and found.high is not None:
            axes.plot([100 * found.low, 100 * found.high], [below, below], color=color, linewidth=1.6, zorder=2)
        axes.plot([100 * found.mean], [below], "D", color=color, markersize=5.5, markeredgecolor="white", zorder=4)
        middle = (100 * found.mean, below)
        text = f"{100 * found.mean:.2f}"
        axes.annotate(text, middle, (0, -12), textcoords="offset points", ha="center", size=7.5)
    axes.grid(axis="x")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def gains_figure(
    gains: Mapping[str, Mapping[str, Spread]], class_names: Sequence[str], reference: str, title: str, subtitle: str
) -> Figure:
    """Draw the recall of each class minus that of the first arm, in points: a row for each arm.

    Gains are differences by arm, without the first, which is the ``reference``, and class. A bold number marks one
    whose 95 % interval leaves 0 out.
    """
    means = [[by_class[name].mean for name in class_names] for by_class in gains.values()]
    values = 100 * np.array(means, np.float64).reshape(len(gains), len(class_names))  # None becomes NaN
    most = max(1.0, float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0)
    # the middle of the colour map, as black text cannot be read on its ends
    colors = mpl.colormaps["RdBu"](0.5 + 0.3 * np.nan_to_num(values) / most)
    colors[~np.isfinite(values)] = mpl.colors.to_rgba(BLANK)
    with house_style():
        size = (max(_WIDTH, 0.5 * len(class_names) + 1.6), 0.5 * len(gains) + 1.7)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(colors, aspect="auto")
        for row, by_class in enumerate(gains.values()):
            for column, name in enumerate(class_names):
                _gain(axes, (column, row), by_class[name])
        axes.set_xticks(range(len(class_names)), class_names)
        if max(map(len, class_names)) > 11:  # wider than a cell
            axes.set_xticks(range(len(class_names)), class_names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(gains)), [_short(arm) for arm in gains])
        axes.set_xticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(gains) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2.0)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, pad=36.0)
        note = f"{subtitle}\nrecall, points more than {_short(reference)}; bold: the 95% interval leaves 0 out"
        axes.annotate(note, (0.5, 1.0), (0, 7), xycoords="axes fraction", textcoords="offset points", ha="center")
    return figure


def _gain(axes: Axes, place: tuple[int, int], gain: Spread) -> None:
    if gain.mean is None:
        axes.text(*place, "n/a", ha="center", va="center", color=FAINT)
        return
    sure = gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
    text = f"{100 * gain.mean:+.1f}"
    axes.text(*place, text, ha="center", va="center", color=INK, weight="bold" if sure else "normal", size=9.5)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
