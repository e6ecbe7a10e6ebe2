"""The pictures and videos that a command line names: files, folders, patterns and archives."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from fer_lightning.data.files.archives import is_archive, open_root
from fer_lightning.data.files.decode import IMAGE_SUFFIXES
from fer_lightning.errors import DataError

__all__ = ["VIDEO_SUFFIXES", "is_video", "named_inputs"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"})
"""Lower-case suffixes of the files that a folder's listing takes for videos."""


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def named_inputs(names: Iterable[str]) -> dict[Path, str]:
    """Return the files that a command line names, each once, in its order; those of a folder sorted.

    Args:
        names: of files, of folders and archives (pictures and videos at any depth), or patterns such as ``*/a*.jpg``.

    Returns:
        The place of each file, and what it is called: its path; of one in an archive ``ARCHIVE/path/in/it``,
        without a folder that everything in it lies in.

    Raises:
        DataError: if a name is nothing of the sort, or nothing in it is a picture or video.
    """
    found: dict[Path, str] = {}
    for name in names:
        path = Path(name).expanduser()
        paths = [path] if path.exists() else [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        if not paths:
            raise DataError(f"there is no file or folder {name}")
        files = {file: called for each in paths for file, called in _files(each)}
        if not files:
            raise DataError(f"{name} holds no picture or video (known: {', '.join(sorted(_KNOWN))})")
        found.update(files)
    return found


_KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Give the files that a path stands for, and what each is called."""
    if path.is_file() and not is_archive(path):
        yield path, str(path)
        return
    folder = open_root(path)
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if file.suffix.lower() in _KNOWN and not hidden and file.is_file():
            yield file, str(path / inside) if path.is_file() else str(file)
