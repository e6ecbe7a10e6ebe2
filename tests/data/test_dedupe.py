"""Counting duplicates in and between splits, and cleaning a table of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.splitting.dedupe import (
    Cleaning,
    Conflicts,
    GroupCount,
    Shared,
    clean,
    find_duplicates,
    without_blank,
)
from fer_lightning.data.splitting.near_duplicates import Pairs, thumbnails
from fer_lightning.data.table.images import SubsetImages
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from tests.data.test_near_duplicates import clipped, faces, jpeg

NAMES = SEVEN.class_names
FACES = faces(12)[:, 0]


def near(number: int, step: int = 1) -> NDArray[np.uint8]:
    """Return a near-duplicate of a face."""
    return clipped(jpeg(FACES[number]) * 0.9 + 5 * step)


def table_of(*rows: tuple[str, str, NDArray[np.uint8], str]) -> SamplesTable:
    """Return a table of (file, split, image, label)."""
    files, splits, pictures, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    images = np.array(pictures, np.uint8).reshape(len(rows), 1, 48, 48)
    return SamplesTable(
        class_names=NAMES,
        images=images,
        labels=np.array([NAMES.index(label) for label in labels], np.int64),
        splits=np.array(splits, np.str_),
        sources=np.full(len(rows), "faces"),
        files=np.array(files, np.str_),
        digests=content_digests(images),
    )


PLANTED = table_of(
    ("a", "train", FACES[0], "happy"),
    ("b", "train", FACES[0], "happy"),
    ("c", "train", FACES[0], "sad"),
    ("d", "train", FACES[1], "fear"),
    ("e", "train", near(1), "fear"),
    ("f", "train", FACES[2], "angry"),
    ("g", "train", near(3), "neutral"),
    ("h", "train", FACES[4], "neutral"),
    ("i", "val", FACES[0], "happy"),
    ("j", "val", near(2), "sad"),
    ("k", "val", FACES[3], "neutral"),
    ("l", "val", FACES[5], "neutral"),
    ("m", "test", FACES[3], "neutral"),
    ("n", "test", FACES[6], "neutral"),
    ("o", "", FACES[6], "neutral"),
    ("p", "train", np.full((48, 48), 9, np.uint8), "sad"),
)


def kept(table: SamplesTable, cleaning: Cleaning) -> str:
    """Return the files that stay, and check that the rows that go have reasons, and only they."""
    assert cleaning.keep.tolist() == [reason == "" for reason in cleaning.reasons.tolist()]
    return "".join(sorted(table.files[cleaning.keep].tolist()))


def test_duplicates_are_counted_within_and_between_splits() -> None:
    found = find_duplicates(PLANTED)
    assert found.within_exact == {"train": GroupCount(1, 3), "val": GroupCount(0, 0), "test": GroupCount(0, 0)}
    assert found.within_near == {"train": GroupCount(1, 2), "val": GroupCount(0, 0), "test": GroupCount(0, 0)}
    assert found.shared == {
        ("train", "val"): Shared(3, 2),  # a b c; f g
        ("train", "test"): Shared(0, 1),  # g
        ("val", "train"): Shared(1, 2),  # i; j k
        ("val", "test"): Shared(1, 0),  # k
        ("test", "train"): Shared(0, 1),  # m
        ("test", "val"): Shared(1, 0),  # m
    }
    assert found.conflicts_exact == GroupCount(1, 4)  # a b c i
    assert found.conflicts_near == GroupCount(1, 2)  # f j
    assert PLANTED.files[found.blank].tolist() == ["p"]


def test_groups_number_the_rows_that_belong_together() -> None:
    found = find_duplicates(PLANTED)
    exact = [set(PLANTED.files[found.exact_groups == number].tolist()) for number in np.unique(found.exact_groups)]
    near_groups = [set(PLANTED.files[found.near_groups == number].tolist()) for number in np.unique(found.near_groups)]
    assert [group for group in exact if len(group) > 1] == [set("abci"), set("km"), set("no")]
    assert [group for group in near_groups if len(group) > 1] == [
        set("abci"), set("de"), set("fj"), set("gkm"), set("no"),
    ]  # fmt: skip


def test_near_duplicates_are_left_aside_when_not_asked_for() -> None:
    found = find_duplicates(PLANTED, near=False)
    assert len(found.pairs) == 0
    assert found.within_near["train"] == GroupCount(0, 0)
    assert found.shared["val", "train"] == Shared(1, 0)
    assert np.array_equal(found.exact_groups, found.near_groups)
    assert len(found.blank) == 1


def test_a_copy_of_an_image_in_another_split_does_not_connect_rows_of_this_one() -> None:
    """Rows x and z are far apart, y stands between them."""
    chain = [FACES[7], clipped(0.9 * FACES[7] + 0.1 * FACES[8]), clipped(0.8 * FACES[7] + 0.2 * FACES[8])]
    rows = [
        (name, split, image, "sad") for name, split, image in zip("xyz", ("train", "val", "train"), chain, strict=True)
    ]
    found = find_duplicates(table_of(*rows))
    assert found.near_groups.tolist() == [0, 0, 0]
    assert found.within_near["train"] == GroupCount(0, 0)
    assert found.shared["train", "val"] == Shared(0, 2)
    inside = table_of(*[(name, "train", image, label) for name, _, image, label in rows])
    assert kept(inside, clean(inside, find_duplicates(inside))) == "xz"


def test_mirror_images_count_when_asked_for() -> None:
    table = table_of(("a", "train", FACES[0], "sad"), ("b", "val", np.ascontiguousarray(FACES[0][:, ::-1]), "sad"))
    assert find_duplicates(table).shared["val", "train"] == Shared(0, 0)
    assert find_duplicates(table, mirrored=True).shared["val", "train"] == Shared(0, 1)


def test_exact_counts_are_those_of_the_table() -> None:
    found = find_duplicates(PLANTED)
    for (first, second), count in found.shared.items():
        assert count.exact == len(PLANTED.overlap(first, second))


def test_labels_of_copies_are_compared() -> None:
    found = find_duplicates(PLANTED).agreement
    # of a b c i three are happy and one is sad; d e, g k m and n o have one label each; f and j differ; p is blank
    assert found.images == 13
    assert found.share == pytest.approx((3 * 2 / 3 + 0 + 2 + 0 + 3 + 2) / 13)
    told = {name: (images, round(share, 3)) for name, (images, share) in found.by_class.items() if share is not None}
    assert told == {"angry": (1, 0), "fear": (2, 1), "happy": (3, 0.667), "sad": (2, 0), "neutral": (5, 1)}
    assert found.by_class["disgust"] == (0, None)
    alone = find_duplicates(PLANTED, near=False).agreement
    assert alone.images == 8
    assert alone.share == pytest.approx((3 * 2 / 3 + 2 + 2) / 8)


def test_without_copies_nothing_is_said_of_labels() -> None:
    for table in (table_of(), table_of(("a", "train", FACES[0], "happy"), ("b", "val", FACES[1], "happy"))):
        found = find_duplicates(table).agreement
        assert (found.images, found.share) == (0, None)
        assert set(found.by_class.values()) == {(0, None)}


def test_counts_can_be_written_as_json() -> None:
    counts = json.loads(json.dumps(find_duplicates(PLANTED).counts()))
    assert counts["shared"]["val in train"] == {"exact": 1, "near": 2}
    assert counts["within"]["train"]["exact"] == {"groups": 1, "rows": 3}
    assert counts["conflicts"]["near"] == {"groups": 1, "rows": 2}
    assert counts["blank"] == 1
    assert counts["agreement"]["images"] == 13
    assert counts["agreement"]["classes"]["fear"] == {"images": 2, "share": 1.0}


def test_the_order_of_the_rows_does_not_matter() -> None:
    cleaning = clean(PLANTED, find_duplicates(PLANTED))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(PLANTED))
        table = PLANTED.select(order)
        found = find_duplicates(table)
        assert found.counts() == find_duplicates(PLANTED).counts()
        shuffled = clean(table, found)
        assert shuffled.keep.tolist() == cleaning.keep[order].tolist()
        assert shuffled.reasons.tolist() == cleaning.reasons[order].tolist()


def test_images_that_are_not_in_memory_and_thumbnails_at_hand_give_the_same() -> None:
    lazy = replace(PLANTED, images=SubsetImages(PLANTED.images, np.arange(len(PLANTED))))
    ready = replace(PLANTED, thumbnails=thumbnails(PLANTED.images))
    expected = find_duplicates(PLANTED).counts()
    assert find_duplicates(lazy).counts() == expected
    assert find_duplicates(ready).counts() == expected


def test_a_blank_image_is_of_one_colour_in_all_pixels() -> None:
    colour = np.broadcast_to(np.array([9, 200, 3], np.uint8)[:, None, None], (3, 48, 48))
    speck = colour.copy()
    speck[0, 0, 0] = 8
    images = np.stack([colour, speck])
    table = PLANTED.select(np.array([0, 1]))
    table = replace(table, images=images, digests=content_digests(images))
    assert find_duplicates(table).blank.tolist() == [0]


def test_cleaning_keeps_test_rows_and_the_first_of_each_photograph() -> None:
    cleaning = clean(PLANTED, find_duplicates(PLANTED))
    assert kept(PLANTED, cleaning) == "dhijlmnp"
    reasons = dict(zip(PLANTED.files.tolist(), cleaning.reasons.tolist(), strict=True))
    assert reasons["a"] == reasons["b"] == "same image as i in val"
    assert reasons["c"] == "conflicting labels: 2 happy, 1 sad"
    assert reasons["e"] == "near-duplicate of d"
    assert reasons["f"] == "near-duplicate of j in val"
    assert reasons["g"] == "near-duplicate of m in test"
    assert reasons["k"] == "same image as m in test"
    assert reasons["o"] == "same image as n in test"


def test_cleaning_can_leave_near_duplicates_alone() -> None:
    found = find_duplicates(PLANTED)
    assert kept(PLANTED, clean(PLANTED, found, near=False)) == "defghijlmnp"
    assert kept(PLANTED, clean(PLANTED, find_duplicates(PLANTED, near=False))) == "defghijlmnp"


def labelled(*labels: str, split: str = "train") -> SamplesTable:
    return table_of(*[(name, split, FACES[0], label) for name, label in zip("abcdef", labels, strict=False)])


@pytest.mark.parametrize(
    ("conflicts", "labels", "stays"),
    [
        ("majority", ["sad", "happy", "happy"], "b"),
        ("majority", ["sad", "happy"], ""),
        ("majority", ["sad", "happy", "happy", "sad", "fear"], ""),
        ("drop", ["sad", "happy", "happy"], ""),
        ("keep", ["sad", "happy", "happy"], "a"),
        ("drop", ["happy", "happy"], "a"),
    ],
)
def test_conflicting_labels(conflicts: Conflicts, labels: list[str], stays: str) -> None:
    table = labelled(*labels)
    assert kept(table, clean(table, find_duplicates(table), conflicts)) == stays


def test_near_duplicates_of_different_labels_are_in_conflict() -> None:
    table = table_of(
        ("a", "train", FACES[0], "sad"), ("b", "train", near(0), "happy"), ("c", "train", near(0, 2), "happy")
    )
    found = find_duplicates(table)
    assert kept(table, clean(table, found, "majority")) == "b"
    assert kept(table, clean(table, found, "drop")) == ""
    assert kept(table, clean(table, found, "drop", near=False)) == "abc"


def test_training_rows_neither_outvote_nor_remove_test_rows() -> None:
    rows = [(name, "train", FACES[0], "happy") for name in "abc"]
    table = table_of(
        *rows, ("z", "test", FACES[0], "sad"), ("y", "val", FACES[1], "sad"), ("x", "train", near(1), "sad")
    )
    for conflicts in get_args(Conflicts):
        assert kept(table, clean(table, find_duplicates(table), conflicts)) == "yz"


def test_the_first_is_the_first_by_file_name() -> None:
    table = table_of(("b", "train", FACES[0], "sad"), ("a", "train", near(0), "sad"))
    assert kept(table, clean(table, find_duplicates(table))) == "a"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows(count: int) -> None:
    table = table_of(*[(name, "train", FACES[0], "sad") for name in "ab"[:count]])
    found = find_duplicates(table)
    assert found.within_exact == ({"train": GroupCount(count // 2, count // 2 * 2)} if count else {})
    assert kept(table, clean(table, found)) == "a"[:count]
    assert found.shared == {}


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="conflicts must be one of majority, drop, keep, not 'vote'"):
        clean(PLANTED, find_duplicates(PLANTED, near=False), cast(Conflicts, "vote"))


def test_duplicates_of_another_table_are_refused() -> None:
    with pytest.raises(ValueError, match="duplicates of 16 rows do not belong to 3 rows"):
        clean(PLANTED.select(np.arange(3)), find_duplicates(PLANTED, near=False))


def test_the_reason_names_the_first_of_those_that_stay() -> None:
    table = table_of(
        ("a", "train", FACES[0], "happy"), ("b", "train", FACES[1], "happy"), ("c", "train", FACES[2], "happy")
    )
    found = find_duplicates(table)
    assert len(found.pairs) == 0
    both = Pairs(np.array([0, 1]), np.array([2, 2]), np.full(2, 0.1, np.float32), np.zeros(2, bool))
    assert clean(table, replace(found, pairs=both)).reasons.tolist() == ["", "", "near-duplicate of a"]
    renamed = replace(table, files=np.array(["b", "a", "c"]))
    assert clean(renamed, replace(found, pairs=both)).reasons.tolist() == ["", "", "near-duplicate of a"]


def test_a_blank_image_that_is_left_out_as_a_copy_keeps_that_reason() -> None:
    gray = np.full((48, 48), 9, np.uint8)
    table = table_of(("a", "train", gray, "sad"), ("b", "train", gray, "sad"), ("c", "train", FACES[0], "sad"))
    found = find_duplicates(table)
    cleaning = without_blank(clean(table, found), found)
    assert cleaning.reasons.tolist() == ["blank image", "same image as a", ""]
    assert cleaning.keep.tolist() == [False, False, True]


@pytest.mark.parametrize("labels", [("happy", "angry"), ("angry", "happy")])
def test_of_rows_of_one_name_the_lower_label_comes_first(labels: tuple[str, str]) -> None:
    table = table_of(("a", "train", FACES[0], labels[0]), ("a", "train", near(0), labels[1]))
    cleaning = clean(table, find_duplicates(table), conflicts="keep")
    assert [labels[row] for row in np.flatnonzero(cleaning.keep)] == ["angry"]
