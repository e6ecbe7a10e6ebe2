from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.splitting.dedupe import clean, find_duplicates, without_blank
from fer_lightning.data.splitting.near_duplicates import Pairs
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.inspection import dedupe_report, examples
from fer_lightning.inspection.dedupe_report import dedupe_summary, dedupe_text, write_dedupe_report
from tests.helpers.data import stripes_table

OPTIONS = {"near": True, "mirrored": False, "conflicts": "majority", "blank": False}


def table_of_copies(files: dict[int, str] | None = None) -> SamplesTable:
    """Return 14 training and 7 test images; row 1 repeats row 8 in its split, row 3 repeats row 17 of test."""
    table = stripes_table({"train": 14, "test": 7})
    assert isinstance(table.images, np.ndarray)
    images = table.images.copy()
    images[1] = images[8]
    images[3] = images[17]
    names = np.array([f"{row:02}.png" for row in range(len(table))], "<U40")
    for row, name in (files or {}).items():
        names[row] = name
    return replace(table, images=images, digests=content_digests(images), files=names)


def summary_of(table: SamplesTable, near: bool = False) -> dict[str, Any]:
    duplicates = find_duplicates(table, near=near)
    cleaning = without_blank(clean(table, duplicates, near=near), duplicates)
    return dedupe_summary(table, duplicates, cleaning, "stripes", {**OPTIONS, "near": near})


def test_summary_counts_what_goes_and_why() -> None:
    summary = summary_of(table_of_copies())
    assert summary["removed"] == {"count": 2, "by_reason": {"same image": 1, "same image in another split": 1}}
    assert (summary["splits"]["train"]["rows"], summary["splits"]["train"]["kept"]) == (14, 12)
    assert summary["splits"]["train"]["kept_per_class"]["disgust"] == 1
    assert summary["splits"]["test"]["fingerprint"] == summary["splits"]["test"]["fingerprint_kept"]
    assert summary["splits"]["train"]["fingerprint"] != summary["splits"]["train"]["fingerprint_kept"]


@pytest.mark.parametrize("name", ["found in train.png", "same image in another split.png", "a in test (1).png"])
def test_names_of_files_do_not_change_the_kind_of_a_reason(name: str) -> None:
    by_reason = summary_of(table_of_copies({1: name, 8: f"x/{name}"}))["removed"]["by_reason"]
    assert by_reason == {"same image": 1, "same image in another split": 1}


def test_text() -> None:
    lines = [" ".join(line.split()) for line in dedupe_text(summary_of(table_of_copies())).splitlines()]
    assert lines[0] == "stripes"
    assert "in train 2 in 1 group -" in lines
    assert "in test - -" in lines
    assert "test in train 1 -" in lines
    assert "different labels - -" in lines
    assert "of one colour -" in lines
    assert "(near-duplicates were not looked for)" in lines
    assert lines[-3] == "left out: 2"
    assert set(lines[-2:]) == {"1 as an image that is kept already", "1 as an image that is kept in another split"}


def test_pictures_show_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of_copies()
    labels = table.labels.copy()
    labels[4] = labels[5] = 0
    table = replace(table, labels=labels)
    distances = np.array([0.1, 0.2, 0.3, 0.05], np.float32)
    triple = Pairs(np.array([0, 0, 1, 4]), np.array([1, 2, 2, 5]), distances, np.zeros(4, bool))
    duplicates = replace(
        find_duplicates(table, near=False),
        pairs=triple,
        near_groups=np.array([0, 0, 0, 3, 4, 4, *range(6, len(table))]),
    )
    shown: dict[str, list[tuple[str, str]]] = {}

    def picture(one: Any, other: Any, captions: list[tuple[str, str]], marked: list[bool], title: str) -> str:
        shown[title] = captions
        return title

    monkeypatch.setattr(examples, "pairs_figure", picture)
    monkeypatch.setattr(dedupe_report, "figure_png", str.encode)
    write_dedupe_report(table, duplicates, clean(table, duplicates), tmp_path, name="stripes", options=OPTIONS)
    assert shown == {
        "stripes: near-duplicates, closest first": [
            ("04.png\ntrain, angry", "05.png\ntrain, angry"),
            ("00.png\ntrain, angry", "01.png\ntrain, disgust"),
        ],
        "stripes: one photograph, two labels": [("00.png\ntrain, angry", "01.png\ntrain, disgust")],
    }
    assert (tmp_path / "conflicts.png").read_text() == "stripes: one photograph, two labels"
