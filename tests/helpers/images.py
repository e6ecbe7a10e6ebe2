"""Builders of images in odd forms, as bytes of a file; nothing is stored in the repository."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED = (255, 0, 0)
GREEN = (0, 255, 0)


def encode(image: Image.Image | NDArray[np.uint8], form: str, **options: Any) -> bytes:
    """Return an image as a file of a format, as Pillow writes it."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def picture(width: int = 64, height: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a smooth picture, uint8 ``(H, W, 3)``, the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.uint8)


def plain(colour: tuple[int, ...] = RED, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Return an image of one colour."""
    return Image.new(mode, size, colour)


def ramp16() -> NDArray[np.uint16]:
    """Return the 256 values that 16 bits have for 0..255: multiples of 257, ``(16, 16)``."""
    return (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16], colour_type: int, chunks: bytes = b"") -> bytes:
    """Write a PNG file that Pillow would not write.

    Args:
        pixels: ``(H, W)`` or ``(H, W, C)``, stored at 8 or 16 bits as their type says.
        colour_type: 0 gray, 2 RGB, 4 gray with alpha, 6 RGBA.
        chunks: what stands before the pixels.
    """
    bits = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour_type, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG file whose header states a size; its checksums are right."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def tiff16(values: NDArray[np.uint16], order: str = "<", white_is_zero: bool = False) -> bytes:
    """Write a gray TIFF file of 16 bits, little (``<``) or big (``>``) endian."""
    tags = [
        (256, values.shape[1]),  # width
        (257, values.shape[0]),  # height
        (258, 16),  # bits
        (259, 1),  # not compressed
        (262, 0 if white_is_zero else 1),
        (273, 8 + 2 + 12 * 9 + 4),  # where the pixels begin
        (277, 1),  # values for a pixel
        (278, values.shape[0]),  # all rows in one strip
        (279, 2 * values.size),
    ]
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags]
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + struct.pack(f"{order}I", 0)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return magic + directory + values.astype(f"{order}u2").tobytes()


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Return an EXIF block with an orientation and nothing else.

    Args:
        orientation: 1 to 8.
        order: ``<`` or ``>``.
        kind: 3 for a short value, as the standard wants it, 4 for a long one.
    """
    value = struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", *([orientation, 0] if kind == 3 else [orientation]))
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    entry = struct.pack(f"{order}HHHI", 1, 0x0112, kind, 1) + value
    return b"Exif\0\0" + magic + entry + struct.pack(f"{order}I", 0)


def stored_for(orientation: int, upright: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what a file holds whose orientation tag makes it upright: EXIF 2.32, what row 0 and column 0 show."""
    turned = upright.swapaxes(0, 1)
    views: dict[int, NDArray[np.uint8]] = {
        1: upright,  # row 0 is the top, column 0 the left side
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: turned,  # left, top
        6: turned[::-1],  # right, top
        7: turned[::-1, ::-1],  # right, bottom
        8: turned[:, ::-1],  # left, bottom
    }
    return views[orientation]


def animation(form: str, frames: Sequence[Image.Image], **options: Any) -> bytes:
    """Return an animation, or a TIFF or MPO file of many pictures."""
    return encode(frames[0], form, save_all=True, append_images=list(frames[1:]), **options)


def ycck_jpeg() -> bytes:
    """Return a red JPEG in YCCK: the inks cyan 0, magenta 255, yellow 255 as luma and chroma, inverted like Adobe's."""
    inks = Image.new("RGB", (16, 16), (0, 255, 255)).convert("YCbCr")
    bands = [band.point(lambda value: 255 - value) for band in inks.split()]  # Pillow inverts what it writes
    content = encode(Image.merge("CMYK", [*bands, Image.new("L", (16, 16), 0)]), "JPEG", quality=100)
    marker = content.index(b"Adobe")
    return content[: marker + 11] + b"\2" + content[marker + 12 :]  # colour transform 2: YCCK
