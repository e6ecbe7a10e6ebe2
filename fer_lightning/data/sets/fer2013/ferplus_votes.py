"""The votes of FER+: ten people for each row of FER2013.

``fer2013new.csv`` (Barsoum et al. 2016, arXiv:1608.01041, MIT licence, github.com/microsoft/FERPlus) has one line per
row of ``fer2013.csv``, in the same order: usage, image name and the number of votes for each of ten columns.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.sets.fer2013.fer2013_layout import Layout
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows, usage_code
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.emotions import FERPLUS_COLUMNS, SEVEN, canonical
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["VOTES_FILE", "aligned_votes", "find_votes", "has_votes", "read_votes", "votes_to_soft_labels"]

VOTES_FILE = "fer2013new.csv"
"""Name of the table of votes, as Microsoft published it."""

_NO_EXPRESSION = ("unknown", "NF")
_NAMES = "soft labels need names <Usage>_<row of fer2013.csv>"
_AGREEMENT = 0.35  # the most voted class is the label in 64 % of all rows; in shuffled rows it is in 18 %
_AGREEMENT_ROWS = 200  # fewer rows tell nothing


def find_votes(folders: Sequence[Path]) -> Path:
    """Return the first file of votes in some folders, or raise a DataError that says where it was looked for."""
    for folder in folders:
        if (folder / VOTES_FILE).is_file():
            return folder / VOTES_FILE
    places = " and ".join(short_path(folder, 60) for folder in dict.fromkeys(folders))
    raise DataError(
        one_line(f"soft labels need the FER+ votes: no {VOTES_FILE} in {places} (see github.com/microsoft/FERPlus)")
    )


def has_votes(folders: Sequence[Path]) -> bool:
    """Tell whether ``find_votes`` finds a file."""
    return any((folder / VOTES_FILE).is_file() for folder in folders)


def read_votes(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read a file of votes.

    Returns:
        The usages int64 ``(M,)``, as positions in ``USAGES``, and the votes int64 ``(M, 10)``, columns in the
        order of ``FERPLUS_COLUMNS``.

    Raises:
        DataError: if the file is malformed; the message names the line.
    """
    usages: list[int] = []
    votes: list[list[int]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            wanted = ("usage", *(name.lower() for name in FERPLUS_COLUMNS))
            missing = [name for name in wanted if name not in header]
            if missing:
                raise DataError(f"line 1: expected the columns of FER+, found no '{missing[0]}'")
            usage_at, *votes_at = (header.index(name) for name in wanted)
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise DataError(f"line {reader.line_num}: expected {len(header)} columns, found {len(fields)}")
                usages.append(_usage(fields[usage_at], reader.line_num))
                votes.append([_vote(fields[at], reader.line_num) for at in votes_at])
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(one_line(f"{short_path(path)}: expected UTF-8 text in CSV form ({error})")) from None
    except DataError as error:
        raise DataError(one_line(f"{short_path(path)}, {error}")) from None
    return np.array(usages, np.int64), np.array(votes, np.int64).reshape(-1, len(FERPLUS_COLUMNS))


def _usage(text: str, line: int) -> int:
    usage = usage_code(text)
    if usage is None:
        raise DataError(f"line {line}: unknown usage {excerpt(text)}, expected one of {', '.join(USAGES)}")
    return usage


def _vote(text: str, line: int) -> int:
    clean = text.strip()
    if not (clean.isascii() and clean.isdigit()) or len(clean) > 6:
        raise DataError(f"line {line}: expected a number of votes, found {excerpt(text)}")
    return int(clean)


def votes_to_soft_labels(votes: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Turn votes int64 ``(N, 10)`` into distributions over the seven expressions, float32 ``(N, 7)``; rows sum to 1.

    Votes for contempt, unknown and "not a face" are dropped. Rows that nothing remains of get their label, int64
    ``(N,)`` in 0..6.
    """
    soft = _votes_of_seven(votes)
    empty = np.flatnonzero(soft.sum(axis=1) == 0)
    soft[empty, labels[empty]] = 1.0
    soft /= soft.sum(axis=1, keepdims=True)
    return soft.astype(np.float32)


def _votes_of_seven(votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the votes for the seven expressions, float64 ``(N, 7)``."""
    counts = np.zeros((len(votes), len(SEVEN.class_names)), np.float64)
    for column, name in enumerate(FERPLUS_COLUMNS):
        if name not in _NO_EXPRESSION and canonical(name) in SEVEN.class_names:
            counts[:, SEVEN.index(name)] += votes[:, column]
    return counts


def aligned_votes(rows: Fer2013Rows, layout: Layout) -> NDArray[np.int64]:
    """Return the votes of each row, int64 ``(N, 10)``, aligned by its number in the original file.

    A single file must have as many rows as the votes; in a folder the names of the files give the numbers. Columns are
    in the order of ``FERPLUS_COLUMNS``.

    Raises:
        DataError: if there are no votes, or the two do not belong together: in number, in a row's usage, or because
            votes and labels hardly ever agree.
    """
    data, whole_file, votes_file = layout.path, layout.is_csv, find_votes(layout.votes_folders)
    usages, votes = read_votes(votes_file)
    votes_name, data_name = short_path(votes_file, 70), short_path(data, 70)
    if whole_file and int(rows.total) != len(votes):
        raise DataError(
            one_line(f"{data_name} has {int(rows.total):,} rows, {votes_name} has {len(votes):,}: expected the same")
        )
    if not whole_file:
        _check_range(rows, votes_name, len(votes))
    wrong = np.flatnonzero(usages[rows.numbers] != rows.usages)
    if len(wrong):
        row = wrong[0]
        where = f"{data_name}, line {rows.places[row]}" if whole_file else str(rows.places[row])
        raise DataError(
            one_line(
                f"{where}: {USAGES[rows.usages[row]]}, but row {rows.numbers[row]} of {votes_name} is "
                f"{USAGES[usages[rows.numbers[row]]]}: the rows are not in the same order"
            )
        )
    _check_unique(rows)
    chosen = votes[rows.numbers]
    _check_agreement(chosen, rows.labels, f"{data_name} and {votes_name}")
    return chosen


def _check_range(rows: Fer2013Rows, votes_name: str, count: int) -> None:
    """Check that the numbers in the names of files can be rows of the original file."""
    outside = np.flatnonzero((rows.numbers < 0) | (rows.numbers >= count))
    if len(outside):
        number = rows.numbers[outside[0]]
        found = "no number in the name" if number < 0 else f"{number} is no row of {votes_name} ({count:,} rows)"
        raise DataError(one_line(f"{rows.places[outside[0]]}: {found}; {_NAMES}"))


def _check_unique(rows: Fer2013Rows) -> None:
    order = np.argsort(rows.numbers, kind="stable")
    again = np.flatnonzero(np.diff(rows.numbers[order]) == 0)
    if len(again):
        first, second = rows.places[order[again[0]]], rows.places[order[again[0] + 1]]
        raise DataError(one_line(f"{second}: the same row number as {first}; {_NAMES}"))


def _check_agreement(votes: NDArray[np.int64], labels: NDArray[np.int64], names: str) -> None:
    """Check that votes and labels are about the same images: their order may differ although the usages agree."""
    counts = _votes_of_seven(votes)
    voted = counts.sum(axis=1) > 0
    if np.count_nonzero(voted) < _AGREEMENT_ROWS:
        return
    share = float(np.mean(counts[voted].argmax(axis=1) == labels[voted]))
    if share < _AGREEMENT:
        raise DataError(
            one_line(
                f"{names}: only {share:.0%} of the labels have the most votes, expected about 64 %: "
                "the rows are not in the same order"
            )
        )
