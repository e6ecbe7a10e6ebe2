"""Complaints about single rows of a data set: one readable line each, raised at once or collected."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import MESSAGE, counted, excerpt, folded, one_line

__all__ = [
    "WAY_OUT",
    "BadRows",
    "OnError",
    "appearance",
    "check_on_error",
    "contents",
    "known_kind",
    "reason_counts",
    "reasons_text",
    "warn_left_out",
]

OnError = Literal["raise", "skip"]
"""``raise``: stop at the first bad row; ``skip``: leave bad rows out, count them and say so."""

WAY_OUT = "fer data inspect PATH tells what reads it"
"""What to do about a folder that is another data set than the one that was named."""

_LOG = logging.getLogger(__name__)
_SHOWN = 3  # reasons in the message

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG file"),
    (b"\xff\xd8\xff", "a JPEG file"),
    (b"GIF8", "a GIF file"),
    (b"BM", "a BMP file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"%PDF", "a PDF file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)


class BadRows:
    """What is wrong with the rows of one data set.

    Args:
        prefix: stands before each complaint: the file or folder they are about.
        on_error: whether the first complaint is raised, or all are collected.

    Attributes:
        count: number of bad rows.
        reasons: the first three complaints, without the prefix.
        places: (place, reason) of each bad row.
    """

    def __init__(self, prefix: str, on_error: OnError) -> None:
        self.prefix = prefix
        self.on_error = on_error
        self.count = 0
        self.reasons: list[str] = []
        self.places: list[tuple[str, str]] = []

    def add(self, place: str, error: DataError) -> None:
        """Note a bad row by its place (``line 7``) and what was expected and found.

        Raises:
            DataError: with file, place and reason, of the type of ``error``, unless bad rows are skipped.
        """
        if self.on_error == "raise":
            raise type(error)(self._refusal(place, str(error)))
        self.note(place, one_line(str(error)))

    def _refusal(self, place: str, reason: str) -> str:
        """Return the message of a bad row; of a long one the end of the reason is left out, not the way out."""
        if not reason.startswith("expected an image"):
            return one_line(f"{self.prefix}{place}: {reason}")
        head, way = one_line(f"{self.prefix}{place}", 120), "; --data.on_error skip leaves it out"
        room, said = MESSAGE - len(head) - len(way) - 2, folded(reason)
        return f"{head}: {said if len(said) <= room else f'{said[: room - 4]} ...'}{way}"

    def note(self, place: str, reason: str) -> None:
        """Note a bad row that is left out."""
        self.count += 1
        self.places.append((place, reason))
        if len(self.reasons) < _SHOWN:
            self.reasons.append(one_line(f"{place}: {reason}", MESSAGE - 50))

    def check_share(self, total: int) -> None:
        """Raise a DataError with the counts and the first reason if more than half of ``total`` rows are bad."""
        if 2 * self.count > total:
            counts = f"{self.count:,} of {total:,} rows are bad, too many to skip; the first: "
            raise DataError(one_line(self.prefix + counts + self.reasons[0]))

    def warn(self) -> None:
        """Log how many rows were skipped and the first reasons, if there are any."""
        if self.count:
            reasons = "; ".join(self.reasons) + ("; ..." if self.count > len(self.reasons) else "")
            _LOG.warning("%sskipped %s: %s", self.prefix, counted(self.count, "bad row"), reasons)


def reason_counts(left_out: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return how often each reason occurs, the most frequent first; numbers in them do not make reasons different."""
    texts: dict[str, Counter[str]] = {}
    for _, reason in left_out:
        texts.setdefault(re.sub(r"\d+", "#", reason), Counter())[reason] += 1
    counts = {next(iter(found)) if len(found) == 1 else kind: found.total() for kind, found in texts.items()}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def reasons_text(left_out: Iterable[tuple[str, str]]) -> str:
    """Return the three most frequent reasons with their counts, and how many more there are, on one line."""
    reasons = [f"{count:,} {reason}" for reason, count in reason_counts(left_out).items()]
    rest = len(reasons) - _SHOWN
    more = f"; and {rest} more reason{'' if rest == 1 else 's'}" if rest > 0 else ""
    return one_line("; ".join(reasons[:_SHOWN]), 400) + more


def warn_left_out(where: str, left_out: Sequence[tuple[str, str]]) -> None:
    """Log how many rows a data set has that are not used, and why."""
    if left_out:
        _LOG.warning("%s: left out %s: %s", where, counted(len(left_out), "row"), reasons_text(left_out))


def check_on_error(value: str) -> None:
    """Raise a ConfigError unless a value is one of ``OnError``."""
    if value not in ("raise", "skip"):
        raise ConfigError(f"on_error must be 'raise' or 'skip', not {excerpt(value)}")


def contents(folder: Path) -> str:
    """Say what stands in a folder: the first six names."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return one_line(", ".join(names[:6]), 60) + (", ..." if len(names) > 6 else "") or "nothing"


def known_kind(head: bytes) -> str | None:
    """Name the kind of a file from its first bytes, for example ``an HTML page``; ``None`` for an unknown kind."""
    if not head:
        return "an empty file (0 bytes)"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "an HTML page"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return "binary data" if b"\0" in head else None


def appearance(head: bytes) -> str:
    """Say what a file looks like from its first bytes; of an unknown kind, show them."""
    return known_kind(head) or f"something else (it starts with {excerpt(head[:24], 16)})"
