"""Where FER2013 lies on a disk, in whichever layout, and its rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.archives import open_root
from fer_lightning.data.sets.code_meanings import Codes, meanings_of, remark
from fer_lightning.data.sets.fer2013.fer2013_csv import COLUMNS, has_fer2013_header, read_csv_rows
from fer_lightning.data.sets.fer2013.fer2013_folder import read_folder_rows, top_folders
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import WAY_OUT, BadRows, OnError, contents
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.emotions import FER2013_CODES
from fer_lightning.errors import DataError
from fer_lightning.files import file_digest, listing_digest
from fer_lightning.text import one_line, short_path

__all__ = ["Layout", "find_layout", "read_layout"]

_LOG = logging.getLogger(__name__)
_CACHE_FORMAT = 3  # raise it whenever the same files would be read into other arrays
_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")


@dataclass(frozen=True)
class Layout:
    """Where the data set is and how it is laid out: one file, or a folder of images.

    Attributes:
        path: the file, or the folder with the parts.
        given: what the user named: ``path``, an archive of it, or a folder around it.
        is_csv: whether it is a file.
        meanings: expression of each class folder that is named by a code, by code.
        remarks: what is to be told of the codes.
    """

    path: Path
    given: Path
    is_csv: bool
    meanings: Mapping[str, str | None] = field(default_factory=dict)
    remarks: tuple[str, ...] = (
        remark("codes of expressions", FER2013_CODES, f"FER2013's columns {', '.join(COLUMNS)}"),
    )

    @property
    def prefix(self) -> str:
        """What stands before each complaint about a row."""
        return f"{short_path(self.path)}, " if self.is_csv else f"{short_path(self.path)}{os.sep}"

    @property
    def votes_folders(self) -> list[Path]:
        """Where the file of FER+ votes may be, in this order."""
        folder = self.path.parent if self.is_csv else self.path
        return list(dict.fromkeys([folder, folder.resolve().parent, self.given, self.given.parent]))

    def digest(self) -> str:
        """Digest of the content, or of names, sizes and times of a folder's files."""
        if self.is_csv:
            return file_digest(self.path)
        codes = [f"{code}={name}" for code, name in self.meanings.items()]
        return "-".join([*(f"{top.name}-{listing_digest(top)}" for top in top_folders(self.path)), *codes])

    def files(self, rows: Fer2013Rows) -> NDArray[np.str_]:
        """Name of each row, ``(N,)``."""
        if not self.is_csv:
            return rows.places
        return np.char.add(f"{self.path.name}#", rows.places)


def find_layout(given: Path, cache_dir: Path | None = None) -> Layout:
    """Find out how a data set is laid out; archives are unpacked.

    Raises:
        DataError: if there is none, or more than one, or an archive cannot be unpacked.
    """
    root = open_root(given, cache_dir)
    if root.is_file():
        return Layout(root, given, is_csv=True)
    looked_for = f"{' or '.join(_CSV_NAMES)} (or a CSV with the columns emotion, pixels, Usage), or train/<emotion>/"
    if not root.is_dir():
        raise DataError(one_line(f"{short_path(root)} does not exist; expected a folder with {looked_for}"))
    tables = [
        path
        for path in sorted(root.iterdir())
        if path.is_file() and (path.name in _CSV_NAMES or (path.suffix.lower() == ".csv" and has_fer2013_header(path)))
    ]
    tops = top_folders(root)
    found = [*(path.name for path in tables), *(f"{path.name}/" for path in tops)]
    if len(tables) > 1 or (tables and tops):
        raise DataError(
            one_line(
                f"{short_path(root)} holds FER2013 more than once ({', '.join(found)}): name the CSV, or remove one"
            )
        )
    if not found:
        what = f"{short_path(root, 60)}: expected {looked_for}; found {contents(root)}"
        raise DataError(f"{one_line(what, 208)}; {WAY_OUT}")
    return Layout(tables[0], given, is_csv=True) if tables else _folder_layout(root, given)


def _folder_layout(root: Path, given: Path) -> Layout:
    """Find out what the class folders stand for that are named by a code; raise a DataError if it is not FER2013's."""
    folders = [
        (top.name, path)
        for top in top_folders(root)
        for path in sorted(top.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    ]
    meanings, remarks = meanings_of(root, folders, own=Codes("FER2013", FER2013_CODES))
    return Layout(root, given, False, meanings, remarks)


def read_layout(layout: Layout, on_error: OnError, cache_dir: Path | None) -> Fer2013Rows:
    """Return the rows from the cache or from the files, and say again what is wrong with them."""

    def read() -> Fer2013Rows:
        if layout.is_csv:
            return read_csv_rows(layout.path, on_error)
        return read_folder_rows(layout.path, on_error, layout.meanings)

    form = "csv" if layout.is_csv else "folder"
    key = f"fer2013-{form}-v{_CACHE_FORMAT}-{on_error}-{layout.digest()}"
    rows = Fer2013Rows(**cached_arrays(key, lambda: vars(read()), cache_dir))
    bad = BadRows(layout.prefix, on_error)
    for place, reason in rows.left_out:
        bad.note(place, reason)
    bad.warn()
    if not layout.is_csv:
        _warn_of_guessed_usages(layout.path, rows)
    return rows


def _warn_of_guessed_usages(root: Path, rows: Fer2013Rows) -> None:
    prefixes = tuple(f"{usage}_" for usage in USAGES)
    guessed = sum(not place.rpartition("/")[2].startswith(prefixes) for place in rows.places.tolist())
    if guessed:
        _LOG.warning(
            "%s: the names of %s of %s images do not begin with %s: their official part is not known; "
            "train/ is taken for Training, validation/ for PublicTest, test/ for PrivateTest",
            short_path(root),
            f"{guessed:,}",
            f"{len(rows.places):,}",
            ", ".join(prefixes),
        )
