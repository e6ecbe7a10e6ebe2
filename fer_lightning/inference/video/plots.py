"""Pictures of what a face shows over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_lightning.figures import BLANK, COLORS, FAINT, INK, class_colors, house_style, wrapped
from fer_lightning.preprocessing import LUMA

__all__ = ["heat_figure", "share_figure", "time_figure"]

_COLUMNS = 1200  # of a picture over time: more frames are averaged
_LIGHT = 0.42  # luminance from which dark numbers are read more easily
_SHORT = 0.04  # share below which a slice of the pie has no number


def _colors(class_names: Sequence[str]) -> dict[str, Any]:
    return {name: tuple(value / 255 for value in color) for name, color in class_colors(class_names).items()}


def _binned(
    times: NDArray[np.float64], probabilities: NDArray[np.float32], longest_gap: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return middles of equal stretches of time and mean probabilities in each; NaN where nothing was seen."""
    count = int(np.clip(len(times), 1, _COLUMNS))
    width = max((times[-1] - times[0]) / count, longest_gap / 50, 1e-6)
    place = np.minimum(((times - times[0]) / width).astype(int), count - 1)
    sums = np.zeros((count, probabilities.shape[1]))
    np.add.at(sums, place, probabilities)
    number = np.bincount(place, minlength=count)[:, None]
    means = np.where(number > 0, sums / np.maximum(number, 1), np.nan)
    middles = times[0] + (np.arange(count) + 0.5) * width
    known = np.flatnonzero(number[:, 0])
    for column in range(means.shape[1]):  # a stretch without a frame between two close ones
        filled = np.interp(middles, middles[known], means[known, column])
        near = (
            np.abs(middles - middles[known][np.searchsorted(middles[known], middles).clip(0, len(known) - 1)])
            < longest_gap
        )
        means[:, column] = np.where(number[:, 0] > 0, means[:, column], np.where(near, filled, np.nan))
    return middles, means


def time_figure(
    times: NDArray[np.float64],
    probabilities: NDArray[np.float32],
    class_names: Sequence[str],
    shown: Sequence[Mapping[str, Any]],
    title: str,
    longest_gap: float = 1.5,
) -> Figure:
    """Draw the probability of each class over time, and below it the label of each window.

    Args:
        times: of the frames, ``(N,)``, in seconds.
        probabilities: float32 ``(N, K)``.
        class_names: ``(K,)``.
        shown: ``windows`` of ``person_summary``.
        title: of the picture.
        longest_gap: seconds without a frame over which a line goes on.
    """
    colors = _colors(class_names)
    middles, means = _binned(times, probabilities, longest_gap)
    with house_style():
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        figure.suptitle(title)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(8, 1))
        for column, name in enumerate(class_names):
            above.plot(middles, means[:, column], color=colors[name], label=name, linewidth=1.4)
        above.set_ylim(0, 1)
        above.set_ylabel("probability")
        above.grid(axis="y")
        above.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=len(class_names), fontsize=8)
        width = shown[1]["start_s"] - shown[0]["start_s"] if len(shown) > 1 else 1.0
        width = min((b["start_s"] - a["start_s"] for a, b in pairwise(shown)), default=width)
        for name in class_names:
            spans = [(window["start_s"], width) for window in shown if window["label"] == name]
            below.broken_barh(spans, (0, 1), facecolor=colors[name], linewidth=0)
        below.set_ylim(0, 1)
        below.set_yticks([])
        below.set_ylabel(f"{width:g} s", rotation=0, ha="right", va="center")
        below.set_xlabel("seconds")
        below.set_xlim(float(times[0]), max(float(times[-1]), float(times[0]) + 1e-3))
    return figure


def heat_figure(
    times: NDArray[np.float64],
    probabilities: NDArray[np.float32],
    class_names: Sequence[str],
    title: str,
    longest_gap: float = 1.5,
) -> Figure:
    """Draw a strip for each class that is the darker the more probable it is; nothing where no face was seen."""
    middles, means = _binned(times, probabilities, longest_gap)
    scale = LinearSegmentedColormap.from_list("probability", ["#FFFFFF", COLORS["blue"]], bad=BLANK)
    with house_style():
        figure = Figure(figsize=(9.0, 0.7 + 0.3 * len(class_names)), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots()
        half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else 0.5
        extent = (middles[0] - half, middles[-1] + half, len(class_names) - 0.5, -0.5)
        image = axes.imshow(means.T, aspect="auto", cmap=scale, vmin=0, vmax=1, extent=extent, interpolation="nearest")
        axes.set_yticks(range(len(class_names)), class_names)
        axes.set_xlabel("seconds")
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, pad=0.01)
        bar.set_label("probability", color=INK)
        bar.outline.set_edgecolor(FAINT)
    return figure


def share_figure(shares: Mapping[str, float], title: str) -> Figure:
    """Draw how often each class was the most probable one, as a pie; classes that never were are left out."""
    colors, seen = _colors(list(shares)), {name: share for name, share in shares.items() if share > 0}
    with house_style():
        figure = Figure(figsize=(9.0, 3.0), layout="constrained")  # as wide as the others
        figure.suptitle(wrapped(title, figure))
        axes = figure.subplots()
        drawn = axes.pie(
            list(seen.values()),
            colors=[colors[name] for name in seen],
            autopct=lambda percent: f"{percent:.0f} %" if percent >= 100 * _SHORT else "",
            startangle=90,
            counterclock=False,
            wedgeprops={"edgecolor": "white"},
            textprops={"fontsize": 8},
        )
        for name, number in zip(seen, drawn[-1], strict=True):
            number.set_color(INK if np.dot(colors[name], LUMA) > _LIGHT else "white")
        axes.legend(
            [f"{name} {share:.1%}" for name, share in seen.items()], loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
    return figure
