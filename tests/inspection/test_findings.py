"""Sentences about a data set: said when there is something to say, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from fer_lightning.inspection.findings import findings

NAMES = ("happy", "disgust")


def split(happy: int, disgust: int) -> dict[str, Any]:
    counts = {"happy": happy, "disgust": disgust}
    present = {name: count for name, count in counts.items() if count}
    return {
        "images": happy + disgust,
        "counts": counts,
        "largest": max(present, key=present.__getitem__, default=None),
        "smallest": min(present, key=present.__getitem__, default=None),
        "imbalance_ratio": max(present.values()) / min(present.values()) if present else None,
        "absent": [name for name, count in counts.items() if not count],
        "fingerprint": "0" * 16,
    }


def group(groups: int = 0, rows: int = 0) -> dict[str, int]:
    return {"groups": groups, "rows": rows}


def duplicates(
    train: tuple[dict[str, int], dict[str, int]] = (group(), group()),
    val_in_train: tuple[int, int] = (0, 0),
    conflicts: tuple[dict[str, int], dict[str, int]] = (group(), group()),
    agreement: tuple[int, float | None] = (0, None),
) -> dict[str, Any]:
    """Return counts of duplicates, each of (identical ones, near ones)."""
    exact, near = val_in_train
    return {
        "within": {"train": {"exact": train[0], "near": train[1]}, "val": {"exact": group(), "near": group()}},
        "shared": {"train in val": {"exact": exact, "near": near}, "val in train": {"exact": exact, "near": near}},
        "conflicts": {"exact": conflicts[0], "near": conflicts[1]},
        "agreement": {"images": agreement[0], "share": agreement[1]},
    }


def report(**changes: Any) -> dict[str, Any]:
    """Return the numbers of a data set of which there is nothing to say."""
    quiet: dict[str, Any] = {
        "images": 300,
        "image_shape": [1, 48, 48],
        "remarks": [],
        "unreadable": [],
        "splits": {"train": split(100, 100), "val": split(25, 25), "test": split(25, 25), "unused": split(0, 0)},
        "subjects": None,
        "pixels": {
            "splits": {name: {"mean": [0.5]} for name in ("train", "val", "test")},
            "gray_images": 300,
            "blank": {"images": 0, "one_colour": 0},
        },
        "sizes": None,
        "soft_labels": None,
        "duplicates": duplicates(),
    }
    return {**quiet, **changes}


def splits(**changes: dict[str, Any]) -> dict[str, Any]:
    return {**report()["splits"], **changes}


def left_out(counts: dict[str, int]) -> list[dict[str, str]]:
    """Return files of which so many have been left out for each reason."""
    reasons = [reason for reason, count in counts.items() for _ in range(count)]
    return [{"file": f"{number}.png", "reason": reason} for number, reason in enumerate(reasons)]


def pixels(**changes: Any) -> dict[str, Any]:
    return {**report()["pixels"], **changes}


def test_remarks_of_the_data_set_come_first() -> None:
    assert findings(report(remarks=["two tables"], unreadable=left_out({"blurred": 1})))[0] == "two tables"


DARKER = {"train": 0.5, "val": 0.46, "test": 0.54}
FAR_DARKER = {"train": 0.5, "val": 0.36, "test": 0.64}  # a third of it, over three channels


def test_nothing_is_said_of_a_clean_set() -> None:
    assert findings(report()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": splits(val=split(27, 23), test=split(26, 24))},  # 4 % would have to change class
        {"pixels": pixels(splits={name: {"mean": [level] * 3} for name, level in DARKER.items()})},
        {"pixels": pixels(splits={name: {"mean": [0.3, level, 0.7]} for name, level in FAR_DARKER.items()})},
        {"splits": splits(train=split(149, 100), val=split(149, 100), test=split(149, 100))},
        {"duplicates": duplicates(agreement=(29, 0.5))},
        {"duplicates": duplicates(agreement=(30, 1.0))},
    ],
)
def test_little_is_not_worth_a_sentence(changes: dict[str, Any]) -> None:
    assert findings(report(**changes)) == []


def test_each_limit_is_where_it_is_said_to_be() -> None:
    assert findings(report(splits=splits(val=split(28, 22)))) == [
        "the classes are distributed otherwise in val: 6% would have to change class"
    ]
    light = {"train": {"mean": [0.2, 0.3, 0.4]}, "val": {"mean": [0.2, 0.3, 0.4]}, "test": {"mean": [0.3, 0.4, 0.38]}}
    assert findings(report(pixels=pixels(splits=light))) == ["test is brighter than train by 0.06 (of 0 to 1)"]
    train = split(150, 100)
    assert "1.5 times fewer" in findings(report(splits=splits(train=train, val=train, test=train)))[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"unreadable": left_out({"an empty file (0 bytes)": 1})},
            "1 file is not in the table (1 an empty file (0 bytes)): see below and unreadable.csv",
        ),
        (
            {"unreadable": left_out({"blurred": 1, "contempt is not among the classes": 1100, "uncertain": 2})},
            "1,103 files are not in the table (1,100 contempt is not among the classes; 2 uncertain; 1 blurred): "
            "see below and unreadable.csv",
        ),
        (
            {"unreadable": left_out({"a": 5, "b": 4, "c": 3, "d": 2, "e": 1})},
            "15 files are not in the table (5 a; 4 b; 3 c; and 2 more reasons): see below and unreadable.csv",
        ),
        ({"splits": splits(test=split(0, 0))}, "no images in test: give the set such a part, or let one be split off"),
        ({"splits": splits(unused=split(1, 0))}, "1 image stands in no split"),
        ({"splits": splits(val=split(50, 0))}, "val has no images of disgust"),
        (
            {"splits": splits(train=split(7215, 436), val=split(943, 57), test=split(943, 57))},
            "disgust has 436 images in train, 16.5 times fewer than happy (7,215): "
            "see --data.class_multipliers, --data.balance, or a weighted loss",
        ),
        (
            {"splits": splits(val=split(40, 10))},
            "the classes are distributed otherwise in val: 30% would have to change class",
        ),
        (
            {"duplicates": duplicates(val_in_train=(279, 0))},
            "279 images of val also stand in train, pixel for pixel: see --data.drop_overlap",
        ),
        (
            {"duplicates": duplicates(val_in_train=(279, 1))},
            "1 more image of val nearly equals one of train: see fer data dedupe",
        ),
        (
            {"duplicates": duplicates(val_in_train=(0, 2))},
            "2 images of val nearly equal one of train: see fer data dedupe",
        ),
        (
            {"duplicates": duplicates(train=(group(1000, 2235), group()))},
            "1,235 images of train repeat another one pixel for pixel",
        ),
        ({"duplicates": duplicates(train=(group(), group(1, 3)))}, "train has near-duplicates: 1 group of 3 images"),
        (
            {"duplicates": duplicates(conflicts=(group(46, 128), group()))},
            "identical images have different labels: 46 groups of 128 images",
        ),
        (
            {"duplicates": duplicates(conflicts=(group(), group(3, 7)))},
            "near-duplicates have different labels: 3 groups of 7 images",
        ),
        (
            {"duplicates": duplicates(agreement=(1030, 0.81))},
            "two labels of one photograph agree in 81% of the cases (1,030 images with copies): the best possible "
            "model is right on 81% to 90% of such images",
        ),
        (
            {"duplicates": duplicates(agreement=(30, 0.25))},
            "two labels of one photograph agree in 25% of the cases (30 images with copies): the best possible "
            "model is right on 25% to 50% of such images",
        ),
        (
            {"subjects": {"subjects": 40, "images": 300, "in_several_splits": 3}},
            "3 of 40 subjects stand in more than one split: scores may be too good",
        ),
        (
            {"pixels": pixels(blank={"images": 13, "one_colour": 12})},
            "13 images are blank, 12 of them of one colour: see blank.csv",
        ),
        (
            {"pixels": pixels(splits={"train": {"mean": [0.5]}, "val": {"mean": [0.4]}, "test": {"mean": [0.5]}})},
            "val is darker than train by 0.10 (of 0 to 1)",
        ),
        (
            {"sizes": {"known": 300, "enlarged": 20}},
            "20 of 300 files were enlarged to 48x48 pixels: see --data.image_size and --data.min_side",
        ),
        (
            {"image_shape": [3, 48, 48]},
            "all images are gray, but stored in 3 channels: channels 1 needs a third of the memory",
        ),
        (
            {"image_shape": [3, 48, 48], "pixels": pixels(gray_images=30)},
            "30 of 300 images are gray among coloured ones: a network may learn colour, not expression",
        ),
        ({"soft_labels": {"disagreeing": 3}}, "the votes favour another class than the label for 3 images (1.0%)"),
    ],
)
def test_a_fault_is_said_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in findings(report(**changes))


@pytest.mark.parametrize("enlarged", [0, None])
def test_files_of_a_converted_set_are_not_said_to_be_enlarged(enlarged: int | None) -> None:
    assert findings(report(sizes={"known": 300, "enlarged": enlarged})) == []


def test_a_leak_is_told_once() -> None:
    said = findings(report(duplicates=duplicates(val_in_train=(5, 4))))
    assert [sentence.split()[0] for sentence in said] == ["5", "4"]


def test_files_left_out_come_before_the_balance_of_the_classes() -> None:
    uneven = splits(train=split(190, 10), val=split(47, 3), test=split(47, 3))
    said = findings(report(unreadable=left_out({"blurred": 2}), splits=uneven))
    assert [sentence.split()[0] for sentence in said] == ["2", "disgust"]
