"""Text for messages and terminals: values on one line, errors in short, tables with columns one below the other."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

__all__ = [
    "MESSAGE",
    "absent",
    "counted",
    "did_you_mean",
    "excerpt",
    "first_line",
    "folded",
    "joined",
    "nearest",
    "one_line",
    "p_text",
    "percent",
    "points",
    "short_path",
    "table_lines",
    "unreadable",
]

MESSAGE = 250
"""Characters of a message: what still fits on two lines of a terminal."""


def one_line(text: str, limit: int = MESSAGE) -> str:
    r"""Return a text without line breaks and control characters, cut in the middle if longer than ``limit``.

    >>> print(one_line("bad\tname\n"))
    bad\tname\n
    >>> one_line("0123456789" * 3, 15)
    '01234 ... 56789'
    """
    clean = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    if len(clean) <= limit:
        return clean
    head = (limit - 5) // 2
    return f"{clean[:head]} ... {clean[-(limit - 5 - head) :]}"


def excerpt(value: str | bytes, limit: int = 30) -> str:
    """Return the beginning of a value in quotes, as a message can show it.

    >>> excerpt("a value that goes on and on", 11)
    "'a value tha...'"
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    clean = one_line(text[: limit + 1], 8 * limit)
    return f"'{clean[:limit]}...'" if len(clean) > limit else f"'{clean}'"


def p_text(value: float) -> str:
    """Return a p value as reports show it.

    >>> p_text(0.0004), p_text(0.03)
    ('< 0.001', '0.030')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in percent; ``None``, which is not known, is ``n/a``.

    >>> percent(0.125), percent(None)
    ('12.5%', 'n/a')
    """
    return "n/a" if share is None else f"{share:.{digits}%}"


def points(difference: float | None, digits: int = 1) -> str:
    """Return the difference of two shares in points (hundredths), with its sign; ``None`` is ``n/a``.

    >>> points(0.0123), points(-0.5, 2)
    ('+1.2', '-50.00')
    """
    return "n/a" if difference is None else f"{100 * difference:+.{digits}f}"


def short_path(path: Path, limit: int = 100) -> str:
    """Return a path, only its end if it is longer than ``limit``.

    >>> short_path(Path("data/sets/affectnet/train.csv"), 20)
    '...fectnet/train.csv'
    """
    text = one_line(str(path), 4096)
    return text if len(text) <= limit else f"...{text[-(limit - 3) :]}"


def unreadable(path: Path | str, error: OSError) -> str:
    """Return the message for a file or folder that the system did not let be read, with its reason."""
    return one_line(f"{short_path(Path(path))}: cannot be read ({error.strerror or error})")


def folded(text: object, limit: int | None = None) -> str:
    r"""Return what a value or an error says on one line: each run of white space becomes one space.

    >>> folded("expected:\n    a number")
    'expected: a number'
    """
    return " ".join(str(text).split())[:limit]


def first_line(error: object, limit: int | None = None) -> str:
    r"""Return the first line of what an error says, or its kind if it says nothing.

    >>> first_line(ValueError("the first\nand more")), first_line(KeyboardInterrupt())
    ('the first', 'KeyboardInterrupt')
    """
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:limit]


def absent(path: Path, expected: str) -> str:
    """Return the message for a path at which nothing is.

    >>> absent(Path("faces"), "a folder")
    'faces does not exist; expected a folder'
    """
    return one_line(f"{short_path(path)} does not exist; expected {expected}")


def counted(count: int, what: str) -> str:
    """Return a number with what is counted, for example ``1 row`` or ``2,000 rows``.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that names the nearest of some words, without regard to case; empty if none is near.

    >>> did_you_mean("focalLos", ["FocalLoss", "LDAMLoss"])
    "; did you mean 'FocalLoss'?"
    """
    close = nearest(word, known)
    return f"; did you mean '{close}'?" if close else ""


def joined(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> joined(["a", "b", "c"]), joined(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([part for part in (", ".join(words[:-1]), *words[-1:]) if part])


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the nearest of some words, without regard to case; empty if none is near.

    If none is spelt alike, it is the shortest one that begins with the word.

    >>> nearest("focalLos", ["FocalLoss", "LDAMLoss"]), nearest("early", ["EarlyStopping"])
    ('FocalLoss', 'EarlyStopping')
    """
    by_lower = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    if not close and len(word) > 2:
        close = sorted((each for each in by_lower if each.startswith(word.lower())), key=len)
    return by_lower[close[0]] if close else ""


def table_lines(
    rows: Iterable[Sequence[str]], left: Collection[int] = (0,), gap: str = "  ", narrowest: int = 0
) -> list[str]:
    r"""Return a table as lines, its columns one below the other and as wide as their widest cell.

    Args:
        rows: the cells, those of the head first. A row may end before the last column.
        left: columns that are flush left; the others are flush right, as numbers are.
        gap: stands between two columns.
        narrowest: characters that a column flush right has at least.

    >>> print(*table_lines([("", "images"), ("happy", "7,215"), ("disgust", "436")]), sep="\n")
             images
    happy     7,215
    disgust     436
    """
    table = [tuple(row) for row in rows]
    widths = [
        max([0 if column in left else narrowest, *(len(row[column]) for row in table if column < len(row))])
        for column in range(max(map(len, table), default=0))
    ]
    return [
        gap.join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in table
    ]
