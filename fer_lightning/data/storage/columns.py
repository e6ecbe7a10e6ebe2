"""Converts the columns of a samples table to Arrow columns and back, without the images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.storage.description import StoredSet, need
from fer_lightning.data.table.images import ImageArray
from fer_lightning.data.table.samples import DIGEST_BYTES, SamplesTable
from fer_lightning.errors import DataError

__all__ = ["IMAGE", "arrow_columns", "arrow_schema", "table_of_columns"]

IMAGE = "image"
"""Name of the column of encoded images."""
_OWN = ("label", "class_name", "split", "source", "file", "digest", "source_digest", "soft_label", "thumbnail")


def arrow_schema(table: SamplesTable, with_image: bool) -> Any:
    """Return the schema (``pyarrow.Schema``) of the stored columns of a table, with the encoded image or without.

    Raises:
        DataError: if a further column has the name of one of ours.
    """
    pa = need("pyarrow")
    taken = sorted({IMAGE, *_OWN} & set(table.columns))
    if taken:
        raise DataError(f"samples table: a further column may not be called '{taken[0]}'")
    no_rows, no_digests = np.empty(0, np.int64), np.empty((0, DIGEST_BYTES), np.uint8)
    fields = [pa.field(name, column.type) for name, column in arrow_columns(table, no_rows, no_digests).items()]
    return pa.schema([pa.field(IMAGE, pa.binary()), *fields] if with_image else fields)


def arrow_columns(table: SamplesTable, rows: NDArray[np.int64], digests: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the columns of rows int64 ``(M,)`` as Arrow arrays by name, without the images.

    The digests, uint8 ``(M, 16)``, are those of the pixels as they are stored.
    """
    pa = need("pyarrow")
    names = np.array(table.class_names)
    columns = {
        "label": pa.array(table.labels[rows], pa.int64()),
        "class_name": pa.array(names[table.labels[rows]].tolist(), pa.string()),
        "split": pa.array(table.splits[rows].tolist(), pa.string()),
        "source": pa.array(table.sources[rows].tolist(), pa.string()),
        "file": pa.array(table.files[rows].tolist(), pa.string()),
        "digest": _bytes_column(pa, digests),
        "source_digest": _bytes_column(pa, table.digests[rows]),
    }
    if table.soft_labels is not None:
        flat = pa.array(table.soft_labels[rows].astype(np.float32).ravel())
        columns["soft_label"] = pa.FixedSizeListArray.from_arrays(flat, len(names))
    if table.thumbnails is not None:
        width = int(np.prod(table.thumbnails.shape[1:]))
        columns["thumbnail"] = _bytes_column(pa, table.thumbnails[rows].reshape(len(rows), width))
    for name, column in table.columns.items():
        chosen = column[rows]
        is_text = column.dtype.kind in "UO"
        columns[name] = pa.array(chosen.astype(str).tolist(), pa.string()) if is_text else pa.array(chosen)
    return columns


def _bytes_column(pa: Any, values: NDArray[np.uint8]) -> Any:
    width = values.shape[1]
    if not len(values):
        return pa.array([], pa.binary(width))
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def table_of_columns(
    columns: Any, images: ImageArray, stored: StoredSet, root: Path | None, where: str
) -> SamplesTable:
    """Return the samples table of stored columns, a ``pyarrow.Table`` without the images.

    Raises:
        DataError: if columns are missing, or rows are not as many as the set says; ``where`` names the set.
    """
    missing = [name for name in (*_OWN[:7], *stored.groups) if name not in columns.column_names]
    if missing:
        raise DataError(f"{where}: the column '{missing[0]}' is missing: the set is damaged; convert it again")
    if columns.num_rows != stored.images or len(images) != stored.images:
        raise DataError(
            f"{where}: expected {stored.images:,} rows, found {columns.num_rows:,}: the set is damaged; "
            "convert it again"
        )
    table = SamplesTable(
        class_names=stored.class_names,
        images=images,
        labels=columns["label"].to_numpy().astype(np.int64),
        splits=_strings(columns["split"]),
        sources=_strings(columns["source"]),
        files=_strings(columns["file"]),
        digests=_byte_rows(columns["digest"]),
        columns={name: _plain(columns[name]) for name in stored.groups},
        root=root,
    )
    if "soft_label" in columns.column_names:
        flat = columns["soft_label"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        table = replace(table, soft_labels=flat.astype(np.float32).reshape(len(table), -1))
    if "thumbnail" in columns.column_names:
        small = _byte_rows(columns["thumbnail"])
        side = round(small.shape[1] ** 0.5)
        table = replace(table, thumbnails=small.reshape(len(small), side, side))
    return table


def _strings(column: Any) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), np.str_)


def _plain(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return _strings(column) if values.dtype == object else values.copy()


def _byte_rows(column: Any) -> NDArray[np.uint8]:
    """Return a column of equally long byte strings, uint8 ``(N, width)``."""
    width = column.type.byte_width
    rows = np.empty((len(column), width), np.uint8)
    start = 0
    for chunk in column.chunks:
        part = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        rows[start : start + len(chunk)] = part.reshape(-1, width)
        start += len(chunk)
    return rows
