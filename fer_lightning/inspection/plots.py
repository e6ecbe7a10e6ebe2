"""Pictures of a data set: class counts, pixel values, brightness, sizes of files, and faces."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from fer_lightning.figures import BLANK, COLORS, FAINT, GRID, INK, SPLIT_COLORS, house_style

__all__ = [
    "class_colors",
    "counts_figure",
    "faces_figure",
    "histogram_figure",
    "light_figure",
    "pairs_figure",
    "samples_figure",
    "sizes_figure",
    "strip_figure",
]

_WIDTH = 9.6  # inches of the widest pictures: as wide as a page
_EDGE = 0.16  # inches of margin
_HEAD = 0.52  # inches for the headline
_CHANNELS = {1: ("gray",), 3: ("red", "green", "blue")}


def class_colors(count: int) -> list[str]:
    """Return a colour for each class, in label order; after eight classes the colours repeat."""
    palette = list(COLORS.values())
    return [palette[label % len(palette)] for label in range(count)]


def _split_color(split: str) -> str:
    return SPLIT_COLORS.get(split, FAINT)


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return a figure with a headline and one coordinate system over all of it: inches from the upper left corner."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(0.0, width), ylim=(height, 0.0))
    lines = _cut(title, int((width - 2 * _EDGE) / 0.105))
    axes.text(width / 2, _HEAD / 2, lines, ha="center", va="center", weight="bold", size=11.0)
    return figure, axes


def _cut(text: str, letters: int) -> str:
    return textwrap.shorten(text, max(letters, 4), placeholder=" …") if " " in text else _middle(text, letters)


def _middle(text: str, letters: int) -> str:
    """Cut a word in the middle: the beginning and the end of a file's name tell it apart from others."""
    if len(text) <= letters:
        return text
    head = max(letters - 1, 2) // 2
    return f"{text[:head]}…{text[-(letters - 1 - head) :]}"


def _show(axes: Axes, image: NDArray[np.uint8], x: float, y: float, side: float) -> None:
    """Draw an image ``(C, H, W)`` as a square on a canvas."""
    picture = image.transpose(1, 2, 0)
    picture = picture if picture.shape[2] == 3 else picture[..., 0]
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(x, x + side, y + side, y), aspect="auto")
    # a frame, so that the border of a white image can be seen
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=GRID, linewidth=0.6))


def counts_figure(counts: Mapping[str, Mapping[str, int]], title: str) -> Figure:
    """Draw how many images each class has in each split; all splits have the same classes."""
    splits = list(counts)
    names = list(next(iter(counts.values()), {}))
    places = np.arange(len(names), dtype=np.float64)
    room = 0.84 / max(1, len(splits))
    with house_style():
        figure = Figure(figsize=(_wide(len(names)), 3.9), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for number, split in enumerate(splits):
            x = places + (number - (len(splits) - 1) / 2) * room
            heights = [counts[split][name] for name in names]
            bars = axes.bar(x, heights, 0.94 * room, color=_split_color(split), label=split)
            axes.bar_label(bars, [f"{height:,}" for height in heights], size=7.0, padding=2)
        axes.set_xticks(places, names)
        _slant(axes, names)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(ylabel="images", xlim=(-0.6, len(names) - 0.4), title=title)
        axes.margins(y=0.1)
        if splits:
            figure.legend(loc="outside lower center", ncols=len(splits))
    return figure


def _wide(classes: int) -> float:
    return min(2 * _WIDTH, max(6.4, 1.15 * classes + 1.5))


def _slant(axes: Axes, names: Sequence[str]) -> None:
    """Rotate the names of the classes where they would overlap."""
    if max(map(len, names), default=0) > 11 or len(names) > 14:
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")


def histogram_figure(histograms: Mapping[str, NDArray[np.int64]], title: str) -> Figure:
    """Draw what share of the pixels has each value, a panel for each channel and a line for each split.

    The y axis is scaled for the values 1 to 254. The shares of black (0) and white (255), which may be much larger, are
    written above the panel.

    Histograms are int64 ``(C, 256)`` by split.
    """
    shares = {split: counts / counts.sum(axis=1, keepdims=True) for split, counts in histograms.items()}
    channels = len(next(iter(histograms.values())))
    names = _CHANNELS.get(channels, tuple(f"channel {number}" for number in range(channels)))
    with house_style():
        figure = Figure(figsize=(_WIDTH if channels > 1 else 7.2, 3.4), layout="constrained")
        figure.suptitle(title)
        for channel, axes in enumerate(figure.subplots(1, channels, squeeze=False, sharey=True).flat):
            axes.grid(axis="y")
            for split, share in shares.items():
                axes.stairs(
                    share[channel], np.arange(257), baseline=None, color=_split_color(split), label=split, linewidth=1.4
                )
            every = np.stack([share[channel] for share in shares.values()])
            ends = f"0: {every[:, 0].max():.1%}   255: {every[:, 255].max():.1%}"
            axes.set_title(f"{names[channel]}   {ends}", size=8.5, weight="normal", color=FAINT)
            axes.set(xlim=(0, 256), xlabel="pixel value", xticks=(0, 64, 128, 192, 255))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        inner = max(share[:, 1:255].max() for share in shares.values())
        figure.axes[0].set(ylim=(0.0, 1.15 * inner if inner > 0 else 1.0), ylabel="share of the pixels")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(shares))
    return figure


def light_figure(
    brightness: NDArray[np.float64],
    contrast: NDArray[np.float64],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draw brightness and contrast of the images of each class: median, quartiles and the middle 90 %.

    Both are float64 ``(N,)`` in 0..1, mean and standard deviation of each image; labels are int64 ``(N,)``.
    """
    colors = class_colors(len(class_names))
    with house_style():
        figure = Figure(figsize=(_WIDTH, max(2.6, 0.36 * len(class_names) + 1.1)), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, values, name in zip(panels, (brightness, contrast), ("brightness", "contrast"), strict=True):
            axes.grid(axis="x")
            for label, color in enumerate(colors):
                part = values[labels == label]
                if len(part):
                    low, first, middle, third, high = np.percentile(part, (5, 25, 50, 75, 95))
                    axes.hlines(label, low, high, color=FAINT, linewidth=1.2, zorder=0.9)
                    axes.barh(label, third - first, 0.56, left=first, color=color)
                    axes.vlines(middle, label - 0.28, label + 0.28, color="white", linewidth=2.2)
                    axes.vlines(middle, label - 0.28, label + 0.28, color=INK, linewidth=1.2)
            axes.set_xlabel(f"{name} of an image (0 to 1)")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(class_names)), class_names)
        panels[0].set_ylim(len(class_names) - 0.5, -0.5)
    return figure


def faces_figure(
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    support: Sequence[int],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draw mean face and standard deviation of each class and of all, and how each mean differs from that of all.

    Both are float64 ``(K + 1, C, H, W)``, 0..1, the last of all classes, NaN for a class without images; ``support`` is
    the number of images of each class.
    """
    names, numbers = [*class_names, "all"], [*support, sum(support)]
    side = min(1.15, (2 * _WIDTH - 1.2) / len(names))
    left, step, top = 1.15, side + 0.08, _HEAD + 0.42
    difference = (mean - mean[-1:])[:-1].mean(axis=1, keepdims=True)
    reach = max(float(np.nanmax(np.abs(difference), initial=0.0)), 1e-3)
    lines = (
        ("mean", mean, "gray", _limits(mean)),
        ("standard\ndeviation", std, "gray", _limits(std)),
        ("brighter or\ndarker\nthan all", difference, "RdBu_r", (-reach, reach)),
    )
    with house_style():
        width = max(left + step * len(names) + _EDGE, 4.2)
        ends = "; ".join(f"{name}: black {low:.2f}, white {high:.2f}" for name, _, _, (low, high) in lines[:2])
        note = f"{ends}; last row: red {reach:.2f} brighter, blue as much darker".replace("\n", " ")
        note = textwrap.fill(note, int((width - left) / 0.062))
        height = top + len(lines) * step + 0.24 + 0.14 * len(note.split("\n"))
        figure, axes = _canvas(width, height, title)
        for column, (name, number) in enumerate(zip(names, numbers, strict=True)):
            x = left + column * step + side / 2
            weight = "bold" if column == len(class_names) else "normal"
            axes.text(x, top - 0.21, _middle(name, int(side / 0.075)), ha="center", va="bottom", weight=weight)
            axes.text(x, top - 0.05, f"n = {number:,}", ha="center", va="bottom", size=7.0, color=FAINT)
        for row, (name, images, cmap, (low, high)) in enumerate(lines):
            y = top + row * step
            axes.text(left - 0.12, y + side / 2, name, ha="right", va="center")
            for column, image in enumerate(images):
                x = left + column * step
                if numbers[column] == 0:
                    axes.add_patch(Rectangle((x, y), side, side, color=BLANK))
                    axes.text(x + side / 2, y + side / 2, "n/a", ha="center", va="center", color=FAINT)
                    continue
                face = image.transpose(1, 2, 0)
                face = np.clip((face - low) / (high - low), 0.0, 1.0) if face.shape[2] == 3 else face[..., 0]
                box = (x, x + side, y + side, y)
                axes.imshow(face, cmap=cmap, vmin=low, vmax=high, extent=box, aspect="auto", interpolation="bilinear")
        axes.text(left, height - _EDGE, note, ha="left", va="bottom", size=7.5, color=FAINT)
    return figure


def _limits(images: NDArray[np.float64]) -> tuple[float, float]:
    """Return which values to draw as black and as white; means of many images use a small part of 0..1."""
    known = images[np.isfinite(images)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return low, max(high, low + 1e-3)


def samples_figure(images: Mapping[str, NDArray[np.uint8]], title: str) -> Figure:
    """Draw a row of images for each class, uint8 ``(M, C, H, W)``; a class may have none."""
    columns = max(1, *(len(part) for part in images.values()))
    letters = min(16, max(map(len, images), default=4))
    left = 0.30 + 0.085 * letters
    side = min(1.0, (_WIDTH - left - _EDGE) / columns - 0.06)
    step = side + 0.06
    with house_style():
        width, height = left + columns * step + _EDGE, _HEAD + len(images) * step + _EDGE
        figure, axes = _canvas(max(width, 3.6), height, title)
        for row, (name, part) in enumerate(images.items()):
            y = _HEAD + row * step
            axes.text(left - 0.1, y + side / 2, _middle(name, letters), ha="right", va="center", size=9.5)
            if not len(part):
                axes.text(left, y + side / 2, "no images", ha="left", va="center", color=FAINT)
            for column, image in enumerate(part):
                _show(axes, image, left + column * step, y, side)
    return figure


def strip_figure(images: NDArray[np.uint8], captions: Sequence[str], title: str, columns: int = 8) -> Figure:
    """Draw images uint8 ``(M, C, H, W)`` in rows, each with a caption of one or two lines below it."""
    side, gap, below = 1.05, 0.1, 0.36
    rows = max(1, math.ceil(len(images) / columns))
    width = 2 * _EDGE + columns * (side + gap) - gap
    with house_style():
        figure, axes = _canvas(width, _HEAD + rows * (side + below) + 0.04, title)
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            x = _EDGE + place % columns * (side + gap)
            y = _HEAD + place // columns * (side + below)
            _show(axes, image, x, y, side)
            _caption(axes, caption, x + side / 2, y + side + 0.03, side + gap)
    return figure


def _caption(axes: Axes, caption: str, x: float, y: float, width: float, color: str = INK) -> None:
    lines = "\n".join(_middle(line, int(width / 0.062)) for line in caption.split("\n"))
    axes.text(x, y, lines, ha="center", va="top", size=7.0, color=color, linespacing=1.15)


def pairs_figure(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    captions: Sequence[tuple[str, str]],
    conflicting: Sequence[bool],
    title: str,
    columns: int = 4,
) -> Figure:
    """Draw pairs of near-duplicates, uint8 ``(M, C, H, W)`` each, side by side, with captions of one or two lines.

    A red frame marks pairs that are ``conflicting``: their labels differ.
    """
    side, gap, below = 1.05, 0.22, 0.42
    step = 2 * side + gap
    rows = max(1, math.ceil(len(first) / columns))
    columns = max(2, min(columns, len(first)))
    with house_style():
        figure, axes = _canvas(2 * _EDGE + columns * step - gap, _HEAD + rows * (side + below) + 0.04, title)
        for place, texts in enumerate(captions):
            x = _EDGE + place % columns * step
            y = _HEAD + place // columns * (side + below)
            color = COLORS["vermillion"] if conflicting[place] else INK
            for number, (images, text) in enumerate(zip((first, second), texts, strict=True)):
                _show(axes, images[place], x + number * side, y, side)
                _caption(axes, text, x + (number + 0.5) * side, y + side + 0.05, 0.95 * side, color)
            if conflicting[place]:
                frame = Rectangle((x, y), 2 * side, side, fill=False, edgecolor=color, linewidth=2.0, zorder=3)
                axes.add_patch(frame)
    return figure


def sizes_figure(
    width: NDArray[np.float64], height: NDArray[np.float64], stored: tuple[int, int], title: str
) -> Figure:
    """Draw histograms of the shorter side of the original files and of their aspect.

    Width and height are float64 ``(N,)``, pixels, above 0; a line marks those of the images in the table, ``stored``.
    """
    shorter = np.minimum(width, height)
    with house_style():
        figure = Figure(figsize=(_WIDTH, 3.3), layout="constrained")
        figure.suptitle(title)
        left, right = figure.subplots(1, 2)
        bins = max(1, min(48, round(float(np.ptp(shorter))) + 1))
        left.hist(shorter, bins=bins, color=COLORS["sky"])
        left.axvline(min(stored), color=COLORS["vermillion"], linestyle="--", label=f"stored: {min(stored)} pixels")
        left.set(xlabel="shorter side of the file, pixels", ylabel="images")
        aspect = np.log2(width / height)
        reach = max(0.5, float(np.abs(aspect).max()))
        right.hist(aspect, bins=np.linspace(-reach, reach, 42), color=COLORS["sky"])
        right.axvline(math.log2(stored[1] / stored[0]), color=COLORS["vermillion"], linestyle="--", label="stored")
        ticks = [tick for tick in (0.125, 0.25, 0.5, 0.75, 1.0, 4 / 3, 2.0, 4.0, 8.0) if abs(math.log2(tick)) <= reach]
        right.set_xticks(np.log2(ticks), [f"{tick:.3g}" for tick in ticks])
        right.set(xlabel="width : height of the file", ylabel="images")
        for axes in (left, right):
            axes.grid(axis="y")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            # above the panel: inside, it could hide bars
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return figure
