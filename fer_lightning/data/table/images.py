"""Images as one array, wherever they are: in memory, in files, in a converted set.

A samples table holds its images as uint8 ``(N, C, H, W)``: a numpy array, or one of the classes here, which decode what
is asked for and nothing else. Whoever reads ``images[rows]`` need not know which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "IMAGE_SUFFIXES",
    "ConcatImages",
    "ImageArray",
    "LazyImages",
    "SubsetImages",
    "is_in_memory",
    "to_picture",
    "to_planes",
]

IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Lower-case suffixes of the files that a scan takes for images."""


class ImageArray(Protocol):
    """What reads like a uint8 array ``(N, C, H, W)`` along its first axis; a numpy array does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, C, H, W)``."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Return the images of some rows, uint8 ``(M, C, H, W)``."""


def is_in_memory(images: ImageArray) -> bool:
    """Tell whether reading costs nothing but a copy."""
    return isinstance(images, np.ndarray)


class LazyImages:
    """Images that are made when they are asked for."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, channels: int, size: int) -> None:
        self.shape = (count, channels, size, size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        chosen = np.asarray(rows, np.int64)
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for position, row in enumerate(chosen.tolist()):
            images[position] = self._one(row)
        return images

    def _one(self, row: int) -> NDArray[np.uint8]:
        raise NotImplementedError


class SubsetImages(LazyImages):
    """Some rows, int64 ``(M,)``, of other images."""

    def __init__(self, images: ImageArray, rows: NDArray[np.int64]) -> None:
        super().__init__(len(rows), images.shape[1], images.shape[2])
        self.images = images
        self.rows = rows

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        return self.images[self.rows[np.asarray(rows, np.int64)]]


class ConcatImages(LazyImages):
    """Several image arrays of one shape, at least one, one after the other."""

    def __init__(self, parts: Sequence[ImageArray]) -> None:
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) != 1:
            raise ValueError(f"expected images of one shape, got {sorted(shapes)}")
        super().__init__(sum(map(len, parts)), parts[0].shape[1], parts[0].shape[2])
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        chosen = np.asarray(rows, np.int64)
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        of_part = np.searchsorted(self._ends, chosen, side="right")
        for number, part in enumerate(self.parts):
            here = np.flatnonzero(of_part == number)
            if len(here):
                images[here] = part[chosen[here] - (self._ends[number] - len(part))]
        return images


def to_planes(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn ``(H, W, C)`` into ``(C, H, W)``, not copied."""
    planes: NDArray[np.uint8] = picture.transpose(2, 0, 1)
    return planes


def to_picture(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn ``(C, H, W)`` into ``(H, W, C)``, contiguous."""
    return np.ascontiguousarray(planes.transpose(1, 2, 0))
