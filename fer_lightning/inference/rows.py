"""Tables of recognized faces, one row for each face, written as they come; a second start goes on where one ended."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from fer_lightning.errors import ConfigError, MissingExtraError
from fer_lightning.files import csv_text, flush, replacing
from fer_lightning.inference.recognizer import Face
from fer_lightning.types import prediction_columns

__all__ = ["FORMS", "RowWriter", "face_rows", "read_rows", "rounded"]

FORMS = (".csv", ".jsonl", ".parquet")
"""Suffixes of the files that can be written."""

_NUMBERS = frozenset({"frame", "time_s", "face_id", "x", "y", "w", "h", "det_score", "confidence"})
_WHOLE = frozenset({"frame", "face_id"})


def rounded(value: float) -> float:
    """Return a number with the six digits that tables have."""
    return float(f"{value:.6g}")


def face_rows(columns: Sequence[str], faces: Iterable[Face], **common: Any) -> list[dict[str, Any]]:
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
        }
        for face in faces
    ]
    return [{name: row.get(name) for name in columns} for row in rows or [common]]


class RowWriter:
    """Writes rows to ``.csv`` or ``.jsonl`` as they come, to ``.parquet`` when closed.

    The rows of one unit (a picture, a frame) are written together; what a kill has left of the last line is removed at
    the next start. Until it is closed, the rows of ``x.parquet`` stand in ``x.parquet.part.jsonl``.

    Args:
        path: of the table.
        class_names: of the model, in label order.
        model: its name.

    Attributes:
        before: the rows that an earlier start has written.

    Raises:
        ConfigError: if the suffix is none of :data:`FORMS`, or the file holds rows of another model.
        MissingExtraError: if Parquet is asked for without its package.
    """

    def __init__(self, path: Path, class_names: Sequence[str], model: str) -> None:
        if path.suffix.lower() not in FORMS:
            raise ConfigError(f"{path}: a table of predictions ends in {', '.join(FORMS)}")
        self.path, self.columns, self.model = path, prediction_columns(class_names), model
        self._parquet = path.suffix.lower() == ".parquet"
        if self._parquet:
            _pyarrow()
        self._journal = path.with_name(f"{path.name}.part.jsonl") if self._parquet else path
        self._as_csv = self._journal.suffix.lower() == ".csv"
        self.before = self._earlier()
        self._file = self._opened()

    def _earlier(self) -> list[dict[str, Any]]:
        source = self.path if self._parquet and self.path.is_file() else self._journal
        if not source.is_file():
            return []
        rows = read_rows(source)
        strange = {str(row.get("model")) for row in rows} - {self.model}
        if strange or any(set(row) != set(self.columns) for row in rows):
            other = f"of the model {', '.join(sorted(strange))}" if strange else "with other columns"
            raise ConfigError(f"{source} holds rows {other}: give another --out, or remove it")
        return rows

    def _opened(self) -> BinaryIO:
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            if self._journal.is_file():
                _cut_unfinished_line(self._journal)
            file = self._journal.open("ab")
        except OSError as error:
            raise ConfigError(f"{self._journal} cannot be written: {error.strerror}") from error
        if self._as_csv and file.tell() == 0:
            file.write(csv_text(self.columns, ()).encode())
        return file

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one unit.

        Raises:
            OSError: if the disk is full; what was written before stays.
        """
        text = _csv_lines(self.columns, rows) if self._as_csv else "".join(f"{_json_line(row)}\n" for row in rows)
        self._file.write(text.encode())
        self._file.flush()

    def close(self) -> None:
        """Wait until the rows are on the disk; of Parquet, write the table and remove the journal."""
        if self._file.closed:
            return
        self._file.close()
        if self._parquet:
            rows = read_rows(self._journal)
            with replacing(self.path) as part:
                _write_parquet(part, self.columns, rows)
            self._journal.unlink()
        else:
            flush(self._journal)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()  # the journal stays: the next start goes on with it


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of predictions, numbers as numbers, empty cells as ``None``.

    Raises:
        ConfigError: if it cannot be read; an unfinished last line is left out.
    """
    try:
        if path.suffix.lower() == ".parquet":
            found: list[dict[str, Any]] = _pyarrow().parquet.read_table(path).to_pylist()
            return found
        text = path.read_text(encoding="utf-8")
        text = text[: text.rfind("\n") + 1]
        if path.suffix.lower() == ".csv":
            return [{name: _value(name, cell) for name, cell in row.items()} for row in csv.DictReader(io.StringIO(text))]
        return [json.loads(line) for line in text.splitlines()]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a table of predictions: {error}") from error


def _value(name: str, cell: str | None) -> Any:
    if not cell:
        return None
    if name in _WHOLE:
        return int(cell)
    if name == "uncertain":
        return cell == "true"
    return float(cell) if name in _NUMBERS or name.startswith("p_") else cell


def _csv_lines(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ([_cell(row[name]) for name in columns] for row in rows)
    return csv_text((), lines).removeprefix("\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _json_line(row: Mapping[str, Any]) -> str:
    short = {name: rounded(value) if isinstance(value, float) else value for name, value in row.items()}
    return json.dumps(short, ensure_ascii=False)


def _cut_unfinished_line(path: Path) -> None:
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end != len(content):
        os.truncate(path, end)


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    arrow = _pyarrow()
    text = {"file", "label", "model", "scheme"}
    kinds = {name: arrow.float64() for name in columns} | {name: arrow.string() for name in text}
    kinds |= {name: arrow.int64() for name in _WHOLE} | {"uncertain": arrow.bool_()}
    schema = arrow.schema([(name, kinds[name]) for name in columns])
    arrow.parquet.write_table(arrow.Table.from_pylist([dict(row) for row in rows], schema=schema), path)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'fer_lightning[large]'") from error
    return pyarrow
