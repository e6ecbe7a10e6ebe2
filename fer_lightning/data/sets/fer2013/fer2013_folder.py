"""FER2013 as a folder of images: ``train/<emotion>/Training_<row>.png``, ``test/<emotion>/PublicTest_<row>.png``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.files.decode import IMAGE_SUFFIXES, decode, inside
from fer_lightning.data.sets.fer2013.fer2013_rows import SIDE, Fer2013Rows
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import BadRows, OnError
from fer_lightning.emotions import SEVEN, code_key
from fer_lightning.errors import DataError, LabelError
from fer_lightning.text import one_line, short_path

__all__ = ["TOP_FOLDERS", "read_folder_rows", "read_image", "top_folders"]

TOP_FOLDERS = {
    "train": ("Training",),
    "validation": ("PublicTest",),
    "val": ("PublicTest",),
    "valid": ("PublicTest",),
    "test": ("PublicTest", "PrivateTest"),
}
"""Which usages may stand, by the prefix of a file's name, in which top folder."""

_WITHOUT_PREFIX = {"train": "Training", "validation": "PublicTest", "val": "PublicTest", "valid": "PublicTest"}
_WITHOUT_PREFIX["test"] = "PrivateTest"
_PREFIXED = re.compile(rf"({'|'.join(USAGES)})_(\d{{1,12}})?")


@dataclass(frozen=True)
class _ImageFile:
    place: str
    label: int
    usage: int
    number: int


def top_folders(root: Path) -> list[Path]:
    """Return the subfolders of a data set that have one of the known names, in any case, sorted."""
    return sorted(path for path in root.iterdir() if path.name.lower() in TOP_FOLDERS and path.is_dir())


def read_folder_rows(
    root: Path, on_error: OnError = "raise", meanings: Mapping[str, str | None] | None = None
) -> Fer2013Rows:
    """Read all images of a folder, sorted by path.

    A file's usage is told by the prefix of its name; without one, ``train/`` is taken for Training, ``validation/`` for
    PublicTest and ``test/`` for PrivateTest. Hidden files and what is no image by its name are left out.

    Args:
        root: holds ``train/``, ``test/`` and perhaps ``validation/`` (also ``val/`` or ``valid/``).
        on_error: what to do with a bad image.
        meanings: expression of each class folder that is named by a code, by code.

    Raises:
        DataError: if there is no image, a name contradicts its folder, an image is bad and ``on_error`` is ``raise``,
            or more than half are bad. The message names the file.
        LabelError: for a class folder that is no expression.
    """
    bad = BadRows(f"{short_path(root)}{os.sep}", on_error)
    files = _list_files(root, bad, {} if meanings is None else meanings)
    if not files and not bad.count:
        tops = ", ".join(f"{top.name}/" for top in top_folders(root))
        raise DataError(one_line(f"{short_path(root)}: expected images under {tops}<emotion>/, found none"))
    images: list[NDArray[np.uint8]] = []
    rows: list[tuple[int, int, int, str]] = []
    for file in tqdm(files, unit="image", desc=root.name, disable=None, leave=False):
        try:
            images.append(read_image(root / file.place))
        except DataError as error:
            bad.add(file.place, error)
        else:
            rows.append((file.label, file.usage, file.number, file.place))
    return Fer2013Rows.collect(images, rows, bad)


def _list_files(root: Path, bad: BadRows, meanings: Mapping[str, str | None]) -> list[_ImageFile]:
    files: list[_ImageFile] = []
    for top in top_folders(root):
        for entry in _sorted_entries(top):
            if entry.is_dir():
                label = _label(root / top.name / entry.name, meanings)
                files += _list_class(root, top.name, entry, label, bad)
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                bad.add(f"{top.name}/{entry.name}", DataError(f"expected images in {top.name}/<emotion>/ only"))
    return files


def _sorted_entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _label(folder: Path, meanings: Mapping[str, str | None]) -> int:
    try:
        return SEVEN.index(meanings.get(code_key(folder.name)) or folder.name)
    except LabelError as error:
        way_out = "--data ImageFolderDataModule reads any tree"
        raise LabelError(one_line(f"{short_path(folder, 80)}: {error}; {way_out}", 400)) from None


def _list_class(root: Path, top: str, folder: os.DirEntry[str], label: int, bad: BadRows) -> list[_ImageFile]:
    files = []
    for entry in _sorted_entries(folder.path):
        place = f"{top}/{folder.name}/{entry.name}"
        if entry.is_dir():
            bad.add(place, DataError("expected an image, found a folder"))
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
            if not entry.is_file():
                bad.add(place, DataError("expected an image, found no regular file (a broken link?)"))
                continue
            if entry.is_symlink() and not inside(root, Path(entry.path)):
                bad.add(place, DataError(f"expected an image, found a link that leads out of {root.name}/"))
                continue
            usage, number = _usage_and_number(root, place, top)
            files.append(_ImageFile(place, label, USAGES.index(usage), number))
    return files


def _usage_and_number(root: Path, place: str, top: str) -> tuple[str, int]:
    found = _PREFIXED.match(place.rsplit("/", 1)[1])
    if found is None:
        return _WITHOUT_PREFIX[top.lower()], -1
    usage, number = found.groups()
    allowed = TOP_FOLDERS[top.lower()]
    if usage not in allowed:
        raise DataError(
            one_line(
                f"{short_path(root / place)}: the name says {usage}, the folder says {' or '.join(allowed)}; "
                "move the file or rename it"
            )
        )
    return usage, -1 if number is None else int(number)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return an image as gray uint8 ``(48, 48)``, or raise a DataError that says what the file looks like."""
    image = decode(path, channels=1)[:, :, 0]
    if image.shape != (SIDE, SIDE):
        raise DataError(f"expected {SIDE}x{SIDE} pixels, found {image.shape[1]}x{image.shape[0]}")
    return image
