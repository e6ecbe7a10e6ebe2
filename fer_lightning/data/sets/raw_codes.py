"""From the raw codes of published sets to labels: as numbers in their lists, and as names of class folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fer_lightning.data.files.listing import Listing
from fer_lightning.data.sets.image_folder import class_folders, list_image_folder
from fer_lightning.emotions import EIGHT, SEVEN, LabelScheme, canonical
from fer_lightning.errors import ConfigError, DataError, LabelError
from fer_lightning.text import one_line, short_path

__all__ = ["code_of", "expected_codes", "is_coded_tree", "list_code_folders", "scheme_with"]


def scheme_with(classes: int) -> LabelScheme:
    """Return the seven expressions, or the eight, which have contempt too; raise a ConfigError for another number."""
    if classes not in (7, 8):
        raise ConfigError(f"data.classes must be 7 or 8 (with contempt), not {classes}")
    return EIGHT if classes == 8 else SEVEN


def expected_codes(codes: Mapping[int, str]) -> str:
    """Return codes and names as a message lists them."""
    return ", ".join(f"{code} {name}" for code, name in codes.items())


def code_of(name: str) -> int | None:
    """Return the code that a folder is named by, ``None`` for a name of another kind."""
    return int(name) if name.isascii() and name.isdigit() and len(name) < 4 else None


def is_coded_tree(root: Path, codes: Mapping[int, str]) -> bool:
    """Tell whether a folder is a tree (with splits or without) whose class folders are named by all of some codes."""
    try:
        found = {code_of(folder.name) for _, folder in class_folders(root)}
    except (DataError, OSError):
        return False
    return None not in found and set(codes) <= found


def list_code_folders(
    root: Path,
    codes: Mapping[int, str],
    class_names: tuple[str, ...],
    source: str,
    no_class: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> Listing:
    """List a tree of images whose class folders are named by code or by expression.

    Layouts and arguments are those of :func:`.list_image_folder`; ``codes`` has the expression of each code. Known
    expressions that are not among ``class_names`` are left out and counted, and so are folders that stand for no
    expression: ``no_class`` has their names, lower case, and what they stand for.

    Raises:
        DataError: if the tree is another, or codes and names stand side by side.
        LabelError: for an unknown folder name.
    """
    names = list(dict.fromkeys(folder.name for _, folder in class_folders(root)))
    nothing = {} if no_class is None else no_class
    _check_one_kind(root, names, nothing)
    mapping: dict[str, str | None] = {}
    reasons: dict[str, str] = {}
    for name in names:
        if name.lower() in nothing:
            mapping[name], reasons[name] = None, nothing[name.lower()]
            continue
        meaning = _meaning(root, name, codes)
        mapping[name] = meaning if meaning in class_names else None
        if mapping[name] is None:
            reasons[name] = f"{meaning} is not among the classes"
    listing = list_image_folder(
        root, mapping=mapping, class_names=list(class_names), source=source, allow_outside=allow_outside
    )
    left_out = [(place, reasons.get(_class_folder(place, reasons), why)) for place, why in listing.left_out]
    return replace(listing, left_out=tuple(left_out))


def _class_folder(place: str, names: Mapping[str, str]) -> str:
    """Return which of some folder names stands first or second in a path, ``""`` for none."""
    return next((part for part in place.split("/")[:-1][:2] if part in names), "")


def _check_one_kind(root: Path, names: list[str], no_class: Mapping[str, str]) -> None:
    coded = [name for name in names if code_of(name) is not None]
    named = [name for name in names if code_of(name) is None and name.lower() not in no_class]
    if coded and named:
        raise DataError(
            one_line(
                f"{short_path(root)}: the class folder '{coded[0]}' is named by code, '{named[0]}' by expression; "
                "expected one kind, for codes are told from names by what stands beside them"
            )
        )


def _meaning(root: Path, name: str, codes: Mapping[int, str]) -> str:
    code = code_of(name)
    if code is not None and code in codes:
        return codes[code]
    try:
        return canonical(name)
    except LabelError:
        raise LabelError(
            one_line(
                f"{short_path(root, 80)}: unknown class folder '{name}', expected names of expressions or the codes "
                f"{expected_codes(codes)}"
            )
        ) from None
