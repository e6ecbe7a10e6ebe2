"""What moves in a face: brows, eyes, nose, mouth and creases, as functions of a person and of action units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fer_lightning.data.sets.sketch.actions import Actions, Dice
from fer_lightning.data.sets.sketch.head import jaw_drop
from fer_lightning.data.sets.sketch.person import Person
from fer_lightning.data.sets.sketch.rendering import Points, Stroke, blob, curve, fill, line

__all__ = [
    "EyeCurves",
    "MouthCurves",
    "brow_curve",
    "eye_curves",
    "feature_strokes",
    "mouth_curves",
    "occluder_strokes",
    "soft_strokes",
]

_T = np.sin(np.linspace(-0.5 * np.pi, 0.5 * np.pi, 15))  # denser towards the corners, where curves are steep
_ABS = np.abs(_T)
_ARCH = 1.0 - _T**2
_LID = 1.0 - _ABS**2.4
_BOW = (1.0 - _ABS**1.5) * (1.0 - 0.28 * np.exp(-((_T / 0.16) ** 2)))  # the upper lip's dip in the middle
_LEFT = _T < 0.0
_S = np.linspace(0.0, 1.0, 8)  # along a brow, from the nose outwards
_TAPER = np.array([0.8, 1.0, 1.0, 0.95, 0.85, 0.7, 0.5, 0.2])
_DISC = 14
_ANGLES = np.linspace(0.0, 2.0 * np.pi, _DISC, endpoint=False)
_RING = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_DISCS = np.concatenate([0.56 * _RING, 0.28 * _RING, 0.12 * _RING + (0.15, -0.18)])
"""Iris, pupil and glint, in terms of half the width of the eye."""
_U = np.linspace(0.0, 1.0, 6)
_BEND = np.stack([(1.0 - _U) ** 2, 2.0 * _U * (1.0 - _U), _U**2], axis=1)  # quadratic Bézier curve
_TONGUE = 1.0 - (_T[3:12] / _T[11]) ** 2
_WING = np.array([[0.62, -0.1], [1.0, -0.05], [1.04, 0.0], [0.8, 0.03], [0.5, 0.005]])
_FAINT = 0.14  # creases weaker than this are not drawn


class EyeCurves(NamedTuple):
    """Lids of an eye along ``x``, which runs from the nose outwards."""

    x: Points
    upper: Points
    lower: Points


class MouthCurves(NamedTuple):
    """Edges of the lips along ``x``, from left to right."""

    x: Points
    upper_out: Points
    upper_in: Points
    lower_in: Points
    lower_out: Points


def _ribbon(x: Points, upper: Points, lower: Points) -> Points:
    points = np.empty((2 * len(x), 2))
    points[: len(x), 0], points[: len(x), 1] = x, upper
    points[len(x) :, 0], points[len(x) :, 1] = x[::-1], lower[::-1]
    return points


def brow_curve(person: Person, actions: Actions, side: int) -> Points:
    """Return the middle line of a brow, ``(8, 2)`` from the nose outwards: units 1, 2 and 4 move it, 9 pulls it down.

    Side 0 is the left half of the picture, 1 the right.
    """
    unit = actions.halves[side]
    inner, outer, lower = unit[1], unit[2], unit[4]
    press = lower * max(0.0, 1.0 - 1.5 * inner)  # with AU1 the corrugator draws the brows together more than down
    lift = 0.15 * inner * (1.0 - _S) ** 1.4 + 0.135 * outer * np.sin(0.5 * np.pi * _S) ** 1.6
    drop = press * (0.125 * (1.0 - _S) ** 1.2 + 0.04) + 0.035 * unit[9] * (1.0 - _S)
    sag = 0.03 * inner * (1.0 - outer) * _S
    arch = person.brow_arch * np.sin(np.pi * _S**1.3) * (1.0 - 0.6 * lower)
    start = 0.14 - 0.045 * lower
    x = start + (person.eye_x + person.eye_w * 1.12 - start) * _S
    return curve(x if side else -x, person.brow_y + drop + sag - lift - arch)


def eye_curves(person: Person, actions: Actions, side: int) -> EyeCurves:
    """Return the lids of an eye: unit 5 opens it; 6, 7, 9 and 64 close it. Side 0 is the left half of the picture."""
    unit = actions.halves[side]
    opening = 1.0 + 0.8 * unit[5] - 0.34 * unit[7] - 0.15 * unit[6] - 0.38 * unit[64] - 0.3 * unit[9]
    upper = person.eye_open * max(0.12, opening)
    lower = person.eye_open * 0.62 * (1.0 + 0.25 * unit[5] - 0.7 * unit[7] - 1.15 * unit[6] - 0.55 * unit[9])
    slant = 0.035 * unit[1] * (1.0 - unit[2]) - 0.035 * unit[4] * (1.0 - unit[1])
    middle = person.eye_y - person.canthal * _T
    top = middle - (upper - slant * _T) * _LID
    bottom = np.maximum(middle + lower * _ARCH, top + 0.012)
    x = person.eye_x + person.eye_w * _T
    return EyeCurves(x if side else -x, top, bottom)


def mouth_curves(person: Person, actions: Actions) -> MouthCurves:
    """Return the edges of the lips, which units 10, 12, 15..17, 20 and 23..26 shape; inner edges meet when closed."""
    unit = actions.mean
    tight = max(unit[23], unit[24])
    wide = 0.26 * unit[12] + 0.3 * unit[20] - 0.34 * unit[26] * (1.0 - max(unit[12], unit[20])) - 0.2 * tight
    x = person.mouth_w * (1.0 + wide - 0.08 * unit[17]) * _T
    pull = [0.15 * half[12] - 0.13 * half[15] - 0.03 * half[20] for half in actions.halves]
    middle = person.mouth_y + 0.05 * unit[26] + 0.02 * unit[12] - 0.035 * unit[17] - 0.02 * unit[15] - 0.02 * unit[10]
    rest = middle - np.where(_LEFT, pull[0], pull[1]) * _ABS**1.6
    parted = max(0.0, unit[25] - 0.15) / 0.85
    jaw = max(0.0, unit[26] - 0.15) / 0.85
    profile = (1.0 - _ABS ** (2.0 + 2.5 * unit[20] + 1.5 * unit[10])) ** (1.0 - 0.4 * jaw * (1.0 - unit[12]))
    up = (0.035 * parted + 0.035 * jaw + 0.05 * unit[10] * parted) * profile
    reach = 0.23 * jaw * (1.0 - 0.35 * unit[20] - 0.45 * unit[12])
    down = ((0.04 + 0.03 * unit[16] + 0.03 * unit[12]) * parted + reach) * profile
    raised = 0.05 * unit[10] * (1.0 - 0.7 * _T**2) * (1.0 - _ABS**6)
    thick = person.lips * (1.0 - 0.65 * tight) * (1.0 - 0.3 * unit[12]) * (1.0 - 0.35 * unit[20]) + 0.006
    upper_in, lower_in = rest - up - raised * (0.4 + 0.6 * parted), rest + down
    pout = 1.2 + 0.45 * unit[17] + 0.3 * unit[16]
    upper_out = np.minimum(upper_in - thick * _BOW - 0.6 * raised, upper_in)
    return MouthCurves(x, upper_out, upper_in, np.maximum(lower_in, upper_in), lower_in + pout * thick * _ARCH)


def _brow(person: Person, actions: Actions, side: int) -> Stroke:
    middle = brow_curve(person, actions, side)
    half = 0.5 * person.brow_w * _TAPER
    return fill(_ribbon(middle[:, 0], middle[:, 1] - half, middle[:, 1] + half), "brow")


def _eye(person: Person, actions: Actions, side: int) -> list[Stroke]:
    unit, eye = actions.halves[side], eye_curves(person, actions, side)
    discs = _DISCS * person.eye_w
    discs[:, 0] += eye.x[7] + person.gaze[0]
    discs[:, 1] += person.eye_y - 0.012 + person.gaze[1] + 0.035 * unit[64]
    along = discs[:, 0] if side else -discs[:, 0]
    x = eye.x if side else -eye.x
    np.maximum(discs[:, 1], np.interp(along, x, eye.upper), out=discs[:, 1])
    np.minimum(discs[:, 1], np.interp(along, x, eye.lower), out=discs[:, 1])
    fold = eye.upper - (0.045 - 0.015 * unit[5]) * _LID - 0.006
    return [
        fill(_ribbon(eye.x, eye.upper, eye.lower), "white"),
        fill(discs[:_DISC], "iris"),
        fill(discs[_DISC : 2 * _DISC], "pupil"),
        fill(discs[2 * _DISC :], "glint"),
        line(curve(eye.x, eye.lower), "crease", 0.014, 0.7),
        line(curve(eye.x, eye.upper), "lash", 0.032),
        line(curve(eye.x, fold)[2:13], "crease", 0.014, 0.6),
    ]


def _nose(person: Person, actions: Actions) -> list[Stroke]:
    width = person.nose_w * (1.0 + 0.12 * actions.mean[9] + 0.1 * actions.mean[12])
    strokes: list[Stroke] = []
    for side, sign in enumerate((-1.0, 1.0)):
        y = person.nose_y - 0.05 * actions.halves[side][9] - 0.02 * actions.halves[side][10]
        strokes += [line(curve(_WING[:, 0] * (sign * width), _WING[:, 1] + y), "crease", 0.02, 0.8)]
        strokes += [blob(sign * width * 0.45, y + 0.005, 0.04, 0.02, "crease")]
    bridge = np.array([[-0.075, person.eye_y - 0.02], [-0.06, 0.08], [-0.08, person.nose_y - 0.12]])
    tip = np.array([[-0.05, 0.03], [0.0, 0.045], [0.05, 0.03]]) + np.array([0.0, person.nose_y])
    return [*strokes, line(bridge, "crease", 0.016, 0.4), line(tip, "crease", 0.018, 0.7)]


def _mouth(actions: Actions, mouth: MouthCurves) -> list[Stroke]:
    x, opening = mouth.x, mouth.lower_in - mouth.upper_in
    strokes = [fill(_ribbon(x, mouth.upper_out, mouth.lower_out), "lip")]
    gap = float(opening[7])
    if gap < 0.02:
        return [*strokes, line(curve(x, mouth.upper_in), "cavity", 0.026)]
    strokes += [fill(_ribbon(x, mouth.upper_in, mouth.lower_in), "cavity")]
    bared = max(actions.mean[12], actions.mean[20], actions.mean[10])
    teeth = np.minimum(mouth.upper_in + (0.012 + 0.07 * bared) * _ARCH**0.5, mouth.lower_in)
    strokes += [fill(_ribbon(x, mouth.upper_in, teeth)[1:-1], "teeth")]
    if gap > 0.13:
        base = mouth.lower_in[3:12]
        strokes += [fill(_ribbon(x[3:12], np.maximum(base - 0.33 * gap * _TONGUE, teeth[3:12]), base), "tongue")]
    return [*strokes, line(curve(x, mouth.upper_in), "cavity", 0.014)]


def _crease(points: list[tuple[float, float]], strength: float, width: float = 0.02) -> list[Stroke]:
    """Return a crease, or nothing where the skin hardly folds; three points are bent into a curve."""
    if strength <= _FAINT:
        return []
    bent = _BEND @ np.array(points) if len(points) == 3 else np.array(points)
    return [line(bent, "crease", width, min(1.0, strength))]


def _upper_creases(person: Person, actions: Actions) -> list[Stroke]:
    """Return the folds of forehead, brow and eyes."""
    strokes: list[Stroke] = []
    inner, outer, brow, age = actions.mean[1], actions.mean[2], person.brow_y, person.wrinkles
    reach = 0.14 + 0.26 * max(min(1.0, outer), 0.6 * age)
    for row in (0.17, 0.24):
        arch = [(-reach, brow - row + 0.02), (0.0, brow - row - 0.03), (reach, brow - row + 0.02)]
        strokes += _crease(arch, max(0.8 * inner, 0.4 * age))
    for side, sign in enumerate((-1.0, 1.0)):
        unit = actions.halves[side]
        frown = unit[4] * (1.0 - 0.3 * unit[1])
        strokes += _crease(
            [(sign * 0.05, brow + 0.11), (sign * 0.06, brow - 0.03)], max(0.95 * frown, 0.2 * age), 0.024
        )
        for step in (0.0, 0.06, 0.12):
            y = person.eye_y - 0.02 + step
            strokes += _crease([(sign * 0.02, y - 0.035), (sign * 0.1, y + 0.03)], 0.95 * unit[9], 0.024)
        corner = person.eye_x + person.eye_w * 1.06
        for slope in (-0.06, 0.01, 0.07):
            y = person.eye_y + 0.01
            feet = [(sign * corner, y + 0.4 * slope), (sign * (corner + 0.11), y + slope)]
            strokes += _crease(feet, max(0.75 * unit[6], 0.7 * age))
        low, w = person.eye_y + 0.085 - 0.01 * unit[6], person.eye_w
        bag = [(sign * (person.eye_x + w * t), low + 0.08 * (1.0 - abs(t))) for t in (-0.8, 0.0, 0.8)]
        strokes += _crease(bag, max(0.75 * unit[6], 0.6 * unit[7], 0.5 * unit[9], 0.7 * age))
    return strokes


def _lower_creases(person: Person, actions: Actions, mouth: MouthCurves) -> list[Stroke]:
    """Return the folds of cheeks and chin."""
    strokes: list[Stroke] = []
    for side, sign in enumerate((-1.0, 1.0)):
        unit = actions.halves[side]
        x, y = abs(float(mouth.x[0])), float(mouth.upper_in[-side])
        nose = person.nose_y - 0.05 * unit[9] - 0.06
        bulge = 0.08 + 0.06 * unit[12]
        fold = [
            (sign * (person.nose_w + 0.035), nose),
            (sign * (person.nose_w + 0.09 + bulge), 0.5 * (nose + y)),
            (sign * (x + 0.055 + 0.2 * bulge), y - 0.02),
        ]
        strokes += _crease(fold, max(0.95 * unit[9], 0.85 * unit[10], 0.8 * unit[12], 0.9 * person.wrinkles))
        droop = [(sign * (x + 0.02), y), (sign * (x + 0.045), y + 0.08)]
        strokes += _crease(droop, max(0.85 * unit[15], 0.5 * person.wrinkles))
        stretch = [(sign * (x + 0.05), y - 0.09), (sign * (x + 0.075), y), (sign * (x + 0.05), y + 0.1)]
        strokes += _crease(stretch, 0.7 * unit[20])
    chin = actions.mean[17]
    top = min(float(mouth.lower_out[7]) + 0.07, person.chin + jaw_drop(actions) - 0.08)
    dimple = [(-0.14, top + 0.07), (0.0, top - 0.08), (0.14, top + 0.07)]
    return strokes + _crease(dimple, 0.9 * chin, 0.024)


def feature_strokes(person: Person, actions: Actions) -> list[Stroke]:
    """Return all that moves, from back to front."""
    mouth = mouth_curves(person, actions)
    moustache: list[Stroke] = []
    if person.beard != "none":
        base = mouth.upper_out + 0.01
        moustache = [fill(_ribbon(mouth.x * 1.08, base - 0.1 * _ARCH - 0.02, base), "hair", 0.9)]
    return [
        *_upper_creases(person, actions),
        *_eye(person, actions, 0),
        *_eye(person, actions, 1),
        _brow(person, actions, 0),
        _brow(person, actions, 1),
        *_nose(person, actions),
        *_lower_creases(person, actions, mouth),
        *_mouth(actions, mouth),
        *moustache,
    ]


def soft_strokes(person: Person, actions: Actions) -> list[Stroke]:
    """Return blurred lights and shadows: they give the face its volume."""
    strokes: list[Stroke] = [
        blob(0.0, person.brow_y - 0.15, 0.4, 0.16, "glow", 0.6),
        blob(0.0, 0.5 * person.nose_y, 0.05, 0.24, "glow"),
        blob(0.0, person.chin + jaw_drop(actions) - 0.03, 0.3, 0.07, "shadow", 0.6),
    ]
    for side, sign in enumerate((-1.0, 1.0)):
        raised = max(actions.halves[side][6], 0.6 * actions.halves[side][12])
        strokes += [
            blob(sign * (person.width - 0.1), 0.35, 0.09, 0.5, "shadow", 0.7),
            blob(sign * person.eye_x, person.eye_y - 0.12, 0.17, 0.05, "shadow", 0.6),
            blob(sign * 0.42, 0.3 - 0.06 * raised, 0.15, 0.13, "blush", 0.5 + 0.4 * raised),
        ]
        if raised > 0.3:
            strokes += [blob(sign * 0.4, 0.2, 0.11, 0.06, "glow", raised)]
    return strokes


def occluder_strokes(dice: Dice) -> list[Stroke]:
    """Return something before the face: a hand, a strip of cloth or a box."""
    sign = 1.0 if dice.chance(0.5) else -1.0
    kind = dice.pick(("hand", "strip", "box"))
    x, y = sign * dice.between(0.25, 0.6), dice.between(-0.35, 0.8)
    if kind == "box":
        w, h = dice.between(0.15, 0.3), dice.between(0.15, 0.3)
        return [fill(np.array([[x - w, y - h], [x + w, y - h], [x + w, y + h], [x - w, y + h]]), "thing")]
    if kind == "strip":
        tilt = dice.between(-0.4, 0.4)
        return [line(np.array([[x - tilt, -1.6], [x + tilt, 1.6]]), "cloth", dice.between(0.08, 0.18))]
    strokes: list[Stroke] = []
    for finger in range(4):
        start = (x + sign * (0.55 + 0.12 * finger), 1.25)
        end = (x + sign * 0.135 * finger, y + 0.04 * (finger - 1.3) ** 2)
        points = np.array([start, ((start[0] + end[0]) / 2 + sign * 0.04, (start[1] + end[1]) / 2), end])
        strokes += [line(points, "crease", 0.145, 0.8), line(points, "skin", 0.12)]
    return strokes
