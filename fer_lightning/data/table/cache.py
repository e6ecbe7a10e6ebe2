"""A cache of parsed data sets: arrays under a key that is made of the content they come from.

The cache is never needed: whatever is wrong with it, the data set is parsed again.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.files import remove_stale_parts, replacing

__all__ = ["cached_arrays", "default_cache_dir"]

_LOG = logging.getLogger(__name__)


def cached_arrays(
    key: str, build: Callable[[], dict[str, NDArray[Any]]], cache_dir: Path | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays stored under a key, writable; where there are none, build and store them.

    One uncompressed ``.npz`` holds them, with a checksum per array, written at once: another process sees all of it or
    nothing. A damaged file is built anew with a warning; where none can be written there is one warning and no cache.

    Args:
        key: file name without suffix: a digest of the source, and everything else that the arrays depend on.
        build: gives the arrays by name; its errors pass through, and nothing is stored then.
        cache_dir: where to keep them; ``None`` for ``default_cache_dir``.
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
    """Return ``$FER_CACHE_DIR``, else ``$XDG_CACHE_HOME/fer_lightning``, else ``~/.cache/fer_lightning``, if any."""
    try:
        if os.environ.get("FER_CACHE_DIR"):
            return Path(os.environ["FER_CACHE_DIR"]).expanduser()
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        # Relative paths in it are invalid and to be ignored: XDG Base Directory Specification 0.8.
        return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "fer_lightning"
    except RuntimeError:
        return None


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
        remove_stale_parts(path.parent)
        with replacing(path) as part, part.open("xb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for `allow_pickle`
    except OSError as error:
        _warn_no_cache(str(path.parent), error.strerror or str(error))


@functools.cache  # one warning per folder and reason
def _warn_no_cache(folder: str, reason: str) -> None:
    where = f"in {folder} " if folder else ""
    _LOG.warning(
        "parsed data cannot be kept %s(%s) and is parsed at each start; "
        "pass cache_dir or set FER_CACHE_DIR to a folder that can be written",
        where,
        reason,
    )
