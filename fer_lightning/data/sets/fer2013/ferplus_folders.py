"""FER+ as its own script leaves it: ``FER2013Train/``, ``FER2013Valid/`` and ``FER2013Test/`` with ``label.csv`` each.

``generate_training_data.py`` (github.com/microsoft/FERPlus) writes the images as ``fer0000000.png``, numbered as the
rows of ``fer2013new.csv``, and beside them a table without header: name, box, and the votes for ten columns.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.sets.fer2013.fer2013_folder import read_image
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows
from fer_lightning.data.table.bad_rows import BadRows, OnError
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.emotions import FERPLUS_COLUMNS
from fer_lightning.errors import DataError
from fer_lightning.files import listing_digest
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["LABELS_FILE", "ferplus_folders", "read_ferplus_folders"]

LABELS_FILE = "label.csv"
"""Name of the table in each folder."""

_FORMAT = 1  # raise it whenever the same files would be read into other arrays
_FOLDERS = ("fer2013train", "fer2013valid", "fer2013test")  # in the order of USAGES
_WIDTH = 2 + len(FERPLUS_COLUMNS)


def ferplus_folders(root: Path) -> list[tuple[int, Path]]:
    """Return (usage, as a position in ``USAGES``, folder) of each part that the script has written."""
    if not root.is_dir():
        return []
    tops = [path for path in root.iterdir() if path.name.lower() in _FOLDERS]
    return sorted((_FOLDERS.index(top.name.lower()), top) for top in tops if (top / LABELS_FILE).is_file())


def read_ferplus_folders(
    root: Path, on_error: OnError = "raise", cache_dir: Path | None = None
) -> tuple[Fer2013Rows, NDArray[np.int64]]:
    """Read images and votes.

    Returns:
        The rows, whose ``labels`` say nothing (all 0), and the votes int64 ``(N, 10)``, columns as in
        ``FERPLUS_COLUMNS``.

    Raises:
        DataError: if a table is malformed, an image is bad and ``on_error`` is ``raise``, or more than half are bad;
            the message names file and line.
    """
    digests = "-".join(listing_digest(folder) for _, folder in ferplus_folders(root))
    arrays = cached_arrays(f"ferplus-folders-v{_FORMAT}-{on_error}-{digests}", lambda: _read(root, on_error), cache_dir)
    votes = arrays.pop("votes")
    rows = Fer2013Rows(**arrays)
    bad = BadRows(f"{short_path(root)}/", on_error)
    for place, reason in rows.left_out:
        bad.note(place, reason)
    bad.warn()
    return rows, votes


def _read(root: Path, on_error: OnError) -> dict[str, NDArray[np.generic]]:
    bad = BadRows(f"{short_path(root)}/", on_error)
    images: list[NDArray[np.uint8]] = []
    rows: list[tuple[int, int, int, str]] = []
    votes: list[list[int]] = []
    for usage, folder in ferplus_folders(root):
        for line, fields in tqdm(_lines(folder / LABELS_FILE), desc=folder.name, disable=None, leave=False):
            place = f"{folder.name}/{fields[0].strip()}"
            try:
                counted = _votes(fields)
                image = read_image(root / place)
            except DataError as error:
                bad.add(f"{folder.name}/{LABELS_FILE}, line {line} ({fields[0].strip()})", error)
                continue
            digits = "".join(filter(str.isdecimal, Path(place).stem))
            images.append(image)
            rows.append((0, usage, int(digits[:12]) if digits else -1, place))
            votes.append(counted)
    return {**vars(Fer2013Rows.collect(images, rows, bad)), "votes": np.array(votes, np.int64).reshape(-1, _WIDTH - 2)}


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return number and fields of each line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            return [(reader.line_num, fields) for fields in reader if fields]
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(one_line(f"{short_path(path)}: expected UTF-8 text in CSV form ({error})")) from None


def _votes(fields: list[str]) -> list[int]:
    if len(fields) != _WIDTH:
        raise DataError(f"expected name, box and {_WIDTH - 2} numbers of votes, found {len(fields)} columns")
    try:
        counts = [float(field) for field in fields[2:]]
    except ValueError:
        counts = [-1.0]
    if any(count < 0 or count != round(count) or count > 1e6 for count in counts):
        raise DataError(f"expected numbers of votes, found {excerpt(', '.join(fields[2:]), 60)}")
    return [int(count) for count in counts]
