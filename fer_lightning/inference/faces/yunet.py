"""YuNet (Wu et al. 2023, Machine Intelligence Research 20), a small detector whose file the user brings."""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.files import file_digest
from fer_lightning.inference.faces.found import Faces, check_limits
from fer_lightning.text import absent, first_line

__all__ = ["YuNet"]

_OVERLAP = 0.3  # intersection over union from which two boxes are one face


class YuNet:
    """Finds faces by a file such as ``face_detection_yunet_2023mar.onnx``, run by OpenCV; its SHA-256 is told once.

    Args:
        model: the ``.onnx`` file.
        longest: larger pictures are shrunk to this longer side, in pixels; it finds faces from 3 % of that.
        min_score: least score of a face, above 0 and below 1.
        min_size: least side of a face in pixels.

    Raises:
        ConfigError: if the file is missing or none of YuNet, or a value is out of range.
    """

    name = "yunet"

    def __init__(self, model: Path, longest: int = 640, min_score: float = 0.5, min_size: float = 0.0) -> None:
        check_limits(min_score, min_size)
        if not model.is_file():
            raise ConfigError(absent(model, "the file of YuNet"))
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (longest, longest), min_score, _OVERLAP)
            self._network.detect(np.zeros((longest, longest, 3), np.uint8))
        except cv2.error as error:
            raise ConfigError(f"{model} is no YuNet that OpenCV can run: {first_line(error, 200)}") from error
        _tell(model, file_digest(model, "sha256"))
        self._lock = threading.Lock()
        self.longest = longest
        self.min_size = min_size

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        """Return the faces of an RGB picture uint8 ``(H, W, 3)``."""
        factor = max(max(picture.shape[:2]) / self.longest, 1.0)
        small = picture
        if factor > 1:
            size = (max(round(picture.shape[1] / factor), 1), max(round(picture.shape[0] / factor), 1))
            small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        with self._lock:  # the size of the next picture is set beforehand
            self._network.setInputSize((small.shape[1], small.shape[0]))
            _, found = self._network.detect(np.ascontiguousarray(small[..., ::-1]))
        if found is None:
            return Faces.none()
        rows = np.asarray(found, np.float32)  # box, five points of which the eyes are the first, score
        faces = Faces(rows[:, :4], rows[:, 14], rows[:, 4:8].reshape(-1, 2, 2))
        return faces.moved(factor, 0.0, 0.0).distinct(_OVERLAP).at_least(self.min_size)


@lru_cache(maxsize=8)
def _tell(model: Path, digest: str) -> None:
    print(f"faces are found by YuNet, {model} (sha256 {digest})", file=sys.stderr)
