"""From the raw codes of published sets to labels: as numbers in their lists, and as names of class folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_lightning.data.files.listing import Listing
from fer_lightning.data.sets.code_evidence import evidence_of_folders
from fer_lightning.data.sets.code_meanings import Codes, meanings_of
from fer_lightning.data.sets.image_folder import class_folders, list_classes
from fer_lightning.emotions import EIGHT, SEVEN, LabelScheme, code_of, read_names
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import short_path

__all__ = ["is_tree_of", "list_code_folders", "refuse_mapping", "scheme_with"]


def scheme_with(classes: int) -> LabelScheme:
    """Return the seven expressions, or the eight, which have contempt too; raise a ConfigError for another number."""
    if classes not in (7, 8):
        raise ConfigError(f"data.classes must be 7 or 8 (with contempt), not {classes}")
    return EIGHT if classes == 8 else SEVEN


def refuse_mapping(mapping: Mapping[str, str | None] | None, where: str) -> None:
    """Raise a ConfigError for a mapping of class folders where a data set has none."""
    if mapping is not None:
        raise ConfigError(f"data.mapping is for class folders, but {where} says what the codes are; remove it")


def is_tree_of(root: Path, codes: Codes) -> bool:
    """Tell whether a folder has class folders named by codes that are proven to be these of this data set."""
    try:
        folders = class_folders(root)
        if any(code_of(folder.name) is None for _, folder in folders):
            return False
        found = evidence_of_folders(root, folders)
    except (DataError, OSError):
        return False
    return (
        found is not None
        and found.whose == codes.whose
        and all(codes.table.get(code, "") == name for code, name in found.table.items())
    )


def list_code_folders(
    root: Path,
    codes: Codes,
    class_names: tuple[str, ...],
    source: str,
    no_class: Mapping[str, str] | None = None,
    *,
    mapping: Mapping[str, str | None] | None = None,
    allow_outside: bool = False,
) -> Listing:
    """List a tree of images whose class folders are named by code or by expression.

    Layouts and arguments are those of ``list_image_folder``. Known expressions that are not among ``class_names``
    are left out and counted, and so are folders that stand for no expression: ``no_class`` has their names, lower case,
    and what they stand for.

    Raises:
        DataError: if the tree is another, or something shows that its codes are not ``codes``.
        LabelError: for an unknown folder name, or codes of which nothing shows what they stand for.
    """
    nothing = {} if no_class is None else no_class
    folders = class_folders(root)
    names = list(dict.fromkeys(folder.name for _, folder in folders))
    reasons = {name: nothing[name.lower()] for name in names if name.lower() in nothing}
    given = {**dict.fromkeys(reasons), **(mapping or {})}
    meanings, remarks = meanings_of(root, folders, given, own=codes)
    found, label_of = read_names(names, short_path(root, 80), meanings)
    labels = dict.fromkeys(names, -1)
    for name, label in label_of.items():
        if label >= 0 and found[label] in class_names:
            labels[name] = class_names.index(found[label])
        elif label >= 0:
            reasons[name] = f"{found[label]} is not among the classes"
    listing = list_classes(root, folders, class_names, labels, meanings, reasons=reasons, allow_outside=allow_outside)
    sources = np.full(len(listing.paths), source)
    return replace(listing, sources=sources, remarks=(*remarks, *listing.remarks))
