from __future__ import annotations

from pathlib import Path

from fer_lightning.text import (
    absent,
    counted,
    did_you_mean,
    excerpt,
    first_line,
    folded,
    nearest,
    one_line,
    short_path,
    table_lines,
    unreadable,
)


def test_columns_stand_one_below_the_other() -> None:
    rows = [("", "count", "note"), ("happy", "7,215", "all of them"), ("all", "8")]
    assert table_lines(rows, left=(0, 2)) == [
        "       count  note",
        "happy  7,215  all of them",
        "all        8",
    ]
    assert table_lines(rows[1:], left=(0, 2), gap=" ", narrowest=8)[1] == "all          8"
    assert table_lines([]) == []


def test_an_error_without_words_is_named() -> None:
    assert first_line(ValueError("  one\ntwo")) == "one"
    assert first_line(ValueError(" \n")) == "ValueError"
    assert first_line("x" * 20, 5) == folded("x" * 20, 5) == "xxxxx"


def test_a_long_line_is_cut_in_the_middle_and_never_longer_than_its_limit() -> None:
    assert one_line("x" * 250) == "x" * 250
    long = one_line("".join(map(str, range(200))))
    assert len(long) == 250
    head, tail = long.split(" ... ")
    assert (len(head), len(tail)) == (122, 123)
    assert "".join(map(str, range(200))).startswith(head)
    assert long.endswith("197198199")
    assert one_line("a\nb\x1b[0m\u202e") == "a\\nb\\x1b[0m\\u202e"


def test_a_value_is_shown_by_its_beginning() -> None:
    assert excerpt("x" * 30) == f"'{'x' * 30}'"
    assert excerpt("x" * 31) == f"'{'x' * 30}...'"
    assert excerpt("grün".encode()) == "'grün'"
    assert excerpt(b"gr\xfcn") == "'gr\ufffdn'"
    assert excerpt("a\tb") == "'a\\tb'"


def test_a_long_path_is_shown_by_its_end() -> None:
    assert short_path(Path("x" * 100)) == "x" * 100
    assert short_path(Path("y" + "x" * 100)) == "..." + "x" * 97
    assert absent(Path("a\nb"), "a file") == "a\\nb does not exist; expected a file"
    assert unreadable("there", OSError(13, "Permission denied")) == "there: cannot be read (Permission denied)"
    assert unreadable("there", OSError("odd")) == "there: cannot be read (odd)"


def test_the_nearest_word_is_one_that_is_spelt_alike_or_begins_so() -> None:
    known = ["EarlyStopping", "EarlyStop", "Timer", "FocalLoss"]
    assert nearest("focalloss", known) == "FocalLoss"
    assert nearest("earl", known) == "EarlyStop"  # the shortest of those that begin so
    assert nearest("ti", known) == ""  # two letters begin too many words
    assert nearest("xyz", known) == ""
    assert did_you_mean("Tmer", known) == "; did you mean 'Timer'?"
    assert did_you_mean("tokyo", known) == ""
    assert nearest("timr", ["TIMER", "timer"]) == nearest("timr", ["timer", "TIMER"])  # whatever their order
    assert (counted(0, "row"), counted(1, "row"), counted(1000, "row")) == ("0 rows", "1 row", "1,000 rows")
