"""Labels in the names of the files: JAFFE's, KDEF's, names with an expression in them, and patterns of a user's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_lightning.data.files.tree import split_of_folder, walk_images
from fer_lightning.data.table.manifest_file import ManifestFile
from fer_lightning.emotions import EIGHT, SYNONYMS, canonical
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import one_line, short_path

__all__ = ["known_names", "read_file_names"]

_WORDS = "|".join(sorted({*EIGHT.class_names, *SYNONYMS}, key=len, reverse=True))
_CODES = {"AN": "angry", "DI": "disgust", "HA": "happy", "NE": "neutral", "SA": "sad", "SU": "surprise"}


@dataclass(frozen=True)
class _Names:
    """How the files of a set are named.

    Attributes:
        what: whose names these are, for people.
        pattern: regular expression with the group ``label``, and perhaps ``subject``.
        meanings: expression by label; empty where the label is a name.
    """

    what: str
    pattern: str
    meanings: dict[str, str]


_KNOWN = (
    _Names(
        "files are named as in JAFFE (Lyons et al. 1998, doi:10.1109/AFGR.1998.670949)",
        r"^(?P<subject>[A-Z]{2})[.-](?P<label>AN|DI|FE|HA|NE|SA|SU)\d[.-]\d+\.+\w+$",
        _CODES | {"FE": "fear"},
    ),
    _Names(
        "files are named as in KDEF (Lundqvist et al. 1998)",
        r"^[AB](?P<subject>[FM]\d\d)(?P<label>AF|AN|DI|HA|NE|SA|SU)(S|FL|FR|HL|HR)\.\w+$",
        _CODES | {"AF": "fear"},
    ),
    _Names("the names of the files hold the expression", rf"(?<![A-Za-z])(?P<label>{_WORDS})(?![A-Za-z])", {}),
)


def known_names(root: Path) -> str | None:
    """Return the pattern by which the names of all images of a folder tell their expression, ``None`` if none does."""
    names = [path.name for path in _images(root)]
    for known in _KNOWN:
        labels = [_labels(known.pattern, name) for name in names]
        if names and all(len(found) == 1 for found in labels) and len(set().union(*labels)) > 1:
            return known.pattern
    return None


def _images(root: Path) -> list[Path]:
    return [path for path, is_image in walk_images(root, root) if is_image]


def _labels(pattern: str, name: str) -> set[str]:
    """Return the different labels that a pattern finds in a name, synonyms counted once."""
    found = {match["label"] for match in re.finditer(pattern, name, re.IGNORECASE)}
    return {canonical(label) if re.fullmatch(_WORDS, label, re.IGNORECASE) else label.upper() for label in found}


def read_file_names(root: Path, pattern: str) -> tuple[ManifestFile, tuple[tuple[str, str], ...]]:
    """Read the labels that the names of the images in a folder hold.

    Args:
        root: the folder; images lie at any depth, folders named after splits give the split.
        pattern: regular expression with a group ``label``, and groups ``subject`` or ``split`` where names hold them;
            it is searched in the name of each file, without its folder; case does not matter.

    Returns:
        The columns ``path`` and ``label`` and those of further groups, and (place, reason) of images whose name does
        not fit.

    Raises:
        ConfigError: if the pattern is malformed or has no group ``label``.
        DataError: if no image fits it.
    """
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(one_line(f"data.pattern: expected a regular expression ({error})")) from None
    if "label" not in compiled.groupindex:
        raise ConfigError("data.pattern: expected a group (?P<label>...), which holds the label")
    known = next((known for known in _KNOWN if known.pattern == pattern), None)
    names = ("path", *compiled.groupindex)
    rows: list[tuple[str, ...]] = []
    splits: list[str] = []
    left_out: list[tuple[str, str]] = []
    for path in _images(root):
        place, found = path.relative_to(root).as_posix(), compiled.search(path.name)
        if found is None:
            left_out.append((place, "its name does not fit data.pattern"))
            continue
        values = {name: value or "" for name, value in found.groupdict().items()}
        if known is not None:
            values["label"] = known.meanings.get(values["label"].upper(), values["label"])
        rows.append((place, *(values[name] for name in names[1:])))
        splits.append(next(filter(None, map(split_of_folder, place.split("/")[:-1])), ""))
    if not rows:
        example = f"such as {left_out[0][0]}" if left_out else "there is none"
        raise DataError(one_line(f"{short_path(root)}: data.pattern fits no image's name, {example}"))
    columns = {name: np.array(column, np.str_) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    if any(splits) and "split" not in columns:
        columns["split"] = np.array(splits, np.str_)
    what = "labels from the names of the files (data.pattern)" if known is None else f"{known.what}: labels from them"
    remark = one_line(f"{short_path(root)}: {what}, such as {rows[0][0]}: {columns['label'][0]}")
    return ManifestFile(root, columns, np.arange(1, len(rows) + 1), (remark,)), tuple(left_out)
