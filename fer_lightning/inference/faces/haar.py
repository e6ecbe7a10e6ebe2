"""OpenCV's Haar cascade (Viola and Jones 2001), which needs no file besides OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.found import Faces, check_limits

__all__ = ["HaarCascade"]

_LEAST = 24  # pixels of the shrunk picture: smaller hits are mostly false


class HaarCascade:
    """Finds upright frontal faces; misses about a quarter of those that BlazeFace finds, and takes ten times as long.

    Args:
        cascade: name of a file that OpenCV brings.
        longest: larger pictures are shrunk to this longer side, in pixels.
        scale: between the sizes that are looked for.
        neighbours: how many hits make a face.
        min_score: least score of a face, above 0 and below 1.
        min_size: least side of a face in pixels.

    Raises:
        ConfigError: if OpenCV has no such cascade or a value is out of range.
    """

    name = "haar"

    def __init__(
        self,
        cascade: str = "haarcascade_frontalface_alt2.xml",
        longest: int = 640,
        scale: float = 1.2,
        neighbours: int = 4,
        min_score: float = 0.5,
        min_size: float = 0.0,
    ) -> None:
        check_limits(min_score, min_size)
        path = Path(cv2.data.haarcascades) / cascade  # type: ignore[attr-defined]  # its stubs lack it
        self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise ConfigError(f"OpenCV has no cascade {path}: see fer doctor")
        self.longest = longest
        self.scale = scale
        self.neighbours = neighbours
        self.min_score = min_score
        self.min_size = min_size

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        """Return the faces of an RGB picture uint8 ``(H, W, 3)``."""
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        factor = max(max(gray.shape) / self.longest, 1.0)
        if factor > 1:
            size = (round(gray.shape[1] / factor), round(gray.shape[0] / factor))
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        least = max(round(self.min_size / factor), _LEAST)
        found, hits = self._cascade.detectMultiScale2(
            cv2.equalizeHist(gray),
            scaleFactor=self.scale,
            minNeighbors=self.neighbours,
            minSize=(least, least),
        )
        boxes = np.asarray(found, np.float32).reshape(-1, 4)
        counts = np.asarray(hits, np.float32).reshape(-1)
        scores = counts / (counts + self.neighbours)  # 0.5 for the fewest hits that make a face
        faces = Faces(boxes, scores, np.full((len(boxes), 2, 2), np.nan, np.float32))
        faces = faces.chosen(scores >= self.min_score)
        return faces.moved(factor, 0.0, 0.0).distinct().at_least(self.min_size)
