from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.splitting.dedupe import Duplicates, clean, find_duplicates, without_blank
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


def test_identical_and_blank_images_are_not_shown_as_near_duplicates_or_conflicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = stripes_table({"train": 70})
    first, second = np.arange(0, 60, 2), np.arange(1, 61, 2)
    distances = np.linspace(0, 0.29, 30, dtype=np.float32)  # the first pair is of identical images
    groups = np.arange(70)
    groups[second] = first
    labels = np.zeros(70, np.int64)
    labels[second[[0, 3, 5]]] = 1
    duplicates = replace(
        find_duplicates(table, near=False),
        pairs=Pairs(first, second, distances, np.zeros(30, bool)),
        near_groups=groups,
        blank=np.array([first[3]]),
    )
    (tmp_path / "conflicts.png").write_text("old")
    shown: dict[str, list[int]] = {}

    def picture(_: SamplesTable, __: Duplicates, pairs: NDArray[np.int64], title: str) -> str:
        shown[title] = pairs.tolist()
        return title

    monkeypatch.setattr(dedupe_report, "pairs_picture", picture)
    monkeypatch.setattr(dedupe_report, "figure_png", str.encode)
    given = replace(table, labels=labels)
    cleaning = clean(given, duplicates)
    write_dedupe_report(given, duplicates, cleaning, tmp_path, name="s", options=OPTIONS)
    near, conflicts = shown["s: near-duplicates, closest first"], shown["s: one photograph, two labels"]
    assert conflicts == [0, 5]  # not the one whose image is blank
    assert len(near) == 16
    assert (near[0], near[-1]) == (1, 29)  # evenly spread from the closest to the farthest that is not identical
    assert near == sorted(near)
    write_dedupe_report(table_of_copies(), find_duplicates(table_of_copies(), near=False), clean(
        table_of_copies(), find_duplicates(table_of_copies(), near=False)
    ), tmp_path, name="s", options=OPTIONS)  # fmt: skip
    assert not (tmp_path / "conflicts.png").exists()
    assert not (tmp_path / "near_duplicates.png").exists()


def test_lists_and_manifest_name_what_goes_and_what_stays(tmp_path: Path) -> None:
    table = table_of_copies()
    labels = table.labels.copy()
    labels[1] = labels[8]
    table = replace(table, labels=labels)
    duplicates = find_duplicates(table, near=False)
    cleaning = clean(table, duplicates)
    summary = write_dedupe_report(table, duplicates, cleaning, tmp_path, name="s", options=OPTIONS)
    kept = [f"{row:02}.png" for row in np.flatnonzero(cleaning.keep)]
    gone = [f"{row:02}.png" for row in np.flatnonzero(~cleaning.keep)]
    assert summary["removed"]["count"] == len(gone) == 2

    def read(name: str) -> list[dict[str, str]]:
        with (tmp_path / name).open(newline="") as file:
            return list(csv.DictReader(file))

    members = read("duplicates.csv")
    assert [row["file"] for row in members] == ["01.png", "08.png", "03.png", "17.png"]
    assert [row["kept"] for row in members] == ["no" if row["file"] in gone else "yes" for row in members]
    assert [row["group"] == members[0]["group"] for row in members] == [True, True, False, False]
    assert [(row["split"], row["label"]) for row in members[2:]] == [("train", "happy"), ("test", "happy")]
    assert [bool(row["reason"]) for row in members] == [row["kept"] == "no" for row in members]
    assert [row["file"] for row in read("removed.csv")] == gone
    assert [row["path"] for row in read("manifest.csv")] == kept
    assert summary["splits"]["train"]["kept_per_class"] == {
        name: int(((labels == label) & (table.splits == "train") & cleaning.keep).sum())
        for label, name in enumerate(table.class_names)
    }


def test_a_pair_is_drawn_with_its_own_images_captions_and_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of_copies({4: "a/b/faces.csv#12", 5: "x/#7", 6: "name#left.png"})
    splits = table.splits.copy()
    splits[6] = ""
    table = replace(table, splits=splits)
    found = find_duplicates(table, near=False)
    pairs = Pairs(np.array([0, 4, 1]), np.array([7, 5, 6]), np.zeros(3, np.float32), np.zeros(3, bool))
    given: list[Any] = []
    monkeypatch.setattr(examples, "pairs_figure", lambda *what: given.extend(what))
    examples.pairs_picture(table, replace(found, pairs=pairs), np.array([2, 0, 1]), "title")
    first, second, captions, marked, title = given
    images = np.asarray(table.images)
    np.testing.assert_array_equal(first, images[[1, 0, 4]])
    np.testing.assert_array_equal(second, images[[6, 7, 5]])
    assert captions == [
        ("01.png\ntrain, disgust", "name#left.png\nunused, neutral"),
        ("00.png\ntrain, angry", "07.png\ntrain, angry"),
        ("#12\ntrain, sad", "#7\ntrain, surprise"),
    ]
    assert marked == [True, False, True]
    assert title == "title"


def test_text_tells_of_near_duplicates_alone() -> None:
    summary = summary_of(table_of_copies())
    summary["options"]["near"] = True
    summary["shared"] |= {"test in train": {"exact": 0, "near": 1300}, "train in test": {"exact": 0, "near": 0}}
    lines = [" ".join(line.split()) for line in dedupe_text(summary).splitlines()]
    assert "test in train - 1,300 more" in lines
    assert not any(line.startswith("train in test") for line in lines)
    assert "(near-duplicates were not looked for)" not in lines
