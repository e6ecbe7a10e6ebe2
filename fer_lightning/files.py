"""Files that are whole or not there, their digests, and the text of tables and JSON."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "csv_text",
    "file_digest",
    "flush",
    "json_text",
    "listing_digest",
    "part_beside",
    "parts_in",
    "remove_stale_parts",
    "replacing",
    "write_atomically",
]

_CHUNK = 1 << 20  # bytes
_STALE = 24 * 3600  # seconds without a change after which the part of a killed process belongs to nobody
_PART = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part")


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file (text as UTF-8) so that readers see the old content or the new one, never a part; return its path.

    Missing folders are made.

    Raises:
        OSError: if it cannot be written; the file is then as it was.
    """
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Let a block write the file that it is given, which replaces ``path`` if the block ends without an error.

    The new file is flushed to the disk before it is renamed, and its folder after that, so that a power cut leaves the
    old file or the new one. Missing folders are made.

    Raises:
        OSError: if the file cannot be flushed or renamed.
    """
    with part_beside(path) as part:
        yield part
        flush(part)
        os.replace(part, path)
        flush(path.parent)


@contextlib.contextmanager
def part_beside(path: Path) -> Iterator[Path]:
    """Give a name that nothing has, for a file or folder to be renamed to ``path`` when it is complete.

    It lies in the same folder, because a rename is atomic only within a file system, and is hidden. What stands there
    at the end of the block is removed. Missing folders are made.

    Yields:
        ``.<name>.<12 hexadecimal digits>.part`` beside ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        yield part
    finally:
        _remove(part)


def parts_in(folder: Path, name: str | None = None) -> list[Path]:
    """Return what ``part_beside`` named in a folder and is unfinished, of one destination or of all."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = _PART.fullmatch(path.name)
            if match and name in (None, match[1]):
                found.append(path)
    return found


def remove_stale_parts(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left unfinished in a folder, once nothing in it has changed for a day."""
    for part in parts_in(folder, name):
        with contextlib.suppress(OSError):  # another process may have removed it
            if time.time() - _last_change(part) > _STALE:
                _remove(part)


def _last_change(part: Path) -> float:
    """Return when a file, or anything in a folder, was changed last: a folder alone knows of its own entries only."""
    inside = (Path(folder, name) for folder, folders, files in os.walk(part) for name in (*folders, *files))
    return max(path.lstat().st_mtime for path in (part, *inside))


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            part.unlink()


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk; an OSError if they cannot be."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path, kind: Literal["blake2b", "sha256"] = "blake2b") -> str:
    """Return the digest of a file's content: 32 hexadecimal digits of BLAKE2b, or 64 of SHA-256.

    Raises:
        OSError: if the file cannot be read.
    """
    digest = hashlib.sha256() if kind == "sha256" else hashlib.blake2b(digest_size=16)
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def listing_digest(folder: Path) -> str:
    """Return a digest of which files a folder holds at any depth, 32 hexadecimal digits.

    Names, sizes and modification times take part, contents do not: reading tens of thousands of small files would take
    as long as decoding them. Hidden files and folders are left out.

    Raises:
        OSError: if a folder cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, entry in _walk(folder, b""):
        status = entry.stat()
        digest.update(b"%s\0%d\0%d\n" % (name, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def _walk(folder: str | Path, prefix: bytes) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        name = prefix + os.fsencode(entry.name)
        if entry.is_dir():
            yield from _walk(entry.path, name + b"/")
        elif entry.is_file():
            yield name, entry


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV text with a header, lines ended by a line feed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def json_text(values: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return values as indented JSON that ends with a line feed, rows of numbers on one line, letters as they are.

    ``default`` gives what JSON knows (objects, arrays, text, numbers, booleans, null) for any other value.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON does not know.
        TypeError: for a value of another type, without ``default``.
    """
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False, default=default)
    # a line break never stands inside a JSON string
    return re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text) + "\n"
