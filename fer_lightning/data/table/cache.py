"""A cache of parsed data sets: arrays under a key that is made of the content they come from.

The cache is never needed: whatever is wrong with it, the data set is parsed again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cached_arrays", "default_cache_dir", "file_digest", "listing_digest"]

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20  # bytes
_STALE = 24 * 3600  # seconds after which the half file of a killed process is nobody's


def cached_arrays(
    key: str, build: Callable[[], dict[str, NDArray[Any]]], cache_dir: Path | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays stored under a key; where there are none, build and store them.

    One uncompressed ``.npz`` holds them, with a checksum per array. It is written beside its place, flushed and
    renamed: another process sees all of it or nothing. A damaged file is built anew with a warning. Where nothing can
    be written there is one warning and no cache.

    Args:
        key: file name without suffix: a digest of the source, and everything else that the arrays depend on.
        build: gives the arrays; its errors pass through, and nothing is stored then.
        cache_dir: where to keep them; ``None`` for :func:`default_cache_dir`.

    Returns:
        The arrays by name, writable, each on its own memory.
    """
    folder = default_cache_dir() if cache_dir is None else cache_dir.expanduser()
    if folder is None:
        _warn_no_cache("", "there is no home folder")
        return build()
    path = folder / f"{key}.npz"
    arrays = _load(path)
    if arrays is None:
        arrays = build()
        _store(path, arrays)
    return arrays


def default_cache_dir() -> Path | None:
    """Return ``$FER_CACHE_DIR``, else ``$XDG_CACHE_HOME/fer_lightning``, else ``~/.cache/fer_lightning``.

    ``None`` where not even a home folder is known.
    """
    try:
        if os.environ.get("FER_CACHE_DIR"):
            return Path(os.environ["FER_CACHE_DIR"]).expanduser()
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        # Relative paths in it are invalid and to be ignored: XDG Base Directory Specification 0.8.
        return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "fer_lightning"
    except RuntimeError:
        return None


def file_digest(path: Path) -> str:
    """Return the BLAKE2b digest of a file's content, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def listing_digest(folder: Path) -> str:
    """Return a digest of which files a folder holds at any depth, 32 hexadecimal digits.

    Names, sizes and modification times take part, contents do not: reading tens of thousands of small files would take
    as long as decoding them. Hidden files and folders are left out.
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


def _load(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a damaged zip file fails in many ways; each means the same here
        _LOG.warning("cache file %s cannot be used (%s: %s): building it anew", path, type(error).__name__, error)
        return None


def _store(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(path.parent)
        part = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:12]}.part")  # readable to others, unlike tempfile's
        try:
            with part.open("xb") as handle:
                np.savez(handle, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for `allow_pickle`
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        _warn_no_cache(str(path.parent), error.strerror or str(error))


def _remove_stale_parts(folder: Path) -> None:
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError):  # another process may have removed it
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


@functools.cache  # one warning per folder and reason
def _warn_no_cache(folder: str, reason: str) -> None:
    where = f"in {folder} " if folder else ""
    _LOG.warning(
        "parsed data cannot be kept %s(%s) and is parsed at each start; "
        "pass cache_dir or set FER_CACHE_DIR to a folder that can be written",
        where,
        reason,
    )
