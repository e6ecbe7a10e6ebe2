from __future__ import annotations

from fer_lightning.text import first_line, folded, table_lines


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
