"""Requests that a server must refuse, each with the status that it must get."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import numpy as np
from PIL import Image

from tests.inference.helpers import scene

__all__ = ["BAD_IMAGES", "BAD_JSON", "form", "jpeg", "png", "png_chunk"]


def png(*squares: tuple[int, int, int]) -> bytes:
    """Return a picture with white squares as a PNG file."""
    return _file("PNG", *squares)


def jpeg(*squares: tuple[int, int, int]) -> bytes:
    return _file("JPEG", *squares)


def _file(kind: str, *squares: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene(*squares)).save(buffer, kind)
    return buffer.getvalue()


def form(*files: bytes, field: str = "files") -> list[tuple[str, tuple[str, bytes, str]]]:
    """Return files as the client takes them for a form."""
    return [(field, (f"{number}.png", file, "image/png")) for number, file in enumerate(files)]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_of(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks)


def _bomb() -> bytes:
    """Return 100 million pixels in 0.3 MB."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(30_001 * 100)) for _ in range(100)) + rows.flush()
    return _png_of(10_000, 10_000, png_chunk(b"IDAT", packed), png_chunk(b"IEND", b""))


def _text_bomb() -> bytes:
    """Return a small picture with a text that is 200 MB large once it is unpacked."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    pixels = zlib.compress(b"\0" + bytes(3))
    return _png_of(1, 1, png_chunk(b"zTXt", b"a\0\0" + text), png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b""))


def _of_many_scans() -> bytes:
    """Return a progressive JPEG whose last scan stands in it a thousand times."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "JPEG", progressive=True)
    file = buffer.getvalue()
    last = file.rindex(b"\xff\xda")
    return file[:last] + 1000 * file[last:-2] + file[-2:]


BAD_IMAGES = {
    "empty": (b"", 422),
    "junk": (bytes(range(256)) * 40, 422),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", 422),
    "truncated jpeg": (jpeg((20, 20, 40))[:900], 422),
    "truncated png": (png((20, 20, 40))[:900], 422),
    "png without pixels": (_png_of(10, 10), 422),
    "gif": (_file("GIF"), 422),
    "bmp": (_file("BMP"), 422),
    "tiff": (_file("TIFF"), 422),
    "video": (b"\0\0\0\x20ftypisom" + bytes(500), 422),
    "riff, but sound": (b"RIFF\0\0\0\0WAVEfmt " + bytes(100), 422),
    "webp of 16k x 16k": (b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(20), 413),
    "100 million pixels, a header alone": (_png_of(10_000, 10_000), 422),
    "100 million pixels, hardly any of them there": (_png_of(10_000, 10_000, png_chunk(b"IDAT", b"")), 413),
    "4 thousand million pixels": (_png_of(2**31 - 1, 2, png_chunk(b"IDAT", b"")), 413),
    "no pixel": (_png_of(0, 10), 422),
    "bomb": (_bomb(), 413),
    "text bomb": (_text_bomb(), 422),
    "many scans": (_of_many_scans(), 422),
}

_GOOD = base64.b64encode(png((20, 20, 40))).decode()
BAD_JSON = {
    "no JSON": (b"{", 422),
    "nothing": (b"", 422),
    "no text": (b"\xff\xfe\xfd", 422),
    "null": (b"null", 422),
    "a list": (json.dumps([_GOOD]).encode(), 422),
    "no images": (b"{}", 422),
    "none": (b'{"images": []}', 422),
    "a text for images": (json.dumps({"images": _GOOD}).encode(), 422),
    "numbers for images": (b'{"images": [1, 2]}', 422),
    "objects for images": (json.dumps({"images": [{"data": _GOOD}]}).encode(), 422),
    "no base64": (b'{"images": ["?"]}', 422),
    "half a base64": (b'{"images": ["abc"]}', 422),
    "a lone surrogate": (b'{"images": ["\\ud800"]}', 422),
    "base64 of junk": (json.dumps({"images": [base64.b64encode(b"junk").decode()]}).encode(), 422),
    "a huge number": (b'{"images": ' + b"9" * 10_000 + b"}", 422),
    "deep": (b'{"images": ' + b"[" * 100_000, 413),
    "not quite as deep": (b'{"images": ' + b"[" * 999 + b"]" * 999 + b"}", 422),
    "many parts": (b'{"images": [' + b"[]," * 100_000 + b"[]]}", 413),
    "too many images": (json.dumps({"images": [_GOOD] * 17}).encode(), 413),
}
