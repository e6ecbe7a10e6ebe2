"""Images as one array, wherever they are: in memory, in files, in a converted set.

A samples table holds its images as uint8 ``(N, C, H, W)``: a numpy array, or one of the classes here, which decode what
is asked for and nothing else. Whoever reads ``images[rows]`` need not know which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.bad_rows import one_line, short_path
from fer_lightning.data.decode import MAX_PIXELS, decode, fit
from fer_lightning.errors import DataError

__all__ = ["ConcatImages", "FileImages", "ImageArray", "ResizedImages", "SubsetImages", "is_in_memory"]


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


class _Lazy:
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


class FileImages(_Lazy):
    """Images in files, decoded and resized when they are asked for.

    Args:
        root: folder that the paths are relative to.
        paths: ``(N,)`` strings, with forward slashes.
        size: side of the square images, pixels; files of another size are resized, bilinear with antialiasing.
        channels: 1 (gray) or 3 (RGB).
        boxes: int64 ``(N, 4)``: x, y, width, height of the part of each image to take, in pixels of the upright image,
            or ``None`` for all of it.
        max_pixels: largest number of pixels that is decoded.
    """

    def __init__(
        self,
        root: Path,
        paths: NDArray[np.str_],
        size: int,
        channels: int,
        boxes: NDArray[np.int64] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(len(paths), channels, size)
        self.root = root
        self.paths = paths
        self.boxes = boxes
        self.max_pixels = max_pixels

    def _one(self, row: int) -> NDArray[np.uint8]:
        path = self.root / str(self.paths[row])
        try:
            picture = decode(path, channels=self.shape[1], max_pixels=self.max_pixels)
            return to_planes(fit(picture, self.shape[2], None if self.boxes is None else self.boxes[row]))
        except DataError as error:  # it was whole when it was indexed
            raise DataError(one_line(f"{short_path(path)}: {error}", 400)) from None


class ResizedImages(_Lazy):
    """Other images at another size and with other channels.

    Args:
        images: what to resize.
        size: side of the square images, pixels.
        channels: 1 (gray) or 3 (RGB).
    """

    def __init__(self, images: ImageArray, size: int, channels: int) -> None:
        super().__init__(len(images), channels, size)
        self.images = images

    def _one(self, row: int) -> NDArray[np.uint8]:
        picture = to_picture(self.images[np.array([row])][0])
        if picture.shape[2] != self.shape[1]:
            picture = to_channels(picture, self.shape[1])
        return to_planes(fit(picture, self.shape[2]))


class SubsetImages(_Lazy):
    """Some rows of other images.

    Args:
        images: what to take from.
        rows: int64 ``(M,)``.
    """

    def __init__(self, images: ImageArray, rows: NDArray[np.int64]) -> None:
        super().__init__(len(rows), images.shape[1], images.shape[2])
        self.images = images
        self.rows = rows

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        return self.images[self.rows[np.asarray(rows, np.int64)]]


class ConcatImages(_Lazy):
    """Several image arrays of one shape, one after the other.

    Args:
        parts: at least one.
    """

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


def to_channels(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Turn a picture ``(H, W, 1 or 3)`` into one of 1 (ITU-R BT.601 gray, as Pillow rounds it) or 3 channels."""
    if picture.shape[2] == channels:
        return picture
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    weights = np.array([19595, 38470, 7471], np.uint32)  # Pillow's fixed point, so that gray is gray everywhere
    gray: NDArray[np.uint8] = ((picture.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)
    return gray[:, :, None]
