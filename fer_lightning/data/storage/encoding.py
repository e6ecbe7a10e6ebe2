"""Encodes the images of a table in chunks and threads; memory does not grow with the number of images."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.data.files.decode import decode
from fer_lightning.data.table.images import ImageArray, to_picture, to_planes
from fer_lightning.data.table.samples import content_digests
from fer_lightning.errors import ConfigError

__all__ = ["SUFFIXES", "EncodedChunk", "Encoder", "Encoding", "chunks_of", "encoded_chunks"]

Encoding = Literal["png", "jpeg", "webp"]
"""``png`` keeps every pixel; ``jpeg`` and ``webp`` are smaller and lossy."""

SUFFIXES: dict[str, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""Suffix of the files of each encoding."""

_CHUNK_BYTES = 1 << 24  # of pixels that are in memory at a time; there are about three such chunks
_CHUNK_ROWS = 512


@dataclass(frozen=True)
class Encoder:
    """Turns pixels into the bytes of a file; the quality is that of JPEG and WebP, 1..100."""

    encoding: Encoding = "jpeg"
    quality: int = 92

    def __post_init__(self) -> None:
        if self.encoding not in SUFFIXES:
            raise ConfigError(f"encoding must be one of {', '.join(SUFFIXES)}, not '{self.encoding}'")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be 1 to 100, not {self.quality}")

    def encode(self, image: NDArray[np.uint8]) -> tuple[bytes, NDArray[np.uint8]]:
        """Return the file of an image ``(C, H, W)`` and the digest of the pixels that it holds, uint8 ``(16,)``."""
        picture = to_picture(image)
        out = io.BytesIO()
        drawn = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        if self.encoding == "png":
            drawn.save(out, "PNG")
        else:
            drawn.save(out, self.encoding.upper(), quality=self.quality)
        content = out.getvalue()
        stored = image
        if self.encoding != "png":
            stored = to_planes(decode(content, channels=len(image)))
        return content, content_digests(stored[None])[0]


@dataclass(frozen=True)
class EncodedChunk:
    """Some rows, encoded.

    Attributes:
        rows: int64 ``(M,)``.
        files: encoded images, ``M`` of them.
        digests: uint8 ``(M, 16)``: of the pixels that are read from them.
    """

    rows: NDArray[np.int64]
    files: list[bytes]
    digests: NDArray[np.uint8]


def chunks_of(rows: NDArray[np.int64], shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Cut rows, int64 ``(N,)``, into parts whose pixels (an image has ``shape``) fit into memory several times over."""
    count = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(1, int(np.prod(shape)))))
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def encoded_chunks(
    images: ImageArray, rows: NDArray[np.int64], encoder: Encoder, num_workers: int | None = None
) -> Iterator[EncodedChunk]:
    """Read and encode images in the order of ``rows``, int64 ``(N,)``; threads encode one chunk while the next is read.

    Images are read by one thread only; ``num_workers`` encode, ``None`` stands for one for each core.
    """
    threads = (os.cpu_count() or 1) if num_workers is None else max(1, num_workers)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
    try:
        waiting: tuple[NDArray[np.int64], list[Future[tuple[bytes, NDArray[np.uint8]]]]] | None = None
        for chunk in chunks_of(rows, images.shape[1:]):
            read = images[chunk]
            if waiting is not None:
                yield _collected(*waiting)
            waiting = chunk, [pool.submit(encoder.encode, image) for image in read]
        if waiting is not None:
            yield _collected(*waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _collected(rows: NDArray[np.int64], futures: list[Future[tuple[bytes, NDArray[np.uint8]]]]) -> EncodedChunk:
    results = [future.result() for future in futures]
    return EncodedChunk(rows, [content for content, _ in results], np.stack([digest for _, digest in results]))
