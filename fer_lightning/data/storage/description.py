"""The description of a converted set, ``fer_dataset.json``, which is read and checked first."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fer_lightning.data.table.bad_rows import WAY_OUT
from fer_lightning.errors import DataError
from fer_lightning.extras import need_extra
from fer_lightning.files import file_digest, flush, json_text
from fer_lightning.text import one_line, short_path, unreadable

__all__ = [
    "METADATA",
    "StoredSet",
    "check_files",
    "describe_files",
    "need",
    "parse_metadata",
    "read_metadata",
]

METADATA = "fer_dataset.json"
"""Name of the file that describes a converted set."""
FORMAT_VERSION = 1  # raise it whenever an older program would misread a newer set


@dataclass(frozen=True)
class StoredSet:
    """Description of a converted set.

    Attributes:
        format: ``arrow``, ``parquet``, ``shards``, ``folders`` or ``csv``.
        class_names: canonical names; the position is the label.
        scheme: name of the label scheme.
        size: side of the square images, pixels.
        channels: 1 (gray) or 3 (RGB).
        encoding: ``png``, ``jpeg``, ``webp``; ``pixels`` for text.
        quality: of JPEG and WebP, 1..100.
        images: number of images.
        counts: images of each class in each split; the split ``""`` is that of rows that no split uses.
        fingerprints: of each split, over the pixels as they are stored.
        mean: of up to 10,000 training images in 0..1, for each channel.
        std: like ``mean``.
        groups: names of the further columns.
        files: bytes and BLAKE2b checksum of each data file, by its path.
        source: ``describe()`` of the data module that was converted.
        version: of this description.
    """

    format: str
    class_names: tuple[str, ...]
    scheme: str
    size: int
    channels: int
    encoding: str
    quality: int
    images: int
    counts: dict[str, dict[str, int]]
    fingerprints: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    groups: tuple[str, ...] = ()
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the description as indented JSON."""
        return json_text(asdict(self), default=str)


def parse_metadata(text: str | bytes, where: str) -> StoredSet:
    """Return the description that a JSON text holds.

    Raises:
        DataError: if it is damaged or was written by a newer program; ``where`` names the file.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise TypeError
        version = int(content["version"])
        if version > FORMAT_VERSION:
            raise DataError(
                one_line(f"{where}: written in format {version}, this program reads up to {FORMAT_VERSION}: update it")
            )
        for name in ("class_names", "mean", "std", "groups"):
            content[name] = tuple(content[name])
        stored = StoredSet(**content)
        if not (stored.class_names and stored.size > 0 and stored.channels in (1, 3) and stored.images >= 0):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise DataError(
            one_line(f"{where}: expected the description of a converted set, found something else; convert it again")
        ) from None
    return stored


def read_metadata(folder: Path, formats: Sequence[str]) -> StoredSet:
    """Read the description of the converted set in a folder.

    Raises:
        DataError: if there is none, it is damaged, or the set has none of the formats that the caller can read.
    """
    path = folder / METADATA
    how = f"`fer data convert --to {formats[0]}`"
    if not folder.is_dir():
        raise DataError(one_line(f"{short_path(folder)}: expected a folder made by {how}, found no folder"))
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            one_line(f"{short_path(folder)}: expected a set made by {how}, found no {METADATA} in it; {WAY_OUT}")
        ) from None
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    stored = parse_metadata(text, short_path(path))
    if stored.format not in formats:
        raise DataError(
            one_line(f"{short_path(folder)}: expected a set made by {how}, found one of format '{stored.format}'")
        )
    return stored


def describe_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Flush files in a folder to the disk and return their sizes and checksums by name."""
    described = {}
    for name in names:
        path = folder / name
        flush(path)
        described[name] = {"bytes": path.stat().st_size, "blake2b": file_digest(path)}
    return described


def check_files(folder: Path, stored: StoredSet, verify: bool = False) -> None:
    """Check that all data files are there in full.

    Args:
        folder: the converted set.
        stored: its description.
        verify: compare the checksums, too; the sizes are always compared.

    Raises:
        DataError: naming the first file that is missing, truncated or changed.
    """
    for name, expected in stored.files.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != expected["bytes"]:
                raise DataError(
                    one_line(
                        f"{short_path(path)}: expected {expected['bytes']:,} bytes, found {found:,}: the file is "
                        "truncated or changed; copy or convert the set again"
                    )
                )
            if verify and file_digest(path) != expected["blake2b"]:
                raise DataError(
                    one_line(
                        f"{short_path(path)}: its checksum is wrong: the file is damaged or changed; copy it again"
                    )
                )
        except OSError as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise DataError(one_line(f"{short_path(path)}: {reason}; copy or convert the set again")) from None


def need(module: str, what: str = "converted sets need") -> Any:
    """Import a package of the extra ``large``; raise a MissingExtraError, beginning with ``what``, if it is absent."""
    need_extra("large", what, module.partition(".")[0])
    return importlib.import_module(module)
