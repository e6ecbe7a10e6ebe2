"""How a face sits in the images that a network was trained on, and cutting new faces so that they sit the same way.

Framing is told by the box that BlazeFace *short* draws around the face: data sets are cut more or less closely, and a
network that has only seen close faces answers wrongly where hair and shoulders are in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import DataError
from fer_lightning.inference.faces.found import Faces

__all__ = ["MARGIN", "Framing", "crop", "measured"]

MARGIN = 0.2
"""Share of the larger side of a box that is added on each side where nobody has measured a framing."""

_FEWEST = 20  # faces that a framing is measured on


@dataclass(frozen=True)
class Framing:
    """Medians over a sample of training images, all as shares of the image's side.

    Attributes:
        size: side of the face's box: the root of its area.
        x: middle of the box from the left.
        y: middle of the box from the top.
        eyes: height of the line through the eyes, from the top.
        faces: how many faces were measured.
        images: how many images were looked at.
    """

    size: float
    x: float
    y: float
    eyes: float
    faces: int = 0
    images: int = 0


def measured(found: list[Faces], sides: list[tuple[int, int]]) -> Framing:
    """Return the framing of training images from the faces found in each.

    Args:
        found: the faces of each image; the surest is taken.
        sides: height and width of each image in pixels.

    Raises:
        DataError: if there are too few faces.
    """
    rows = []
    for faces, (height, width) in zip(found, sides, strict=True):
        if len(faces):
            left, top, wide, high = faces.boxes[0]
            size = float(np.sqrt(wide * high / (width * height)))
            eyes = faces.eyes[0, :, 1].mean() / height
            rows.append((size, (left + wide / 2) / width, (top + high / 2) / height, eyes))
    if len(rows) < _FEWEST:
        raise DataError(f"a face was found in {len(rows)} of {len(found)} images: too few to measure how faces sit")
    size, x, y, eyes = np.nanmedian(np.array(rows), axis=0).round(4).tolist()
    return Framing(size, x, y, eyes, len(rows), len(found))


def crop(picture: NDArray[np.uint8], box: NDArray[np.float32], framing: Framing | None = None) -> NDArray[np.uint8]:
    """Return the square part of a picture in which a face sits as in the training images.

    Args:
        picture: uint8 ``(H, W, C)``.
        box: of the face: left, top, width, height in pixels.
        framing: of the training images; ``None`` cuts the box with a margin of :data:`MARGIN`.

    Returns:
        uint8 ``(S, S, C)``; beyond the picture its edge pixels are repeated.
    """
    left, top, wide, high = (float(value) for value in box)
    if framing is None:
        side, x, y = max(wide, high) * (1 + 2 * MARGIN), 0.5, 0.5
    else:
        side, x, y = np.sqrt(wide * high) / framing.size, framing.x, framing.y
    pixels = max(round(side), 1)
    across, down = round(left + wide / 2 - x * side), round(top + high / 2 - y * side)
    return _cut(picture, across, down, pixels)


def _cut(picture: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return a square of a picture; beyond its edge the nearest pixel is repeated."""
    rows = np.clip(np.arange(top, top + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, picture.shape[1] - 1)
    if rows[0] == top and rows[-1] == top + side - 1 and columns[0] == left and columns[-1] == left + side - 1:
        return np.ascontiguousarray(picture[top : top + side, left : left + side])
    return np.ascontiguousarray(picture[rows[:, None], columns])
