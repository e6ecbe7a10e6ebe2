"""Labels in a text for each image: in YOLO's form, with the names of the classes in a YAML file, or alone.

Layout: ``train/images/a.jpg`` with ``train/labels/a.txt`` (``<class> <x> <y> <width> <height>``), or
``images/train/a.jpg`` with ``labels/train/a.txt``, or ``images/`` with ``labels/``; or ``a.jpg`` with ``a.txt`` beside
it, in folders for splits or not. A text may hold the label alone (``happy``); such a text may end in ``.cls``, too.
Images are taken whole: the sets of YOLO's form that circulate are cropped already. One that shows several faces is left
out.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import yaml

from fer_lightning.data.files.tree import entries, is_image_name, split_of_folder, subfolders, walk_images
from fer_lightning.data.table.manifest_file import ManifestFile
from fer_lightning.emotions import code_key
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["is_yolo", "read_yolo"]

_IMAGES, _LABELS = "images", "labels"
_SUFFIXES = (".txt", ".cls")
_YAML = (".yaml", ".yml")
_NAMED_SO = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
_LOOKED_AT = 50  # images that may have a text beside them


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
    found = [part for part in found if any(path.suffix in _SUFFIXES for path, _ in walk_images(part[2]))]
    return found or _beside(root)


def _beside(root: Path) -> list[tuple[str, Path, Path]]:
    """Return the folders in which each of the first images has a text of its name beside it."""
    splits = [(split, path) for path in subfolders(root) if (split := split_of_folder(path.name)) is not None]
    found = []
    for split, folder in splits or [("", root)]:
        images = list(islice((path for path in entries(folder) if is_image_name(path)), _LOOKED_AT))
        texts = [text for image in images for suffix in _SUFFIXES if (text := image.with_suffix(suffix)).is_file()]
        if texts and 2 * len(texts) > len(images):
            found.append((split, folder, folder))
    return found


def read_yolo(root: Path) -> tuple[ManifestFile, tuple[tuple[str, str], ...]]:
    """Read the labels of a set in YOLO's form.

    Returns:
        The columns ``path``, ``label`` (names of ``data.yaml``; the codes where there is none) and ``split``, and
        (place, reason) of the images that are left out.

    Raises:
        DataError: if ``data.yaml`` or a text of labels is malformed; the message names the file.
    """
    names, file = _names(root)
    rows: list[tuple[str, str, str]] = []
    left_out: list[tuple[str, str]] = []
    for split, images, texts in _parts(root):
        for path, is_image in walk_images(images, root):
            if not is_image:
                continue
            place = path.relative_to(root).as_posix()
            place_of_text = texts / path.relative_to(images)
            text = next(filter(Path.is_file, map(place_of_text.with_suffix, _SUFFIXES)), None)
            codes = [] if text is None else _labels(text)
            if len(codes) != 1:
                left_out.append((place, f"{len(codes)} faces have a label, expected one" if codes else "no label"))
                continue
            if names and codes[0].isdecimal() and codes[0] not in names:
                known = ", ".join(names.values())
                raise DataError(one_line(f"{short_path(text or path)}: class {codes[0]} is not in {file} ({known})"))
            rows.append((place, names.get(codes[0], codes[0]), split))
    columns = zip(*rows, strict=True) if rows else [(), (), ()]
    remark = f"{short_path(root)}: labels in a text for each image"
    if names:
        remark += f"; {file} says: {', '.join(f'{code} {name}' for code, name in names.items())}"
    elif any(label.isdecimal() for _, label, _ in rows):
        remark += ", without a data.yaml that names the codes"
    arrays = dict(zip(("path", "label", "split"), (np.array(column, np.str_) for column in columns), strict=True))
    return ManifestFile(root, arrays, np.arange(1, len(rows) + 1), (one_line(remark),)), tuple(left_out)


def _names(root: Path) -> tuple[dict[str, str], str]:
    """Return the name of each code and the file that says it; no name if none does."""
    for path in _files_of_names(root):
        try:
            text = path.read_text(encoding="utf-8-sig")
            listed = yaml.safe_load(text)["names"] if path.suffix.lower() in _YAML else text.split("\n")
            pairs = listed.items() if isinstance(listed, dict) else enumerate(listed)
            names = {str(code): str(name).strip() for code, name in pairs if str(name).strip()}
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            if path.name not in _NAMED_SO:
                continue  # another YAML file
            text = f"{short_path(path)}: expected 'names', the list of the classes, such as names: [angry, happy]"
            raise DataError(one_line(f"{text} ({error})")) from None
        return names, path.name
    return {}, ""


def _files_of_names(root: Path) -> list[Path]:
    """Return the files that may name the classes, those with the usual names first."""
    others = [path for path in entries(root) if path.suffix.lower() in (*_YAML, ".names") and path.is_file()]
    return list(dict.fromkeys([*(path for path in map(root.joinpath, _NAMED_SO) if path.is_file()), *others]))


def _labels(path: Path) -> list[str]:
    """Return the class of each face in a text of labels."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(one_line(f"{short_path(path)}: cannot be read ({error})")) from None
    if len(lines) == 1 and len(lines[0]) == 1:
        return [code_key(lines[0][0])]
    for line in lines:
        if not line[0].removesuffix(".0").isdecimal() or len(line) < 5:
            found = excerpt(" ".join(line))
            what = "expected <class> <x> <y> <width> <height>, or a label alone"
            raise DataError(one_line(f"{short_path(path)}: {what}; found {found}"))
    return [str(int(float(line[0]))) for line in lines]
