"""AffectNet's lists and single annotations: the ends of what a number may be, and what stands in which column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.sets.affectnet.affectnet_layouts import (
    LIST_COLUMNS,
    _annotation,
    _npy_text,
    _read_annotations,
    _read_file_list,
)


def listed(folder: Path, *lines: str, head: str = ",".join(LIST_COLUMNS)) -> dict[str, list[Any]]:
    path = folder / "training.csv"
    path.write_text("\n".join([*([head] if head else []), *lines, ""]))
    return {name: values.tolist() for name, values in _read_file_list(path).items()}


@pytest.mark.parametrize("head", [",".join(LIST_COLUMNS), ",".join(f" {name.upper()} " for name in LIST_COLUMNS), ""])
def test_each_column_is_read_where_it_stands(head: str, tmp_path: Path) -> None:
    rows = listed(tmp_path, "1/a.jpg,1.6,2.4,30,40.5,,7,-1,1", "2/b.jpg,5,6,7,8,,0,0.25,-2", head=head)
    first = 2 if head else 1
    assert rows["names"] == ["1/a.jpg", "2/b.jpg"]
    assert rows["codes"] == [7, 0]
    assert rows["boxes"] == [[2, 2, 30, 40], [5, 6, 7, 8]]
    assert rows["lines"] == [first, first + 1]
    assert rows["valence"] == [-1, 0.25]
    assert (rows["arousal"][0], np.isnan(rows["arousal"][1])) == (1, True)  # -2 is none
    assert rows["errors"] == ["", ""]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a/a.jpg,1,2,1,1,,1,0,0", ""),
        ("a/a.jpg,1,2,0.9,1,,1,0,0", "expected a face box"),
        ("a/a.jpg,1,2,1,0.9,,1,0,0", "expected a face box"),
        ("a/a.jpg,-1000000,1000000,1,1,,1,0,0", ""),
        ("a/a.jpg,1000001,2,1,1,,1,0,0", "expected a face box"),
        ("a/a.jpg,1,-1000001,1,1,,1,0,0", "expected a face box"),
        ("a/a.jpg,1,2,1,1,,1,1.01,0", "expected valence in -1..1"),
        ("a/a.jpg,1,2,1,1,,1,0,-1.01", "expected arousal in -1..1"),
        ("a/a.jpg,,,,,,8,-2,-2", ""),  # no face to speak of
        ("a/a.jpg,,,,,,10,-2,-2", ""),
        ("a/a.jpg,,,,,,7,-2,-2", "expected a number as face box, found ''"),
        ("a/a.jpg,1,2,1,1,,11,0,0", "unknown expression code '11'"),
        ("a/a.jpg,1,2,1,1,,1,0,0,0", "expected 9 columns, found 10"),
        ("a/a.jpg,1,2,1,1,,1,0", "expected 9 columns, found 8"),
        (",1,2,1,1,,1,0,0", "expected the path of an image, found nothing"),
    ],
)
def test_what_is_wrong_with_a_row_stands_in_it(line: str, said: str, tmp_path: Path) -> None:
    rows = listed(tmp_path, line)
    (error,) = rows["errors"]
    assert str(error).startswith(said)
    assert bool(error) is bool(said)
    assert (rows["codes"] == [-1]) is bool(said)


def test_annotations_of_each_form_of_npy_are_read(tmp_path: Path) -> None:
    for kind, value in (("exp", "6"), ("val", "-0.5"), ("aro", "0.75")):
        np.save(tmp_path / f"12_{kind}.npy", np.array(value))
    row = _annotation(str(tmp_path), "12", 5, ["val", "aro"])
    assert (row.name, row.line, row.code, row.valence, row.arousal, row.error) == ("12", 5, 6, -0.5, 0.75, "")
    row = _annotation(str(tmp_path), "12", 5, ["aro"])
    assert (np.isnan(row.valence), row.arousal) == (True, 0.75)
    np.save(tmp_path / "7_exp.npy", np.array("9"))
    read = _read_annotations(tmp_path)
    assert (read["names"].tolist(), read["lines"].tolist(), read["codes"].tolist()) == (["12", "7"], [1, 2], [6, -1])
    assert read["errors"].tolist() == ["", "7_val.npy: is missing"]
    for version in ((1, 0), (2, 0)):
        with (tmp_path / "any.npy").open("wb") as file:
            np.lib.format.write_array(file, np.array(4.5), version=version)
        assert _npy_text(str(tmp_path / "any.npy")) == "4.5"
