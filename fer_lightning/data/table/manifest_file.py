"""Tables of samples in files: CSV, Parquet or JSON with one row per image.

Columns: ``path`` and ``label``, by whichever name (see ``label_columns``); optional ``split``, ``source``, ``kind``
(real, web, synthetic), ``subject``, ``gender``, ``skin_type``, ``age_group``; any further column of texts and numbers
is kept as it is.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.label_columns import (
    COLUMNS,
    LOOKED_AT,
    Header,
    id_columns,
    names_an_image,
    one_hot_columns,
    place_columns,
)
from fer_lightning.data.table.other_forms import EXPW_COLUMNS, expw_row
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.data.table.table_rows import HEAD, TableRows, read_rows, unit_of
from fer_lightning.emotions import FER2013_CODES, codes_text
from fer_lightning.errors import DataError, FERError
from fer_lightning.text import counted, excerpt, one_line, short_path, unreadable

__all__ = [
    "Columns",
    "ManifestFile",
    "has_label_columns",
    "joined",
    "manifest_text",
    "names_images",
    "paths_to_keep",
    "read_manifest",
    "rows_to_keep",
]

Columns = Mapping[str, str | int | None]
"""Name or number of the column, by its meaning; ``None`` for a meaning that no column has."""

_NUMBERS = ("valence", "arousal", "x", "y", "w", "h", "width", "height")


@dataclass(frozen=True)
class ManifestFile:
    """The columns of a manifest, as texts.

    Attributes:
        path: the file, or the folder of several.
        columns: ``(N,)`` strings by lower-case name, ``""`` where nothing stands.
        lines: line of each row in a text file; number of the row, from 1, in Parquet and JSON.
        remarks: which columns were taken for what, where the names do not say so.
        tables: the files, where there are several, and the first row of each.
    """

    path: Path
    columns: dict[str, NDArray[np.str_]]
    lines: NDArray[np.int64]
    remarks: tuple[str, ...] = ()
    tables: tuple[tuple[Path, int], ...] = ()

    def place(self, row: int) -> str:
        """Say where a row is, for messages."""
        table = self._table(row)
        return f"{short_path(table)}, {unit_of(table)} {self.lines[row]}"

    def mention(self, row: int) -> str:
        """Say where a row is to somebody who reads of another row of the same file."""
        return f"{unit_of(self._table(row))} {self.lines[row]}"

    def _table(self, row: int) -> Path:
        starts = [start for _, start in self.tables]
        return self.tables[bisect_right(starts, row) - 1][0] if starts else self.path

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN for nothing; raise a DataError that names the row for anything else."""
        values = np.full(len(self.lines), np.nan)
        for row, text in enumerate(self.columns[name].tolist()):
            if text.strip():
                try:
                    values[row] = float(text)
                except ValueError:
                    raise DataError(
                        one_line(f"{self.place(row)}: expected a number in column '{name}', found {excerpt(text)}")
                    ) from None
        return values

    def further(self) -> dict[str, NDArray[Any]]:
        """Return the columns that go along with the samples: all but path, label, split, source and the box."""
        return {
            name: self.numbers(name) if name in _NUMBERS else column
            for name, column in self.columns.items()
            if name not in ("path", "label", "split", "source", "x", "y", "w", "h")
        }


def read_manifest(
    path: Path, required: tuple[str, ...] = ("path", "label"), columns: Columns | None = None
) -> ManifestFile:
    """Read a manifest: CSV (comma, semicolon, tab or bar; UTF-8), Parquet, or JSON (a list, or an object in each line).

    Args:
        path: the file.
        required: columns that must be there and hold something in every row.
        columns: which columns these are, where their names do not tell.

    Raises:
        ConfigError: for a wrong ``columns``.
        DataError: if the file is missing or malformed; the message names the line.
        MissingExtraError: for Parquet without pyarrow.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            found = "a folder" if path.is_dir() else "nothing"
            raise DataError(f"{short_path(path)}: expected a CSV, Parquet or JSON file, found {found}")
        read = read_rows(path, None)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    where = short_path(path)
    read, remarks = _with_label(where, read)
    _check_names(where, read.header)
    placed = place_columns(where, read.header, read.rows[:LOOKED_AT], required, columns)
    names = _final_names(read.header, placed)
    kept = [at for at, name in enumerate(names) if name]
    texts = list(zip(*read.rows, strict=True)) or [()] * len(names)
    arrays = {names[at]: np.array(texts[at], np.str_) for at in kept}
    remarks = remarks or _column_remarks(where, read.header, placed)
    manifest = ManifestFile(path, arrays, np.array(read.lines, np.int64), remarks)
    for name in required:
        empty = np.flatnonzero(np.char.strip(manifest.columns[name]) == "")
        if len(empty):
            where = manifest.place(int(empty[0]))
            count = counted(len(empty), unit_of(path))
            raise DataError(f"{where}: nothing stands in column '{name}'; fill in or delete such rows ({count})")
    if not len(manifest.lines):
        raise DataError(f"{where}: holds no row")
    return manifest


def _with_label(where: str, read: TableRows) -> tuple[TableRows, tuple[str, ...]]:
    """Add the column ``label`` where the table has another form: 0 and 1 for each expression, ExpW's; and a remark."""
    if not read.header.present and read.rows and expw_row(read.rows[0]) is not None:
        return _expw(where, read)
    marks = one_hot_columns(read.header, read.rows)
    if not marks:
        return read, ()
    names = [read.header.names[at] for at in marks]
    rows = [[*row, "" if len(row) <= max(marks) else _marked(row, marks, names)] for row in read.rows]
    remark = f"{where}: label from the columns of 0 and 1 {', '.join(names)}"
    return replace(read, header=Header((*read.header.names, "label")), rows=rows), (one_line(remark),)


def _expw(where: str, read: TableRows) -> tuple[TableRows, tuple[str, ...]]:
    """Return the rows of ExpW's list with the names of the labels and the boxes of the faces."""
    rows = []
    for line, fields in zip(read.lines, read.rows, strict=True):
        row = expw_row(fields)
        if row is None:
            found = excerpt(" ".join(fields), 60)
            what = "image, face, top, left, right, bottom, confidence and label 0 to 6, as in ExpW"
            raise DataError(one_line(f"{where}, line {line}: expected {what}; found {found}"))
        rows.append(row)
    remark = f"{where}: ExpW's list, each row a face in its box; labels: {codes_text(FER2013_CODES)}"
    return replace(read, header=Header(EXPW_COLUMNS), rows=rows), (one_line(remark),)


def _marked(row: Sequence[str], marks: Sequence[int], names: Sequence[str]) -> str:
    """Return the name of the one column that has a 1, ``""`` if there is none or several."""
    found = [name for at, name in zip(marks, names, strict=True) if float(row[at]) == 1]
    return found[0] if len(found) == 1 else ""


def _check_names(where: str, header: Header) -> None:
    twice = sorted({name for name in header.names if name and header.names.count(name) > 1})
    if twice:
        raise DataError(one_line(f"{where}: column '{twice[0]}' stands more than once in the header"))


def _final_names(header: Header, placed: Mapping[str, int]) -> list[str]:
    """Return the name of each column: its meaning, if it has one; ``""`` for a column without a name."""
    meant = {at: role for role, at in placed.items()}
    return [meant.get(at, f"other_{name}" if name in placed else name) for at, name in enumerate(header.names)]


def _column_remarks(where: str, header: Header, placed: Mapping[str, int]) -> tuple[str, ...]:
    """Say which columns were taken, if one of them is not called by its meaning."""
    taken = [(role, header.names[placed[role]]) for role in ("path", "label", "split") if role in placed]
    if all(role == name for role, name in taken):
        return ()
    columns = ", ".join(f"{role} from column {excerpt(name)}" for role, name in taken)
    return (one_line(f"{where}{'' if header.present else ' has no header'}: {columns}"),)


def manifest_text(table: SamplesTable, paths: NDArray[np.str_], extra: Mapping[str, NDArray[Any]] | None = None) -> str:
    """Return the CSV text of a manifest of samples, with ``(N,)`` paths and further columns."""
    names = np.array(table.class_names)
    columns: dict[str, NDArray[Any]] = {"path": paths, "label": names[table.labels], "split": table.splits}
    columns |= {"source": table.sources, **table.columns, **(extra or {})}
    ordered = [name for name in COLUMNS if name in columns]
    ordered += [name for name in columns if name not in ordered]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(ordered)
    writer.writerows(zip(*(_texts(columns[name]) for name in ordered), strict=True))
    return out.getvalue()


def _texts(column: NDArray[Any]) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:g}" for value in column.tolist()]
    return [str(value) for value in column.tolist()]


def paths_to_keep(path: Path) -> NDArray[np.str_]:
    """Return what stands in the column ``path`` of a manifest, ``(M,)``; a DataError if it has none."""
    manifest = read_manifest(path, required=("path",))
    if manifest.remarks:
        raise DataError(f"{short_path(path)}: expected a column 'path', as in manifest.csv of fer data dedupe")
    return manifest.columns["path"]


def rows_to_keep(path: Path, files: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Tell which of the files ``(N,)`` of a data set a manifest names in its column ``path``, bool ``(N,)``.

    Raises:
        DataError: if the manifest names files that the data set has not.
    """
    named = paths_to_keep(path)
    absent = np.setdiff1d(named, files)
    if len(absent):
        raise DataError(
            one_line(
                f"{short_path(path)}: {len(absent):,} of {len(named):,} paths are not in the data set, the first: "
                f"{excerpt(str(absent[0]), 80)}; the manifest belongs to another one"
            )
        )
    return np.isin(files, named)


def joined(folder: Path, manifests: Sequence[ManifestFile]) -> ManifestFile:
    """Return the rows of several manifests in one, columns that some lack filled with ``""``."""
    names = dict.fromkeys(name for manifest in manifests for name in manifest.columns)
    starts = np.cumsum([0, *(len(manifest.lines) for manifest in manifests)]).tolist()
    return ManifestFile(
        folder,
        {
            name: np.concatenate(
                [manifest.columns.get(name, np.full(len(manifest.lines), "")) for manifest in manifests]
            )
            for name in names
        },
        np.concatenate([manifest.lines for manifest in manifests]),
        tuple(remark for manifest in manifests for remark in manifest.remarks),
        tuple((manifest.path, start) for manifest, start in zip(manifests, starts, strict=False)),
    )


def names_images(path: Path) -> bool:
    """Tell whether a table names an image in its first row, whatever its columns are called, or has ids and labels."""
    try:
        read = read_rows(path, HEAD)
        if read.rows and any(map(names_an_image, read.rows[0])):
            return True
        place_columns(path.name, read.header, read.rows[:LOOKED_AT], ("label",))
    except (FERError, OSError):
        return False
    return bool(read.rows) and bool(id_columns(read.header))


def has_label_columns(path: Path, columns: Columns | None = None) -> bool:
    """Tell whether a table names images and their labels, from its first rows alone."""
    try:
        read, _ = _with_label("", read_rows(path, HEAD))
        if read.packed and not {"path", "label"} <= set(read.header.names):
            return False
        place_columns(path.name, read.header, read.rows[:LOOKED_AT], ("path", "label"), columns)
    except (FERError, OSError):  # whatever is wrong with it, a manifest it is not
        return False
    return True
