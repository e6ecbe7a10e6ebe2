"""The faces that a detector has found in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError

__all__ = ["Detector", "Faces", "check_limits"]


@dataclass(frozen=True)
class Faces:
    """Faces in one picture, the surest first.

    Attributes:
        boxes: float32 ``(F, 4)``: left, top, width, height in pixels of the picture; may reach beyond its edges.
        scores: float32 ``(F,)`` in 0..1: how sure the detector is; detectors differ in what they mean by it.
        eyes: float32 ``(F, 2, 2)``: x, y of the eye on the left and of that on the right of the picture, NaN where the
            detector does not say.
        detector: name of the detector that found them, empty where nobody asked for it.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    eyes: NDArray[np.float32]
    detector: str = ""

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none() -> Faces:
        """Return no faces."""
        return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 2, 2), np.float32))

    @staticmethod
    def joined(parts: Sequence[Faces]) -> Faces:
        """Return the faces of several."""
        if not parts:
            return Faces.none()
        boxes, scores, eyes = zip(*((part.boxes, part.scores, part.eyes) for part in parts), strict=True)
        return Faces(np.concatenate(boxes), np.concatenate(scores), np.concatenate(eyes))

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Faces:
        """Return some of the faces: bool ``(F,)``, or their numbers in the order wanted."""
        return replace(self, boxes=self.boxes[which], scores=self.scores[which], eyes=self.eyes[which])

    def at_least(self, side: float) -> Faces:
        """Return the faces whose shorter side is at least so many pixels."""
        return self.chosen(self.boxes[:, 2:].min(axis=1, initial=np.inf) >= side)

    def moved(self, scale: float, left: float, top: float) -> Faces:
        """Return the faces with all lengths multiplied by ``scale`` and the origin then moved to ``(-left, -top)``."""
        corner = np.array([left, top], np.float32)
        boxes = self.boxes * np.float32(scale)
        boxes[:, :2] += corner
        return replace(self, boxes=boxes, eyes=self.eyes * np.float32(scale) + corner)

    def distinct(self, overlap: float = 0.3) -> Faces:
        """Return the faces without those that a surer one overlaps: non-maximum suppression.

        Args:
            overlap: intersection over union, or share of the smaller box inside of the surer one where that is above
                0.8, from which two boxes are one face.
        """
        kept = cv2.dnn.NMSBoxes(self.boxes.tolist(), self.scores.tolist(), 0.0, overlap)
        faces = self.chosen(np.array(kept, np.intp).reshape(-1))
        alone = [i for i in range(len(faces)) if not _inside(faces.boxes[i], faces.boxes[:i])]
        return faces.chosen(np.array(alone, np.intp))


def _inside(box: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Return whether four fifths of a box lie in one of the others."""
    corner = np.maximum(box[:2], others[:, :2])
    size = np.clip(np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - corner, 0, None)
    return bool((size.prod(axis=1) > 0.8 * box[2:].prod()).any())


def check_limits(min_score: float, min_size: float) -> None:
    """Raise a ``ConfigError`` for a least score that is not between 0 and 1, or a least side that is negative."""
    if not 0 < min_score < 1:
        raise ConfigError(f"the least score of a face (min_score) must be above 0 and below 1, not {min_score:g}")
    if not 0 <= min_size < float("inf"):
        raise ConfigError(f"the least side of a face (min_size) must be a number of pixels from 0 on, not {min_size:g}")


class Detector(Protocol):
    """Finds the faces in a picture.

    A detector with an attribute ``name`` has framings of its own under that name; without it, under that of its class.
    """

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        """Return the faces of an RGB picture uint8 ``(H, W, 3)``."""
