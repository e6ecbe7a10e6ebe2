"""A picture of how the faces sit in the training images of a data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fer_lightning.figures import COLORS, INK, house_style
from fer_lightning.inference.framing import Framing

__all__ = ["framing_figure"]

_INCHES = 2.6  # side of a panel


def framing_figure(mean: NDArray[np.uint8], framings: Mapping[str, Framing]) -> Figure:
    """Draw the mean training image with the box and the eye line of each detector.

    Args:
        mean: of the training images, RGB uint8 ``(S, S, 3)``.
        framings: by detector, at least one.
    """
    with house_style():
        figure = Figure(figsize=(_INCHES * len(framings) + 0.3, _INCHES + 0.9), layout="constrained")
        panels = figure.subplots(1, len(framings), squeeze=False)[0]
        for axes, (name, framing) in zip(panels, framings.items(), strict=True):
            axes.imshow(mean, extent=(0, 1, 1, 0))
            left, top = framing.x - framing.size / 2, framing.y - framing.size / 2
            color = COLORS["orange"]
            axes.add_patch(Rectangle((left, top), framing.size, framing.size, fill=False, edgecolor=color, linewidth=2))
            if framing.eyes is not None:
                axes.axhline(framing.eyes, color=COLORS["sky"], linewidth=1.5)
            reach = [min(0.0, left, top) - 0.02, max(1.0, left + framing.size, top + framing.size) + 0.02]
            axes.set(xlim=reach, ylim=reach[::-1], title=name)
            axes.set_axis_off()
            words = f"box {framing.size:.2f} of the side\n{framing.faces:,} faces in {framing.images:,} images"
            axes.text(0.5, -0.02, words, transform=axes.transAxes, ha="center", va="top", color=INK, size=8)
    return figure
