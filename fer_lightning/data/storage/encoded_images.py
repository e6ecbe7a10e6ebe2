"""Base class of images that are stored encoded, in Arrow, Parquet or shards."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.decode import decode
from fer_lightning.data.table.images import LazyImages, to_planes
from fer_lightning.errors import DataError
from fer_lightning.text import one_line

__all__ = ["EncodedImages"]


class EncodedImages(LazyImages):
    """Images that are stored as encoded files and are decoded when they are read.

    Open files belong to one process: copies in other processes, forked or spawned, open their own.

    Args:
        place: names the set in messages.
        count: number of images.
        channels: 1 (gray) or 3 (RGB).
        size: side, pixels.
    """

    def __init__(self, place: str, count: int, channels: int, size: int) -> None:
        super().__init__(count, channels, size)
        self.place = place
        self._opened: Any = None
        self._process = -1

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        chosen = np.asarray(rows, np.int64)
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for position, (row, content) in enumerate(zip(chosen.tolist(), self.encoded(chosen), strict=True)):
            images[position] = self.decoded(content, row)
        return images

    def decoded(self, content: bytes, row: int) -> NDArray[np.uint8]:
        """Return the pixels of an encoded image, uint8 ``(C, H, W)``; a DataError names the row of a bad one."""
        try:
            picture = to_planes(decode(content, channels=self.shape[1]))
        except DataError as error:
            raise DataError(one_line(f"{self.place}, row {row}: {error}; copy or convert the set again")) from None
        if picture.shape != self.shape[1:]:
            found = "x".join(map(str, picture.shape[:0:-1]))
            raise DataError(f"{self.place}, row {row}: expected {self.shape[3]}x{self.shape[2]} pixels, found {found}")
        return picture

    def encoded(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return the stored images of rows, int64 ``(M,)``: of each the bytes of a JPEG, PNG or WebP file, in order.

        A row may be asked for more than once.
        """
        raise NotImplementedError

    def _open(self) -> Any:
        raise NotImplementedError

    @property
    def opened(self) -> Any:
        """The result of ``_open``, called once in each process."""
        if self._process != os.getpid():
            self._opened = self._open()
            self._process = os.getpid()
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None, "_process": -1}
