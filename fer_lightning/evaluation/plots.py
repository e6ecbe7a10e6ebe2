"""Pictures of an evaluation, in one style: functions from arrays to figures, without windows or global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fer_lightning.figures import BLANK, COLORS, FAINT, INK, SPLIT_COLORS, house_style, wrapped
from fer_lightning.metrics import class_scores, wilson_interval

__all__ = [
    "confusion_matrix_figure",
    "curves_figure",
    "per_class_figure",
    "worst_mistakes_figure",
]

DASHES = ("-", "--", ":", "-.")
BAR = 0.27  # width of a bar and the gap beside it, as a share of a class's room


def _headline(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, pad=21.0)
    axes.annotate(subtitle, (0.5, 1.0), (0, 7), xycoords="axes fraction", textcoords="offset points", ha="center")


def _with_support(class_names: Sequence[str], support: Sequence[int]) -> list[str]:
    return [f"{name}\nn = {n:,}" for name, n in zip(class_names, support, strict=True)]


def confusion_matrix_figure(matrix: NDArray[np.int64], class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, int64 ``(K, K)``, rows true: counts and row percentages, shaded by the latter.

    The row of a class without samples reads "n/a". Number of samples and accuracy are added below the title.
    """
    count, samples = len(class_names), int(matrix.sum())
    support = matrix.sum(axis=1)
    share = matrix / np.where(support > 0, support, 1)[:, None]
    cell = 0.8 if count > 3 else 1.0  # inches
    with house_style():
        figure = Figure(figsize=(cell * count + 1.6, cell * count + 1.35), layout="constrained")
        axes = figure.add_subplot()
        colors = mpl.colormaps["Blues"](share)
        colors[support == 0] = to_rgba(BLANK)
        axes.imshow(colors)
        for row, column in np.ndindex(count, count):
            if support[row]:
                ink = _ink_on(colors[row, column]) if matrix[row, column] else FAINT
                _annotate_cell(axes, (column, row), int(matrix[row, column]), float(share[row, column]), ink)
            else:
                axes.text(column, row, "n/a", ha="center", va="center", color=FAINT)
        axes.set_xticks(range(count), class_names)
        if max(map(len, class_names)) > 10:  # wider than a cell
            axes.set_xticks(range(count), class_names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), _with_support(class_names, support.tolist()))
        # white lines between the cells
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2.0)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted", labelpad=6, weight="bold")
        axes.set_ylabel("true", labelpad=6, weight="bold")
        summary = f"{samples:,} samples, accuracy {matrix.trace() / samples:.1%}" if samples else "no samples"
        shading = "; shading: share of the true class" if count > 4 else ""
        _headline(axes, wrapped(title, figure), summary + shading)
    return figure


def _annotate_cell(axes: Axes, place: tuple[int, int], samples: int, share: float, ink: str) -> None:
    weight = "bold" if place[0] == place[1] else "normal"
    for text, lift, size in ((f"{samples:,}", 6, 9.5), (f"{share:.1%}", -7, 7.5)):
        axes.annotate(
            text,
            place,
            (0, lift),
            textcoords="offset points",
            ha="center",
            va="center",
            color=ink,
            weight=weight,
            size=size,
        )


def _ink_on(color: NDArray[np.float64]) -> str:
    """Return white or the dark ink, whichever has the higher contrast (WCAG 2.1, relative luminance)."""

    def luminance(rgb: NDArray[np.float64]) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    ground, dark = luminance(color[:3]), luminance(np.array(to_rgb(INK)))
    return "white" if 1.05 / (ground + 0.05) > (ground + 0.05) / (dark + 0.05) else INK


def per_class_figure(matrix: NDArray[np.int64], class_names: Sequence[str], title: str) -> Figure:
    """Draw precision, recall and F1 of each class of a confusion matrix, int64 ``(K, K)``, rows true, as bars.

    Recall carries its 95 % Wilson interval. Bars that cannot be known read "n/a".
    """
    scores = class_scores(torch.tensor(matrix))
    support = scores.support.tolist()
    recall = scores.recall.numpy()
    ends = np.array([wilson_interval(int(matrix[k, k]), support[k]) for k in range(len(class_names))]).T
    places = np.arange(len(class_names), dtype=np.float64)
    with house_style():
        figure = Figure(figsize=(max(5.6, 1.15 * len(class_names) + 1.2), 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y")
        _labelled_bars(axes, places - BAR, scores.precision.numpy(), COLORS["sky"], "precision")
        _labelled_bars(axes, places, recall, COLORS["blue"], "recall", tops=ends[1])
        _labelled_bars(axes, places + BAR, scores.f1.numpy(), COLORS["orange"], "F1")
        axes.errorbar(
            places,
            recall,
            np.abs(ends - recall),
            fmt="none",
            ecolor=INK,
            elinewidth=1.0,
            capsize=2.5,
            label="95% interval of the recall",
        )
        axes.set_xticks(places, _with_support(class_names, support))
        axes.tick_params(axis="x", length=0)
        axes.set(xlim=(-0.6, len(class_names) - 0.4), ylim=(0.0, 1.06), ylabel="score", title=wrapped(title, figure))
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def _labelled_bars(
    axes: Axes,
    x: NDArray[np.floating[Any]],
    values: NDArray[np.floating[Any]],
    color: str,
    name: str,
    tops: NDArray[np.float64] | None = None,
) -> None:
    """Draw bars with their values above them, or above ``tops`` where something else stands on the bar."""
    axes.bar(x, np.nan_to_num(values), 0.94 * BAR, color=color, label=name)
    for place, value, top in zip(x, values, values if tops is None else tops, strict=True):
        known = bool(np.isfinite(value))
        axes.annotate(
            f"{value:.2f}" if known else "n/a",
            (place, top if known else 0.0),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            size=7.0,
            color=INK if known else FAINT,
        )


def worst_mistakes_figure(
    images: NDArray[np.uint8],
    true_names: Sequence[str],
    predicted_names: Sequence[str],
    confidences: Sequence[float],
    title: str,
    rows: int = 4,
    columns: int = 6,
) -> Figure:
    """Draw a grid of mistakes in the given order, each with "true → predicted" and the confidence.

    Images are uint8 ``(M, C, H, W)``, gray or RGB; the first ``rows * columns`` are drawn.
    """
    shown = min(len(images), rows * columns)
    columns = max(1, min(columns, shown))
    rows = max(1, math.ceil(shown / columns))
    with house_style():
        figure = Figure(figsize=(max(4.0, 1.6 * columns), 1.9 * rows + 0.5), layout="constrained")
        figure.suptitle(wrapped(title, figure))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        if shown == 0:
            grid[0, 0].text(0.5, 0.5, "no mistakes", ha="center", va="center", color=FAINT, size=11.0)
        for place, axes in enumerate(grid.flat[:shown]):
            image = images[place].transpose(1, 2, 0)
            axes.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
            caption = f"{true_names[place]} → {predicted_names[place]}\n{confidences[place]:.2f}"
            axes.set_title(caption, size=8.0, weight="normal", pad=3.0)
    return figure


def curves_figure(history: Mapping[str, Sequence[tuple[float, float]]], title: str) -> Figure:
    """Draw losses, and beside them all other metrics, over the epochs; the best epoch of a validation curve is marked.

    The history has (epoch, value) pairs by metric name, such as ``train_loss`` or ``val_acc``; names with ``loss``
    share the first panel, all others are scores of which more is better. NaN leaves a gap.
    """
    losses = {name: points for name, points in history.items() if "loss" in name}
    scores = {name: points for name, points in history.items() if "loss" not in name}
    panels = [(kind, curves) for kind, curves in (("loss", losses), ("score", scores)) if curves]
    with house_style():
        figure = Figure(figsize=(max(1, len(panels)) * 4.8, 3.8), layout="constrained")
        figure.suptitle(wrapped(title, figure))
        for place, (kind, curves) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), place + 1)
            _draw_curves(axes, curves, less_is_better=kind == "loss")
            axes.set(xlabel="epoch", ylabel=kind)
    return figure


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], less_is_better: bool) -> None:
    """Draw curves, coloured by split and dashed by metric, and mark the best point of those of the validation."""
    metrics = list(dict.fromkeys(name.partition("_")[2] for name in curves))
    for name, points in curves.items():
        split, _, metric = name.partition("_")
        epochs, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        color, dash = SPLIT_COLORS.get(split, FAINT), DASHES[metrics.index(metric) % len(DASHES)]
        finite = np.flatnonzero(np.isfinite(values))
        label = name
        if split == "val" and len(finite):
            best = finite[np.argmin(values[finite]) if less_is_better else np.argmax(values[finite])]
            label = f"{name}, best {values[best]:.3f} in epoch {epochs[best]:g}"
            axes.plot(epochs[best], values[best], "o", color=color, markersize=7, markeredgecolor="white", zorder=3)
        marker = "o" if len(finite) == 1 else ""
        axes.plot(epochs, values, color=color, linestyle=dash, marker=marker, markersize=4, label=label)
    axes.grid()
    axes.margins(x=0.04, y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="white", fontsize=8.5)
