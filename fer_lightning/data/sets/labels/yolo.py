"""Labels in YOLO's form: a text beside each image, and ``data.yaml`` with the names of the classes.

Layout: ``train/images/a.jpg`` with ``train/labels/a.txt`` (``<class> <x> <y> <width> <height>``), or
``images/train/a.jpg`` with ``labels/train/a.txt``, or ``images/`` with ``labels/``. Images are taken whole: the sets of
this form that circulate are cropped already. One that shows several faces is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from fer_lightning.data.files.tree import split_of_folder, subfolders, walk_images
from fer_lightning.data.table.manifest_file import ManifestFile
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["is_yolo", "read_yolo"]

_IMAGES, _LABELS = "images", "labels"


def is_yolo(root: Path) -> bool:
    """Tell whether a folder has images and texts of labels as YOLO wants them."""
    return bool(_parts(root))


def _parts(root: Path) -> list[tuple[str, Path, Path]]:
    """Return (split, images, texts) of each part."""
    by_name = {path.name.lower(): path for path in subfolders(root)}
    found: list[tuple[str, Path, Path]] = []
    for folder in subfolders(root):
        inner = {path.name.lower(): path for path in subfolders(folder)}
        if (split := split_of_folder(folder.name)) is not None and _IMAGES in inner and _LABELS in inner:
            found.append((split, inner[_IMAGES], inner[_LABELS]))
    if not found and _IMAGES in by_name and _LABELS in by_name:
        images, texts = by_name[_IMAGES], by_name[_LABELS]
        pairs = [(folder, texts / folder.name) for folder in subfolders(images) if split_of_folder(folder.name)]
        found = [(split_of_folder(one.name) or "", one, other) for one, other in pairs if other.is_dir()]
        found = found or [("", images, texts)]
    return [part for part in found if any(path.suffix == ".txt" for path, _ in walk_images(part[2]))]


def read_yolo(root: Path) -> tuple[ManifestFile, tuple[tuple[str, str], ...]]:
    """Read the labels of a set in YOLO's form.

    Returns:
        The columns ``path``, ``label`` (names of ``data.yaml``; the codes where there is none) and ``split``, and
        (place, reason) of the images that are left out.

    Raises:
        DataError: if ``data.yaml`` or a text of labels is malformed; the message names the file.
    """
    names, remark = _names(root)
    rows: list[tuple[str, str, str]] = []
    left_out: list[tuple[str, str]] = []
    for split, images, texts in _parts(root):
        for path, is_image in walk_images(images, root):
            if not is_image:
                continue
            place = path.relative_to(root).as_posix()
            text = texts / path.relative_to(images).with_suffix(".txt")
            codes = _codes(text) if text.is_file() else []
            if len(codes) != 1:
                left_out.append((place, f"{len(codes)} faces have a label, expected one" if codes else "no label"))
                continue
            if names and codes[0] not in names:
                known = ", ".join(names.values())
                raise DataError(one_line(f"{short_path(text)}: class {codes[0]} is not in data.yaml ({known})"))
            rows.append((place, names.get(codes[0], codes[0]), split))
    columns = zip(*rows, strict=True) if rows else [(), (), ()]
    arrays = dict(zip(("path", "label", "split"), (np.array(column, np.str_) for column in columns), strict=True))
    return ManifestFile(root, arrays, np.arange(1, len(rows) + 1), (remark,)), tuple(left_out)


def _names(root: Path) -> tuple[dict[str, str], str]:
    """Return the name of each code and a remark on it; none if no file says it."""
    for file in ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names"):
        path = root / file
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
            listed = yaml.safe_load(text)["names"] if path.suffix in (".yaml", ".yml") else text.split("\n")
            pairs = listed.items() if isinstance(listed, dict) else enumerate(listed)
            names = {str(code): str(name).strip() for code, name in pairs if str(name).strip()}
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            text = f"{short_path(path)}: expected 'names', the list of the classes, such as names: [angry, happy]"
            raise DataError(one_line(f"{text} ({error})")) from None
        listed_names = ", ".join(f"{code} {name}" for code, name in names.items())
        return names, one_line(f"{short_path(root)}: labels in YOLO's form; {file} says: {listed_names}")
    return {}, f"{short_path(root)}: labels in YOLO's form, without a data.yaml that names the codes"


def _codes(path: Path) -> list[str]:
    """Return the class of each face in a text of labels."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(one_line(f"{short_path(path)}: cannot be read ({error})")) from None
    for line in lines:
        if not line[0].removesuffix(".0").isdecimal() or len(line) < 5:
            found = excerpt(" ".join(line))
            raise DataError(one_line(f"{short_path(path)}: expected <class> <x> <y> <width> <height>, found {found}"))
    return [str(int(float(line[0]))) for line in lines]
