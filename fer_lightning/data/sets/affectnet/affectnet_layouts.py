"""AffectNet's official annotations: one ``.npy`` file for each value of an image, or one list for each part."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.table.bad_rows import appearance, known_kind
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.errors import DataError
from fer_lightning.files import file_digest, listing_digest
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["LIST_COLUMNS", "AffectNetRows", "is_file_list", "read_annotations", "read_file_list"]

LIST_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
"""Columns of training.csv and validation.csv; the latter was also given out without a header."""

_FORMAT = 1  # raise it whenever the same files would give other rows
_CODES = range(11)
_NO_AFFECT = -2.0  # what stands for valence and arousal of images without an expression
_MOST = 4096  # bytes: a .npy file of one value has about 130
_CHUNK = 512  # images in one task of a thread
_THREADS = 4  # reading waits for slow disks; more threads only wait for each other
_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class AffectNetRows:
    """One row for each image of a part, in the order of its annotations.

    Attributes:
        names: ``(N,)`` strings: the image's number in annotations of one file each, its path in a list.
        codes: int64 ``(N,)``: 0..10, -1 in a bad row.
        valence: float64 ``(N,)``, in -1..1, NaN if unknown.
        arousal: likewise.
        boxes: int64 ``(N, 4)``: x, y, width, height of the face, or ``(0, 4)`` where images are cropped already.
        lines: int64 ``(N,)``: line of each row in a list; its number from 1 in files.
        errors: ``(N,)`` strings: what is wrong with a row, ``""`` for a good one.
    """

    names: NDArray[np.str_]
    codes: NDArray[np.int64]
    valence: NDArray[np.float64]
    arousal: NDArray[np.float64]
    boxes: NDArray[np.int64]
    lines: NDArray[np.int64]
    errors: NDArray[np.str_]


@dataclass(slots=True)
class _Row:
    name: str
    line: int
    code: int = -1
    valence: float = math.nan
    arousal: float = math.nan
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    error: str = ""


def _collect(rows: list[_Row], boxes: bool) -> dict[str, NDArray[Any]]:
    return {
        "names": np.array([row.name for row in rows], np.str_),
        "codes": np.array([row.code for row in rows], np.int64),
        "valence": np.array([row.valence for row in rows], np.float64),
        "arousal": np.array([row.arousal for row in rows], np.float64),
        "boxes": np.array([row.box for row in rows] if boxes else [], np.int64).reshape(-1, 4),
        "lines": np.array([row.line for row in rows], np.int64),
        "errors": np.array([row.error for row in rows], np.str_),
    }


def read_annotations(folder: Path, cache_dir: Path | None = None) -> AffectNetRows:
    """Read ``<number>_exp.npy``, ``<number>_val.npy`` and ``<number>_aro.npy`` of all images of a part, sorted by name.

    All are read once; the table of them is cached under the names, sizes and times of the files. Valence and arousal
    may be missing, but then for all images of the part. Landmarks (``_lnd.npy``) are not read: the images are cropped.
    What is wrong with a row stands in it, nothing is raised for it.
    """
    key = f"affectnet-annotations-v{_FORMAT}-{listing_digest(folder)}"
    return AffectNetRows(**cached_arrays(key, lambda: _read_annotations(folder), cache_dir))


def _read_annotations(folder: Path) -> dict[str, NDArray[Any]]:
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries}
    numbers = sorted(name.removesuffix("_exp.npy") for name in names if name.endswith("_exp.npy"))
    kinds = [kind for kind in ("val", "aro") if any(name.endswith(f"_{kind}.npy") for name in names)]
    rows: list[_Row] = []

    def read(chunk: range) -> list[_Row]:
        return [_annotation(str(folder), numbers[position], position + 1, kinds) for position in chunk]

    chunks = [range(start, min(start + _CHUNK, len(numbers))) for start in range(0, len(numbers), _CHUNK)]
    described = f"annotations of {folder.parent.name}"
    with (
        tqdm(total=len(numbers), unit="image", desc=described, disable=None, leave=False) as bar,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        try:
            for done in pool.map(read, chunks):
                rows += done
                bar.update(len(done))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _collect(rows, boxes=False)


def _annotation(folder: str, number: str, line: int, kinds: list[str]) -> _Row:
    row = _Row(number, line)
    name = f"{number}_exp.npy"
    try:
        row.code = _code(_npy_text(f"{folder}{os.sep}{name}"))
        if "val" in kinds:
            name = f"{number}_val.npy"
            row.valence = _affect(_npy_text(f"{folder}{os.sep}{name}"), "valence")
        if "aro" in kinds:
            name = f"{number}_aro.npy"
            row.arousal = _affect(_npy_text(f"{folder}{os.sep}{name}"), "arousal")
    except DataError as error:
        row.code, row.error = -1, f"{name}: {error}"
    return row


def _npy_text(path: str) -> str:
    """Return the one value in a ``.npy`` file as text; nothing in the file is run.

    ``np.load`` takes ten times as long for such a small file, which matters for a million of them.

    Raises:
        DataError: if it holds anything else; the caller adds which file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            data = os.read(handle, _MOST + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise DataError("is missing") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from None
    if len(data) > _MOST:
        raise DataError("expected one value, found a file of more than 4 kB")
    if not data.startswith(_MAGIC):
        raise DataError(f"expected a .npy file, found {appearance(data)}")
    start = 10 + int.from_bytes(data[8:10], "little")
    if data[6:7] != b"\x01":
        start = 12 + int.from_bytes(data[8:12], "little")
    dtype = _dtype(data[:start])
    try:
        value = np.frombuffer(data, dtype, 1, start)[0]
    except ValueError:
        raise DataError("expected one value, found a .npy file that is damaged or cut off") from None
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@functools.lru_cache(maxsize=1024)  # nearly all files of a set have one of a few headers
def _dtype(header: bytes) -> np.dtype[Any]:
    stream = io.BytesIO(header)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception:  # a damaged header fails in many ways; each means the same here
        raise DataError("expected a .npy file, found one whose header is damaged") from None
    if dtype.hasobject:
        raise DataError("expected one value, found Python objects, which are not loaded: they could run code")
    if math.prod(shape) != 1 or dtype.names is not None:
        raise DataError(f"expected one value, found an array of {'x'.join(map(str, shape))} {dtype}")
    return dtype


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"expected a number as {what}, found {excerpt(text)}") from None


def _code(text: str) -> int:
    value = _number(text, "expression")
    if value not in _CODES:
        raise DataError(f"unknown expression code {excerpt(text)}, expected 0..7, 8 none, 9 uncertain or 10 no face")
    return int(value)


def _affect(text: str, what: str) -> float:
    value = _number(text, what)
    if value == _NO_AFFECT:
        return math.nan
    if not -1 <= value <= 1:
        raise DataError(f"expected {what} in -1..1, or -2 for none, found {excerpt(text)}")
    return value


def read_file_list(path: Path, cache_dir: Path | None = None) -> AffectNetRows:
    """Read ``training.csv`` or ``validation.csv``, with or without header.

    What is wrong with a row stands in it. The face box is read of images that show an expression.

    Raises:
        DataError: if the file is none of CSV with the columns of AffectNet.
    """
    try:
        key = f"affectnet-list-v{_FORMAT}-{file_digest(path)}"
        return AffectNetRows(**cached_arrays(key, lambda: _read_file_list(path), cache_dir))
    except OSError as error:
        raise DataError(unreadable(path, error)) from None


def is_file_list(path: Path) -> bool:
    """Tell whether a table has the columns of AffectNet's lists, by its first line: a face box is among them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            first = next(csv.reader([handle.readline(_MOST)]), [])
        return {"face_x", "expression"} <= set(_positions(path, first))
    except (OSError, UnicodeDecodeError, csv.Error, DataError):
        return False


def _read_file_list(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as raw:
        head = raw.read(64)
    if known_kind(head) is not None:
        raise DataError(f"{short_path(path)}: expected a CSV file, found {appearance(head)}")
    rows: list[_Row] = []
    with path.open(encoding="utf-8-sig", newline="") as handle, _named(path) as place:
        reader = csv.reader(handle, strict=True)
        place.append(reader)
        first = next(reader)
        positions = _positions(path, first)
        if first[positions["expression"]].strip().lower() != "expression":
            rows.append(_listed(first, 1, positions, len(first)))
        for fields in tqdm(reader, unit="row", desc=path.name, disable=None, leave=False):
            if fields:
                rows.append(_listed(fields, reader.line_num, positions, len(first)))
    if not rows:
        raise DataError(f"{short_path(path)}: holds no row")
    return _collect(rows, boxes=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[list[Any]]:
    """Name file and line in complaints of the CSV reader, which the caller puts into the list."""
    place: list[Any] = []
    try:
        yield place
    except UnicodeDecodeError as error:
        raise DataError(one_line(f"{short_path(path)}: expected UTF-8 text ({error})")) from None
    except csv.Error as error:
        raise DataError(one_line(f"{short_path(path)}, line {place[0].line_num}: {error}")) from None


def _positions(path: Path, first: list[str]) -> dict[str, int]:
    """Return the position of each column, from the header or as they stand where there is none."""
    names = [name.strip().lower() for name in first]
    wanted = [name for name in LIST_COLUMNS if name != "facial_landmarks"]
    if "expression" not in names and len(first) == len(LIST_COLUMNS) and "/" in first[0]:
        names = [name.lower() for name in LIST_COLUMNS]
    for name in wanted:
        if name.lower() not in names:
            found = excerpt(", ".join(first), 60)
            raise DataError(one_line(f"{short_path(path)}, line 1: expected a column '{name}', found {found}"))
    return {name: names.index(name.lower()) for name in wanted}


def _listed(fields: list[str], line: int, positions: dict[str, int], width: int) -> _Row:
    row = _Row("", line)
    if len(fields) != width:
        row.error = f"expected {width} columns, found {len(fields)}"
        return row
    text = {name: fields[position].strip() for name, position in positions.items()}
    row.name = text["subDirectory_filePath"]
    try:
        if not row.name:
            raise DataError("expected the path of an image, found nothing")
        code = _code(text["expression"])
        row.valence, row.arousal = _affect(text["valence"], "valence"), _affect(text["arousal"], "arousal")
        if code <= 7:  # the others are left out, and have no face to speak of
            row.box = _box([text[name] for name in ("face_x", "face_y", "face_width", "face_height")])
        row.code = code
    except DataError as error:
        row.error = str(error)
    return row


def _box(texts: list[str]) -> tuple[int, int, int, int]:
    x, y, width, height = (_number(text, "face box") for text in texts)
    if not all(map(math.isfinite, (x, y, width, height))) or width < 1 or height < 1 or max(map(abs, (x, y))) > 1e6:
        raise DataError(f"expected a face box x, y, width, height in pixels, found {excerpt(', '.join(texts), 60)}")
    return round(x), round(y), round(width), round(height)
