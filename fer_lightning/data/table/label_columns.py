"""Which column of a table names the image, which its label: by the header, or by what the rows hold.

Names are compared without case, spaces and punctuation, so that ``File Name`` and ``file_name`` are the same. A table
without a header is one whose first row names an image. Where names do not suffice, ``data.columns`` says it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

from fer_lightning.data.table.images import IMAGE_SUFFIXES
from fer_lightning.emotions import is_expression
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import MESSAGE, excerpt, one_line

__all__ = [
    "COLUMNS",
    "LOOKED_AT",
    "Header",
    "id_columns",
    "names_an_image",
    "one_hot_columns",
    "place_columns",
    "read_header",
]

COLUMNS = ("path", "label", "split", "source", "kind", "subject", "gender", "skin_type", "age_group")
"""The columns that have a meaning, in the order in which they are written."""

LOOKED_AT = 50
"""Rows in which is looked for what a column holds."""

_MORE = ("parent", "valence", "arousal", "x", "y", "w", "h")
_FILES = frozenset({
    "path", "image", "images", "img", "imgs", "file", "files", "filename", "filenames", "filepath", "imagepath",
    "imgpath", "imagefile", "imgfile", "imagename", "imgname", "picture", "photo", "pth", "relpath", "relativepath",
    "subdirectoryfilepath",
})  # fmt: skip
_ONLY_WITH_SUFFIX = frozenset({"name", "id", "imageid", "imgid", "fileid", "url", "uri", "link"})  # else of people
_LABELS = frozenset({
    "label", "labels", "emotion", "emotions", "expression", "expressions", "expr", "class", "classes", "classname",
    "category", "target", "emotionlabel", "emotionname", "labelname", "expressionlabel", "facialexpression", "feeling",
})  # fmt: skip
_SPLITS = frozenset({"split", "usage", "subset", "partition", "phase", "datasplit"})
_FEW = 15  # different values: a column with more of them holds no classes


@dataclass(frozen=True)
class Header:
    """The names of the columns of a table.

    Attributes:
        names: in lower case; ``""`` for a column without a name; ``"1"``, ``"2"``, ... in a table without a header.
        present: whether the first row is a header.
    """

    names: tuple[str, ...]
    present: bool = True


def names_an_image(text: str) -> bool:
    """Tell whether a text ends like the name of an image file."""
    return PurePosixPath(text.strip().replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES


def read_header(first: Sequence[str]) -> Header:
    """Return the names of the columns, given the first row."""
    if any(map(names_an_image, first)):
        return Header(tuple(str(position) for position in range(1, len(first) + 1)), present=False)
    return Header(tuple(name.strip().lower() for name in first))


def id_columns(header: Header) -> list[int]:
    """Return the columns whose name is one for images or for other things, such as ``id``: their values may be both."""
    return [at for at, name in enumerate(header.names) if _key(name) in _ONLY_WITH_SUFFIX]


def one_hot_columns(header: Header, rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns that are named after expressions and hold 0 and 1, where no other could be the label."""
    if any(_key(name) in _LABELS for name in header.names) or not header.present:
        return []
    named = [at for at, name in enumerate(header.names) if is_expression(name)]
    cells = {row[at].strip() for row in rows for at in named if at < len(row)}
    return named if len(named) > 1 and cells and cells <= {"0", "1", "0.0", "1.0"} else []


def place_columns(
    where: str,
    header: Header,
    rows: Sequence[Sequence[str]],
    required: Sequence[str] = ("path", "label"),
    given: Mapping[str, str | int | None] | None = None,
) -> dict[str, int]:
    """Find the position of the columns that have a meaning.

    Args:
        where: the table, for messages.
        header: the names of its columns.
        rows: its first rows, by which is chosen among several columns that could be meant.
        required: meanings that a column must have.
        given: what a user says: the name of the column, or its number from 1, by meaning; ``None`` for no column.

    Returns:
        Position by meaning: ``path``, ``label``, ``split`` and, where the header has them, the others.

    Raises:
        ConfigError: for a meaning that is unknown, or a column that the table has not.
        DataError: if a column that is required is not found; the message proposes ``data.columns``.
    """
    found = {name: header.names.index(name) for name in (*COLUMNS, *_MORE) if name in header.names}
    taken = _given(where, header, given or {})
    columns = list(zip(*(row for row in rows if len(row) == len(header.names)), strict=True))
    values = columns or [()] * len(header.names)
    by_name = {"path": _path(header, values), "label": _label(header, values), "split": _split(header)}
    found |= {role: position for role, position in by_name.items() if position is not None}
    for role, at in taken.items():
        found = {name: position for name, position in found.items() if position != at and name != role}
        if at is not None:
            found[role] = at
    missing = [name for name in required if name not in found]
    if missing:
        raise DataError(_unknown_columns(where, header, rows, values, missing, found))
    return found


def _given(where: str, header: Header, given: Mapping[str, str | int | None]) -> dict[str, int | None]:
    """Return the positions that a user names; ``None`` for a meaning that no column has."""
    positions: dict[str, int | None] = {}
    known = (*COLUMNS, *_MORE)
    for role, name in given.items():
        if role not in known:
            raise ConfigError(f"data.columns: '{role}' has no meaning; expected some of {', '.join(known)}")
        if name is None:
            positions[role] = None
            continue
        text = str(name).strip().lower()
        if text in header.names:
            positions[role] = header.names.index(text)
        elif text.isdecimal() and 1 <= int(text) <= len(header.names):
            positions[role] = int(text) - 1
        else:
            raise ConfigError(one_line(f"data.columns: {where} has no column '{name}'; it has {_listed(header)}"))
    return positions


def _listed(header: Header) -> str:
    if not header.present:
        return f"no header and {len(header.names)} columns, which are named 1 to {len(header.names)}"
    return one_line(", ".join(name or "(no name)" for name in header.names), MESSAGE - 50) or "none"


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


def _path(header: Header, values: Sequence[Sequence[str]]) -> int | None:
    """Return the position of the column that names the image."""
    images = [at for at, column in enumerate(values) if column and names_an_image(column[0])]
    if not header.present:
        return images[0]
    named = [at for at, name in enumerate(header.names) if _key(name) in _FILES]
    named += [at for at in id_columns(header) if at in images]
    return _first(header, "path", [at for at in named if at in images] or named)


def _label(header: Header, values: Sequence[Sequence[str]]) -> int | None:
    """Return the position of the column of labels: of several, one that holds names of expressions."""
    names = [at for at, column in enumerate(values) if column and all(map(is_expression, column))]
    if not header.present:
        others = [at for at in range(len(values)) if at != _path(header, values)]
        chosen = names if len(names) == 1 else others
        return chosen[0] if len(chosen) == 1 else None
    named = [at for at, name in enumerate(header.names) if _key(name) in _LABELS]
    codes = [at for at in named if values[at] and all(text.strip().isdecimal() for text in values[at])]
    if "label" in header.names and header.names.index("label") not in codes:
        return header.names.index("label")
    return _first(header, "label", [at for at in named if at in names] or named)


def _split(header: Header) -> int | None:
    return _first(header, "split", [at for at, name in enumerate(header.names) if _key(name) in _SPLITS])


def _first(header: Header, role: str, positions: list[int]) -> int | None:
    """Return the column that is called by its meaning, else the first one."""
    exact = [at for at in positions if header.names[at] == role]
    return next(iter([*exact, *positions]), None)


def _unknown_columns(
    where: str,
    header: Header,
    rows: Sequence[Sequence[str]],
    values: Sequence[Sequence[str]],
    missing: Sequence[str],
    found: Mapping[str, int],
) -> str:
    """Say which columns are missing and propose some for them, by what they hold."""
    has = _listed(header)
    if not header.present:
        has += f"; the first row is {excerpt(', '.join(rows[0]), 60)}"
    text = f"{where}: expected a column '{missing[0]}', found {has}"
    free = [at for at in range(len(header.names)) if at not in found.values()]
    proposal: dict[str, int] = {}
    images = [at for at in free if values[at] and all(map(names_an_image, values[at]))]
    images = images or [at for at in free if at in id_columns(header)]
    if "path" in missing and images:
        proposal["path"] = images[0]
    few = [at for at in free if 1 < len(set(values[at])) <= _FEW and at not in images]
    if "label" in missing and few:
        proposal["label"] = next((at for at in few if all(map(is_expression, values[at]))), few[0])
    if not proposal or len(proposal) < len({*missing} & {"path", "label"}):
        return one_line(f"{text}; name the columns with --data.columns '{{path: ..., label: ...}}'", 2 * MESSAGE)
    entries = ", ".join(f"{role}: {_yaml(header, at)}" for role, at in proposal.items())
    return one_line(f"{text}; pass --data.columns {shlex.quote(f'{{{entries}}}')} if these are meant", 3 * MESSAGE)


def _yaml(header: Header, at: int) -> str:
    name = header.names[at] or str(at + 1)
    try:
        plain = name.isdecimal() or yaml.safe_load(f"{{name: {name}}}") == {"name": name}
    except yaml.YAMLError:
        plain = False
    return name if plain else json.dumps(name, ensure_ascii=False)
