"""From codes that name class folders, or stand in a column of labels, to expressions.

A user's mapping goes before everything else; then comes what is proven (see ``code_evidence``), then the codes of a
data set whose data module was chosen, unless copies with other codes are about. A code that none of these explains is
refused by ``read_names``, which offers the tables that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.sets.code_evidence import Evidence, evidence_of_folders, evidence_of_labels
from fer_lightning.emotions import code_key, code_of, codes_text
from fer_lightning.errors import DataError
from fer_lightning.text import one_line, short_path

__all__ = ["Codes", "meanings_of", "meanings_of_labels", "remark"]


@dataclass(frozen=True)
class Codes:
    """The codes of one data set.

    Attributes:
        whose: the data set, as messages name it.
        table: expression by code; ``None`` for what is no expression.
        stated: whether choosing the data module says that this is the table, if all of its codes are there; not where
            copies of the set with other codes are about.
    """

    whose: str
    table: Mapping[int, str | None]
    stated: bool = True


def remark(what: str, table: Mapping[int, str | None], reason: str) -> str:
    """Return the sentence that tells which code became which expression, and why."""
    return one_line(f"{what}: {codes_text(table)} ({reason})", 600)


def meanings_of(
    root: Path,
    folders: Sequence[tuple[str, Path]],
    mapping: Mapping[str, str | None] | None = None,
    class_names: Sequence[str] | None = None,
    own: Codes | None = None,
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Find out which expression each class folder that is named by a code stands for.

    Args:
        root: the data set.
        folders: split, ``""`` for none, and path of each class folder.
        mapping: what a user says of names and codes; it goes before everything else.
        class_names: classes of a user's own, which may be digits.
        own: codes of the data set whose data module was chosen.

    Returns:
        ``mapping`` with the codes that something proves, and what is to be told of them. A code that nothing proves is
        not in it.

    Raises:
        DataError: if two things prove different tables, or something proves another than ``own``.
    """

    def find(codes: Collection[int]) -> Evidence | None:
        return evidence_of_folders(root, [(split, path) for split, path in folders if code_of(path.name) in codes])

    names = [folder.name for _, folder in folders]
    return _meanings("class folders", root, names, mapping, class_names, find, own)


def meanings_of_labels(
    place: Path,
    labels: NDArray[np.str_],
    paths: NDArray[np.str_],
    splits: NDArray[np.str_],
    others: Mapping[str, NDArray[np.str_]],
    *,
    mapping: Mapping[str, str | None] | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Find out which expression each code among the labels of a table stands for.

    Args:
        place: the table, for messages.
        labels: ``(N,)``: codes or names.
        paths: ``(N,)``: path of each row's image.
        splits: ``(N,)``, ``""`` for none.
        others: the other columns of text by name, ``(N,)`` each.
        mapping: see ``meanings_of``.
        class_names: likewise.

    Returns:
        What ``meanings_of`` returns.

    Raises:
        DataError: if two things prove different tables.
    """

    def find(codes: Collection[int]) -> Evidence | None:
        return evidence_of_labels(place, codes, labels, paths, splits, others)

    return _meanings("labels", place, np.unique(labels).tolist(), mapping, class_names, find)


def _meanings(
    what: str,
    place: Path,
    names: Sequence[str],
    mapping: Mapping[str, str | None] | None,
    class_names: Sequence[str] | None,
    find: Callable[[Collection[int]], Evidence | None],
    own: Codes | None = None,
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Return what ``meanings_of`` does of names; ``find`` returns the evidence for some codes."""
    given = {code_key(name): value for name, value in (mapping or {}).items()}
    classes = {code_key(name) for name in class_names or ()}
    codes = sorted({code for name in set(names) - classes if (code := code_of(name)) is not None})
    if not codes:
        return dict(mapping or {}), ()
    told = {code: given[str(code)] for code in codes if str(code) in given}
    if len(told) == len(codes):
        return given, (remark(f"codes of {what}", told, _as_told(told, find)),)
    untold = [code for code in codes if code not in told]
    found = find(untold)
    if own is not None:
        found = _own(place, untold, found, own)
    if found is None:
        return given, ()
    meanings = {str(code): name for code, name in found.table.items()}
    return {**meanings, **given}, (remark(f"codes of {what}", {**found.table, **told}, found.reason),)


def _as_told(told: Mapping[int, str | None], find: Callable[[Collection[int]], Evidence | None]) -> str:
    """Return the reason for codes that a user has mapped, and what speaks against them."""
    try:
        found = find(told)
    except DataError:
        found = None
    if found is None or all(told[code] == name for code, name in found.table.items()):
        return "as data.mapping says"
    return f"as data.mapping says, though {found.reason} would be {codes_text(found.table)}"


def _own(root: Path, codes: Sequence[int], found: Evidence | None, own: Codes) -> Evidence | None:
    """Compare what was found with the codes of the data module that was chosen, and take these if they suffice."""
    if found is None:
        if not own.stated or set(codes) != set(own.table):
            return None
        reason = f"the codes of {own.whose}, which was named; nothing in the folders shows it"
        return Evidence({code: own.table[code] for code in codes}, own.whose, reason)
    if any(own.table.get(code, "") != name for code, name in found.table.items()):
        text = (
            f"{short_path(root, 60)}: these are not the codes of {own.whose}: {found.reason} shows "
            f"{codes_text(found.table)}; pass --data ImageFolderDataModule, which reads them so"
        )
        raise DataError(one_line(text, 500))
    return found
