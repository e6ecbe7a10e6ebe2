"""The one function that turns a file into pixels: in training, tests and serving alike.

Pillow decodes, because it refuses truncated files (OpenCV returns half-gray pictures). What becomes of which file:

==========================================  ==========================================================================
file                                        behaviour
==========================================  ==========================================================================
JPEG, PNG, GIF, BMP, WebP, TIFF, PNM        decoded, whatever the name: the content decides
any other image format (HEIC, AVIF, ...)    refused, the kind is named where it is known
corrupt, cut off (also in the last bytes)   refused: "damaged or cut off"; a PNG or GIF that lacks only its end mark has
                                            all pixels and is decoded. Damage inside the compressed data of a JPEG
                                            that libjpeg decodes without complaint cannot be seen
empty, HTML, text, Git LFS pointer          refused, and said what it looks like
folder, pipe, no file, broken link          refused, never waited for
unreadable                                  refused with the reason that the system gives
too many pixels                             refused by the size in the header, before anything is decoded
no pixels (0xN)                             refused as damaged
1xN sliver                                  decoded as it is
RGB                                         3 channels; gray by ITU-R BT.601 where one channel is asked for
1-bit, gray                                 1 channel (0 and 255 for 1 bit); repeated where three are asked for
palette                                     3 channels
transparent (alpha, palette, colour key)    laid on mid gray (128)
CMYK, YCCK                                  to RGB without profile; inverted JPEGs, as Adobe writes them, are put right
16-bit gray, also big endian                divided by 257 and rounded; Pillow itself clips to white
16-bit colour                               upper 8 bits of each value (at most 1 off the rounded quotient)
32-bit integers                             as 16 bit if all values are in 0..65535, else refused
32-bit float                                refused: the file does not say which range its values have
animated GIF, PNG, WebP, TIFF of many pages first frame; ``FileFacts.frames`` says how many there are
MPO (JPEG of two views)                     first view
EXIF orientation 1..8                       turned upright; broken EXIF is ignored. Orientation in XMP alone is ignored
ICC profile                                 ignored: values are taken for sRGB
garbage after a JPEG's end                  ignored
==========================================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from fer_lightning.data.table.bad_rows import appearance
from fer_lightning.data.table.images import IMAGE_SUFFIXES
from fer_lightning.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "FileFacts",
    "TooManyPixelsError",
    "cropped",
    "decode",
    "decode_with_facts",
    "inside",
]

MAX_PIXELS = 50_000_000
"""Largest width times height that is decoded by default."""

_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106  # tags, TIFF 6.0
_BACKGROUND = 128  # gray on which transparent pictures are laid
_SILENCE = threading.Lock()
_HEAD = 64  # bytes that tell the format
_FARTHEST = 10  # sides of the picture that a box may be wide: a larger one is a mistake, and padding it takes memory


class TooManyPixelsError(DataError):
    """An image is larger than is decoded."""


@dataclass(frozen=True)
class FileFacts:
    """What an image file is, beside its pixels.

    Attributes:
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        format: for example ``JPEG``.
        mode: Pillow's name of how pixels are stored: ``L``, ``RGB``, ``P``, ``CMYK``, ``I;16``, ...
        bits: of a channel as stored: 1, 8, 16 or 32.
        frames: number of frames or pages, of which the first is decoded.
        orientation: EXIF orientation that was undone, 1 (none) to 8.
    """

    width: int
    height: int
    format: str
    mode: str
    bits: int
    frames: int
    orientation: int


class _JpegFile(JpegImagePlugin.JpegImageFile):
    """A JPEG file of which EXIF is not read for its resolution, with warnings where EXIF is broken."""

    def _read_dpi_from_exif(self) -> None:
        pass


@dataclass(frozen=True)
class _Format:
    """A format that is read, by calling its class.

    ``Image.open`` would warn of large pictures by itself, and hand files to readers that nobody asked for.
    """

    name: str
    signatures: tuple[bytes, ...]
    read: Callable[[BinaryIO], ImageFile]
    warns: bool = False


_FORMATS = (
    _Format("a JPEG file", (b"\xff\xd8\xff",), _JpegFile),
    _Format("a PNG file", (b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    _Format("a GIF file", (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile, warns=True),
    _Format("a BMP file", (b"BM",), BmpImagePlugin.BmpImageFile),
    _Format("a WebP file", (b"RIFF",), WebPImagePlugin.WebPImageFile),
    _Format("a TIFF file", tuple(TiffImagePlugin.PREFIXES), TiffImagePlugin.TiffImageFile, warns=True),
    _Format("a PNM file", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImagePlugin.PpmImageFile),
)


def decode(source: Path | bytes, *, channels: int | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the first frame of an image, upright; what becomes of odd files stands in this module's docstring.

    Args:
        source: a file, or its content.
        channels: 1 (gray), 3 (RGB), or ``None`` for 1 where the file is gray and 3 where it is not.
        max_pixels: largest width times height that is decoded.

    Returns:
        uint8 ``(H, W, C)``, writable.

    Raises:
        DataError: "expected an image, found ..."; the caller adds which file.
    """
    return decode_with_facts(source, channels=channels, max_pixels=max_pixels)[0]


def decode_with_facts(
    source: Path | bytes, *, channels: int | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], FileFacts]:
    """Return what ``decode`` returns, and what the file is.

    Raises:
        DataError: as ``decode``.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"expected 1 or 3 channels, got {channels}")
    if isinstance(source, bytes):
        return _decode_open(io.BytesIO(source), channels, max_pixels)
    try:
        _check_regular(source)
        with source.open("rb") as handle:
            return _decode_open(handle, channels, max_pixels)
    except OSError as error:
        raise DataError(f"expected an image, found a file that cannot be read ({error.strerror or error})") from None


def _check_regular(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        found = "a link to nowhere" if path.is_symlink() else "no file"
        raise DataError(f"expected an image, found {found}") from None
    if not stat.S_ISREG(mode):  # opening a pipe would wait for a writer
        raise DataError(f"expected an image, found {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}")


def _decode_open(handle: BinaryIO, channels: int | None, max_pixels: int) -> tuple[NDArray[np.uint8], FileFacts]:
    head = handle.read(_HEAD)
    handle.seek(0)
    form = next((form for form in _FORMATS if head.startswith(form.signatures)), None)
    if form is None or (head.startswith(b"RIFF") and head[8:12] != b"WEBP"):
        raise DataError(f"expected an image, found {_other_kind(head)}")
    with _silence() if form.warns else contextlib.nullcontext():
        try:
            if head.startswith(b"RIFF"):
                _check_size(*_webp_size(head), max_pixels)
            with form.read(handle) as image:
                _check_size(image.width, image.height, max_pixels)
                return _decode_image(image, channels)
        except DataError:
            raise
        except Image.DecompressionBombError as error:  # above twice Pillow's own limit
            raise DataError(f"expected an image, found {form.name} that is too large ({error})") from None
        except Exception as error:  # damaged files fail in many ways; each means the same here
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk failed, not the picture
            reason = str(error) or type(error).__name__
            raise DataError(f"expected an image, found {form.name} that is damaged or cut off ({reason})") from None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep Pillow's warnings to ourselves: of broken tags that do not matter, and of sizes, which we check.

    Only for the formats that need it: Python then forgets which warnings it has shown, and as the filters belong to all
    threads, one file at a time can be read so.
    """
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _other_kind(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file, which cannot be read; convert it to PNG or JPEG"
    return appearance(head)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return width and height as a WebP file states them: its decoder takes memory as soon as it is made.

    RFC 9649, sections 2.5 to 2.7.
    """
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        sizes = int.from_bytes(head[21:25], "little")
        return (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixelsError(f"expected an image of at most {max_pixels:,} pixels, found one of {width}x{height}")


def _decode_image(image: ImageFile, channels: int | None) -> tuple[NDArray[np.uint8], FileFacts]:
    mode, form = image.mode, image.format or ""
    raw_modes = " ".join(str(tile[3]) for tile in image.tile)  # how pixels lie in the file; `mode`: in memory
    frames = int(getattr(image, "n_frames", 1))
    orientation = _tiff_orientation(image)
    image.load()
    turn = _tiff_orientation(image)  # gone where Pillow has turned the picture itself
    if form != "TIFF":
        turn = orientation = _exif_orientation(image.info.get("exif"))  # a PNG may have it behind the pixels
    is_gray = mode.startswith("I") or mode in ("1", "L", "LA", "La") or "LA;16B" in raw_modes
    pixels = _upright(_pixels(image, (1 if is_gray else 3) if channels is None else channels), turn)
    height, width = pixels.shape[:2]
    return pixels, FileFacts(width, height, form, mode, _bits(mode, raw_modes, form), frames, orientation)


def _bits(mode: str, raw_modes: str, form: str) -> int:
    if ";16" in mode or ";16" in raw_modes or (form == "PPM" and mode == "I"):
        return 16
    return {"1": 1, "I": 32, "F": 32}.get(mode, 8)


def _tiff_orientation(image: Image.Image) -> int:
    """Return the orientation that a TIFF file states and that is not undone yet."""
    tags = getattr(image, "tag_v2", {})
    value = tags.get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _exif_orientation(exif: object) -> int:
    """Return the orientation tag of the first directory, 1 if there is none or EXIF is broken.

    Pillow's own reader warns of broken EXIF and reads all of it.
    """
    if not isinstance(exif, bytes):  # none, or a text chunk of a PNG that is called "exif"
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", tiff, entry + 8)
                return int(value) if value in range(1, 9) else 1
    except struct.error:
        pass
    return 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation; EXIF 2.32, section 4.6.4, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Return uint8 ``(H, W, C)`` of a loaded image, as it lies in the file."""
    if image.mode == "F":
        raise DataError(
            "expected an image of 8 or 16 bits, found one of 32-bit float, whose range is unknown; convert it to PNG"
        )
    if image.mode.startswith("I"):
        return np.repeat(_scale_integers(image)[:, :, None], channels, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*[_BACKGROUND] * 3, 255)), image)
    target = "L" if channels == 1 else "RGB"
    pixels = np.array(image if image.mode == target else image.convert(target), np.uint8)
    return pixels[:, :, None] if channels == 1 else pixels


def _scale_integers(image: Image.Image) -> NDArray[np.uint8]:
    """Return 16-bit gray as uint8 ``(H, W)``."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"expected an image of values in 0..65535, found 32-bit integers in {low}..{high}")
    gray = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero: Pillow minds it for 8 bits only
        gray = 255 - gray
    key = image.info.get("transparency")
    if isinstance(key, int):
        gray[values == key] = _BACKGROUND
    return gray


def cropped(picture: NDArray[np.uint8], box: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return a part of a picture uint8 ``(H, W, C)``, filled by repeating its border where it reaches beyond it.

    So a face at the border stays in the middle. The box is int64 ``(4,)``: x, y, width, height, pixels. Returned is
    uint8 ``(height, width, C)``, a view where nothing is filled.

    Raises:
        DataError: for a box without pixels, one that lies wholly outside, or one far larger than the picture.
    """
    x, y, width, height = box.tolist()
    rows, columns = picture.shape[:2]
    what = f"expected a box (x, y, width, height) in a picture of {columns}x{rows}, found {x}, {y}, {width}, {height}"
    if width < 1 or height < 1:
        raise DataError(f"{what}: no pixels")
    if x >= columns or y >= rows or x + width <= 0 or y + height <= 0:
        raise DataError(f"{what}: outside")
    if max(width, height) > _FARTHEST * max(rows, columns):
        raise DataError(f"{what}: far too large")
    part = picture[max(y, 0) : y + height, max(x, 0) : x + width]
    before = max(-y, 0), max(-x, 0)
    after = max(y + height - rows, 0), max(x + width - columns, 0)
    if not any(before + after):
        return part
    return np.pad(part, [(before[0], after[0]), (before[1], after[1]), (0, 0)], mode="edge")


def inside(root: Path, path: Path) -> bool:
    """Tell whether a path lies inside a folder once all links are followed; the path need not exist."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False
