"""Measuring how faces sit in the training images of a data set: a framing for each detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError
from fer_lightning.inference.faces.found import Detector, Faces
from fer_lightning.inference.faces.views import in_border
from fer_lightning.inference.framing import Framing, measured

__all__ = ["measure_framings", "training_sample"]

_SIDE = 96  # pixels: images are brought to this size, in which every detector finds a face that fills them
_FIRST = 30  # images after which a detector that found nothing gives up: these are no faces
_BORDER = 0.5  # of that: detectors are made for faces with something around them


def training_sample(table: SamplesTable, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return training images of a data set, drawn by a seed: RGB uint8 ``(N, 96, 96, 3)``.

    Raises:
        DataError: if it has no training images.
    """
    rows = table.rows("train")
    if not len(rows):
        raise DataError("there are no training images, and so no way that faces sit in them")
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    return np.stack([_square(table.images[chosen[row : row + 1]][0]) for row in range(len(chosen))])


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image uint8 ``(C, H, W)`` as RGB ``(96, 96, 3)``."""
    picture = np.ascontiguousarray(image.transpose(1, 2, 0))
    shrinks = max(picture.shape[:2]) > _SIDE
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.broadcast_to(np.asarray(small, np.uint8).reshape(_SIDE, _SIDE, -1), (_SIDE, _SIDE, 3))


def measure_framings(
    images: NDArray[np.uint8], detectors: Mapping[str, Detector], progress: bool = False
) -> tuple[dict[str, Framing], dict[str, int]]:
    """Return how faces sit in training images, and how many faces were found, each by the name of the detector.

    A detector that finds too few faces has no framing; one that finds none in the first images looks at no more.

    Args:
        images: RGB uint8 ``(N, H, W, 3)``.
        detectors: by name.
        progress: show a bar.
    """
    framings, counts = {}, {}
    bar = tqdm(total=len(images) * len(detectors), unit="look", disable=None if progress else True, leave=False)
    with bar:
        for name, detector in detectors.items():
            bar.set_description(name)
            found = [_look(image, detector, bar.update) for image in images[:_FIRST]]
            if not any(map(len, found)):
                bar.update(len(images) - len(found))
                counts[name] = 0
                continue
            found += [_look(image, detector, bar.update) for image in images[_FIRST:]]
            counts[name] = sum(len(faces) > 0 for faces in found)
            try:
                framings[name] = measured(found, [image.shape[:2] for image in images])
            except DataError:
                continue
    return framings, counts


def _look(image: NDArray[np.uint8], detector: Detector, done: Callable[[], object]) -> Faces:
    faces = in_border(image, detector, _BORDER)
    done()
    return faces
