"""FER2013 as one text file: ``fer2013.csv`` of the 2013 challenge, ``icml_face_data.csv`` of the later Kaggle page."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.files.tree import split_of
from fer_lightning.data.sets.fer2013.fer2013_rows import SIDE, Fer2013Rows, usage_code
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import BadRows, OnError, appearance, known_kind
from fer_lightning.data.table.samples import SPLITS
from fer_lightning.emotions import EIGHT, FER2013_CODES, SYNONYMS, codes_text
from fer_lightning.errors import DataError, LabelError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["COLUMNS", "has_fer2013_header", "lacks_usage", "read_csv_rows"]

COLUMNS = ("emotion", "pixels", "usage")
"""Columns that a file must have, in any order, any case, with or without spaces around the names.

A file of the first two alone, such as the challenge's ``train.csv``, is one of training images.
"""

_PIXELS = SIDE * SIDE
_LONGEST = 1 << 16  # bytes; an honest line has at most 9,300
_BOM = b"\xef\xbb\xbf"
_SPACE, _ZERO, _NINE = b" 09"
_NAMES = {**{name: name for name in EIGHT.class_names}, **SYNONYMS}
_OTHER_CODES = (
    "pass --data FERPlusDataModule if they are FER+'s (0 neutral), --data CKPlusDataModule if CK+'s ckextended.csv's "
    "(0 angry)"
)
_NAMES_INSTEAD = "else write names instead of codes into column emotion and pass --data FERPlusDataModule"
_RARE = 500  # the share of contempt in FER+ is one in 180


def has_fer2013_header(path: Path) -> bool:
    """Return whether the first line of a file has the columns of FER2013."""
    names = _header_of(path)
    return set(_needed(names)) <= set(names)


def lacks_usage(path: Path) -> bool:
    """Return whether a file of FER2013's form does not say which part a row belongs to."""
    return "usage" not in _needed(_header_of(path))


def _header_of(path: Path) -> list[str]:
    """Return the columns of a file, none if it has no header."""
    try:
        with path.open("rb") as handle:
            return _header(handle.readline(_LONGEST))
    except (DataError, OSError):
        return []


def _needed(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that must be among some names; a usage is not needed where no other column could be it."""
    return COLUMNS if set(names) - {"", *COLUMNS[:2]} or not names else COLUMNS[:2]


def read_csv_rows(path: Path, on_error: OnError = "raise", codes: Mapping[int, str] = FER2013_CODES) -> Fer2013Rows:
    """Read all rows of a FER2013 CSV.

    The file is read line by line: a row never spans lines, so that an unclosed quote spoils its own row only.

    Args:
        path: the file.
        on_error: what to do with a bad row.
        codes: expression of each code; labels are positions in ``EIGHT``.

    Raises:
        DataError: if the file is not such a CSV, if a row is bad and ``on_error`` is ``raise``, or if more than half
            of the rows are bad. The message names file and line.
        LabelError: like this, for an emotion code that is none of ``codes``; and if one row in 500 has the code 7,
            which FER2013 has not: the other codes then have other meanings, too.
    """
    bad = BadRows(f"{short_path(path)}, ", on_error)
    images: list[NDArray[np.uint8]] = []
    rows: list[tuple[int, int, int, str]] = []
    with path.open("rb") as handle:
        parser = _RowParser(_checked_header(path, handle.readline(_LONGEST)), codes)
        size = path.stat().st_size
        with tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=None, leave=False) as bar:
            for number, (line, text) in enumerate(_numbered_lines(path, iter(lambda: handle.readline(_LONGEST), b""))):
                bar.update(len(text))
                try:
                    label, usage, pixels = parser.parse(text)
                except DataError as error:
                    cut = "" if text.endswith(b"\n") else "; the file ends in the middle of a row?"
                    bad.add(f"line {line}", type(error)(f"{error}{cut}"))
                else:
                    images.append(pixels)
                    rows.append((label, usage, number, str(line)))
    if not rows and not bad.count:
        raise DataError(one_line(f"{short_path(path)}: has a header (line 1) but no rows"))
    if parser.eighth > 1 and _RARE * parser.eighth >= len(rows) + bad.count:
        what = f"{short_path(path, 50)}: {parser.eighth:,} rows have the code 7, so the codes are not FER2013's"
        raise LabelError(one_line(f"{what}; {_OTHER_CODES}, {_NAMES_INSTEAD}", 400))
    return Fer2013Rows.collect(images, rows, bad)


def _numbered_lines(path: Path, lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, start=2):
        if len(line) >= _LONGEST and not line.endswith(b"\n"):
            raise DataError(
                one_line(
                    f"{short_path(path)}, line {number}: expected a row of about 9,000 characters, found one of more "
                    f"than {_LONGEST:,}: {excerpt(line)}"
                )
            )
        if line.strip():
            yield number, line


def _header(line: bytes) -> list[str]:
    """Return the columns of a header in lower case without spaces, or raise a DataError that says what it is."""
    text = line.removeprefix(_BOM)
    if not text.strip() or b"\0" in text:
        raise DataError(f"it looks like {appearance(line)}")
    try:
        names = next(csv.reader([text.decode("utf-8").rstrip("\r\n")], strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        raise DataError(f"it looks like {appearance(line)}") from None
    return [name.strip().lower() for name in names]


def _checked_header(path: Path, line: bytes) -> list[str]:
    expected = "expected a header with the columns emotion, pixels and Usage"
    try:
        names = _header(line)
    except DataError as error:
        raise DataError(one_line(f"{short_path(path)}, line 1: {expected}; {error}")) from None
    missing = [name for name in _needed(names) if name not in names]
    if missing:
        hint = known_kind(line)
        hint = f"; it looks like {hint}" if hint else ""
        if len(names) == 1 and all(name in names[0] for name in COLUMNS):
            hint = "; are the columns separated by commas?"
        elif missing == ["usage"]:
            hint = "; name it Usage, or leave it out"
        raise DataError(
            one_line(f"{short_path(path)}, line 1: {expected}; no '{missing[0]}' in {excerpt(line.strip(), 60)}{hint}")
        )
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise DataError(one_line(f"{short_path(path)}, line 1: {expected}; '{twice[0]}' occurs more than once"))
    return names


class _RowParser:
    """Turns lines into (label, usage, pixels); what is wrong with a line is raised without its place."""

    def __init__(self, header: list[str], codes: Mapping[int, str]) -> None:
        self.width = len(header)
        self.emotion, self.pixels = (header.index(name) for name in COLUMNS[:2])
        self.usage = header.index("usage") if "usage" in header else None
        self.codes = codes
        self.labels = {str(code).encode(): EIGHT.index(name) for code, name in codes.items()}
        self.names = {name.encode(): EIGHT.index(meant) for name, meant in _NAMES.items() if meant in codes.values()}
        self.eighth = 0  # rows of the code 7, where it is unknown

    def parse(self, line: bytes) -> tuple[int, int, NDArray[np.uint8]]:
        fields = self._fields(line)
        if len(fields) != self.width:
            raise DataError(f"expected {self.width} columns, found {len(fields)}")
        code = fields[self.emotion].strip()
        label = self.labels.get(code, self.names.get(code.lower()))
        if label is None:
            self.eighth += code == b"7"
            if code.lower() in (b"7", b"contempt"):
                raise LabelError(f"{excerpt(code)} is no class of FER2013; {_OTHER_CODES}")
            raise LabelError(f"unknown emotion code {excerpt(code)}, expected one of {codes_text(self.codes)}")
        return label, self._usage(fields), _parse_pixels(fields[self.pixels])

    def _usage(self, fields: list[bytes]) -> int:
        if self.usage is None:
            return USAGES.index("Training")
        name = fields[self.usage].decode("utf-8", "replace")
        usage = usage_code(name)
        if usage is None and (split := split_of(name)) is not None:
            usage = SPLITS.index(split)
        if usage is None:
            raise DataError(f"unknown usage {excerpt(fields[self.usage])}, expected one of {', '.join(USAGES)}")
        return usage

    def _fields(self, line: bytes) -> list[bytes]:
        if b"\0" in line:
            raise DataError("expected text, found NUL bytes: the file is damaged or binary")
        if not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"expected UTF-8 text, found byte 0x{line[error.start]:02x}") from None
        if b'"' not in line:
            return line.rstrip(b"\r\n").split(b",")
        try:
            return [field.encode() for field in next(csv.reader([line.decode().rstrip("\r\n")], strict=True))]
        except csv.Error as error:
            raise DataError(f"expected a row of CSV, found quotes that do not match ({error})") from None


def _parse_pixels(text: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a row, uint8 ``(2304,)``.

    The usual form, numbers of one to three digits with single spaces between them, is read with array operations:
    half as long as ``np.fromstring``, which also lets numbers overflow into the valid range.
    """
    codes = np.frombuffer(text, np.uint8)
    spaces = np.flatnonzero(codes == _SPACE)
    if len(spaces) != _PIXELS - 1:
        return _parse_pixels_slowly(text)
    ends = np.append(spaces, len(codes))
    lengths = np.diff(ends, prepend=-1) - 1
    digits = np.count_nonzero((codes >= _ZERO) & (codes <= _NINE))
    if digits + len(spaces) != len(codes) or lengths.min() < 1 or lengths.max() > 3:
        return _parse_pixels_slowly(text)
    padded = np.zeros(len(codes) + 2, np.int16)
    padded[2:] = codes
    padded[2:] -= _ZERO
    values = padded[ends + 1] + 10 * padded[ends] * (lengths > 1) + 100 * padded[ends - 1] * (lengths > 2)
    return values.astype(np.uint8) if values.max() <= 255 else _parse_pixels_slowly(text)


def _parse_pixels_slowly(text: bytes) -> NDArray[np.uint8]:
    """Like ``_parse_pixels`` for any white space; raise a DataError that says what is wrong."""
    values = text.split()
    if len(values) != _PIXELS:
        raise DataError(f"expected {_PIXELS} pixel values ({SIDE}x{SIDE}), found {len(values)}")
    for position, value in enumerate(values):
        if not value.isdigit() or len(value.lstrip(b"0")) > 3 or int(value) > 255:
            raise DataError(f"expected whole numbers in 0..255, found {excerpt(value)} as pixel {position + 1}")
    return np.array([int(value) for value in values], np.uint8)
