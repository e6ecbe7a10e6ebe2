"""Tables of samples in files: CSV or Parquet with one row per image.

Columns: ``path`` and ``label``; optional ``split``, ``source``, ``kind`` (real, web, synthetic), ``subject``,
``gender``, ``skin_type``, ``age_group``; any further column of texts and numbers is kept as it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.bad_rows import known_kind
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError, MissingExtraError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["COLUMNS", "ManifestFile", "has_manifest_header", "manifest_text", "read_manifest", "rows_to_keep"]

COLUMNS = ("path", "label", "split", "source", "kind", "subject", "gender", "skin_type", "age_group")
"""The columns that have a meaning, in the order in which they are written."""

_NUMBERS = ("valence", "arousal", "x", "y", "w", "h", "width", "height")
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class ManifestFile:
    """The columns of a manifest, as texts.

    Attributes:
        path: the file.
        columns: ``(N,)`` strings by lower-case name, ``""`` where nothing stands.
        lines: line of each row in a CSV file; number of the row, from 1, in Parquet.
    """

    path: Path
    columns: dict[str, NDArray[np.str_]]
    lines: NDArray[np.int64]

    def place(self, row: int) -> str:
        """Say where a row is, for messages."""
        return f"{short_path(self.path)}, {self.unit} {self.lines[row]}"

    @property
    def unit(self) -> str:
        """What ``lines`` counts."""
        return "row" if self.path.suffix.lower() == ".parquet" else "line"

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


def read_manifest(path: Path, required: tuple[str, ...] = ("path", "label")) -> ManifestFile:
    """Read a manifest: CSV (comma, semicolon or tab; UTF-8) or Parquet.

    Args:
        path: the file.
        required: columns that must be there and hold something in every row.

    Raises:
        DataError: if the file is missing or malformed; the message names the line.
        MissingExtraError: for Parquet without pyarrow.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            found = "a folder" if path.is_dir() else "nothing"
            raise DataError(f"{short_path(path)}: expected a CSV or Parquet file, found {found}")
        manifest = _read_parquet(path, required) if path.suffix.lower() == ".parquet" else _read_csv(path, required)
    except OSError as error:
        raise DataError(one_line(f"{short_path(path)}: cannot be read ({error.strerror or error})")) from None
    for name in required:
        empty = np.flatnonzero(np.char.strip(manifest.columns[name]) == "")
        if len(empty):
            raise DataError(f"{manifest.place(int(empty[0]))}: nothing stands in column '{name}'")
    if not len(manifest.lines):
        raise DataError(f"{short_path(path)}: holds no row")
    return manifest


def _read_csv(path: Path, required: tuple[str, ...]) -> ManifestFile:
    content = path.read_bytes()
    kind = known_kind(content[:64])
    if kind is not None:
        raise DataError(f"{short_path(path)}: expected a CSV file, found {kind}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{short_path(path)}: expected UTF-8 text ({one_line(str(error))})") from None
    zero = text.find("\0")
    if zero >= 0:  # what csv does about it depends on the version of Python
        raise DataError(f"{short_path(path)}, line {text.count(chr(10), 0, zero) + 1}: found a zero byte in the text")
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        names = _checked_names(path, next(reader, []), required)
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
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = {name: np.array(column, np.str_) for name, column in zip(names, columns, strict=True)}
    return ManifestFile(path, arrays, np.array(lines, np.int64))


def _checked_names(path: Path, header: Sequence[str], required: tuple[str, ...]) -> list[str]:
    """Return the names of the columns in lower case."""
    names = [name.strip().lower() for name in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(one_line(f"{short_path(path)}: column '{twice[0]}' stands more than once in the header"))
    for name in required:
        if name not in names:
            found = ", ".join(names)
            raise DataError(one_line(f"{short_path(path)}: expected a column '{name}', found {found or 'none'}"))
    return names


def _read_parquet(path: Path, required: tuple[str, ...]) -> ManifestFile:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("Parquet needs: pip install 'fer_lightning[large]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _checked_names(path, schema.names, required)
            kept = [entry.name for entry in schema if not _holds_many(entry.type)]
            table = file.read(columns=kept)
    except pyarrow.ArrowException as error:
        raise DataError(one_line(f"{short_path(path)}: expected a Parquet file ({error})")) from None
    columns = {
        name.strip().lower(): np.array(["" if value is None else str(value) for value in column.to_pylist()], np.str_)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return ManifestFile(path, columns, np.arange(1, table.num_rows + 1))


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


def rows_to_keep(path: Path, files: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Tell which of the files ``(N,)`` of a data set a manifest names in its column ``path``, bool ``(N,)``.

    Raises:
        DataError: if the manifest names files that the data set has not.
    """
    named = read_manifest(path, required=("path",)).columns["path"]
    absent = np.setdiff1d(named, files)
    if len(absent):
        raise DataError(
            one_line(
                f"{short_path(path)}: {len(absent):,} of {len(named):,} paths are not in the data set, the first: "
                f"{excerpt(str(absent[0]), 80)}; the manifest belongs to another one"
            )
        )
    return np.isin(files, named)


def has_manifest_header(path: Path) -> bool:
    """Tell whether a table has the columns ``path`` and ``label``, from its head alone."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as parquet

            names = list(parquet.read_schema(path).names)
        else:
            with path.open(encoding="utf-8-sig") as handle:
                first = handle.readline(10_000)
            names = next(csv.reader([first], delimiter=max(_DELIMITERS, key=first.count)), [])
    except Exception:  # whatever is wrong with it, a manifest it is not
        return False
    return {"path", "label"} <= {name.strip().lower() for name in names}
