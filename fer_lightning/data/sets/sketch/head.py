"""The head: its outline, hair, scarf, beard and glasses, as strokes. What moves stands in ``features``."""

from __future__ import annotations

import numpy as np

from fer_lightning.data.sets.sketch.actions import Actions, Dice
from fer_lightning.data.sets.sketch.person import Person
from fer_lightning.data.sets.sketch.rendering import Points, Stroke, blob, curve, fill, line

__all__ = ["back_strokes", "front_strokes", "head_strokes", "jaw_drop"]

_TURN = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)
_LOW = np.maximum(_SIN, 0.0)
_CHEEK = 1.0 + 0.06 * np.sin(2.0 * _TURN) * np.sign(_COS) * (_LOW > 0.0)  # fuller below the ears
_CLOSED = np.append(np.arange(40), 0)
_ARC = np.linspace(np.pi + 0.02, 2.0 * np.pi - 0.02, 17)
_ARC_COS, _ARC_SIN = np.cos(_ARC), np.sin(_ARC)
_LINE = np.linspace(1.0, -1.0, 17)


def _smooth(*corners: tuple[float, float]) -> Points:
    """Return a closed shape whose corners are cut twice (Chaikin 1974)."""
    points = np.array(corners)
    for _ in range(2):
        following = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1)
        points = cut.reshape(-1, 2)
    return points


def _mirrored(*left: tuple[float, float]) -> Points:
    """Return a smooth symmetric shape, given its left half from top to bottom."""
    return _smooth(*left, *((-x, y) for x, y in reversed(left)))


# The shapes of hair and scarf have the head's half width as their unit along x, the face unit along y.
_SIDES = np.abs(_LINE) ** 7
_EDGE: dict[str, Points] = {
    "short": 0.55 * _SIDES + 0.02 * np.cos(9.0 * _LINE),
    "parted": 0.5 * np.abs(_LINE - 0.35) ** 1.4 - 0.14 + 0.2 * _SIDES,
    "curly": 0.5 * _SIDES + 0.035 * np.cos(14.0 * _LINE),
    "long": 0.62 * np.abs(_LINE - 0.1) ** 1.5 - 0.16,
    "bob": 0.16 + 0.3 * _SIDES - 0.02 * np.cos(16.0 * _LINE),
    "bun": 0.45 * _LINE**4 - 0.06,
}
"""Lower border of the hair, relative to the hairline, from right to left."""
_BEHIND = {
    "long": _mirrored((-0.3, -1.18), (-0.9, -1.05), (-1.14, -0.5), (-1.16, 0.3), (-1.26, 1.0), (-1.3, 1.9)),
    "bob": _mirrored(
        (-0.3, -1.18), (-0.95, -1.05), (-1.16, -0.4), (-1.24, 0.3), (-1.18, 0.72), (-1.0, 0.84), (-0.7, 0.84)
    ),
    "curly": curve((1.3 + 0.06 * np.cos(13.0 * _TURN)) * _COS, (0.92 + 0.05 * np.cos(13.0 * _TURN)) * _SIN - 0.3),
    "scarf": _mirrored((-0.4, -1.2), (-1.0, -1.0), (-1.18, -0.3), (-1.15, 0.5), (-1.3, 1.2), (-1.6, 2.0)),
}
"""Hair or cloth behind the head."""
_NECK = _mirrored((-0.38, 0.5), (-0.4, 1.1), (-0.5, 1.9))
_SHOULDERS = _mirrored((0.0, 1.4), (-0.3, 1.33), (-0.5, 1.25), (-1.2, 1.4), (-1.7, 1.75))
_LOCKS = {
    "long": _smooth(
        (-0.35, -0.75), (-0.8, -0.5), (-0.92, -0.1), (-0.95, 0.6), (-1.0, 1.7), (-1.32, 1.7), (-1.14, -0.5)
    ),
    "bob": _smooth((-0.8, -0.6), (-0.9, 0.0), (-0.88, 0.5), (-0.76, 0.82), (-1.14, 0.88), (-1.26, 0.5), (-1.12, -0.6)),
}
_STRANDS = [curve(-reach * _COS[4:9], -0.14 - (reach - 0.12) * _SIN[4:9]) for reach in (1.0, 0.93, 0.86)]
_BAND = np.linspace(0.5 * np.pi, 2.5 * np.pi, 40)
_HOOD = curve(np.cos(_BAND) * 1.17, np.sin(_BAND) * 1.16)
_HEM = curve(np.cos(_BAND) * 0.9, np.sin(_BAND) * 0.88 + 0.02)[::-1]
_RIM = np.linspace(0.0, 2.0 * np.pi, 21)
_RIM_COS, _RIM_SIN = np.cos(_RIM), np.sin(_RIM)


def _outline(person: Person, drop: float) -> Points:
    """Return the head's outline, from the right ear over the chin; ``drop`` lowers the chin."""
    x = person.width * _COS * (1.0 - person.taper * _LOW**2) * _CHEEK
    return curve(x, np.where(_SIN > 0.0, _SIN * (person.chin + drop), _SIN))


def jaw_drop(actions: Actions) -> float:
    """Return by how much the chin is lower than at rest."""
    return 0.15 * actions.mean[26] + 0.03 * actions.mean[25] - 0.03 * actions.mean[17]


def back_strokes(person: Person, dice: Dice) -> list[Stroke]:
    """Return what lies behind the face: things on the wall, hair or scarf, neck and clothes."""
    width, between = person.width, dice.between
    strokes = [
        blob(between(-1.2, 1.2), between(-1.0, 1.0), between(0.1, 0.5), between(0.1, 0.5), "thing"),
        blob(between(-1.2, 1.2), between(-1.0, 1.0), between(0.1, 0.4), between(0.3, 1.0), "thing", 0.9),
    ]
    if person.hair == "bun":
        strokes += [blob(between(-0.1, 0.1), -1.12, 0.28, 0.26, "hair")]
    elif person.hair in _BEHIND:
        strokes += [fill(_BEHIND[person.hair] * (width, 1.0), "cloth" if person.hair == "scarf" else "hair")]
    return [*strokes, fill(_NECK, "shade"), fill(_SHOULDERS, "cloth")]


def head_strokes(person: Person, actions: Actions) -> list[Stroke]:
    """Return ears, head and beard: the ground on which the features are drawn."""
    strokes: list[Stroke] = []
    if person.hair != "scarf":
        for side in (-1.0, 1.0):
            x = side * person.width
            strokes += [blob(x, 0.08, 0.1, 0.17, "skin"), blob(x, 0.08, 0.05, 0.1, "shade")]
    outline = _outline(person, jaw_drop(actions))
    strokes += [fill(outline, "skin"), line(outline[_CLOSED], "crease", 0.014, 0.45)]
    if person.beard == "full":
        cheek = curve(_LINE * 0.93 * person.width, 0.45 - 0.35 * _LINE**4)[::-1]
        strokes += [fill(np.concatenate([outline[1:20], cheek]), "hair", 0.75)]
    if person.hair == "shaven":
        strokes += [fill(_cap(person, person.hairline + _EDGE["short"], 0.99), "hair", 0.25)]
    return strokes


def _cap(person: Person, edge: Points, swell: float) -> Points:
    """Return the hair on top of the head; ``edge`` is its lower border from right to left."""
    outer = curve(_ARC_COS * person.width * swell, _ARC_SIN * swell - 0.02)
    return np.concatenate([outer, curve(_LINE * person.width * 0.985, edge)])


def front_strokes(person: Person, dice: Dice) -> list[Stroke]:
    """Return what lies over the features: hair or scarf on the forehead, and glasses."""
    strokes: list[Stroke] = []
    width, style = person.width, person.hair
    side = 1.0 if dice.chance(0.5) else -1.0
    if style == "scarf":
        hem = _HEM * (width, 0.5 * (person.chin + 1.0))
        strokes += [fill(np.concatenate([_HOOD * (width, 1.0), hem]), "cloth"), line(hem, "fold", 0.018, 0.45)]
    elif style != "shaven":
        edge = person.hairline + _EDGE[style]
        cap = _cap(person, edge if side > 0.0 else edge[::-1], 1.14 if style == "curly" else 1.08)
        strokes += [fill(cap, "hair")]
        if style in _LOCKS:
            strokes += [fill(_LOCKS[style] * (sign * width, 1.0), "hair") for sign in (-1.0, 1.0)]
        strokes += [line(strand * (side * width, 1.0), "strand", 0.022) for strand in _STRANDS]
    return strokes + (_glasses(person, dice) if person.glasses else [])


def _glasses(person: Person, dice: Dice) -> list[Stroke]:
    strokes: list[Stroke] = []
    squareness, rx, ry = dice.between(0.55, 1.0), dice.between(0.215, 0.245), dice.between(0.16, 0.205)
    width, y = dice.between(0.018, 0.036), person.eye_y + 0.02
    rim_x = np.sign(_RIM_COS) * np.abs(_RIM_COS) ** squareness
    rim_y = np.sign(_RIM_SIN) * np.abs(_RIM_SIN) ** squareness
    for side in (-1.0, 1.0):
        x = side * (person.eye_x + 0.01)
        strokes += [line(curve(x + rim_x * rx, y + rim_y * ry), "frame", width)]
        strokes += [line(np.array([[x + side * rx, y - 0.03], [side * person.width, y - 0.05]]), "frame", width)]
    inner = person.eye_x + 0.01 - rx
    return [*strokes, line(np.array([[-inner, y - 0.03], [0.0, y - 0.06], [inner, y - 0.03]]), "frame", width)]
