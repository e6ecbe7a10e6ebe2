"""Looking at parts of a picture, for faces that are small in the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.inference.faces.found import Faces

__all__ = ["Views", "in_border", "in_views"]

Views = Literal["none", "squares", "fine"]
"""``none``: the whole picture alone; ``squares``: also squares as high or wide as its shorter side; ``fine``: also
squares of five eighths of that."""

_FINE = 5 / 8
_SHARED = 0.25  # of a square, with the next one: a face up to this size is whole in one of them


def in_views(picture: NDArray[np.uint8], look: Callable[[NDArray[np.uint8]], Faces], views: Views = "none") -> Faces:
    """Return the faces that a detector finds in a picture and in parts of it, each once.

    Args:
        picture: uint8 ``(H, W, 3)``.
        look: finds the faces of a picture or part.
        views: which parts.
    """
    found = [look(picture)]
    for left, top, side in _squares(picture.shape[1], picture.shape[0], views):
        part = np.ascontiguousarray(picture[top : top + side, left : left + side])
        found.append(_whole(look(part), side).moved(1.0, left, top))
    return Faces.joined(found).distinct() if len(found) > 1 else found[0]


def in_border(picture: NDArray[np.uint8], look: Callable[[NDArray[np.uint8]], Faces], share: float = 0.5) -> Faces:
    """Return the faces that a detector finds in a picture with a gray border, for faces that reach its edges.

    Args:
        picture: uint8 ``(H, W, 3)``.
        look: finds the faces of a picture.
        share: width of the border as a share of the longer side.
    """
    edge = round(share * max(picture.shape[:2]))
    wider = cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    return look(np.asarray(wider, np.uint8)).moved(1.0, -edge, -edge)


def _squares(width: int, height: int, views: Views) -> Iterator[tuple[int, int, int]]:
    """Yield left, top and side of each square in pixels."""
    short = min(width, height)
    sides = {"none": [], "squares": [short], "fine": [short, round(short * _FINE)]}[views]
    for side in sides:
        if side == max(width, height):
            continue  # the picture itself
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield left, top, side


def _starts(length: int, side: int) -> list[int]:
    """Return where squares of a side begin that cover a length, evenly, each sharing a quarter with the next."""
    steps = math.ceil((length - side) / (side * (1 - _SHARED)))
    return [round(step * (length - side) / steps) for step in range(steps + 1)] if steps else [0]


def _whole(faces: Faces, side: int) -> Faces:
    """Return the faces that a part does not cut: those whose centre is not near its edge."""
    centre = faces.boxes[:, :2] + faces.boxes[:, 2:] / 2
    room = np.minimum(centre, side - centre).min(axis=1, initial=np.inf)
    return faces.chosen(room >= 0.4 * faces.boxes[:, 2:].max(axis=1, initial=0))
