"""Writers of encoded images and their columns: Arrow, Parquet, shards, folders.

A writer gets chunks of rows in the order of ``SetWriter.order`` and returns the names of the files it wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.storage.columns import arrow_columns, arrow_schema
from fer_lightning.data.storage.description import need
from fer_lightning.data.storage.encoding import SUFFIXES, EncodedChunk
from fer_lightning.data.table.manifest_file import manifest_text
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.data.table.synthesis import renamed_parents

__all__ = [
    "INDEX",
    "PARQUET_KEY",
    "POSITION",
    "SHARD_HEAD",
    "UNUSED",
    "ArrowSetWriter",
    "FolderSetWriter",
    "ParquetSetWriter",
    "SetWriter",
    "ShardSetWriter",
    "quiet_litdata",
]

INDEX = "index.parquet"
"""Columns of a set of shards."""

POSITION = "position"
"""Column of ``INDEX``: place of the row among the images of its split."""

UNUSED = "unused"
"""Folder of the rows that no split uses."""

PARQUET_KEY = b"fer_dataset"
"""Key of the description in the schema of a Parquet file."""

SHARD_HEAD = struct.Struct("<q")
"""Before each image in a shard: its row."""

_ARROW_FILE_BYTES = 500_000_000
_PARQUET_GROUP_ROWS = 100  # small groups: one image is read by reading its group
_SHARD_BYTES = 64 << 20  # litdata's recommended size; large enough for fast downloads
_SHUFFLE_SEED = 20_130_704  # any fixed number: the order in which training rows are laid out


class SetWriter(Protocol):
    """Writes one set into an empty folder."""

    def order(self, table: SamplesTable) -> NDArray[np.int64]:
        """Return the order in which the rows must be added, int64 ``(N,)``."""

    def add(self, chunk: EncodedChunk) -> None:
        """Write some rows."""

    def finish(self, digests: NDArray[np.uint8]) -> list[str]:
        """Write what is left; digests, uint8 ``(N, 16)``, are those of the images as stored, in the table's order.

        Returned are the names of the data files in the folder, of which sizes and checksums are kept; none for a set
        that is one file.
        """

    def close(self) -> None:
        """Close open files; called after errors too."""


class _InOrder:
    """Base of writers that take rows in the order of the table and have nothing to close."""

    def order(self, table: SamplesTable) -> NDArray[np.int64]:
        return np.arange(len(table))

    def close(self) -> None:
        return


class ArrowSetWriter(_InOrder):
    """Hugging Face ``datasets`` on disk, as ``datasets.load_from_disk`` opens it: Arrow streams, never read as a whole.

    After ``file_bytes`` a new file is begun.
    """

    def __init__(self, folder: Path, table: SamplesTable, file_bytes: int = _ARROW_FILE_BYTES) -> None:
        self.folder = folder
        self.table = table
        self.file_bytes = file_bytes
        self._pa = need("pyarrow")
        self._datasets = need("datasets")
        self._schema = arrow_schema(table, with_image=True)
        self._parts: list[Path] = []
        self._open: contextlib.ExitStack = contextlib.ExitStack()
        self._stream: Any = None
        self._written = 0

    def add(self, chunk: EncodedChunk) -> None:
        """Write some rows as one batch."""
        if self._stream is None or self._written >= self.file_bytes:
            self._begin()
        columns = arrow_columns(self.table, chunk.rows, chunk.digests)
        arrays = [self._pa.array(chunk.files, self._pa.binary()), *columns.values()]
        self._stream.write_batch(self._pa.record_batch(arrays, schema=self._schema))
        self._written += sum(map(len, chunk.files))

    def _begin(self) -> None:
        self._open.close()
        path = self.folder / f"part-{len(self._parts):05}"
        sink = self._open.enter_context(self._pa.OSFile(str(path), "wb"))
        self._stream = self._open.enter_context(self._pa.ipc.new_stream(sink, self._schema))
        self._parts.append(path)
        self._written = 0

    def finish(self, digests: NDArray[np.uint8]) -> list[str]:
        """Rename the files and write the metadata that ``datasets`` needs."""
        if not self._parts:
            self._begin()
        self._open.close()
        names = [f"data-{number:05}-of-{len(self._parts):05}.arrow" for number in range(len(self._parts))]
        for part, name in zip(self._parts, names, strict=True):
            part.rename(self.folder / name)
        features = self._datasets.Features.from_arrow_schema(self._schema)
        self._datasets.DatasetInfo(features=features).write_to_directory(str(self.folder))
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": self.table.fingerprint("train"),
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (self.folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
        return [*names, "state.json", "dataset_info.json"]

    def close(self) -> None:
        """Close the open file."""
        self._open.close()


class ParquetSetWriter(_InOrder):
    """One Parquet file in small row groups, with page checksums."""

    def __init__(self, path: Path, table: SamplesTable) -> None:
        self.path = path
        self.table = table
        self._pa = need("pyarrow")
        self._schema = arrow_schema(table, with_image=True)
        # Encoded images do not get smaller by compressing them again, nor by collecting them in a dictionary.
        texts = [column.name for column in self._schema if column.type == self._pa.string()]
        compression = {column.name: "snappy" if column.name in texts else "none" for column in self._schema}
        self._writer = need("pyarrow.parquet").ParquetWriter(
            path, self._schema, compression=compression, use_dictionary=texts, write_page_checksum=True,
            write_statistics=texts,
        )  # fmt: skip

    def add(self, chunk: EncodedChunk) -> None:
        """Write some rows."""
        columns = arrow_columns(self.table, chunk.rows, chunk.digests)
        arrays = [self._pa.array(chunk.files, self._pa.binary()), *columns.values()]
        part = self._pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(part, row_group_size=_PARQUET_GROUP_ROWS)

    def describe(self, text: str) -> None:
        """Put the description into the file."""
        self._writer.add_key_value_metadata({PARQUET_KEY: text.encode()})

    def finish(self, digests: NDArray[np.uint8]) -> list[str]:
        """Return no names: the file is finished by ``close``, after the description."""
        return []

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()


class FolderSetWriter(_InOrder):
    """``<split>/<class>/<row>.png`` (or another suffix) and ``manifest.csv``."""

    def __init__(self, folder: Path, table: SamplesTable, suffix: str = SUFFIXES["png"]) -> None:
        self.folder = folder
        self.table = table
        width = max(6, len(str(len(table))))
        names = np.array(table.class_names)[table.labels].tolist()
        self._paths = [
            f"{split or UNUSED}/{name}/{row:0{width}}{suffix}"
            for row, (split, name) in enumerate(zip(table.splits.tolist(), names, strict=True))
        ]
        for split in (*SPLITS, UNUSED):
            if (table.splits == ("" if split == UNUSED else split)).any():
                for name in table.class_names:  # all of them: a folder that is missing looks like a missing class
                    (folder / split / name).mkdir(parents=True)

    def add(self, chunk: EncodedChunk) -> None:
        """Write some files."""
        for row, content in zip(chunk.rows.tolist(), chunk.files, strict=True):
            (self.folder / self._paths[row]).write_bytes(content)

    def finish(self, digests: NDArray[np.uint8]) -> list[str]:
        """Write the manifest."""
        table, paths = self.table, np.array(self._paths, np.str_)
        extra: dict[str, NDArray[Any]] = {
            "file": table.files,
            "digest": np.array([bytes(digest).hex() for digest in digests], np.str_),
            "source_digest": np.array([bytes(digest).hex() for digest in table.digests], np.str_),
        }
        if table.soft_labels is not None:
            extra |= {f"soft_{name}": table.soft_labels[:, label] for label, name in enumerate(table.class_names)}
        if "parent" in table.columns:
            extra["parent"] = renamed_parents(table, paths)
        text = manifest_text(table, paths, extra)
        (self.folder / "manifest.csv").write_text(text, encoding="utf-8", newline="")
        return ["manifest.csv"]


class ShardSetWriter:
    """litdata shards, a sub-folder for each split, and ``INDEX`` with all columns but the images.

    Training rows are laid out in a fixed random order: a reader shuffles the shards and the images inside of each
    shard only, so that a table sorted by class would give batches of one class.
    """

    def __init__(self, folder: Path, table: SamplesTable, shard_bytes: int = _SHARD_BYTES) -> None:
        self.folder = folder
        self.table = table
        self.shard_bytes = shard_bytes
        quiet_litdata()
        self._cache = need("litdata.streaming").Cache
        self._split = ""
        self._shards: Any = None
        self._positions = np.full(len(table), -1, np.int64)
        self._next = 0

    def order(self, table: SamplesTable) -> NDArray[np.int64]:
        """Return the rows split by split, those of training shuffled."""
        train = np.random.default_rng(_SHUFFLE_SEED).permutation(table.rows("train"))
        return np.concatenate([train, *(table.rows(split) for split in (*SPLITS[1:], ""))])

    def add(self, chunk: EncodedChunk) -> None:
        """Write some rows; the rows of a split must come together."""
        for row, content in zip(chunk.rows.tolist(), chunk.files, strict=True):
            split = str(self.table.splits[row]) or UNUSED
            if split != self._split:
                self._finish_split()
                (self.folder / split).mkdir()
                self._shards = self._cache(str(self.folder / split), chunk_bytes=self.shard_bytes)
                self._split = split
            self._shards[self._next] = SHARD_HEAD.pack(row) + content
            self._positions[row] = self._next
            self._next += 1

    def _finish_split(self) -> None:
        if self._shards is not None:
            self._shards.done()
            self._shards.merge()
        self._shards = None
        self._next = 0

    def finish(self, digests: NDArray[np.uint8]) -> list[str]:
        """Write the columns."""
        self._finish_split()
        pa = need("pyarrow")
        columns = arrow_columns(self.table, np.arange(len(self.table)), digests)
        arrays = [*columns.values(), pa.array(self._positions)]
        index = pa.Table.from_arrays(arrays, names=[*columns, POSITION])
        need("pyarrow.parquet").write_table(index, self.folder / INDEX, write_page_checksum=True)
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def close(self) -> None:
        """Drop the unfinished shard."""
        self._shards = None


def quiet_litdata() -> None:
    """Disable litdata's check for new versions on PyPI; call it before the first import of litdata."""
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
