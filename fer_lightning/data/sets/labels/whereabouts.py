"""Finding the images that a table names, where they do not lie as it says.

Tables travel: their paths were written on another machine, with backslashes, above or below the folder that is here, or
without folders. Nothing is guessed for a single row: only where none of some rows is as it is written, all are looked
for, by as many of the last parts of their paths as fit everywhere.
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.tree import is_image_name, split_of_folder, subfolders, walk_images
from fer_lightning.data.table.images import IMAGE_SUFFIXES
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["locate"]

_PROBES = 64  # rows, evenly chosen, that tell whether images lie where the table says


def locate(
    root: Path, paths: NDArray[np.str_], splits: Sequence[str], place: Callable[[int], str]
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """Return where the images are, relative to ``root``, and a sentence if that is not where the table says.

    Args:
        root: folder that the paths are relative to.
        paths: ``(N,)`` strings as they stand in the table.
        splits: split of each row, ``""`` for none; decides between images of the same name in split folders.
        place: names a row for messages.

    Raises:
        DataError: if none of the images is in ``root``, or a row may mean more than one of them.
    """
    written = np.char.replace(paths, "\\", "/")
    rows = np.unique(np.linspace(0, len(paths) - 1, _PROBES).astype(np.int64)).tolist()
    if any(os.path.isfile(root / paths[row]) for row in rows):
        return paths, ()
    if any(os.path.isfile(root / written[row]) for row in rows):
        return written, ()
    index = _Images(root)
    depth = max((index.depth(written[row]) for row in rows), default=0)
    if not depth:
        where = _elsewhere(root, written[0]) or "FOLDER, where they lie"
        text = f"{excerpt(str(paths[0]), 80)} is not in {short_path(root, 60)}, nor are the others"
        raise DataError(one_line(f"{place(0)}: {text}; pass --data.images {where}", 500))
    found = written.tolist()
    for row, path in enumerate(found):
        matches = index.matches(path, depth)
        if len(matches) > 1:
            matches = [match for match in matches if splits[row] and _split_in(match) == splits[row]] or matches
        if len(matches) > 1:
            raise DataError(
                one_line(
                    f"{place(row)}: {excerpt(str(paths[row]), 60)} may be {matches[0]} or {matches[1]} in "
                    f"{short_path(root, 60)}; write the folder into the path, or pass --data.images FOLDER",
                    400,
                )
            )
        found[row] = matches[0] if matches else path
    first = next(row for row, path in enumerate(found) if path != str(paths[row]))
    text = f"images are not where the table says, but found: {excerpt(str(paths[first]), 80)} as {found[first]}"
    return np.array(found, np.str_), (one_line(f"{place(first)}: {text}"),)


def _elsewhere(root: Path, path: str) -> str:
    """Return the folder beside a table's folder that holds an image, quoted for a shell; ``""`` if none does."""
    above = root.resolve().parent
    try:
        beside = [above, *subfolders(above)]
    except DataError:
        return ""
    names = (path, PurePosixPath(path).name)
    return next((shlex.quote(str(place)) for place in beside for name in names if os.path.isfile(place / name)), "")


class _Images:
    """The images in a folder, by the last parts of their paths."""

    def __init__(self, root: Path) -> None:
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path, is_image in walk_images(root, root):
            if is_image and is_image_name(path):
                self.by_name[path.stem.lower()].append(path.relative_to(root).as_posix())

    def matches(self, path: str, depth: int) -> list[str]:
        """Return the images whose last ``depth`` parts are those of a path; the suffix may be missing in the path."""
        parts = _parts(path)
        wanted = parts[-depth:]
        return [other for other in self._named(parts) if _same(_parts(other)[-len(wanted) :], wanted)]

    def depth(self, path: str) -> int:
        """Return how many parts at the end of a path, at most, are those of an image."""
        parts = _parts(path)
        return next((n for n in range(len(parts), 0, -1) if self.matches(path, n)), 0)

    def _named(self, parts: list[str]) -> Iterator[str]:
        if parts:
            name = PurePosixPath(parts[-1])
            yield from self.by_name.get((name.stem if name.suffix in IMAGE_SUFFIXES else name.name), [])


def _parts(path: str) -> list[str]:
    return [part for part in path.strip().lower().split("/") if part not in ("", ".", "..")]


def _same(found: list[str], wanted: list[str]) -> bool:
    if found == wanted:
        return True
    without = [*found[:-1], PurePosixPath(found[-1]).stem]
    return PurePosixPath(wanted[-1]).suffix not in IMAGE_SUFFIXES and without == wanted


def _split_in(path: str) -> str:
    """Return the split that the folders of a path stand for, ``""`` for none."""
    return next((split for part in path.split("/")[:-1] if (split := split_of_folder(part)) is not None), "")
