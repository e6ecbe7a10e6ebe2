"""Tables of labels in the forms of other programs: Excel's workbooks, COCO's JSON, ExpW's list."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fer_lightning.data.table.images import IMAGE_SUFFIXES
from fer_lightning.emotions import FER2013_CODES
from fer_lightning.errors import DataError
from fer_lightning.text import one_line, short_path

__all__ = ["EXPW_COLUMNS", "csv_of_workbook", "expw_row", "flat_entries"]

EXPW_COLUMNS = ("path", "face", "top", "left", "right", "bottom", "confidence", "label", "x", "y", "w", "h")
"""The columns of ExpW's ``label.lst`` (Zhang et al. 2018, doi:10.1007/s11263-017-1055-1), and the box of the face."""

_LARGEST = 1 << 28  # bytes of a sheet, unpacked


def expw_row(fields: Sequence[str]) -> list[str] | None:
    """Return a row of ExpW's list for ``EXPW_COLUMNS``, its label as a name; ``None`` for a row of another form.

    The codes are those of FER2013, as its README says.

    >>> expw_row("a_1.jpg 0 75 61 108 108 48.2 3".split())[7:]
    ['happy', '61', '75', '47', '33']
    """
    if len(fields) != 8 or not all(re.fullmatch(r"-?\d+", text) for text in (*fields[1:6], fields[7])):
        return None
    top, left, right, bottom, code = map(int, (*fields[2:6], fields[7]))
    if code not in FER2013_CODES or right <= left or bottom <= top:
        return None
    box = (left, top, right - left, bottom - top)
    return [*fields[:7], FER2013_CODES[code], *map(str, box)]


def flat_entries(content: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of a JSON object, ``None`` if it has another form.

    Args:
        content: COCO's ``images``, ``annotations`` and ``categories``: a row for each annotation, with the box of the
            face; or the label of each image by its path.
    """
    if {"images", "annotations", "categories"} <= content.keys():
        try:
            names = {one["id"]: one["name"] for one in content["categories"]}
            paths = {one["id"]: one["file_name"] for one in content["images"]}
            return [
                {"path": paths[one["image_id"]], "label": names[one["category_id"]], **_box(one.get("bbox"))}
                for one in content["annotations"]
            ]
        except (KeyError, TypeError, ValueError):
            return None
    if content and all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in content):
        return [{"path": name, "label": label} for name, label in content.items()]
    return None


def _box(box: Sequence[float] | None) -> dict[str, float]:
    return dict(zip(("x", "y", "w", "h"), box, strict=True)) if box else {}


def csv_of_workbook(path: Path) -> str:
    """Return the first sheet of an Excel workbook (.xlsx, ECMA-376 part 1, section 18.3) as CSV text.

    Raises:
        DataError: if it is damaged or none.
    """
    try:
        with zipfile.ZipFile(path) as book:
            sheets = sorted((name for name in book.namelist() if _is_sheet(name)), key=lambda name: (len(name), name))
            shared = _texts(_part(book, "xl/sharedStrings.xml")) if "xl/sharedStrings.xml" in book.namelist() else []
            rows = [_cells(row, shared) for row in _part(book, sheets[0]).iter() if _tag(row) == "row"]
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, ElementTree.ParseError) as error:
        text = f"{short_path(path)}: expected a workbook of Excel, found something else ({error})"
        raise DataError(one_line(f"{text}; save it as CSV")) from None
    width = max(map(len, rows), default=0)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([*row, *[""] * (width - len(row))] for row in rows if any(row))
    return out.getvalue()


def _is_sheet(name: str) -> bool:
    return re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name) is not None


def _part(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > _LARGEST:
        raise ValueError(f"{name} is too large")
    content = book.read(name)
    if b"<!DOCTYPE" in content[:4096]:  # entities that grow without end
        raise ValueError(f"{name} has a document type")
    return ElementTree.fromstring(content)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: ElementTree.Element) -> str:
    """Return the text of an element, without the phonetic guides that Excel adds."""
    return "".join(each.text or "" for each in element.iter() if _tag(each) == "t")


def _texts(shared: ElementTree.Element) -> list[str]:
    return [_text(item) for item in shared if _tag(item) == "si"]


def _cells(row: ElementTree.Element, shared: Sequence[str]) -> list[str]:
    """Return the texts of a row, each in the column that its reference names."""
    found: list[str] = []
    for cell in row:
        letters = re.match("[A-Z]+", cell.get("r", ""))
        at = len(found) if letters is None else _column(letters[0])
        found += [""] * (at + 1 - len(found))
        value = next((each.text or "" for each in cell if _tag(each) == "v"), "")
        if cell.get("t") == "s":
            found[at] = shared[int(value)]
        else:
            found[at] = _text(cell) if cell.get("t") == "inlineStr" else value
    return found


def _column(letters: str) -> int:
    """Return the position of a column, from 0: A, ..., Z, AA, ..."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1
