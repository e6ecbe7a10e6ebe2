"""From strokes to pixels: a small painter with a head that turns, a light, and a camera that is never perfect.

Strokes live in face units: the origin lies between the eyes and the nose, x points right, y points down, and the head
reaches from about -1 to 1. They are painted larger than the picture and averaged down, so that 48 and 256 pixels show
the same face.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.sets.sketch.actions import Dice
from fer_lightning.preprocessing import LUMA

__all__ = [
    "RGB",
    "Drawing",
    "Points",
    "Shot",
    "Stroke",
    "blob",
    "curve",
    "fill",
    "line",
    "mix",
    "render_face",
    "render_mask",
    "sample_shot",
]

Points = NDArray[np.float64]
"""Corners of a line or an area, float64 ``(N, 2)``, x before y."""
RGB = tuple[float, float, float]
"""Red, green and blue: a colour in 0..255, or factors of one."""

_ANGLES = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
_CIRCLE_X, _CIRCLE_Y = np.cos(_ANGLES), np.sin(_ANGLES)
_SHIFT = 3  # OpenCV's fixed-point coordinates: eighths of a canvas pixel
_SHADE = 32  # side of the map that holds light and soft shadows, in cells
_CELLS = (np.arange(_SHADE, dtype=np.float32) + 0.5) / (_SHADE / 2) - 1.0
_SOFT: dict[str, RGB] = {
    "shadow": (0.86, 0.83, 0.82),
    "glow": (1.10, 1.09, 1.07),
    "blush": (1.03, 0.93, 0.92),
}
"""What a soft stroke multiplies the picture by."""


class Stroke(NamedTuple):
    """A filled polygon or a line."""

    points: Points
    """``(P, 2)``, in face units."""
    ink: str
    """Name of a colour in the palette; of a factor in the light for soft strokes."""
    strength: float
    """1 paints the ink, 0 the skin, numbers between a mixture."""
    width: float
    """Of a line, in face units; 0 fills the polygon."""


@dataclass(frozen=True)
class Shot:
    """How a face is photographed.

    Attributes:
        scale: face units in terms of the side of the picture.
        shift: of the origin from the middle of the picture, in face units.
        roll: in-plane rotation in radians.
        yaw: turn to the side in radians.
        pitch: nod in radians.
        gain: contrast, 1 leaves it.
        offset: brightness added, in gray levels.
        light: slope of the light across the picture, along x and y.
        blur: standard deviation as a share of the side of the picture.
        noise: standard deviation of the sensor's noise in gray levels.
    """

    scale: float
    shift: tuple[float, float]
    roll: float
    yaw: float
    pitch: float
    gain: float
    offset: float
    light: tuple[float, float]
    blur: float
    noise: float

    def from_afar(self, times: float) -> Shot:
        """Return the same shot of a scene that is so many times as wide and as high; its middle stays as it was."""
        light = (self.light[0] * times, self.light[1] * times)
        return replace(self, scale=self.scale / times, light=light, blur=self.blur / times)


@dataclass(frozen=True)
class Drawing:
    """All that is to be seen of one face.

    Attributes:
        strokes: painted from back to front.
        soft: blurred shadows and lights, multiplied into the picture.
        palette: the colour of each ink in 0..255, ``skin`` and ``wall0`` .. ``wall3`` among them.
        shot: how it is photographed.
    """

    strokes: Sequence[Stroke]
    soft: Sequence[Stroke]
    palette: Mapping[str, RGB]
    shot: Shot


def sample_shot(dice: Dice, difficulty: float, exposure: tuple[float, float]) -> Shot:
    """Return a random camera and light: difficulty 0 is a frontal portrait in even light, 1 as usual.

    The gain comes from the range ``exposure``: a camera exposes for the face in front of it.
    """

    def spread(extent: float) -> float:
        return difficulty * dice.between(-extent, extent)

    slope, angle = difficulty * dice.between(0.0, 0.4), dice.between(0.0, 2.0 * math.pi)
    return Shot(
        scale=0.49 + spread(0.05),
        shift=(spread(0.09), spread(0.08) - 0.04),
        roll=spread(0.21),
        yaw=spread(0.32),
        pitch=spread(0.14),
        gain=dice.between(*exposure),
        offset=spread(18.0),
        light=(slope * math.cos(angle), slope * math.sin(angle)),
        blur=max(0.0, difficulty * dice.between(-0.008, 0.01)),
        noise=difficulty * dice.between(1.0, 9.0),
    )


def fill(points: Points, ink: str, strength: float = 1.0) -> Stroke:
    """Return a filled polygon."""
    return Stroke(points, ink, strength, 0.0)


def line(points: Points, ink: str, width: float, strength: float = 1.0) -> Stroke:
    """Return an open line."""
    return Stroke(points, ink, strength, width)


def blob(x: float, y: float, rx: float, ry: float, ink: str, strength: float = 1.0) -> Stroke:
    """Return a filled ellipse."""
    return Stroke(curve(_CIRCLE_X * rx + x, _CIRCLE_Y * ry + y), ink, strength, 0.0)


def curve(x: Points, y: Points) -> Points:
    """Return points ``(P, 2)`` from their coordinates."""
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Return a colour on the way from the first (``share`` 0) to the second (1)."""
    rest = 1.0 - share
    return (
        rest * first[0] + share * second[0],
        rest * first[1] + share * second[1],
        rest * first[2] + share * second[2],
    )


def _project(strokes: Sequence[Stroke], shot: Shot) -> Points:
    """Turn the head like the front of an ellipsoid and return all points in shares of the picture's side."""
    points = np.concatenate([stroke.points for stroke in strokes])
    x, y = points[:, 0], points[:, 1]
    depth = 0.6 * np.sqrt(np.maximum(0.0, 1.0 - (x * 1.15) ** 2 - (y * 0.85) ** 2))
    turned_x = x * math.cos(shot.yaw) + depth * math.sin(shot.yaw)
    turned_y = y * math.cos(shot.pitch) + depth * math.sin(shot.pitch)
    cos, sin = shot.scale * math.cos(shot.roll), shot.scale * math.sin(shot.roll)
    points[:, 0] = turned_x * cos - turned_y * sin + (0.5 + shot.shift[0] * shot.scale)
    points[:, 1] = turned_x * sin + turned_y * cos + (0.5 + shot.shift[1] * shot.scale)
    return points


def _gray(colour: RGB) -> RGB:
    level = colour[0] * LUMA[0] + colour[1] * LUMA[1] + colour[2] * LUMA[2]
    return level, level, level


def _paint(
    canvas: NDArray[Any], points: Points, strokes: Sequence[Stroke], palette: Mapping[str, RGB], base: RGB, unit: float
) -> None:
    """Paint strokes from back to front onto a canvas ``(side, side[, 3])``.

    Points are those of all strokes, one after the other, in shares of the side. ``base`` is what an ink of strength 0
    looks like, ``unit`` a face unit in pixels of the canvas.
    """
    fixed = np.rint(points * (canvas.shape[0] << _SHIFT)).astype(np.int32)
    start = 0
    for outline, ink, strength, width in strokes:
        end = start + len(outline)
        colour = palette[ink] if strength >= 1.0 else mix(base, palette[ink], strength)
        if width > 0.0:
            cv2.polylines(canvas, [fixed[start:end]], False, colour, max(1, round(width * unit)), cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(canvas, [fixed[start:end]], colour, cv2.LINE_8, _SHIFT)
        start = end


def _backdrop(palette: Mapping[str, RGB], side: int, gray: bool) -> NDArray[np.uint8]:
    """Return the canvas: a wall whose colour changes from corner to corner, uint8 ``(side, side[, 3])``."""
    corners = np.array([palette[f"wall{corner}"] for corner in range(4)], np.uint8).reshape(2, 2, 3)
    small = np.ascontiguousarray(corners[..., 0]) if gray else corners
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _light(points: Points, soft: Sequence[Stroke], shot: Shot, gray: bool) -> NDArray[np.float32]:
    """Return the factors of light and soft shadow on a coarse grid, float32 ``(32, 32[, 3])``."""
    shade = np.ones((_SHADE, _SHADE) if gray else (_SHADE, _SHADE, 3), np.float32)
    factors = {ink: _gray(factor) for ink, factor in _SOFT.items()} if gray else _SOFT
    _paint(shade, points, soft, factors, (1.0, 1.0, 1.0), _SHADE)
    shade = np.asarray(cv2.blur(cv2.blur(shade, (3, 3)), (3, 3)), np.float32)
    slope = 1.0 + shot.light[0] * _CELLS[None, :] + shot.light[1] * _CELLS[:, None]
    return np.asarray(shade * (slope if gray else slope[..., None]), np.float32)


def render_face(drawing: Drawing, size: int, channels: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint a picture of a side in pixels, uint8 ``(C, H, W)``; the sensor's noise comes from ``rng``."""
    gray, shot = channels == 1, drawing.shot
    factor = _factor(size)
    inks = {ink: _gray(colour) for ink, colour in drawing.palette.items()} if gray else drawing.palette
    points, hard = _project([*drawing.strokes, *drawing.soft], shot), sum(len(each.points) for each in drawing.strokes)
    canvas = _backdrop(inks, size * factor, gray)
    _paint(canvas, points[:hard], drawing.strokes, inks, inks["skin"], shot.scale * size * factor)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    if shot.blur * size > 0.2:
        small = cv2.GaussianBlur(small, (0, 0), shot.blur * size)
    light = _light(points[hard:], drawing.soft, shot, gray)
    picture = small * (cv2.resize(light, (size, size), interpolation=cv2.INTER_LINEAR) * np.float32(shot.gain))
    picture += rng.standard_normal(picture.shape, np.float32) * np.float32(shot.noise) + np.float32(shot.offset)
    levels = np.clip(np.rint(picture), 0.0, 255.0).astype(np.uint8)
    return levels[None] if gray else np.ascontiguousarray(levels.transpose(2, 0, 1))


def render_mask(drawing: Drawing, size: int) -> NDArray[np.float32]:
    """Return how much of each pixel the strokes cover, float32 ``(H, W)`` in 0..1, for a side in pixels."""
    factor, white = _factor(size), (255.0, 255.0, 255.0)
    canvas = np.zeros((size * factor, size * factor), np.uint8)
    inks = dict.fromkeys(drawing.palette, white)
    scale = drawing.shot.scale * size * factor
    _paint(canvas, _project(drawing.strokes, drawing.shot), drawing.strokes, inks, white, scale)
    cover = np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    return np.asarray(cover / 255, np.float32)


def _factor(size: int) -> int:
    """Return how many times as large a picture is painted as it will be."""
    return 4 if size <= 64 else 3 if size <= 128 else 2
