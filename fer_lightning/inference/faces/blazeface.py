"""BlazeFace, Google's detector for phones (Bazarevsky et al. 2019, arXiv:1907.05047).

onnxruntime runs it in 2 ms on one core, OpenCV, which needs no further package, in 5 ms.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.found import Faces, check_limits
from fer_lightning.inference.faces.views import Views, in_views
from fer_lightning.text import first_line

__all__ = ["BlazeFace", "Kind"]

Kind = Literal["full", "short"]
"""Which BlazeFace: for faces up to five metres away (``full``), or two (``short``)."""

_INPUT = {"full": 192, "short": 128}  # side of the network's input in pixels
_CELLS: dict[str, tuple[tuple[int, int], ...]] = {"full": ((48, 1),), "short": ((16, 2), (8, 6))}
"""Grids of anchors: cells along a side, anchors in each cell. As in MediaPipe's face detection graphs."""
_EYES = slice(4, 8)  # x, y of the right eye and of the left one, as the person has them, behind the box


class BlazeFace:
    """BlazeFace in one of its two sizes.

    Args:
        model: its ``.tflite`` file, for OpenCV, or its ``.onnx`` file, for onnxruntime.
        kind: ``full`` finds faces from 8 % of the picture's longer side, up to 5 m from a phone; ``short`` is for close
            faces, up to 2 m, and finds faces that nearly fill the picture.
        min_score: least score of a face, above 0 and below 1.
        min_size: least side of a face in pixels.
        views: where smaller faces are looked for; see ``in_views``.

    Raises:
        ConfigError: if the file cannot be read or a value is out of range.
    """

    def __init__(
        self,
        model: Path,
        kind: Kind = "full",
        min_score: float = 0.5,
        min_size: float = 0.0,
        views: Views = "none",
    ) -> None:
        check_limits(min_score, min_size)
        self.name = {"full": "blazeface", "short": "blazeface_short"}[kind]
        self._network = (_Onnx if model.suffix == ".onnx" else _OpenCV)(model)
        self._side = _INPUT[kind]
        self._anchors = _anchors(kind)
        self.min_score = min_score
        self.min_size = min_size
        self.views: Views = views

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        """Return the faces of an RGB picture uint8 ``(H, W, 3)``."""
        return in_views(picture, self._look, self.views).at_least(self.min_size)

    def _look(self, picture: NDArray[np.uint8]) -> Faces:
        """Return the faces that one look at a picture ``(H, W, 3)`` finds."""
        height, width = picture.shape[:2]
        side, scale = self._side, max(height, width) / self._side
        high, wide = max(round(height / scale), 1), max(round(width / scale), 1)
        small = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
        top, left = (side - high) // 2, (side - wide) // 2
        square = np.zeros((side, side, 3), np.float32)
        square[top : top + high, left : left + wide] = small
        found, logits = self._network(np.ascontiguousarray((square / 127.5 - 1).transpose(2, 0, 1)[None]))
        scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        likely = scores >= self.min_score
        centre, values = self._anchors[likely] * side, found[likely]
        boxes = np.concatenate([values[:, :2] + centre - values[:, 2:4] / 2, values[:, 2:4]], axis=1)
        eyes = values[:, _EYES].reshape(-1, 2, 2) + centre[:, None]
        faces = Faces(boxes.astype(np.float32), scores[likely].astype(np.float32), eyes.astype(np.float32))
        return faces.moved(scale, -left * scale, -top * scale).distinct()


class _OpenCV:
    """Runs the ``.tflite`` file; not from several threads at once."""

    def __init__(self, model: Path) -> None:
        try:
            self._network = cv2.dnn.readNetFromTFLite(str(model))
        except cv2.error as error:
            raise ConfigError(f"the detector {model} cannot be read: {first_line(error)}") from error
        self._outputs = self._network.getUnconnectedOutLayersNames()
        self._lock = threading.Lock()

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes ``(A, 16)`` and logits ``(A,)`` of an image float32 ``(1, 3, S, S)`` in -1..1."""
        with self._lock:
            self._network.setInput(image)
            outputs = [np.asarray(each, np.float32) for each in self._network.forward(self._outputs)]
        boxes, scores = sorted(outputs, key=lambda each: -each.shape[-1])
        return boxes.reshape(-1, boxes.shape[-1]), scores.ravel()


class _Onnx:
    """Runs the ``.onnx`` file in one thread."""

    def __init__(self, model: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a kind of its own for each fault
            raise ConfigError(f"the detector {model} cannot be read: {first_line(error)}") from error

    def __call__(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes ``(A, 16)`` and logits ``(A,)`` of an image float32 ``(1, 3, S, S)`` in -1..1."""
        boxes, scores = self._session.run(["boxes", "scores"], {"image": image})
        return boxes[0], scores[0, :, 0]


def _anchors(kind: Kind) -> NDArray[np.float32]:
    """Return the centres of the anchors as shares of the side, float32 ``(A, 2)``: x, y."""
    grids = []
    for cells, each in _CELLS[kind]:
        y, x = np.divmod(np.arange(cells * cells), cells)
        grids.append(np.repeat((np.stack([x, y], axis=1) + 0.5) / cells, each, axis=0))
    return np.concatenate(grids).astype(np.float32)
