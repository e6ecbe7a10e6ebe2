"""Pictures with the faces that were found in them, and what the network makes of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.figures import class_colors
from fer_lightning.inference.recognizer import Face

__all__ = ["annotated"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER, _INK = (255, 255, 255), (34, 34, 34)


def annotated(
    picture: NDArray[np.uint8],
    faces: Sequence[Face],
    bars: bool = True,
    shown: Mapping[int, tuple[str, float]] | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of an RGB picture uint8 ``(H, W, 3)`` with a box, a label and bars of probabilities for each face.

    Args:
        picture: stays as it is.
        faces: in it.
        bars: also draw a bar for each class, where a face has room for them beside it.
        shown: of a video: the label of each person, by number, and the number in 0..1 beside it; ``None`` shows the
            most probable class and its probability.
    """
    drawn: NDArray[np.uint8] = picture.copy()
    for face in faces:
        colors = class_colors(list(face.probabilities))
        if shown is None:
            label, words = face.label, f"{face.label}{'?' * face.uncertain} {face.confidence:.0%}"
        else:
            label, value = shown[face.number]
            words = f"{face.number}: {label}{'?' * face.uncertain} {value:.0%}"
        _draw_box(drawn, face, words, colors[label])
        if bars:
            _draw_bars(drawn, face, colors)
    return drawn


def _scale(face: Face) -> float:
    """Return the size of the text: so that a label is about as wide as its box, within what can be read."""
    return float(np.clip(face.box[2] / 220, 0.35, 1.2))


def _draw_box(drawn: NDArray[np.uint8], face: Face, words: str, color: tuple[int, int, int]) -> None:
    left, top, width, height = (round(value) for value in face.box)
    scale, thick = _scale(face), max(round(2 * _scale(face)), 1)
    cv2.rectangle(drawn, (left, top), (left + width, top + height), color, thick)
    (wide, high), below = cv2.getTextSize(words, _FONT, scale, thick)
    foot = top - below - 1 if top - high - below > 2 else top + height + high + 3
    start = int(np.clip(left, 0, max(drawn.shape[1] - wide - 4, 0)))
    cv2.rectangle(drawn, (start, foot - high - 3), (start + wide + 4, foot + below), color, cv2.FILLED)
    light = sum(color) > 400
    cv2.putText(drawn, words, (start + 2, foot - 1), _FONT, scale, _INK if light else _PAPER, thick, cv2.LINE_AA)


def _draw_bars(drawn: NDArray[np.uint8], face: Face, colors: Mapping[str, tuple[int, int, int]]) -> None:
    left, top, width, height = (round(value) for value in face.box)
    line = max(height // len(face.probabilities), 1)
    scale = float(np.clip(line / 28, 0.0, 0.6))
    longest = max(cv2.getTextSize(name, _FONT, scale, 1)[0][0] for name in face.probabilities)
    wide = max(round(width * 0.6), longest + 6)
    start = left + width + 4 if left + width + 4 + wide <= drawn.shape[1] else left - 4 - wide
    if scale < 0.3 or start < 0:
        return
    top = int(np.clip(top, 0, max(drawn.shape[0] - line * len(face.probabilities), 0)))
    panel = drawn[top : top + line * len(face.probabilities), start : start + wide]
    panel[:] = cv2.convertScaleAbs(panel, alpha=0.35, beta=0.65 * 255)
    for number, (name, share) in enumerate(face.probabilities.items()):
        upper = top + number * line
        cv2.rectangle(
            drawn, (start, upper + 1), (start + round(share * wide), upper + line - 2), colors[name], cv2.FILLED
        )
        cv2.putText(drawn, name, (start + 3, upper + round(line * 0.7)), _FONT, scale, _INK, 1, cv2.LINE_AA)
