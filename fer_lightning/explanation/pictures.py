"""Pictures of explanations: heat over faces, grids by class, mean maps, and the curves of their tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_lightning.explanation.explainer import Maps
from fer_lightning.explanation.subject import Subject
from fer_lightning.figures import COLORS, FAINT, data_url, house_style, pixels_webp

__all__ = [
    "covering_figure",
    "grid_figure",
    "means_figure",
    "overlay",
    "picture_uri",
    "pointing_figure",
    "randomisation_figure",
    "stack",
]

_WIDTH = 5.2  # inches: text can still be read on a phone
_SIDE = 96  # pixels of a picture: larger images are shown smaller
_HEAT = 0.5  # share of the hottest colour
_TINTS = ("blue", "orange", "green", "purple", "vermillion", "black")


def overlay(face: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a face with a map over it, RGB uint8 ``(96, 96, 3)``.

    Args:
        face: uint8 ``(C, H, W)``.
        heat: raw map ``(S, S)``; its own largest value is the hottest colour, and an empty map stays blue.
    """
    shown = cv2.resize(heat / max(float(heat.max()), 1e-30), (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
    colors = mpl.colormaps["turbo"](shown)[..., :3]
    return np.asarray(np.rint((1 - _HEAT) * plain(face) + _HEAT * 255 * colors), np.uint8)


def plain(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a face uint8 ``(C, H, W)`` as RGB uint8 ``(96, 96, 3)``."""
    picture = np.ascontiguousarray(face.transpose(1, 2, 0))
    shrinks = max(picture.shape[:2]) > _SIDE
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.broadcast_to(np.asarray(small, np.uint8).reshape(_SIDE, _SIDE, -1), (_SIDE, _SIDE, 3))


def stack(subject: Subject, maps: Maps, row: int) -> NDArray[np.uint8]:
    """Return a face above the same face with each of its maps, RGB uint8 ``(H, 96, 3)``."""
    face = subject.faces[row]
    found = [each[row] for each in (maps.fine, maps.coarse, maps.attention) if each is not None]
    return np.concatenate([plain(face), *(overlay(face, each) for each in found)])


def picture_uri(pixels: NDArray[np.uint8]) -> str:
    """Return pixels, RGB uint8 ``(H, W, 3)``, as an address that holds the picture itself, for a page."""
    return data_url(pixels_webp(pixels), "webp")


def grid_figure(
    columns: Sequence[tuple[NDArray[np.uint8], str]], names: Sequence[str], title: str, divided: int = 0
) -> Figure:
    """Draw stacks of pictures side by side.

    Args:
        columns: of ``stack``, each with a caption of up to two lines.
        names: of the rows from above.
        title: headline.
        divided: columns in front of a gap, 0 for none.
    """
    side, left, gap = 0.8, 0.95, 0.3 * (0 < divided < len(columns))
    width, height = left + side * len(columns) + gap + 0.15, 0.45 + side * len(names) + 0.4
    with house_style():
        figure = Figure(figsize=(max(width, 3.0), height))
        figure.text(0.5, 1 - 0.2 / height, title, ha="center", va="center", weight="bold")
        for row, name in enumerate(names):
            y = 1 - (0.45 + side * (row + 0.5)) / height
            figure.text((left - 0.08) / max(width, 3.0), y, name.replace(" ", "\n"), ha="right", va="center", size=8)
        for place, (pixels, caption) in enumerate(columns):
            x = (left + side * place + gap * (divided <= place)) / max(width, 3.0)
            box = (x, 0.4 / height, 0.97 * side / max(width, 3.0), side * len(names) / height)
            axes = figure.add_axes(box)
            axes.imshow(pixels, aspect="auto", interpolation="none")
            axes.set_axis_off()
            figure.text(x + box[2] / 2, 0.33 / height, caption, ha="center", va="top", size=7)
    return figure


def means_figure(means: Mapping[str, NDArray[np.float32]]) -> Figure:
    """Draw mean maps ``(S, S)`` by class, and below each how it differs from ``all``, the mean over the classes."""
    classes = [each for each in means if each != "all"]
    count = 4
    lines = -(-len(classes) // count)
    hottest = max(float(each.max()) for each in means.values())
    differences = {each: means[each] - means["all"] for each in classes}
    reach = max(float(np.abs(each).max()) for each in differences.values()) or 1.0
    with house_style():
        figure = Figure(figsize=(_WIDTH, 2.65 * lines), layout="constrained")
        axes = figure.subplots(2 * lines, count, squeeze=False)
        for each in axes.flat:
            each.set_axis_off()
        for place, each in enumerate(classes):
            line, column = 2 * (place // count), place % count
            raw: dict[str, Any] = {"interpolation": "none"}
            axes[line, column].imshow(means[each], cmap="inferno", vmin=0, vmax=hottest, **raw)
            axes[line, column].set_title(each, size=9, weight="normal", pad=3)
            axes[line + 1, column].imshow(differences[each], cmap="RdBu_r", vmin=-reach, vmax=reach, **raw)
    return figure


def pointing_figure(ways: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the share of hits of each way to point, with its ends; the line is what any pixel hits."""
    drawn = [way for way in ways if way["hits"] is not None]
    chance = next(way["share"] for way in ways if way["hits"] is None)
    with house_style():
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.34 * len(drawn)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(100 * chance, color=FAINT, linewidth=0.8)
        for place, way in enumerate(drawn):
            share, low, high = (100 * way[key] for key in ("share", "low", "high"))
            ends = [[share - low], [high - share]]
            axes.errorbar(share, place, xerr=ends, color=COLORS["blue"], capsize=3, fmt="o", clip_on=False)
        axes.set_yticks(range(len(drawn)), [way["name"] for way in drawn])
        axes.set(ylim=(len(drawn) - 0.4, -0.6), xlim=(0, 100), xlabel="hottest pixel where the face moved, %")
        axes.grid(axis="x")
    return figure


def randomisation_figure(points: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Figure:
    """Draw the rank correlation with the trained network's maps over the stages that were replaced, by kind of map."""
    with house_style():
        figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        for color, (key, name) in zip(_TINTS, names.items(), strict=False):
            values = [1.0, *(np.nan if point.get(key) is None else point[key] for point in points)]
            axes.plot(range(len(values)), values, "o-", color=COLORS[color], label=name, markersize=4)
        axes.set_xticks(range(len(points) + 1), ["trained", *(f"{point['stage']}" for point in points)])
        axes.tick_params(axis="x", rotation=30)
        axes.set(ylim=(min(0.0, axes.get_ylim()[0]), 1.05), ylabel="rank correlation", xlabel="random weights down to")
        axes.grid(axis="y")
        axes.legend()
    return figure


def covering_figure(orders: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw deletion and insertion curves, one line for each order in which pixels are covered or shown."""
    with house_style():
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        panels = {"deletion": "covered", "insertion": "shown"}
        for axes, (key, what) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
            for color, order in zip(_TINTS, orders, strict=False):
                shares = np.linspace(0, 100, len(order[key]))
                axes.plot(shares, order[key], color=COLORS[color], label=order["name"], linewidth=1.4)
            axes.set(xlabel=f"pixels {what}, %", ylim=(0, 1))
            axes.grid(axis="y")
        figure.axes[0].set_ylabel("probability of the class")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
