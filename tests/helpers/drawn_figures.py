"""What stands in a drawing: its lines, bars and whiskers as numbers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

__all__ = ["bars", "line", "whiskers"]


def line(axes: Axes, label: str) -> NDArray[np.float64]:
    """Return the points of the line with a label, float64 ``(N, 2)``."""
    [found] = [each for each in axes.lines if each.get_label() == label]
    return np.asarray(found.get_xydata(), np.float64)


def bars(axes: Axes) -> list[tuple[float, float, float, float]]:
    """Return left, lower end, width and height of each bar."""
    return [
        (*each.get_xy(), each.get_width(), each.get_height()) for each in axes.patches if isinstance(each, Rectangle)
    ]


def whiskers(axes: Axes) -> list[tuple[float, float, float, float]]:
    """Return place, value, lower end and upper end of each dot with an error bar, be it upright or lying."""
    found = []
    for container in axes.containers:
        dots, _, segments = container
        for (x, y), ends in zip(dots.get_xydata(), segments[0].get_segments(), strict=True):
            upright = ends[0][0] == ends[1][0]
            place, value = (x, y) if upright else (y, x)
            low, high = (ends[0][1], ends[1][1]) if upright else (ends[0][0], ends[1][0])
            found.append((float(place), float(value), float(low), float(high)))
    return found
