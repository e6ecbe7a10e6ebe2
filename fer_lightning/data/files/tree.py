"""Walking a tree of image files: which entries count, which folders stand for a split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fer_lightning.data.files.decode import IMAGE_SUFFIXES, inside
from fer_lightning.errors import DataError
from fer_lightning.text import short_path, unreadable

__all__ = ["entries", "is_image_name", "split_of", "split_of_folder", "subfolders", "walk_images"]

_SPLITS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "publictest": "val",
    "test": "test", "testing": "test", "tst": "test", "privatetest": "test",
}  # fmt: skip
_BESIDE = {"set", "data", "images", "image", "imgs", "img", "faces", "fer", "raf", "db", "rafdb", "affectnet"}
_NOT_DATA = {"thumbs.db", "desktop.ini"}


def split_of(name: str) -> str | None:
    """Return the split that a name stands for, in any case: ``train``, ``val`` or ``test``; ``None`` for no one split.

    >>> split_of("Validation"), split_of("train_labels"), split_of("FER2013Test"), split_of("train_and_test")
    ('val', 'train', 'test', None)
    """
    if name.strip().lower() in _SPLITS:
        return _SPLITS[name.strip().lower()]
    found = {_SPLITS[word] for word in _words(name) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def split_of_folder(name: str) -> str | None:
    """Return the split that a folder's name stands for, ``None`` if the name says anything else too.

    >>> split_of_folder("train_set"), split_of_folder("FER2013Valid"), split_of_folder("test_patterns")
    ('train', 'val', None)
    """
    return split_of(name) if all(word in _SPLITS or word in _BESIDE for word in _words(name)) else None


def _words(name: str) -> list[str]:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [word.lower().removesuffix("set") or "set" for word in words]


def entries(folder: Path) -> list[Path]:
    """Return what stands in a folder, sorted, without hidden entries; raise a DataError if it cannot be read.

    What macOS puts into archives, ``__MACOSX``, is hidden too.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones."""
    return [path for path in entries(folder) if path.is_dir()]


def is_image_name(path: Path) -> bool:
    """Tell whether a file has the suffix of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def walk_images(folder: Path, fence: Path | None = None, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, bool]]:
    """Yield (path, whether it is an image by its name) of every file at any depth, sorted; hidden ones are left out.

    Args:
        folder: where to look; linked folders are followed.
        fence: a linked folder that leads out of this one is not entered, but yielded as if it were an image: whoever
            opens it will refuse it.
        above: the folders that lead to this one.

    Raises:
        DataError: if a folder cannot be read, or links lead in a circle.
    """
    if fence is not None and folder.is_symlink() and not inside(fence, folder):
        yield folder, True
        return
    here = os.path.realpath(folder)
    if here in above:
        raise DataError(f"{short_path(folder)}: expected a folder, found a link to one that it lies in")
    for path in entries(folder):
        if path.is_dir():
            yield from walk_images(path, fence, (*above, here))
        elif path.name.lower() not in _NOT_DATA:
            yield path, is_image_name(path)
