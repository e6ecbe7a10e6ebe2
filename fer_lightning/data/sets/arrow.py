"""Converted sets with random access: Arrow on disk, mapped into memory, or one Parquet file.

Source:
    any data set of this program, written by ``fer data convert --to arrow`` or ``--to parquet``.
Layout:
    - a folder that ``datasets.load_from_disk`` opens as well: ``data-*.arrow`` with the columns ``image`` (an encoded
      file), label, class_name, split, source, file, digest and what the source had besides, and ``fer_dataset.json``;
    - or one ``.parquet`` file with the same columns and the description in its schema. It is made for exchange: to read
      one image, its group of a hundred is read.
Classes and splits:
    those of the source.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.archives import open_root
from fer_lightning.data.sets.stored import StoredDataModule
from fer_lightning.data.storage.columns import IMAGE, table_of_columns
from fer_lightning.data.storage.description import StoredSet, check_files, need, parse_metadata, read_metadata
from fer_lightning.data.storage.encoded_images import EncodedImages
from fer_lightning.data.storage.writers import PARQUET_KEY
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError, MissingExtraError
from fer_lightning.text import one_line, short_path

__all__ = ["ArrowDataModule", "ArrowImages", "ParquetImages", "is_converted", "read_description", "scan_arrow"]

_FORGET_EVERY = 256
"""Images after which pages of the file are let go. They stay in the system's cache, from which they come back at once;
mapped, they would count as memory of each process until it seems to hold the whole set."""


class ArrowImages(EncodedImages):
    """Images of a folder of Arrow files, which are mapped into memory: what is not asked for is not read."""

    def __init__(self, root: Path, stored: StoredSet) -> None:
        super().__init__(short_path(root), stored.images, stored.channels, stored.size)
        self.paths = [root / name for name in sorted(stored.files) if name.endswith(".arrow")]
        self._reads = 0

    def columns(self) -> Any:
        """Return all columns but the images, ``pyarrow.Table``."""
        pa = need("pyarrow")
        batches = [batch for path in self.paths for batch in _mapped_batches(path)[1]]
        return pa.Table.from_batches(batches).drop_columns([IMAGE])

    def _open(self) -> tuple[list[mmap.mmap], list[Any], NDArray[np.int64]]:
        files = [_mapped_batches(path) for path in self.paths]
        chunks = [batch.column(IMAGE) for _, batches in files for batch in batches]
        return [mapped for mapped, _ in files], chunks, np.cumsum([len(chunk) for chunk in chunks])

    def encoded(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return stored images of rows, int64 ``(M,)``, as bytes of image files, in their order."""
        maps, chunks, ends = self.opened
        numbers = np.searchsorted(ends, rows, side="right")
        offsets = rows - np.concatenate([[0], ends])[numbers]
        files = [
            chunks[number][offset].as_py() for number, offset in zip(numbers.tolist(), offsets.tolist(), strict=True)
        ]
        self._reads += len(rows)
        if self._reads >= _FORGET_EVERY:
            self._reads = 0
            for mapped in maps:
                _advise(mapped, "MADV_DONTNEED")
        return files


class ParquetImages(EncodedImages):
    """Images of a Parquet file."""

    def __init__(self, path: Path, stored: StoredSet) -> None:
        super().__init__(short_path(path), stored.images, stored.channels, stored.size)
        self.path = path

    def _open(self) -> tuple[Any, NDArray[np.int64]]:
        file = _parquet(self.path, verify=False)
        groups = range(file.metadata.num_row_groups)
        return file, np.cumsum([file.metadata.row_group(number).num_rows for number in groups])

    def encoded(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return stored images of rows, int64 ``(M,)``, as bytes in their order; each group is read once."""
        file, ends = self.opened
        numbers = np.searchsorted(ends, rows, side="right")
        files = [b""] * len(rows)
        for number in np.unique(numbers).tolist():
            start = 0 if number == 0 else int(ends[number - 1])
            try:
                column = file.read_row_group(number, columns=[IMAGE], use_threads=False)[IMAGE].combine_chunks()
            except (OSError, ValueError) as error:
                raise DataError(one_line(f"{self.place}: cannot be read ({error}); copy it again")) from None
            for position in np.flatnonzero(numbers == number).tolist():
                files[position] = column[int(rows[position]) - start].as_py()
        return files


def is_converted(path: Path) -> bool:
    """Tell whether a ``.parquet`` file is one that ``fer data convert`` wrote; not without pyarrow."""
    try:
        return path.suffix.lower() == ".parquet" and PARQUET_KEY in (_parquet(path, False).metadata.metadata or {})
    except (DataError, MissingExtraError):
        return False


def read_description(root: Path) -> StoredSet:
    """Return what a converted set, a folder of Arrow files or a ``.parquet`` file, says of itself.

    Raises:
        DataError: if it is not there or something else.
    """
    if root.suffix.lower() != ".parquet":
        return read_metadata(root, ("arrow",))
    kept = _parquet(root, verify=False).metadata.metadata or {}
    if PARQUET_KEY not in kept:
        raise DataError(
            one_line(
                f"{short_path(root)}: expected a file made by `fer data convert --to parquet`, found another one; "
                "those of other programs are read by --data ManifestDataModule"
            )
        )
    return parse_metadata(kept[PARQUET_KEY], short_path(root))


def scan_arrow(root: str | Path, verify: bool = False) -> SamplesTable:
    """Read the columns of a converted set; no image is decoded. The arguments are those of ``ArrowDataModule``.

    Raises:
        DataError: if the set is missing, incomplete or damaged; the message names the file.
        MissingExtraError: without the packages of the extra ``large``.
    """
    path = Path(root).expanduser()
    stored = read_description(path)
    if path.suffix.lower() == ".parquet":
        return _scan_parquet(path, stored, verify)
    check_files(path, stored, verify)
    images = ArrowImages(path, stored)
    return table_of_columns(images.columns(), images, stored, path, short_path(path))


def _scan_parquet(path: Path, stored: StoredSet, verify: bool) -> SamplesTable:
    file = _parquet(path, verify)
    names = [name for name in file.schema_arrow.names if name != IMAGE]
    try:
        columns = file.read(columns=names)
        for number in range(file.metadata.num_row_groups if verify else 0):
            file.read_row_group(number, columns=[IMAGE])
    except (OSError, ValueError) as error:
        raise DataError(one_line(f"{short_path(path)}: is damaged ({error}); copy it again")) from None
    return table_of_columns(columns, ParquetImages(path, stored), stored, path.parent, short_path(path))


def _mapped_batches(path: Path) -> tuple[mmap.mmap, list[Any]]:
    """Map a file and return it with its record batches, whose columns lie in the map."""
    pa = need("pyarrow")
    try:
        with path.open("rb") as handle:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        _advise(mapped, "MADV_RANDOM")
        return mapped, list(pa.ipc.open_stream(pa.py_buffer(mapped)))
    except (OSError, ValueError) as error:  # Arrow's errors are of these kinds
        raise DataError(one_line(f"{short_path(path)}: cannot be read ({error}); convert the set again")) from None


def _advise(mapped: mmap.mmap, advice: str) -> None:
    if hasattr(mmap, advice):  # not on every system
        mapped.madvise(getattr(mmap, advice))


def _parquet(path: Path, verify: bool) -> Any:
    parquet = need("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path, memory_map=True, page_checksum_verification=verify)
    except (OSError, ValueError) as error:
        found = "no file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(one_line(f"{short_path(path)}: expected a Parquet file, found: {found}")) from None


class ArrowDataModule(StoredDataModule):
    """A set converted to Arrow (or Parquet): any sampler, workers, exact resume, whatever the size; see this module.

    Args:
        root: folder of Arrow files, or a ``.parquet`` file; or an archive of either.
        verify: compare checksums of all files before use.
        **options: of ``EmotionDataModule``.
    """

    def __init__(self, root: str, verify: bool = False, **options: Any) -> None:
        cache_dir = options.get("cache_dir")
        self.root = open_root(Path(root).expanduser(), None if cache_dir is None else Path(cache_dir))
        self.verify = verify
        self.adopt(read_description(self.root))
        super().__init__(**options)

    def scan(self) -> SamplesTable:
        """Read the columns."""
        return scan_arrow(self.root, self.verify)
