"""What each stage from a picture to probabilities makes of small inputs here; the page must make the same of them.

``python -m tests.inference.serve.stages`` writes ``stages.json``, which the tests of both languages compare with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.files import write_atomically
from fer_lightning.inference.faces import blazeface
from fer_lightning.inference.faces.views import in_border
from fer_lightning.inference.framing import Framing, crop
from fer_lightning.models.calibration import Calibration, plain_calibration
from fer_lightning.preprocessing import scaled
from fer_lightning.types import Preprocessing
from tests.inference.helpers import CALIBRATION, tiny_model

__all__ = ["FILE", "picture", "stages"]

FILE = Path(__file__).with_name("stages.json")

_RESIZED = [  # height, width, channels of the network, its size, rule
    (13, 11, 1, 8, "area"),
    (13, 11, 3, 8, "area"),
    (5, 7, 1, 8, "area"),
    (5, 7, 3, 8, "area"),
    (6, 13, 1, 8, "area"),
    (8, 8, 1, 8, "area"),
    (13, 11, 1, 8, "bilinear"),
    (5, 7, 1, 8, "bilinear"),
    (160, 160, 1, 6, "area"),
]
_LEVEL = Framing(0.62, 0.48, 0.56, 0.4, 0.7)
_CUT: list[tuple[tuple[float, ...], Framing | None, list[list[float]] | None]] = [  # box, framing, eyes to be level
    ((10.2, 12.7, 20.4, 24.1), None, None),
    ((10.2, 12.7, 20.4, 24.1), Framing(0.62, 0.48, 0.56, 0.4, 5.0), None),
    ((-5.5, 40.5, 30.0, 30.0), Framing(0.5, 0.5, 0.5), None),
    ((50.0, -3.0, 9.0, 16.0), Framing(0.9, 0.5, 0.5), None),
    ((3.0, 3.0, 0.2, 0.2), None, None),
    ((20.0, 18.0, 16.0, 18.0), _LEVEL, [[23, 23], [33, 26]]),
    ((1.0, 40.0, 16.0, 18.0), _LEVEL, [[4, 49], [13, 44]]),
]
_FOUND: list[tuple[blazeface.Kind, bool, float, dict[int, float]]] = [  # kind, squares, border, logit of anchors
    ("full", False, 0.0, {1200: 3.0, 1201: 2.0, 40: 0.2, 2303: -0.1}),
    ("full", True, 0.0, {1200: 1.0, 600: 4.0, 1180: 0.5}),
    ("short", False, 0.5, {300: 1.5, 511: 0.5, 700: 2.5}),
]
_CALIBRATED = [Calibration(1.7), CALIBRATION]
_RAW = (2.5, -1.25, 40.0, 44.0, -9.0, -11.0, 8.0, -10.0)  # what a made-up detector says of each anchor
_OF_CUT, _OF_INPUT = 7, 997  # every so manieth value is compared of what is cut out, and of a detector's input


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Return a smooth picture uint8 ``(height, width, 3)`` that any language can compute."""
    y, x, c = np.mgrid[:height, :width, :3]
    return np.asarray((3 * x * (1 + c) + 5 * y + x * y % (11 + c)) % 256, np.uint8)


Case = dict[str, dict[str, Any]]
"""Of one stage: what it is given (``of``) and what it makes of that (``made``), plain values by name."""


def stages() -> dict[str, list[Case]]:
    """Return cases of each stage."""
    return {
        "resized": [_resized(*each) for each in _RESIZED],
        "cut": [_cut(*each) for each in _CUT],
        "found": [_found(*each) for each in _FOUND],
        "classified": [_classified(each) for each in _CALIBRATED],
    }


def _resized(height: int, width: int, channels: int, size: int, rule: Any) -> Case:
    preprocessing: Preprocessing = {
        "image_size": size,
        "channels": channels,
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "interpolation": rule,
    }
    pixels = torch.from_numpy(picture(height, width)).permute(2, 0, 1)[None]
    given = {"height": height, "width": width, "preprocessing": preprocessing}
    return {"of": given, "made": {"values": _plain(scaled(pixels, preprocessing), 6)}}


def _cut(box: tuple[float, ...], framing: Framing | None, eyes: list[list[float]] | None) -> Case:
    values = None if framing is None else {"size": framing.size, "x": framing.x, "y": framing.y}
    cut = crop(
        picture(60, 80), np.array(box, np.float32), framing, None if eyes is None else np.array(eyes, np.float32)
    )
    made = {"side": [len(cut)], "red": _plain(cut[..., 0].ravel()[::_OF_CUT], 0)}
    return {"of": {"box": box, "framing": values, "eyes": eyes}, "made": made}


class _MadeUp:
    """A detector's network that finds the same in each picture, and keeps what it was shown."""

    def __init__(self, logits: dict[int, float], anchors: int) -> None:
        self.boxes = np.zeros((anchors, 16), np.float32)
        self.boxes[:, : len(_RAW)] = _RAW
        self.logits = np.full(anchors, -5, np.float32)
        self.logits[list(logits)] = list(logits.values())
        self.seen: list[float] = []

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.seen += _plain(image.ravel()[::_OF_INPUT], 3)
        return self.boxes, self.logits


def _found(kind: blazeface.Kind, squares: bool, border: float, logits: dict[int, float]) -> Case:
    network = _MadeUp(logits, len(blazeface._anchors(kind)))
    with mock.patch.object(blazeface, "_Onnx", return_value=network):
        detector = blazeface.BlazeFace(Path("made_up.onnx"), kind, views="squares" if squares else "none")
    pixels = picture(60, 80)
    found = in_border(pixels, detector, border) if border else detector(pixels)
    given = {"kind": kind, "squares": squares, "border": border, "logits": logits, "raw": _RAW}
    made = {"boxes": _plain(found.boxes, 2), "scores": _plain(found.scores, 5), "eyes": _plain(found.eyes, 2)}
    return {"of": given, "made": {"inputs": network.seen, **made}}


def _classified(calibration: Calibration) -> Case:
    model = tiny_model()
    logits = model.backend(model.scaled([picture(48, 48)]))
    made = {"logits": _plain(logits, 4), "probabilities": _plain(calibration.probabilities(logits), 5)}
    return {"of": plain_calibration(calibration), "made": made}


def _plain(values: Any, digits: int) -> list[float]:
    return [round(float(value), digits) for value in np.asarray(values).ravel()]


if __name__ == "__main__":
    print(write_atomically(FILE, json.dumps(stages())))
