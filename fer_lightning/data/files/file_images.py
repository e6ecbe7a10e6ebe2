"""Images in files and at other sizes, decoded and resized when they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.files.decode import MAX_PIXELS, cropped, decode
from fer_lightning.data.table.images import ImageArray, LazyImages, to_picture, to_planes
from fer_lightning.errors import DataError
from fer_lightning.preprocessing import resized_picture, to_channels
from fer_lightning.text import one_line, short_path
from fer_lightning.types import Interpolation

__all__ = ["FileImages", "ResizedImages"]


class FileImages(LazyImages):
    """Images in files, decoded and resized when they are asked for.

    Args:
        root: folder that the paths are relative to.
        paths: ``(N,)`` strings, with forward slashes.
        size: side of the square images, pixels; files of another size are resized.
        channels: 1 (gray) or 3 (RGB).
        boxes: int64 ``(N, 4)``: x, y, width, height of the part of each image to take, in pixels of the upright image,
            or ``None`` for all of it.
        max_pixels: largest number of pixels that is decoded.
        interpolation: how images are resized; see ``preprocessing``.
    """

    def __init__(
        self,
        root: Path,
        paths: NDArray[np.str_],
        size: int,
        channels: int,
        boxes: NDArray[np.int64] | None = None,
        max_pixels: int = MAX_PIXELS,
        interpolation: Interpolation = "area",
    ) -> None:
        super().__init__(len(paths), channels, size)
        self.root = root
        self.paths = paths
        self.boxes = boxes
        self.max_pixels = max_pixels
        self.interpolation: Interpolation = interpolation

    def _one(self, row: int) -> NDArray[np.uint8]:
        path = self.root / str(self.paths[row])
        try:
            picture = decode(path, channels=self.shape[1], max_pixels=self.max_pixels)
            if self.boxes is not None:
                picture = cropped(picture, self.boxes[row])
        except DataError as error:  # it was whole when it was indexed
            raise DataError(one_line(f"{short_path(path)}: {error}", 400)) from None
        return to_planes(resized_picture(picture, self.shape[2], self.interpolation))


class ResizedImages(LazyImages):
    """Other images at another size and with other channels; the arguments are those of ``FileImages``."""

    def __init__(self, images: ImageArray, size: int, channels: int, interpolation: Interpolation = "area") -> None:
        super().__init__(len(images), channels, size)
        self.images = images
        self.interpolation: Interpolation = interpolation

    def _one(self, row: int) -> NDArray[np.uint8]:
        image = to_channels(torch.from_numpy(self.images[np.array([row])]), self.shape[1])[0].numpy()
        return to_planes(resized_picture(to_picture(image), self.shape[2], self.interpolation))
