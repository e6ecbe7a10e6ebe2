"""Which expression each code of a data set stands for, as far as something beside the codes proves it.

Digits alone decide nothing: ``0`` is angry in FER2013 and neutral in AffectNet. What proves the table of codes:

=========================================  =========================================================================
evidence                                   example
=========================================  =========================================================================
names of files that one set has            ``Training_00012.png`` (FER2013), ``train_00001_aligned.jpg`` (RAF-DB),
                                           ``S010_004_00000017.png`` (CK+)
names of files that hold the expression    ``0/angry_0001.png``
numbers of images                          4,830 images of code 4 among the 28,709 of FER2013's Training: sad
a table with code and name side by side    ``0,angry`` in ``classes.csv``; ``{"angry": 0}`` in JSON; ``0/1.png,angry``
=========================================  =========================================================================

Evidence that contradicts itself is an error.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.decode import IMAGE_SUFFIXES
from fer_lightning.emotions import (
    AFFECTNET_CODES,
    CKPLUS_CODES,
    CODE_TABLES,
    EIGHT,
    FER2013_CODES,
    RAFDB_CODES,
    SEVEN,
    SYNONYMS,
    canonical,
    code_of,
    is_expression,
    mapping_option,
)
from fer_lightning.errors import DataError
from fer_lightning.text import one_line, short_path

__all__ = ["Evidence", "evidence_of_folders", "evidence_of_labels"]

_LOOKED_AT = 50  # files of each code whose names are looked at
_LONGEST_TABLE = 1 << 24  # bytes; a table that only says what the codes are is short
_MOST_TABLES = 20  # files beside class folders that are looked into
_HIGHEST = max(max(table) for table in CODE_TABLES.values())
_KNOWN = {*EIGHT.class_names, *SYNONYMS}

_PATTERNS: tuple[tuple[str, Mapping[int, str], re.Pattern[str]], ...] = (
    ("FER2013", FER2013_CODES, re.compile(r"(Training|PublicTest|PrivateTest)_\d+.*")),
    ("RAF-DB", RAFDB_CODES, re.compile(r"(train|test)_\d+_aligned|train_\d{5}|test_\d{4}")),
    ("CK+", CKPLUS_CODES, re.compile(r"S\d{3}_\d{3}_\d{8}")),
)
_FIRST_FRAME = re.compile(r"S\d{3}_\d{3}_0*1")

_TRAINING = (3995, 436, 4097, 7215, 4830, 3171, 4965)
_PUBLIC_TEST = (467, 56, 496, 895, 653, 415, 607)
_PRIVATE_TEST = (491, 55, 528, 879, 594, 416, 626)
_RAF_TRAIN = (1290, 281, 717, 4772, 1982, 705, 2524)
_RAF_TEST = (329, 74, 160, 1185, 478, 162, 680)
_AFFECTNET = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)


def _together(*parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*parts, strict=True)))


_PUBLISHED: tuple[tuple[str, str, tuple[str, ...], tuple[int, ...]], ...] = (
    ("FER2013", "Training", SEVEN.class_names, _TRAINING),
    ("FER2013", "PublicTest", SEVEN.class_names, _PUBLIC_TEST),
    ("FER2013", "PrivateTest", SEVEN.class_names, _PRIVATE_TEST),
    ("FER2013", "PublicTest and PrivateTest", SEVEN.class_names, _together(_PUBLIC_TEST, _PRIVATE_TEST)),
    ("FER2013", "35,887 images", SEVEN.class_names, _together(_TRAINING, _PUBLIC_TEST, _PRIVATE_TEST)),
    ("RAF-DB", "training part", tuple(RAFDB_CODES.values()), _RAF_TRAIN),
    ("RAF-DB", "test part", tuple(RAFDB_CODES.values()), _RAF_TEST),
    ("RAF-DB", "15,339 images", tuple(RAFDB_CODES.values()), _together(_RAF_TRAIN, _RAF_TEST)),
    ("AffectNet", "training part", tuple(AFFECTNET_CODES.values()), _AFFECTNET),
    ("AffectNet", "training part without contempt", tuple(AFFECTNET_CODES.values()), _AFFECTNET[:-1]),
)
"""Data set, part, expressions, and how many images of each the part has; all numbers of a part are different."""


@dataclass(frozen=True)
class Evidence:
    """What proves a table of codes.

    Attributes:
        table: expression of each code that was found; ``None`` for what is no expression.
        whose: the data set whose files these are, ``""`` if that is not known.
        reason: what was seen, for people.
    """

    table: Mapping[int, str | None]
    whose: str
    reason: str


def evidence_of_folders(root: Path, folders: Sequence[tuple[str, Path]]) -> Evidence | None:
    """Return what proves the codes of class folders named by code, ``None`` if nothing does.

    Raises:
        DataError: if two things prove different tables, or a folder cannot be read.
    """
    names: dict[int, list[str]] = defaultdict(list)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for split, folder in folders:
        code, files = code_of(folder.name), 0
        if code is None:
            continue
        for name in _image_names(folder):
            files += 1
            if files <= _LOOKED_AT:
                names[code].append(name)
        counts[split][code] += files
    tables = ((path.name, _rows_of(path)) for path in _tables_beside(root))
    return _agreed(root, _all_evidence(names, list(counts.values()), tables))


def evidence_of_labels(
    place: Path,
    codes: Collection[int],
    labels: NDArray[np.str_],
    paths: NDArray[np.str_],
    splits: NDArray[np.str_],
    others: Mapping[str, NDArray[np.str_]],
) -> Evidence | None:
    """Return what proves some codes among the labels of a table, see ``meanings_of_labels``."""
    names: dict[int, list[str]] = defaultdict(list)
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for label, path, split in zip(labels.tolist(), paths.tolist(), splits.tolist(), strict=True):
        code = code_of(label)
        if code is not None and code in codes:
            counts[split][code] += 1
            if len(names[code]) < _LOOKED_AT:
                names[code].append(Path(path).name)
    pairs = (
        (f"column '{name}'", zip(labels.tolist(), column.tolist(), strict=True)) for name, column in others.items()
    )
    return _agreed(place, _all_evidence(names, list(counts.values()), pairs))


def _image_names(folder: Path) -> Iterator[str]:
    """Yield the names of the images in a folder, at any depth; folders that links lead to are not entered."""
    for _, _, files in os.walk(folder):
        yield from (name for name in sorted(files) if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)


def _all_evidence(
    names: Mapping[int, Sequence[str]],
    counts: Sequence[Mapping[int, int]],
    tables: Iterable[tuple[str, Iterable[Sequence[str]]]],
) -> Iterator[Evidence]:
    yield from _by_set_names(names)
    yield from _by_expressions_in_names(names)
    yield from _by_counts(counts)
    for name, rows in tables:
        yield from _by_pairs(name, rows, set(names))


def _agreed(place: Path, found: Iterable[Evidence]) -> Evidence | None:
    """Return the first evidence, completed by the others; refuse what does not go together."""
    every = list(found)
    if not every:
        return None
    table: dict[int, str | None] = {}
    for one in every:
        for code, name in one.table.items():
            if table.setdefault(code, name) != name:
                first, second = (mapping_option({str(c): n for c, n in e.table.items()}) for e in (every[0], one))
                text = (
                    f"{short_path(place, 60)}: two things show different meanings of the code {code}; look at some "
                    f"images and pass {first} ({every[0].reason}) or {second} ({one.reason})"
                )
                raise DataError(one_line(text, 800))
    whose = next((one.whose for one in every if one.whose), "")
    return Evidence(dict(sorted(table.items())), whose, every[0].reason)


def _by_set_names(names: Mapping[int, Sequence[str]]) -> Iterator[Evidence]:
    """Tell a set by names of files that only it has."""
    stems = {code: [os.path.splitext(name)[0] for name in files] for code, files in names.items()}
    every = [stem for files in stems.values() for stem in files]
    for whose, table, pattern in _PATTERNS:
        if not every or not all(map(pattern.fullmatch, every)) or not set(stems) <= set(table):
            continue
        if whose == "CK+" and not all(map(_FIRST_FRAME.fullmatch, stems.get(0, []))):
            continue  # neutral are the first frames; copies in alphabetical order have another class as 0
        yield Evidence({code: table[code] for code in stems}, whose, f"files named like {whose}'s, {every[0]}")


def _by_expressions_in_names(names: Mapping[int, Sequence[str]]) -> Iterator[Evidence]:
    """Tell a code by the one expression that all of its files have in their names."""
    table: dict[int, str | None] = {}
    for code, files in names.items():
        meant = [{canonical(word) for word in re.findall("[a-z]+", file.lower()) if word in _KNOWN} for file in files]
        if not meant or any(expressions != meant[0] for expressions in meant) or len(meant[0]) != 1:
            return
        table[code] = next(iter(meant[0]))
    if len(set(table.values())) == len(table) > 1:
        example = next(file for files in names.values() for file in files)
        yield Evidence(table, "", f"expressions in the names of the files, {example}")


def _by_counts(counts: Sequence[Mapping[int, int]]) -> Iterator[Evidence]:
    """Tell a code by its number of images, where a part has exactly the numbers of a published one."""
    for part in counts:
        for whose, name, expressions, numbers in _PUBLISHED:
            if sorted(part.values()) == sorted(numbers):
                table = {code: expressions[numbers.index(count)] for code, count in sorted(part.items())}
                yield Evidence(table, whose, f"as many images of each code as {whose} has, {name}")


def _by_pairs(name: str, rows: Iterable[Sequence[str]], codes: set[int]) -> Iterator[Evidence]:
    """Tell a code by the expression that stands beside it in every row, or beside a path in its folder."""
    meant: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        found = [code for field in row for code in _codes_in(field)]
        expressions = {canonical(field) for field in row if is_expression(field)}
        if len(set(found)) == 1 and len(expressions) == 1:
            meant[found[0]] |= expressions
    one = {code: next(iter(names)) for code, names in sorted(meant.items()) if len(names) == 1 and code in codes}
    if len(set(one.values())) == len(one) > 0 and all(code in one for code in codes if code <= _HIGHEST):
        yield Evidence(one, "", f"code and name stand side by side in {name}")


def _codes_in(field: str) -> Iterator[int]:
    """Yield the code that a field is, or that names a folder in a path."""
    parts = field.strip().replace("\\", "/").split("/")
    for part in parts[:-1] if len(parts) > 1 else parts:
        code = code_of(part)
        if code is not None and code <= _HIGHEST:
            yield code


def _tables_beside(root: Path) -> Iterator[Path]:
    """Yield the short text tables that lie in a data set's folder."""
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".txt", ".json"))
    for path in islice(paths, _MOST_TABLES):
        if path.is_file() and not path.name.startswith(".") and path.stat().st_size <= _LONGEST_TABLE:
            yield path


def _rows_of(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a text; whatever cannot be read has none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    if path.suffix.lower() == ".json":
        yield from _pairs_of_json(lines)
        return
    for line in lines:
        try:
            fields = next(csv.reader([line]), [])
        except csv.Error:
            continue
        yield [part for field in fields for part in re.split(r"[;:=\t]|(?<=\d) +| +(?=\d)", field)]


def _pairs_of_json(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield key and value of an object such as ``{"angry": 0}`` or ``{"0": "angry"}``; anything else has none."""
    try:
        content = json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        yield from ([str(key), str(value)] for key, value in content.items() if isinstance(value, str | int))
