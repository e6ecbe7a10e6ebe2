"""Images in files and at other sizes, decoded and resized when they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.decode import MAX_PIXELS, decode, fit
from fer_lightning.data.table.images import ImageArray, LazyImages, to_picture, to_planes
from fer_lightning.errors import DataError
from fer_lightning.text import one_line, short_path

__all__ = ["FileImages", "ResizedImages", "to_channels"]


class FileImages(LazyImages):
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


class ResizedImages(LazyImages):
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


def to_channels(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Turn a picture ``(H, W, 1 or 3)`` into one of 1 (ITU-R BT.601 gray, as Pillow rounds it) or 3 channels."""
    if picture.shape[2] == channels:
        return picture
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    weights = np.array([19595, 38470, 7471], np.uint32)  # Pillow's fixed point, so that gray is gray everywhere
    gray: NDArray[np.uint8] = ((picture.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)
    return gray[:, :, None]
