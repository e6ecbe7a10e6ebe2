"""Reads the rows of a table (CSV, Parquet or JSON) as texts; ``label_columns`` says which column is which."""

from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_lightning.data.table.bad_rows import known_kind
from fer_lightning.data.table.label_columns import LOOKED_AT, Header, names_an_image, read_header
from fer_lightning.data.table.other_forms import csv_of_workbook, flat_entries
from fer_lightning.errors import DataError
from fer_lightning.extras import need_extra
from fer_lightning.text import one_line, short_path

__all__ = ["HEAD", "TABLE_SUFFIXES", "TableRows", "holds_many", "read_rows", "texts_of", "unit_of"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".txt", ".lst", ".xlsx")
"""Suffixes of files that may be a table of samples."""

HEAD = 1 << 16
"""Bytes that tell what a table is."""

_DELIMITERS = ",;\t|"
_LONGEST_JSON = 1 << 28  # bytes of a JSON file that is no JSONL: it is read as a whole


def unit_of(path: Path) -> str:
    """Return what the rows of a file are counted by."""
    return "row" if path.suffix.lower() in (".parquet", ".arrow", ".json") else "line"


@dataclass(frozen=True)
class TableRows:
    """What stands in a table, before it is known which column is which.

    Attributes:
        header: the names of the columns.
        rows: the texts of each row, one for each column.
        lines: line, or number from 1, of each row.
        packed: whether there are columns of bytes or records, such as whole images, which are left away.
    """

    header: Header
    rows: list[list[str]]
    lines: list[int]
    packed: bool = False


def read_rows(path: Path, most: int | None) -> TableRows:
    """Read a table, or of a long one the rows in its first ``most`` bytes (``None`` for all).

    Raises:
        DataError: if it is malformed; the message names the line.
        MissingExtraError: for Parquet without pyarrow.
        OSError: if it cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet_rows(path, most)
    if path.suffix.lower() == ".json":
        return _json_rows(path)
    if path.suffix.lower() == ".xlsx":
        return _csv_rows(path, csv_of_workbook(path))
    with path.open("rb") as handle:
        content = handle.read(-1 if most is None else most)
    is_head = len(content) == most
    kind = known_kind(content[:64])
    if kind == "UTF-16 text":
        content = content[: len(content) // 2 * 2].decode("utf-16", "replace").encode()
    elif kind is not None:
        raise DataError(f"{short_path(path)}: expected a CSV file, found {kind}")
    if is_head:
        content = content[: content.rfind(b"\n") + 1]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{short_path(path)}: expected UTF-8 text ({one_line(str(error), 100)}); save it as UTF-8, such as with: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(f'{path.stem}_utf8{path.suffix}')}"
        ) from None
    zero = text.find("\0")
    if zero >= 0:  # what csv does about it depends on the version of Python
        raise DataError(f"{short_path(path)}, line {text.count(chr(10), 0, zero) + 1}: found a zero byte in the text")
    return _jsonl_rows(path, text) if path.suffix.lower() == ".jsonl" else _csv_rows(path, text)


def _csv_rows(path: Path, text: str) -> TableRows:
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
    return TableRows(header, rows, lines)


def _jsonl_rows(path: Path, text: str) -> TableRows:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    entries = []
    for number, line in zip(lines, filter(str.strip, text.splitlines()), strict=True):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise DataError(one_line(f"{short_path(path)}, line {number}: expected a JSON object ({error})")) from None
    return _object_rows(path, entries, lines)


def _json_rows(path: Path) -> TableRows:
    if path.stat().st_size > _LONGEST_JSON:
        raise DataError(f"{short_path(path)}: too large for JSON; write an object in each line (.jsonl), or CSV")
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(one_line(f"{short_path(path)}: expected JSON ({error})")) from None
    if isinstance(entries, dict):
        entries = flat_entries(entries)
    if not isinstance(entries, list):
        forms = """a list of objects such as {"path": "a.jpg", "label": "happy"}, the label of each path, or COCO's"""
        raise DataError(one_line(f"{short_path(path)}: expected {forms}"))
    return _object_rows(path, entries, list(range(1, len(entries) + 1)))


def _object_rows(path: Path, entries: list[Any], lines: list[int]) -> TableRows:
    """Return the texts and numbers of JSON objects; what is nested in them is left away."""
    names: dict[str, None] = {}
    for number, entry in zip(lines, entries, strict=True):
        if not isinstance(entry, dict):
            raise DataError(f"{short_path(path)}, {unit_of(path)} {number}: expected a JSON object")
        names |= {name: None for name, value in entry.items() if not isinstance(value, dict | list)}
    rows = [["" if entry.get(name) is None else str(entry[name]) for name in names] for entry in entries]
    return TableRows(Header(tuple(name.strip().lower() for name in names)), rows, lines)


def _parquet_rows(path: Path, most: int | None) -> TableRows:
    need_extra("large", "Parquet needs", "pyarrow")
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            kept = [entry.name for entry in file.schema_arrow if not holds_many(entry.type)]
            packed = len(kept) < len(file.schema_arrow)
            if most is None:
                table = file.read(columns=kept)
            else:
                batch = next(file.iter_batches(LOOKED_AT, columns=kept), None)
                table = file.schema_arrow.empty_table().select(kept) if batch is None else batch
    except pyarrow.ArrowException as error:
        raise DataError(one_line(f"{short_path(path)}: expected a Parquet file ({error})")) from None
    texts = [texts_of(column) for column in table.columns]
    names = tuple(name.strip().lower() for name in table.schema.names)
    rows = [list(row) for row in zip(*texts, strict=True)]
    return TableRows(Header(names), rows, list(range(1, table.num_rows + 1)), packed)


def texts_of(column: Any) -> list[str]:
    """Return the values of a column of pyarrow as texts, ``""`` where there is none."""
    return ["" if value is None else str(value) for value in column.to_pylist()]


def holds_many(kind: Any) -> bool:
    """Tell whether a column of pyarrow's type holds lists, records or bytes, such as whole images."""
    import pyarrow.types as types

    return bool(types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))
