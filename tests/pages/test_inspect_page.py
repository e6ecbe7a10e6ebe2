"""Every number of an inspection stands where the page says that it stands."""

from __future__ import annotations

import re
from typing import Any

from fer_lightning.pages import render
from tests.helpers.html import PageText


def part(images: int, happy: int, ratio: float | None, fingerprint: str | None) -> dict[str, Any]:
    counts = {"happy": happy, "sad": images - happy}
    return {"images": images, "counts": counts, "imbalance_ratio": ratio, "fingerprint": fingerprint}


def groups(*numbers: int) -> dict[str, dict[str, int]]:
    exact, near = numbers[:2], numbers[2:]
    return {kind: dict(zip(("groups", "rows"), pair, strict=True)) for kind, pair in (("exact", exact), ("near", near))}


def spread(*numbers: float) -> dict[str, float]:
    return dict(zip(("min", "median", "max"), numbers, strict=True))


REPORT: dict[str, Any] = {
    "version": "9.8",
    "name": "faces",
    "seed": 13,
    "images": 2000,
    "image_shape": [3, 40, 50],
    "class_names": ["happy", "sad"],
    "part": "train",
    "findings": ["the first thing", "the second thing"],
    "unreadable": [{"file": f"{row}.png", "reason": f"reason {row}"} for row in range(43)],
    "splits": {
        "train": part(1200, 900, 3.0, "f-train"),
        "val": part(800, 300, 1.667, "f-val"),
        "test": part(0, 0, None, None),
        "unused": part(0, 0, None, None),
    },
    "class_weights": {"happy": 0.5, "sad": 1.5},
    "columns": {
        "age": {"kind": "numbers", "known": 1990, "mean": 31.25, "std": 7.5, "min": 3.0, "max": 88.0, "unknown": 10},
        "person": {"kind": "names", "distinct": 321, "images_of_largest": 77, "largest": "person 5", "unknown": 0},
        "origin": {
            "kind": "categories",
            "unknown": 1230,
            "values": {
                "web": {"images": 500, "splits": {"train": 410, "val": 90}, "counts": {"happy": 125, "sad": 375}},
                "lab": {"images": 270, "splits": {"train": 200, "val": 70}, "counts": {"happy": 27, "sad": 243}},
            },
        },
    },
    "pixels": {
        "splits": {
            "train": {"mean": [0.11, 0.12, 0.13], "std": [0.21, 0.22, 0.23]},
            "val": {"mean": [0.31, 0.32, 0.33], "std": [0.41, 0.42, 0.43]},
        },
        "blank": {"images": 6, "threshold": 0.02},
    },
    "sizes": {
        "known": 1999,
        "width": spread(11, 121, 1311),
        "height": spread(12, 122, 1322),
        "aspect": spread(0.5, 1.25, 2.0),
        "smallest": {"file": "small.png", "width": 11, "height": 19},
        "largest": {"file": "large.png", "width": 1311, "height": 1322},
    },
    "soft_labels": {
        "agreement": 0.875,
        "unanimous": 1001,
        "entropy": 0.456,
        "entropy_of_classes": {"happy": 0.111, "sad": None},
    },
    "duplicates": {
        "near": True,
        "within": {"train": groups(1, 2, 3, 14), "val": groups(5, 16, 7, 18)},
        "conflicts": groups(9, 20, 11, 22),
        "agreement": {
            "images": 77,
            "share": 0.625,
            "classes": {
                "happy": {"images": 70, "share": 0.75},
                "sad": {"images": 7, "share": 0.125},
                "fear": {"images": 0, "share": None},
            },
        },
        "shared": {"val in train": {"exact": 31, "near": 32}, "train in val": {"exact": 33, "near": 34}},
    },
}
SECTIONS = {id: id for id in ("look", "classes", "faces", "pixels", "duplicates", "columns", "files", "votes")}
FIGURES = {id: [(f"pictures/{id}.png", f"shows {id}", f"data:{id}")] for id in SECTIONS}
CARDS = [("1,200", "images in train"), ("800", "images in val")]


def page(sections: dict[str, str] = SECTIONS, **changes: Any) -> str:
    files = ["blank.csv", "counts.csv", "duplicates.csv", "unreadable.csv"]
    report = {**REPORT, **changes}
    return render("inspect.html", report=report, cards=CARDS, sections=sections, figures=FIGURES, files=files)


def test_every_table_of_the_page_holds_the_numbers_of_the_report() -> None:
    assert PageText(page()).tables == [
        [
            ["class", "train", "share", "val", "share", "weight"],
            ["happy", "900", "75.0%", "300", "37.5%", "0.5000"],
            ["sad", "300", "25.0%", "500", "62.5%", "1.5000"],
            ["all", "1,200", "", "800", "", ""],
        ],
        [
            ["split", "largest : smallest class", "fingerprint"],
            ["train", "3.00", "f-train"],
            ["val", "1.67", "f-val"],
        ],
        [
            ["split", "mean", "standard deviation"],
            ["train", "[0.1100, 0.1200, 0.1300]", "[0.2100, 0.2200, 0.2300]"],
            ["val", "[0.3100, 0.3200, 0.3300]", "[0.4100, 0.4200, 0.4300]"],
        ],
        [
            ["", "groups of identical images", "images in them", "groups of near-duplicates", "images in them"],
            ["within train", "1", "2", "3", "14"],
            ["within val", "5", "16", "7", "18"],
            ["labels differ, in any splits", "9", "20", "11", "22"],
        ],
        [
            ["label", "images with copies", "copies with the same label"],
            ["happy", "70", "75.0%"],
            ["sad", "7", "12.5%"],
            ["all", "77", "62.5%"],
        ],
        [
            ["", "identical", "only nearly so"],
            ["images of val that also stand in train", "31", "32"],
            ["images of train that also stand in val", "33", "34"],
        ],
        [
            ["origin", "images", "train", "val", "happy", "sad"],
            ["web", "500", "410", "90", "125", "375"],
            ["lab", "270", "200", "70", "27", "243"],
        ],
        [
            ["original files", "smallest", "median", "largest"],
            ["width", "11", "121", "1311"],
            ["height", "12", "122", "1322"],
            ["aspect", "0.5", "1.25", "2"],
        ],
        [["file", "reason"], *([f"{row}.png", f"reason {row}"] for row in range(40))],
        [["class", "mean entropy, nats"], ["happy", "0.111"], ["sad", "n/a"]],
    ]


def test_bars_are_as_long_as_the_shares_of_split_set_and_value() -> None:
    shares = re.findall(r"--share:([\d.]+)\">([\d.,%]+)<", page())
    assert shares == [
        ("0.750", "75.0%"),
        ("0.375", "37.5%"),
        ("0.250", "25.0%"),
        ("0.625", "62.5%"),
        *(("0.250", "500"), ("0.250", "125"), ("0.750", "375")),  # of 2,000 images, then of the 500
        *(("0.135", "270"), ("0.100", "27"), ("0.900", "243")),
    ]


def test_every_sentence_of_the_page_says_the_numbers_of_the_report() -> None:
    words = PageText(page()).words
    for sentence in (
        "2,000 images, brought to 50x40 pixels, colour; classes: happy, sad",
        "1,200 images in train 800 images in val",
        "The first thing. The second thing.",
        "weight: inverse frequency in train",
        "Means over the training images, and examples drawn from them with seed 13.",
        "Blank images, whose standard deviation is below 0.02: 6. They are listed in blank.csv.",
        "1,990 known: mean 31.25, std 7.5, min 3, max 88. Unknown: 10.",
        "321 different values, most images (77): person 5.",
        "Unknown: 1,230.",
        "Smallest: small.png (11x19).",
        "Largest: large.png (1311x1322).",
        "The first 40 of 43: all are in unreadable.csv.",
        "The label has the largest weight for 87.5% of the images; 1,001 have all weight on one class. "
        "Mean entropy: 0.456 nats.",
        "Every image of every group: duplicates.csv.",
        "Seed 13, fer_lightning 9.8. All numbers and lists: inspect.json, blank.csv, counts.csv, duplicates.csv, "
        "unreadable.csv.",
    ):
        assert sentence in words, sentence
    assert words.count("Unknown: ") == 2
    assert "not looked for" not in words
    for id in ("classes", "faces", "pixels", "duplicates", "files"):
        assert f'<a href="pictures/{id}.png"><img src="data:{id}" alt="shows {id}"' in page()


def test_what_an_inspection_does_not_know_is_not_said() -> None:
    changes: dict[str, Any] = {
        "image_shape": [1, 48, 48],
        "part": "all",
        "findings": [],
        "class_weights": None,
        "unreadable": REPORT["unreadable"][:40],
        "duplicates": {**REPORT["duplicates"], "near": False, "shared": {}, "agreement": {"images": 0}},
        "pixels": {**REPORT["pixels"], "blank": {"images": 0, "threshold": 0.02}},
        "sizes": {"known": 0},
    }
    found = PageText(page(**changes))
    assert "2,000 images of 48x48 pixels, gray;" in found.words
    assert "Means over all images," in found.words
    assert "Nothing stands out." in found.words
    assert "Near-duplicates were not looked for." in found.words
    assert "below 0.02: 0." in found.words
    for unsaid in ("weight: inverse", "They are listed", "The first 40", "Smallest"):
        assert unsaid not in found.words, unsaid
    heads = [table[0][0] for table in found.tables]
    assert heads == ["class", "split", "split", "", "origin", "file", "class"]
    assert found.tables[0][0] == ["class", "train", "share", "val", "share"]
