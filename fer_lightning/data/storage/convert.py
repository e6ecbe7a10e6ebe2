"""Any data set converted once: to Arrow, Parquet, shards, folders of images, or FER2013's CSV.

Images are read in chunks, so that memory stays flat however many there are. Everything is written into a hidden folder
beside the destination and renamed at the end: under its own name a set is complete or not there at all. What a killed
process leaves there is removed by a later conversion to the same name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.files.file_images import ResizedImages
from fer_lightning.data.storage.description import METADATA, StoredSet, describe_files
from fer_lightning.data.storage.encoding import SUFFIXES, Encoder, Encoding, chunks_of, encoded_chunks
from fer_lightning.data.storage.pixel_csv import check_pixel_csv, write_pixel_csv
from fer_lightning.data.storage.writers import (
    ArrowSetWriter,
    FolderSetWriter,
    ParquetSetWriter,
    SetWriter,
    ShardSetWriter,
)
from fer_lightning.data.table.images import ImageArray
from fer_lightning.data.table.samples import DIGEST_BYTES, SPLITS, SamplesTable
from fer_lightning.errors import ConfigError, DataError, FERError
from fer_lightning.files import flush, part_beside, remove_stale_parts, write_atomically
from fer_lightning.text import one_line, short_path

__all__ = ["Format", "check_target", "convert_table"]

Format = Literal["arrow", "shards", "folders", "parquet", "csv"]
"""A form in which a set can be stored."""

_FILES: dict[str, str] = {"parquet": ".parquet", "csv": ".csv"}  # formats that are one file
_MEASURED = 10_000  # training images that mean and deviation are taken from


def convert_table(
    table: SamplesTable,
    out: Path,
    to: Format,
    *,
    size: int | None = None,
    channels: int | None = None,
    encoding: Encoding = "jpeg",
    quality: int = 92,
    num_workers: int | None = None,
    description: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a table's images and columns in another form.

    Args:
        table: what to convert.
        out: folder to write, which must not exist or be empty; for ``parquet`` and ``csv`` the file.
        to: the form.
        size: side of the stored images, pixels; ``None`` keeps it.
        channels: 1 (gray) or 3 (RGB); ``None`` keeps them, for ``csv`` makes them gray.
        encoding: how images are stored; ``png`` keeps every pixel. ``csv`` holds plain numbers.
        quality: of JPEG and WebP, 1..100.
        num_workers: encoding threads; ``None`` for one for each core.
        description: ``describe()`` of the data module, stored with the set.

    Returns:
        What was written: path, format, images, left_out (rows that the form has no place for), bytes, counts,
        fingerprints.

    Raises:
        ConfigError: for an argument that is not allowed, or a destination that is in use.
        DataError: if an image cannot be read.
        MissingExtraError: if the form needs a package that is not installed.
        FERError: if the destination cannot be written, for example because the disk is full.
    """
    if to not in get_args(Format):
        raise ConfigError(f"to must be one of {', '.join(get_args(Format))}, not '{to}'")
    encoder = Encoder(encoding, quality)
    images = _resized(table.images, size, 1 if to == "csv" and channels is None else channels)
    if to == "csv":
        check_pixel_csv(table, images.shape[1])
    if not len(table):
        raise DataError("there is nothing to convert: the samples table is empty")
    target = check_target(out, to)
    try:
        remove_stale_parts(target.parent, target.name)
        with part_beside(target) as part:
            stored, left_out = _Writing(table, images, encoder, to, num_workers, description or {}).write(part)
            _publish(part, target)
    except OSError as error:
        raise FERError(one_line(f"{short_path(target)}: cannot be written ({error.strerror or error})")) from error
    return {
        "path": str(target),
        "format": to,
        "images": stored.images,
        "left_out": left_out,
        "bytes": _size_of(target),
        "counts": {split: sum(by_class.values()) for split, by_class in stored.counts.items()},
        "fingerprints": stored.fingerprints,
    }


def check_target(out: Path, to: Format) -> Path:
    """Return the destination, absolute; raise a ConfigError if it is in use, or its name does not suit the form."""
    target = Path(os.path.realpath(out.expanduser()))
    suffix = _FILES.get(to)
    if suffix is not None and target.suffix.lower() != suffix:
        raise ConfigError(one_line(f"{short_path(out)}: {to} is one file; give a name that ends in {suffix}"))
    if suffix is not None and target.exists():
        raise ConfigError(one_line(f"{short_path(out)}: exists already; remove it or choose another name"))
    if target.exists() and not target.is_dir():
        raise ConfigError(one_line(f"{short_path(out)}: expected a folder to write into, found a file"))
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(one_line(f"{short_path(out)}: exists and is not empty; remove it or choose another folder"))
    return target


@dataclass(frozen=True)
class _Writing:
    """One conversion."""

    table: SamplesTable
    images: ImageArray
    encoder: Encoder
    to: Format
    num_workers: int | None
    description: dict[str, Any]

    def write(self, part: Path) -> tuple[StoredSet, int]:
        """Write everything into an empty folder or one file; return the description and the number of rows left out."""
        if self.to == "csv":
            digests, written = write_pixel_csv(part, self.table, self.images)
            flush(part)
            used = self.table.select(np.flatnonzero(self.table.splits != ""))
            kept = digests[self.table.splits != ""]
            return self._description(used, kept, "pixels", {}), len(self.table) - written
        writer = self._writer(part)
        with contextlib.closing(writer):
            digests = self._encode(writer)
            files = writer.finish(digests)
            if isinstance(writer, ParquetSetWriter):
                stored = self._description(self.table, digests, self.encoder.encoding, {})
                writer.describe(stored.to_json())
        if part.is_dir():
            stored = self._description(self.table, digests, self.encoder.encoding, describe_files(part, files))
            write_atomically(part / METADATA, stored.to_json())
        else:
            flush(part)
        return stored, 0

    def _writer(self, part: Path) -> SetWriter:
        if self.to == "parquet":
            return ParquetSetWriter(part, self.table)
        part.mkdir()
        if self.to == "arrow":
            return ArrowSetWriter(part, self.table)
        if self.to == "shards":
            return ShardSetWriter(part, self.table)
        return FolderSetWriter(part, self.table, SUFFIXES[self.encoder.encoding])

    def _encode(self, writer: SetWriter) -> NDArray[np.uint8]:
        digests = np.empty((len(self.table), DIGEST_BYTES), np.uint8)
        order = writer.order(self.table)
        with tqdm(total=len(order), desc=f"writing {self.to}", unit="image", disable=None, leave=False) as bar:
            chunks = encoded_chunks(self.images, order, self.encoder, self.num_workers)
            with contextlib.closing(chunks):  # type: ignore[type-var]  # a generator
                for chunk in chunks:
                    writer.add(chunk)
                    digests[chunk.rows] = chunk.digests
                    bar.update(len(chunk.rows))
        return digests

    def _description(
        self, table: SamplesTable, digests: NDArray[np.uint8], encoding: str, files: dict[str, dict[str, Any]]
    ) -> StoredSet:
        as_stored = replace(table, digests=digests)
        present = [split for split in (*SPLITS, "") if len(table.rows(split))]
        mean, std = _statistics(self.images, self.table.rows("train"))
        return StoredSet(
            format=self.to,
            class_names=table.class_names,
            scheme=table.scheme,
            size=self.images.shape[2],
            channels=self.images.shape[1],
            encoding=encoding,
            quality=self.encoder.quality,
            images=len(table),
            counts={split: table.class_counts(split) for split in present},
            fingerprints={split: as_stored.fingerprint(split) for split in present if split},
            mean=mean,
            std=std,
            groups=tuple(table.columns),
            files=files,
            source=self.description,
        )


def _resized(images: ImageArray, size: int | None, channels: int | None) -> ImageArray:
    if size is not None and size < 8:
        raise ConfigError(f"size must be at least 8 pixels, not {size}")
    if channels not in (None, 1, 3):
        raise ConfigError(f"channels must be 1 (gray) or 3 (RGB), not {channels}")
    new_channels = images.shape[1] if channels is None else channels
    new_size = images.shape[2] if size is None else size
    if (new_channels, new_size) == (images.shape[1], images.shape[2]):
        return images
    return ResizedImages(images, new_size, new_channels)


def _statistics(images: ImageArray, rows: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of training images in 0..1, per channel; one half each if there is none."""
    channels = images.shape[1]
    if not len(rows):
        return (0.5,) * channels, (0.5,) * channels
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MEASURED)).astype(np.int64)]
    counts = np.zeros((channels, 256), np.int64)
    for part in chunks_of(chosen, images.shape[1:]):
        pixels = images[part]
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    deviation = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    deviation = np.where(deviation > 0, deviation, 1.0)  # images of one colour cannot be scaled
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(deviation, 6).tolist())


def _publish(part: Path, target: Path) -> None:
    """Rename to the destination, replacing an empty folder; raise a ConfigError if anything else is there by now."""
    taken = ConfigError(one_line(f"{short_path(target)}: was made by somebody else meanwhile"))
    if part.is_file() and target.exists():
        raise taken  # renaming would overwrite it
    try:
        part.rename(target)  # a folder takes the place of an empty one
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise taken from None
        raise
    flush(target.parent)


def _size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(Path(folder, name).stat().st_size for folder, _, names in os.walk(path) for name in names)
