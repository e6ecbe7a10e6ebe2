"""CK+ as pixels: ``ckextended.csv``, 920 gray images of 48x48 in FER2013's columns ``emotion,pixels,Usage``.

Its codes are FER2013's with contempt as 7, not those of CK+ itself: it has 593 neutral images (code 6), one for each
sequence, and of the codes 0..5 and 7 as many as CK+ has labelled sequences of angry, disgust, fear, happy, sad,
surprise and contempt (45, 59, 25, 69, 28, 83, 18). It does not say who is shown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_lightning.data.sets.fer2013.fer2013_csv import has_fer2013_header, read_csv_rows
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows
from fer_lightning.data.splitting.near_duplicates import thumbnails
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import BadRows, OnError
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.data.table.samples import SPLITS, SamplesTable, with_classes
from fer_lightning.emotions import EIGHT
from fer_lightning.errors import DataError
from fer_lightning.files import file_digest
from fer_lightning.text import short_path, unreadable

__all__ = ["find_ck_csv", "is_ck_csv", "scan_ck_csv"]

_FORMAT = 1  # raise it whenever the same file would be read into other arrays
_CODES = dict(enumerate(EIGHT.class_names))


def is_ck_csv(path: Path) -> bool:
    """Tell whether a file is ``ckextended.csv``, by its name and its header."""
    return "ckextended" in path.name.lower() and has_fer2013_header(path)


def find_ck_csv(root: Path) -> Path | None:
    """Return the table that a path names or that lies in a folder, ``None`` for none."""
    if root.is_file():
        return root if has_fer2013_header(root) else None
    return next((path for path in sorted(root.glob("*.csv")) if is_ck_csv(path)), None) if root.is_dir() else None


def scan_ck_csv(
    path: Path, class_names: tuple[str, ...], on_error: OnError = "raise", cache_dir: Path | None = None
) -> SamplesTable:
    """Read the table; contempt is left out and counted if it is not among the classes.

    Returns:
        The table: images uint8 ``(N, 1, 48, 48)``, the splits of its column ``Usage``, sources ``ck_plus``, files
        ``ckextended.csv#<line>``.

    Raises:
        DataError: if it is malformed; the message names the line.
        LabelError: for a code that is none of 0..7.
    """
    try:
        key = f"ck-plus-csv-v{_FORMAT}-{on_error}-{file_digest(path)}"
        rows = Fer2013Rows(**cached_arrays(key, lambda: vars(read_csv_rows(path, on_error, _CODES)), cache_dir))
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    bad = BadRows(f"{short_path(path)}, ", on_error)
    for place, reason in rows.left_out:
        bad.note(place, reason)
    bad.warn()
    split_of = dict(zip(USAGES, SPLITS, strict=True))
    codes = ", ".join(f"{code} {name}" for code, name in _CODES.items())
    table = SamplesTable(
        class_names=EIGHT.class_names,
        images=rows.images[:, None],
        labels=rows.labels,
        splits=np.array([split_of[usage] for usage in USAGES], "<U5")[rows.usages],
        sources=np.full(len(rows.labels), "ck_plus"),
        files=np.char.add(f"{path.name}#", rows.places),
        digests=rows.digests,
        thumbnails=thumbnails(rows.images[:, None]),
        left_out=rows.left_out,
        remarks=(f"codes of expressions: {codes} (CK+'s ckextended.csv)",),
    )
    return with_classes(table, class_names)
