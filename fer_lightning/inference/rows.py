"""Tables of recognized faces, one row for each face, written as they come; a second start goes on where one ended."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra
from fer_lightning.files import csv_text, flush, replacing
from fer_lightning.inference.recognizer import Face
from fer_lightning.text import first_line
from fer_lightning.types import prediction_columns

__all__ = ["FORMS", "Row", "RowWriter", "check_form", "face_rows", "faces_of", "read_rows", "rounded"]

Row = dict[str, Any]
"""A row by column; ``None`` where a cell is empty."""

FORMS = (".csv", ".jsonl", ".parquet")
"""Suffixes of the files that can be written."""

_WHOLE = frozenset({"frame", "face_id"})
_TEXT = frozenset({"file", "label", "model", "scheme", "target", "set"})
_AT_ONCE = 10_000  # rows of a row group of Parquet


def rounded(value: float, column: str = "") -> float:
    """Return a number with the digits that tables have: six, a time the microseconds.

    >>> rounded(0.123456789), rounded(7199.9876543, "time_s")
    (0.123457, 7199.987654)
    """
    return round(value, 6) if column == "time_s" else float(f"{value:.6g}")


def check_form(path: Path) -> None:
    """Find out before anything is recognized whether a table can have this name.

    Raises:
        ConfigError: if the suffix is none of ``FORMS``.
        MissingExtraError: if Parquet is asked for without its package.
    """
    if path.suffix.lower() not in FORMS:
        raise ConfigError(f"{path}: a table of predictions ends in {', '.join(FORMS)}, such as rows.csv")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def face_rows(columns: Sequence[str], faces: Iterable[Face], **common: Any) -> list[Row]:
    """Return a row for each face of a picture or frame; one row that says so where there is none.

    Args:
        columns: of the table.
        faces: with their numbers.
        **common: what stands in every row, such as ``file`` and ``model``.
    """
    rows = [
        {
            **common,
            "face_id": face.number,
            **dict(zip("xywh", face.box, strict=True)),
            "det_score": None if math.isnan(face.det_score) else face.det_score,
            "label": face.label,
            "confidence": face.confidence,
            "uncertain": face.uncertain,
            **{f"p_{name}": share for name, share in face.probabilities.items()},
            "set": None if face.prediction_set is None else "|".join(face.prediction_set),
        }
        for face in faces
    ]
    return [{name: row.get(name) for name in columns} for row in rows or [common]]


def faces_of(rows: Iterable[Row]) -> tuple[Face, ...]:
    """Return the faces that the rows of one picture or frame tell of, with the digits of the table."""
    return tuple(
        Face(
            int(row["face_id"]),
            (row["x"], row["y"], row["w"], row["h"]),
            math.nan if row["det_score"] is None else row["det_score"],
            {name[2:]: value for name, value in row.items() if name.startswith("p_")},
            bool(row["uncertain"]),
            tuple(filter(None, (row["set"] or "").split("|"))) if "set" in row else None,
        )
        for row in rows
        if row["label"] is not None
    )


class RowWriter:
    """Writes rows to ``.csv`` or ``.jsonl`` as they come, to ``.parquet`` when closed.

    The rows of one unit (a picture, a frame) are written together. A kill may leave a part of the last unit: the next
    start removes that unit, so that it is done again. Until it is closed, the rows of ``x.parquet`` stand in
    ``x.parquet.part.jsonl``.

    Args:
        path: of the table.
        class_names: of the model, in label order.
        model: its name.
        again: the files that this start takes up; the last unit is kept if it is whole and of another file. ``None``
            for all files.
        sets: with a column for prediction sets.

    Raises:
        ConfigError: if the suffix is none of ``FORMS``, the file holds rows of another model, or it cannot be
            written.
        MissingExtraError: if Parquet is asked for without its package.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        model: str,
        again: Container[str] | None = None,
        sets: bool = False,
    ) -> None:
        check_form(path)
        self.path, self.columns, self.model = path, prediction_columns(class_names, sets), model
        self._parquet = path.suffix.lower() == ".parquet"
        self._journal = path.with_name(f"{path.name}.part.jsonl") if self._parquet else path
        self._as_csv = self._journal.suffix.lower() == ".csv"
        self._places: dict[str, list[tuple[int, int]]] = {}
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            if self._parquet and path.is_file() and not self._journal.is_file():
                self._take_up_again()
            if self._journal.is_file():
                self._cut_last_unit(again)
            self._file = self._journal.open("ab", buffering=0)
            if self._as_csv and self._file.tell() == 0:
                self._write(csv_text(self.columns, ()))
        except OSError as error:
            raise ConfigError(f"{self._journal} cannot be written: {error.strerror}") from error

    def _take_up_again(self) -> None:
        """Turn a finished Parquet file into a journal that further rows are added to."""
        with replacing(self._journal) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(f"{_json_line(row)}\n" for row in read_rows(self.path))

    def _cut_last_unit(self, again: Container[str] | None) -> None:
        """Check the rows that are there, note where those of each file are, and remove those of the last unit."""
        unit: tuple[Any, Any] | None = None
        begin = end = 0
        for offset, after, row in _rows_at(self._journal):
            end = after
            if row.keys() != set(self.columns):
                raise ConfigError(f"{self._journal} has other columns: give another --out, or remove it")
            if row["model"] != self.model:
                raise ConfigError(
                    f"{self._journal} holds rows of the model {row['model']}: give another --out, or remove it"
                )
            if (row["file"], row["frame"]) != unit:
                self._note(unit, begin, offset)
                unit, begin = (row["file"], row["frame"]), offset
        if unit is not None and again is not None and unit[0] not in again and end == self._journal.stat().st_size:
            self._note(unit, begin, end)
        else:
            os.truncate(self._journal, begin)  # without a row, also what is left of a header

    def _note(self, unit: tuple[Any, Any] | None, begin: int, end: int) -> None:
        """Note where the rows of a unit are."""
        if unit is None:
            return
        places = self._places.setdefault(unit[0], [])
        if places and places[-1][1] == begin:
            begin = places.pop()[0]
        places.append((begin, end))

    @property
    def files(self) -> Mapping[str, object]:
        """The files that earlier starts have written rows of."""
        return self._places

    def earlier(self, file: str) -> Iterator[Row]:
        """Give the rows that earlier starts have written of a file."""
        for begin, end in self._places.get(file, ()):
            yield from (row for _, _, row in _rows_at(self._journal, begin, end, self.columns))

    def add(self, rows: Sequence[Row]) -> None:
        """Write the rows of one unit.

        Raises:
            ConfigError: if the disk is full; what was written before stays.
        """
        if self._as_csv:
            cells = ([_cell(name, row[name]) for name in self.columns] for row in rows)
            text = csv_text((), cells).removeprefix("\n")
        else:
            text = "".join(f"{_json_line(row)}\n" for row in rows)
        try:
            self._write(text)
        except OSError as error:
            raise ConfigError(f"{self._journal} cannot be written ({error.strerror}); the rows before stay") from error

    def _write(self, text: str) -> None:
        """Write all of a text or, on a full disk, nothing of it."""
        begin, rest = self._file.tell(), text.encode()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):  # what is no file has no end to go back to
                self._file.truncate(begin)
            raise

    def close(self) -> None:
        """Wait until the rows are on the disk; of Parquet, write the table and remove the journal."""
        if self._file.closed:
            return
        self._file.close()
        if self._parquet:
            with replacing(self.path) as part:
                _write_parquet(part, self.columns, read_rows(self._journal))
            self._journal.unlink()
        else:
            flush(self._journal)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()  # the journal stays: the next start goes on with it


def read_rows(path: Path) -> Iterator[Row]:
    """Give the rows of a table of predictions, numbers as numbers; an unfinished last line is left out.

    Raises:
        ConfigError: if it cannot be read.
    """
    if path.suffix.lower() != ".parquet":
        yield from (row for _, _, row in _rows_at(path))
        return
    arrow = _pyarrow()
    try:
        for batch in arrow.parquet.ParquetFile(path).iter_batches(_AT_ONCE):
            yield from batch.to_pylist()
    except (OSError, arrow.ArrowInvalid) as error:
        raise ConfigError(f"{path} cannot be read as a table of predictions: {first_line(error)}") from error


def _rows_at(
    path: Path, begin: int = 0, end: int | None = None, header: Sequence[str] | None = None
) -> Iterator[tuple[int, int, Row]]:
    """Give each row of a text file with the places in bytes where it begins and ends.

    Args:
        path: of the file.
        begin: where to begin.
        end: where to end; ``None`` for the end of the file.
        header: columns of a CSV file that is not read from its beginning.
    """
    after, is_csv = begin, path.suffix.lower() == ".csv"
    try:
        with path.open("rb") as file:
            file.seek(begin)
            for line in file:
                begin, after = after, after + len(line)
                if not line.endswith(b"\n") or (end is not None and after > end):
                    return
                if not is_csv:
                    yield begin, after, json.loads(line)
                    continue
                cells = next(csv.reader([line.decode()]))
                if header is None:
                    header = cells
                else:
                    yield begin, after, {name: _value(name, cell) for name, cell in zip(header, cells, strict=True)}
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a table of predictions: {first_line(error)}") from error


def _value(name: str, cell: str) -> Any:
    if not cell:
        return None
    if name in _WHOLE:
        return int(cell)
    if name == "uncertain":
        return cell == "true"
    return cell if name in _TEXT else float(cell)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{rounded(value, name):.15g}" if isinstance(value, float) else str(value).replace("\n", " ")


def _json_line(row: Row) -> str:
    short = {name: rounded(value, name) if isinstance(value, float) else value for name, value in row.items()}
    return json.dumps(short, ensure_ascii=False)


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterator[Row]) -> None:
    arrow = _pyarrow()
    kinds = {name: arrow.float64() for name in columns} | {name: arrow.string() for name in _TEXT}
    kinds |= {name: arrow.int64() for name in _WHOLE} | {"uncertain": arrow.bool_()}
    schema = arrow.schema([(name, kinds[name]) for name in columns])
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        waiting: list[Row] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == _AT_ONCE:
                writer.write_table(arrow.Table.from_pylist(waiting, schema=schema))
                waiting = []
        writer.write_table(arrow.Table.from_pylist(waiting, schema=schema))


def _pyarrow() -> Any:
    need_extra("large", "Parquet needs", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    return pyarrow
