"""How a face sits in the images that a network was trained on, and cutting new faces so that they sit the same way.

Data sets are cut more or less closely, and a network that has only seen close faces answers wrongly where hair and
shoulders are in the picture. Detectors put their boxes differently around the same face, so that a framing belongs to
one detector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import CheckpointError, DataError
from fer_lightning.files import json_text, write_atomically
from fer_lightning.inference.faces.found import Faces

__all__ = [
    "FEWEST",
    "FRAMING",
    "MARGIN",
    "Framing",
    "crop",
    "framings_in",
    "is_aligned",
    "measured",
    "nearest",
    "plain_framings",
    "read_framing",
    "write_framing",
]

MARGIN = 0.2
"""Share of the larger side of a box that is added on each side where nobody has measured a framing."""
FEWEST = 20
"""Faces that a framing is measured on, at least."""
FRAMING = "framing.json"
"""File of a run folder that says how faces sit in its training images."""

_ALIGNED = 2.5  # degrees: BlazeFace short sees level eye lines as tilted by 1.5, and those of FER2013 by 5
_NEAREST = ("blazeface", "blazeface_short", "yunet", "haar")


@dataclass(frozen=True)
class Framing:
    """Medians over a sample of training images, lengths as shares of the image's side.

    Attributes:
        size: side of the face's box: the root of its area.
        x: middle of the box from the left.
        y: middle of the box from the top.
        eyes: height of the line through the eyes, from the top; ``None`` if the detector does not see eyes.
        tilt: of that line, in degrees, either way; ``None`` likewise.
        faces: how many faces were measured.
        images: how many images were looked at.
    """

    size: float
    x: float
    y: float
    eyes: float | None = None
    tilt: float | None = None
    faces: int = 0
    images: int = 0


def measured(found: Sequence[Faces], sides: Sequence[tuple[int, int]]) -> Framing:
    """Return the framing of training images from the faces found in each.

    Args:
        found: the faces of each image; the surest is taken.
        sides: height and width of each image in pixels.

    Raises:
        DataError: if there are fewer faces than ``FEWEST``.
    """
    rows = []
    for faces, (height, width) in zip(found, sides, strict=True):
        if len(faces):
            left, top, wide, high = faces.boxes[0]
            size = float(np.sqrt(wide * high / (width * height)))
            eyes = faces.eyes[0, :, 1].mean() / height
            rows.append((size, (left + wide / 2) / width, (top + high / 2) / height, eyes, abs(_tilt(faces.eyes[0]))))
    if len(rows) < FEWEST:
        raise DataError(f"a face was found in {len(rows)} of {len(found)} images: too few to measure how faces sit")
    values = np.array(rows)
    size, x, y = np.median(values[:, :3], axis=0).round(4).tolist()
    seen = values[np.isfinite(values[:, 3]), 3:]
    eyes, tilt = np.median(seen, axis=0).round(4).tolist() if len(seen) else (None, None)
    return Framing(size, x, y, eyes, tilt, len(rows), len(found))


def nearest(framings: Mapping[str, Framing], detector: str) -> str:
    """Return for which detector a framing is there: this one, else that whose boxes are most like its own.

    Empty if there is none at all.
    """
    order = (detector, *_NEAREST, *framings)
    return next((name for name in order if name in framings), "")


def is_aligned(framings: Mapping[str, Framing]) -> bool:
    """Tell whether the training images were turned so that the eyes are level, as far as any detector has seen."""
    return any(framing.tilt is not None and framing.tilt < _ALIGNED for framing in framings.values())


def plain_framings(framings: Mapping[str, Framing]) -> dict[str, dict[str, Any]]:
    """Return framings as plain values for a file: of each detector, its medians by name."""
    return {name: asdict(framing) for name, framing in framings.items()}


def framings_in(values: object) -> dict[str, Framing]:
    """Return the framings that ``plain_framings`` has made plain values of; ``None`` is no framing.

    Raises:
        CheckpointError: if they are something else.
    """
    try:
        return {str(name): Framing(**each) for name, each in dict(values or {}).items()}  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the framing {values} is damaged: measure it again with fer data framing") from error


def write_framing(folder: Path, framings: Mapping[str, Framing], **about: Any) -> Path:
    """Write framings into a folder as ``FRAMING``, with what else is to be said of them; return the file."""
    return write_atomically(folder / FRAMING, json_text({"framing": plain_framings(framings), **about}))


def read_framing(folder: Path) -> dict[str, Framing]:
    """Return the framings in a folder, none where it has no such file.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = folder / FRAMING
    try:
        return framings_in(json.loads(path.read_text(encoding="utf-8"))["framing"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, CheckpointError) as error:
        raise CheckpointError(f"{path} is damaged: delete it, or measure it again with fer data framing") from error


def crop(
    picture: NDArray[np.uint8],
    box: NDArray[np.float32],
    framing: Framing | None = None,
    eyes: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Return the square part of a picture in which a face sits as in the training images.

    Args:
        picture: uint8 ``(H, W, C)``.
        box: of the face: left, top, width, height in pixels.
        framing: of the training images, for the detector that found the box; ``None`` cuts the box with a margin of
            ``MARGIN``.
        eyes: float32 ``(2, 2)``, x and y of each: the face is turned until they are level. ``None`` or NaN leaves it
            as it is.

    Returns:
        uint8 ``(S, S, C)``; beyond the picture its edge pixels are repeated.
    """
    left, top, wide, high = (float(value) for value in box)
    if framing is None:
        side, x, y = max(wide, high) * (1 + 2 * MARGIN), 0.5, 0.5
    else:
        side, x, y = np.sqrt(wide * high) / framing.size, framing.x, framing.y
    pixels = max(round(side), 1)
    across, down = left + wide / 2 - x * side, top + high / 2 - y * side
    if eyes is not None and np.isfinite(eyes).all():
        turn = cv2.getRotationMatrix2D((left + wide / 2 - 0.5, top + high / 2 - 0.5), _tilt(eyes), 1.0)
        turn[:, 2] -= np.array([across, down])
        level = cv2.warpAffine(picture, turn, (pixels, pixels), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(level, np.uint8).reshape(pixels, pixels, -1)
    return _cut(picture, round(across), round(down), pixels)


def _tilt(eyes: NDArray[np.float32]) -> float:
    """Return by how many degrees the line through the eyes ``(2, 2)`` falls to the right."""
    across, down = (float(value) for value in eyes[1] - eyes[0])
    return float(np.degrees(np.arctan2(down, across)))


def _cut(picture: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return a square of a picture; beyond its edge the nearest pixel is repeated."""
    rows = np.clip(np.arange(top, top + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, picture.shape[1] - 1)
    if rows[0] == top and rows[-1] == top + side - 1 and columns[0] == left and columns[-1] == left + side - 1:
        return np.ascontiguousarray(picture[top : top + side, left : left + side])
    return np.ascontiguousarray(picture[rows[:, None], columns])
