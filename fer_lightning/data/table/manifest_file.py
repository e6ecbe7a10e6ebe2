"""Tables of samples in files: CSV, Parquet or JSON with one row per image.

Columns: ``path`` and ``label``, by whichever name (see :mod:`.label_columns`); optional ``split``, ``source``, ``kind``
(real, web, synthetic), ``subject``, ``gender``, ``skin_type``, ``age_group``; any further column of texts and numbers
is kept as it is.
"""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.bad_rows import known_kind
from fer_lightning.data.table.label_columns import (
    COLUMNS,
    LOOKED_AT,
    Header,
    names_an_image,
    one_hot_columns,
    place_columns,
    read_header,
)
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError, FERError, MissingExtraError
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = [
    "TABLE_SUFFIXES",
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

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".txt")
"""Suffixes of files that may be a table of samples."""

Columns = Mapping[str, str | int | None]
"""Name or number of the column, by its meaning; ``None`` for a meaning that no column has."""

_NUMBERS = ("valence", "arousal", "x", "y", "w", "h", "width", "height")
_DELIMITERS = ",;\t|"
_HEAD = 1 << 16  # bytes that are read to tell what a table is
_LONGEST_JSON = 1 << 28  # bytes of a JSON file that is no JSONL: it is read as a whole


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
        return f"{short_path(table)}, {_unit(table)} {self.lines[row]}"

    def mention(self, row: int) -> str:
        """Say where a row is to somebody who reads of another row of the same file."""
        return f"{_unit(self._table(row))} {self.lines[row]}"

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


def _unit(path: Path) -> str:
    """Return what the rows of a file are counted by."""
    return "row" if path.suffix.lower() in (".parquet", ".json") else "line"


@dataclass(frozen=True)
class _Rows:
    """What stands in a table, before it is known which column is which."""

    header: Header
    rows: list[list[str]]
    lines: list[int]
    packed: bool = False  # whether other columns hold bytes or records, such as whole images


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
        read = _read_rows(path, None)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    where = short_path(path)
    read, told = _with_label(where, read)
    _check_names(where, read.header)
    placed = place_columns(where, read.header, read.rows[:LOOKED_AT], required, columns)
    names = _final_names(read.header, placed)
    kept = [at for at, name in enumerate(names) if name]
    texts = list(zip(*read.rows, strict=True)) or [()] * len(names)
    arrays = {names[at]: np.array(texts[at], np.str_) for at in kept}
    manifest = ManifestFile(path, arrays, np.array(read.lines, np.int64), told or _told(where, read.header, placed))
    for name in required:
        empty = np.flatnonzero(np.char.strip(manifest.columns[name]) == "")
        if len(empty):
            raise DataError(f"{manifest.place(int(empty[0]))}: nothing stands in column '{name}'")
    if not len(manifest.lines):
        raise DataError(f"{where}: holds no row")
    return manifest


def _with_label(where: str, read: _Rows) -> tuple[_Rows, tuple[str, ...]]:
    """Add the column ``label`` where the table has a column of 0 and 1 for each expression instead, and tell it."""
    marks = one_hot_columns(read.header, read.rows)
    if not marks:
        return read, ()
    names = [read.header.names[at] for at in marks]
    rows = [[*row, "" if len(row) <= max(marks) else _marked(row, marks, names)] for row in read.rows]
    told = f"{where}: label from the columns of 0 and 1 {', '.join(names)}"
    return replace(read, header=Header((*read.header.names, "label")), rows=rows), (one_line(told),)


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


def _told(where: str, header: Header, placed: Mapping[str, int]) -> tuple[str, ...]:
    """Say which columns were taken, if one of them is not called by its meaning."""
    taken = [(role, header.names[placed[role]]) for role in ("path", "label", "split") if role in placed]
    if all(role == name for role, name in taken):
        return ()
    columns = ", ".join(f"{role} from column {excerpt(name)}" for role, name in taken)
    return (one_line(f"{where}{'' if header.present else ' has no header'}: {columns}"),)


def _read_rows(path: Path, most: int | None) -> _Rows:
    """Read a table, of which ``most`` bytes and only so many rows as are in them are read (``None`` for all)."""
    if path.suffix.lower() == ".parquet":
        return _parquet_rows(path, most)
    if path.suffix.lower() == ".json":
        return _json_rows(path)
    with path.open("rb") as handle:
        content = handle.read(-1 if most is None else most)
    kind = known_kind(content[:64])
    if kind is not None:
        raise DataError(f"{short_path(path)}: expected a CSV file, found {kind}")
    if most is not None and len(content) == most:
        content = content[: content.rfind(b"\n") + 1]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{short_path(path)}: expected UTF-8 text ({one_line(str(error))})") from None
    zero = text.find("\0")
    if zero >= 0:  # what csv does about it depends on the version of Python
        raise DataError(f"{short_path(path)}, line {text.count(chr(10), 0, zero) + 1}: found a zero byte in the text")
    return _jsonl_rows(path, text) if path.suffix.lower() == ".jsonl" else _csv_rows(path, text)


def _csv_rows(path: Path, text: str) -> _Rows:
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    if delimiter not in first and names_an_image(next(iter(first.split()), "")):
        delimiter = " "  # a list such as `train_00001.jpg 5`
    options: dict[str, Any] = {"delimiter": delimiter, "skipinitialspace": delimiter == " ", "strict": True}
    reader = csv.reader(io.StringIO(text, newline=""), **options)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        names = next(reader, [])
        header = read_header(names)
        if not header.present:
            rows, lines = [names], [1]
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(names):
                raise DataError(
                    f"{short_path(path)}, line {reader.line_num}: expected {len(names)} columns, found {len(fields)}"
                )
            rows.append(fields)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(one_line(f"{short_path(path)}, line {reader.line_num}: {error}")) from None
    return _Rows(header, rows, lines)


def _jsonl_rows(path: Path, text: str) -> _Rows:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    entries = []
    for number, line in zip(lines, filter(str.strip, text.splitlines()), strict=True):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise DataError(one_line(f"{short_path(path)}, line {number}: expected a JSON object ({error})")) from None
    return _object_rows(path, entries, lines)


def _json_rows(path: Path) -> _Rows:
    if path.stat().st_size > _LONGEST_JSON:
        raise DataError(f"{short_path(path)}: too large for JSON; write an object in each line (.jsonl), or CSV")
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(one_line(f"{short_path(path)}: expected JSON ({error})")) from None
    if not isinstance(entries, list):
        raise DataError(f"{short_path(path)}: expected a list of objects such as {{'path': 'a.jpg', 'label': 'happy'}}")
    return _object_rows(path, entries, list(range(1, len(entries) + 1)))


def _object_rows(path: Path, entries: list[Any], lines: list[int]) -> _Rows:
    """Return the texts and numbers of JSON objects; what is nested in them is left away."""
    names: dict[str, None] = {}
    for number, entry in zip(lines, entries, strict=True):
        if not isinstance(entry, dict):
            raise DataError(f"{short_path(path)}, {_unit(path)} {number}: expected a JSON object")
        names |= {name: None for name, value in entry.items() if not isinstance(value, dict | list)}
    rows = [["" if entry.get(name) is None else str(entry[name]) for name in names] for entry in entries]
    return _Rows(Header(tuple(name.strip().lower() for name in names)), rows, lines)


def _parquet_rows(path: Path, most: int | None) -> _Rows:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("Parquet needs: pip install 'fer_lightning[large]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            kept = [entry.name for entry in file.schema_arrow if not _holds_many(entry.type)]
            packed = len(kept) < len(file.schema_arrow)
            if most is None:
                table = file.read(columns=kept)
            else:
                batch = next(file.iter_batches(LOOKED_AT, columns=kept), None)
                table = file.schema_arrow.empty_table().select(kept) if batch is None else batch
    except pyarrow.ArrowException as error:
        raise DataError(one_line(f"{short_path(path)}: expected a Parquet file ({error})")) from None
    texts = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    names = tuple(name.strip().lower() for name in table.schema.names)
    rows = [list(row) for row in zip(*texts, strict=True)]
    return _Rows(Header(names), rows, list(range(1, table.num_rows + 1)), packed)


def _holds_many(kind: Any) -> bool:
    """Tell whether a column of Parquet holds lists, records or bytes, such as whole images."""
    import pyarrow.types as types

    return bool(types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


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
    """Tell whether a table names an image in its first row, whatever its columns are called."""
    try:
        rows = _read_rows(path, _HEAD).rows
    except (FERError, OSError):
        return False
    return bool(rows) and any(map(names_an_image, rows[0]))


def has_label_columns(path: Path, columns: Columns | None = None) -> bool:
    """Tell whether a table names images and their labels, from its first rows alone."""
    try:
        read, _ = _with_label("", _read_rows(path, _HEAD))
        if read.packed and not {"path", "label"} <= set(read.header.names):
            return False
        place_columns(path.name, read.header, read.rows[:LOOKED_AT], ("path", "label"), columns)
    except (FERError, OSError):  # whatever is wrong with it, a manifest it is not
        return False
    return True
