"""OpenCV's Haar cascade (Viola and Jones 2001), which needs no file besides OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.found import Faces

__all__ = ["HaarCascade"]


class HaarCascade:
    """Finds upright frontal faces; misses about a quarter of those that BlazeFace finds, and takes ten times as long.

    Args:
        cascade: name of a file that OpenCV brings.
        longest: larger pictures are shrunk to this longer side, in pixels.
        scale: between the sizes that are looked for.
        neighbours: how many hits make a face.
        min_size: least side of a face in pixels.

    Raises:
        ConfigError: if OpenCV has no such cascade.
    """

    def __init__(
        self,
        cascade: str = "haarcascade_frontalface_alt2.xml",
        longest: int = 640,
        scale: float = 1.2,
        neighbours: int = 4,
        min_size: float = 24.0,
    ) -> None:
        path = Path(cv2.data.haarcascades) / cascade  # type: ignore[attr-defined]  # its stubs lack it
        self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise ConfigError(f"OpenCV has no cascade {path}: see fer doctor")
        self.longest = longest
        self.scale = scale
        self.neighbours = neighbours
        self.min_size = min_size

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        """Return the faces of an RGB picture uint8 ``(H, W, 3)``."""
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        factor = max(max(gray.shape) / self.longest, 1.0)
        if factor > 1:
            size = (round(gray.shape[1] / factor), round(gray.shape[0] / factor))
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        least = max(round(self.min_size / factor), 1)
        found, _, weights = self._cascade.detectMultiScale3(
            cv2.equalizeHist(gray),
            scaleFactor=self.scale,
            minNeighbors=self.neighbours,
            minSize=(least, least),
            outputRejectLevels=True,
        )
        boxes = np.asarray(found, np.float32).reshape(-1, 4)
        # the sum of the last stage's votes has no bounds: a logistic function brings it to 0..1
        scores = (1 / (1 + np.exp(-np.asarray(weights, np.float64).reshape(-1)))).astype(np.float32)
        faces = Faces(boxes, scores, np.full((len(boxes), 2, 2), np.nan, np.float32))
        return faces.moved(factor, 0.0, 0.0).distinct()
