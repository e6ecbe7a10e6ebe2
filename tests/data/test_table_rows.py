from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.table.manifest_file import joined, manifest_text, read_manifest
from fer_lightning.data.table.table_rows import TableRows, read_rows
from fer_lightning.errors import DataError
from tests.helpers.data import stripes_table

CSV = "path,label\na.png,happy\nb.png,sad\n"


def read(tmp_path: Path, name: str, content: str | bytes, most: int | None = None) -> TableRows:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(path, most)


@pytest.mark.parametrize(
    ("most", "files"), [(23, ["a.png"]), (28, ["a.png"]), (33, ["a.png", "b.png"]), (99, ["a.png", "b.png"])]
)
def test_of_a_long_table_only_whole_rows_are_read(most: int, files: list[str], tmp_path: Path) -> None:
    assert [row[0] for row in read(tmp_path, "t.csv", CSV, most).rows] == files


@pytest.mark.parametrize("between", [",", ";", "\t", "|"])
def test_the_commonest_mark_of_the_first_line_divides_the_columns(between: str, tmp_path: Path) -> None:
    other = ";" if between == "," else ","
    lines = [between.join(["path", "label", f"a{other}b"]), between.join(["a.png", "happy", "1"])]
    found = read(tmp_path, "t.csv", "\n".join(lines))
    assert (found.header.names, found.rows) == (("path", "label", f"a{other}b"), [["a.png", "happy", "1"]])


def test_a_list_with_spaces_and_without_a_header(tmp_path: Path) -> None:
    found = read(tmp_path, "t.txt", "a.png  5\nb.png 6\n")
    assert not found.header.present
    assert (found.rows, found.lines) == ([["a.png", "5"], ["b.png", "6"]], [1, 2])


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "t.csv", "path,label\n\na.png,happy\n\n\nb.png,sad\n").lines == [3, 6]
    rows = [{"path": "a.png", "label": 1}, {"path": "b.png", "more": None, "box": [1]}]
    lines = read(tmp_path, "t.jsonl", f"\n{json.dumps(rows[0])}\n\n{json.dumps(rows[1])}\n")
    assert lines.lines == [2, 4]
    whole = read(tmp_path, "t.json", json.dumps(rows))
    assert whole.lines == [1, 2]
    for found in (lines, whole):
        assert found.header.names == ("path", "label", "more")
        assert found.rows == [["a.png", "1", ""], ["b.png", "", ""]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "path,label\n" + 5 * "a.png,happy\n" + "b\0.png,sad\n", "t.csv, line 7: found a zero byte"),
        ("t.csv", "path,label\na.png,happy,x\n", "t.csv, line 2: expected 2 columns, found 3"),
        ("t.jsonl", '{"path": "a.png"}\n\n[1]\n', "t.jsonl, line 3: expected a JSON object"),
        ("t.jsonl", '{"path": "a.png"}\n{\n', "t.jsonl, line 2: expected a JSON object"),
        ("t.json", '[{"path": "a.png"}, 3]', "t.json, row 2: expected a JSON object"),
    ],
)
def test_a_malformed_row_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, name, content)


def test_columns_that_a_table_lacks_are_empty_and_rows_keep_their_places(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label,subject\na.png,happy,p1\nb.png,sad,\n")
    (tmp_path / "b.csv").write_text("label,path,age\nsad,c.png,7\n")
    both = joined(tmp_path, [read_manifest(tmp_path / "a.csv"), read_manifest(tmp_path / "b.csv")])
    columns = {name: column.tolist() for name, column in both.columns.items()}
    assert columns["subject"] == ["p1", "", ""]
    assert columns["age"] == ["", "", "7"]
    assert columns["path"] == ["a.png", "b.png", "c.png"]
    places = [both.place(row).rpartition("/")[2] for row in range(3)]
    assert places == ["a.csv, line 2", "a.csv, line 3", "b.csv, line 2"]
    assert both.mention(2) == "line 2"


def test_a_manifest_has_nothing_where_nothing_is_known() -> None:
    columns = {"valence": np.array([0.25, math.nan]), "subject": np.array(["", "p, 1"]), "age": np.array([3, 4])}
    table = replace(stripes_table({"train": 2}), columns=columns)
    assert manifest_text(table, np.array(["a.png", "b.png"]), {"score": np.array([1.0, 1e-7])}).splitlines() == [
        "path,label,split,source,subject,valence,age,score",
        "a.png,angry,train,stripes,,0.25,3,1",
        'b.png,disgust,train,stripes,"p, 1",,4,1e-07',
    ]
