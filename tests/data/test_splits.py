from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_lightning.data.splitting.splits import (
    check_splits,
    complete_splits,
    drop_overlap,
    group_digests,
    grouped_holdout,
    grouped_stratified_holdout,
    missing_splits,
)
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.data import stripes_table

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=300)
FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**40)


def array(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def duplicated(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return labels and digests like those of FER2013: unequal classes, some images twice, some under two labels."""
    labels = rng.choice(7, rows, p=[0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17]).astype(np.int64)
    digests = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    copies = rng.choice(rows, rows // 10, replace=False)
    digests[copies] = digests[rng.choice(rows, rows // 10)]
    return labels, digests


@given(LABELS, FRACTIONS, SEEDS, st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_no_group_is_split(labels: list[int], fraction: float, seed: int, number_of_groups: int) -> None:
    groups = np.arange(len(labels)) % number_of_groups
    held = grouped_stratified_holdout(array(labels), groups, fraction, seed)
    assert not set(groups[held]) & set(groups[~held])


@given(LABELS, FRACTIONS, SEEDS)
@settings(max_examples=60, deadline=None)
def test_each_class_gives_its_share_to_the_row(labels: list[int], fraction: float, seed: int) -> None:
    held = grouped_stratified_holdout(array(labels), np.arange(len(labels)), fraction, seed)
    for label in set(labels):
        count, taken = labels.count(label), int(np.count_nonzero(held & (array(labels) == label)))
        if count == 1:
            assert taken == 0
        else:
            assert 1 <= taken <= count - 1
            assert abs(taken - fraction * count) <= 1


@given(LABELS, FRACTIONS, SEEDS, st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_rows_does_not_matter(
    labels: list[int], fraction: float, seed: int, number_of_groups: int
) -> None:
    groups = np.arange(len(labels)) % number_of_groups
    order = np.random.default_rng(seed).permutation(len(labels))
    held = grouped_stratified_holdout(array(labels), groups, fraction, seed)
    again = grouped_stratified_holdout(array(labels)[order], groups[order], fraction, seed)
    assert again.tolist() == held[order].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_with_duplicates_each_class_keeps_its_proportion(seed: int) -> None:
    labels, digests = duplicated(np.random.default_rng(seed), 3000)
    held = grouped_stratified_holdout(labels, digests, 0.1, seed)
    names = np.array([digest.tobytes().hex() for digest in digests])
    assert not set(names[held]) & set(names[~held])
    share = np.bincount(labels[held], minlength=7) - 0.1 * np.bincount(labels, minlength=7)
    assert np.abs(share).max() <= 1


def test_the_choice_is_fixed_for_all_time() -> None:
    labels = np.arange(40, dtype=np.int64) % 4
    held = grouped_stratified_holdout(labels, np.arange(40), 0.25, 7)
    assert np.flatnonzero(held).tolist() == [0, 2, 6, 9, 11, 15, 16, 20, 30, 33, 37, 39]


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [
        (10, 0.25, 3),
        (10, 0.24, 2),
        (10, 0.05, 1),
        (10, 0.01, 1),
        (10, 0.99, 9),
        (10, 0.949, 9),
        (2, 0.1, 1),
        (1, 0.9, 0),
    ],
)
def test_a_share_is_rounded_half_up_and_leaves_something_on_either_side(count: int, fraction: float, held: int) -> None:
    rows = grouped_stratified_holdout(np.zeros(count, np.int64), np.arange(count), fraction, 0)
    assert rows.sum() == held


def test_another_seed_takes_other_rows() -> None:
    labels = np.zeros(200, np.int64)
    first, second = (grouped_stratified_holdout(labels, np.arange(200), 0.2, seed) for seed in (0, 1))
    assert first.sum() == second.sum() == 40
    assert first.tolist() != second.tolist()


def test_names_and_digests_serve_as_groups() -> None:
    labels = np.zeros(6, np.int64)
    held = grouped_stratified_holdout(labels, np.array(["anna", "anna", "ben", "ben", "çelik", "çelik"]), 0.34, 0)
    assert held.reshape(3, 2).sum(axis=1).tolist() in ([2, 0, 0], [0, 2, 0], [0, 0, 2])


def test_nothing_in_nothing_out() -> None:
    assert grouped_stratified_holdout(array([]), np.empty((0, 16), np.uint8), 0.1, 0).shape == (0,)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_wrong_fraction_is_named(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"above 0 and below 1, not {fraction:g}"):
        grouped_stratified_holdout(array([0, 1]), np.arange(2), fraction, 0)


def test_unequal_lengths_are_named() -> None:
    with pytest.raises(DataError, match="2 labels but 3 groups"):
        grouped_stratified_holdout(array([0, 1]), np.arange(3), 0.5, 0)


def test_overlapping_training_rows_are_taken_out() -> None:
    splits = np.array(["train", "train", "train", "val", "test", "", "train"])
    digests = np.array([[1], [2], [3], [2], [3], [1], [2]], np.uint8)
    changed, count = drop_overlap(splits, digests)
    assert changed.tolist() == ["train", "", "", "val", "test", "", ""]
    assert count == 3
    assert splits.tolist() == ["train", "train", "train", "val", "test", "", "train"]


def test_overlap_with_one_split_only() -> None:
    splits = np.array(["train", "train", "val", "test"])
    digests = np.array([[1], [2], [1], [2]], np.uint8)
    assert drop_overlap(splits, digests, against=("val",))[0].tolist() == ["", "train", "val", "test"]
    assert drop_overlap(splits, digests, drop_from="test", against=("train",))[0].tolist() == [
        "train",
        "train",
        "val",
        "",
    ]


def test_a_group_is_named_by_its_smallest_content() -> None:
    digests = np.array([[9, 9], [0, 7], [0, 8], [5, 0], [9, 9]], np.uint8)
    component = array([0, 1, 0, 1, 0])
    assert group_digests(digests, component).tolist() == [[0, 8], [0, 7], [0, 8], [0, 7], [0, 8]]
    assert group_digests(digests[:0], component[:0]).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 255)), min_size=1, max_size=60), SEEDS)
@settings(max_examples=50, deadline=None)
def test_names_of_groups_follow_the_rows(rows: list[tuple[int, int]], seed: int) -> None:
    component = array([number for number, _ in rows])
    digests = np.array([[number, value] for number, value in rows], np.uint8)
    names = group_digests(digests, component)
    for row, number in enumerate(component):
        assert tuple(names[row]) == min(tuple(digest) for digest in digests[component == number].tolist())
    order = np.random.default_rng(seed).permutation(len(rows))
    assert np.array_equal(group_digests(digests[order], component[order]), names[order])


def test_at_most_what_is_wanted_is_chosen() -> None:
    labels = array([0, 0, 0, 0, 1, 1, 1])
    held = grouped_holdout(labels, np.array(list("abcdxxy")), [3, 1], 0)
    assert np.bincount(labels[held]).tolist() == [3, 1]
    assert held[6]  # "x" has two rows of a class that wants one
    assert grouped_holdout(labels, np.arange(7), [0, 0], 0).sum() == 0


PARTS = st.lists(st.sampled_from(["", "train", "train", "train", "val", "test"]), min_size=1, max_size=120)


@given(PARTS, st.integers(1, 40), st.floats(0, 0.9), st.floats(0, 0.9), SEEDS)
@settings(max_examples=150, deadline=None)
def test_parts_that_are_made_share_no_group_with_any_other(
    given_parts: list[str], number_of_groups: int, val: float, test: float, seed: int
) -> None:
    splits = np.array(given_parts, "<U5")
    groups = np.random.default_rng(seed).integers(0, number_of_groups, len(splits))
    labels = np.arange(len(splits), dtype=np.int64) % 3
    made = missing_splits(splits, val, test)
    changed = complete_splits(splits, labels, groups, val_fraction=val, test_fraction=test, seed=seed)
    for split in made:
        others = np.isin(changed, [part for part in ("train", "val", "test") if part != split])
        assert not set(groups[changed == split]) & set(groups[others])
    before = np.where((splits == "").all(), "train", splits)
    moved = before != changed
    assert set(before[moved]) <= {"train"}
    assert set(changed[moved]) <= set(made)
    order = np.random.default_rng(seed).permutation(len(splits))
    again = complete_splits(
        splits[order], labels[order], groups[order], val_fraction=val, test_fraction=test, seed=seed
    )
    assert again.tolist() == changed[order].tolist()


def test_without_splits_all_rows_are_shared_out() -> None:
    splits, labels = np.full(700, ""), np.arange(700, dtype=np.int64) % 7
    changed = complete_splits(splits, labels, np.arange(700), val_fraction=0.2, test_fraction=0.1)
    counts = {part: np.bincount(labels[changed == part]).tolist() for part in ("train", "val", "test")}
    assert counts == {"train": [72] * 7, "val": [18] * 7, "test": [10] * 7}
    other = complete_splits(splits, labels, np.arange(700), val_fraction=0.2, test_fraction=0.1, seed=1)
    assert (other == "test").sum() == 70
    assert other.tolist() != changed.tolist()
    assert set(complete_splits(splits, labels, np.arange(700), val_fraction=0)) == {"train"}


def test_official_parts_stay_and_their_twins_are_not_taken() -> None:
    splits = np.array(["train"] * 40 + ["test"] * 10)
    labels, groups = np.zeros(50, np.int64), np.arange(50)
    groups[:10] = groups[40:]  # ten training rows also stand in the official test part
    changed = complete_splits(splits, labels, groups, val_fraction=0.5, test_fraction=0.5, test_per_class=5)
    assert changed[40:].tolist() == ["test"] * 10
    assert changed[:10].tolist() == ["train"] * 10
    assert (changed == "val").sum() == 15


def test_so_many_test_rows_of_each_class_are_taken() -> None:
    labels = np.repeat([0, 1, 3], [30, 12, 8]).astype(np.int64)
    changed = complete_splits(np.full(50, ""), labels, np.arange(50) // 2, test_per_class=4, val_fraction=0.25)
    assert np.bincount(labels[changed == "test"]).tolist() == [4, 4, 0, 4]
    assert np.bincount(labels[changed == "val"]).tolist() == [6, 2]  # four of class 3 are left, in pairs


def test_groups_of_several_classes_do_not_block_an_exact_number() -> None:
    labels = array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1])
    groups = np.array(list("aaabcdefgh"))  # with "a" in it, two of each need exactly one more of class 0
    for seed in range(20):
        changed = complete_splits(np.full(10, ""), labels, groups, test_per_class=2, val_fraction=0, seed=seed)
        assert np.bincount(labels[changed == "test"]).tolist() == [2, 2]


@given(st.integers(1, 30), SEEDS)
@example(27, 5408)  # a group that was to be tested on and then was not needed
@settings(max_examples=80, deadline=None)
def test_an_exact_number_is_met_whatever_the_groups(number_of_groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 4, 300), rng.integers(0, number_of_groups + 10, 300)
    contents = rng.integers(0, 256, (300, 16), dtype=np.uint8)
    options: dict[str, Any] = {"test_per_class": 9, "val_fraction": 0.2, "seed": seed}
    changed = complete_splits(np.full(300, ""), labels, groups, digests=contents, **options)
    assert np.bincount(labels[changed == "test"]).tolist() == [9] * 4
    assert np.bincount(labels[changed == "train"], minlength=4).min() > 0
    parts = [set(groups[changed == part]) for part in ("train", "val", "test")]
    assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
    assert set(groups[changed == ""]) <= parts[2]  # only what is linked to a test row is in no part
    order = rng.permutation(300)
    again = complete_splits(np.full(300, ""), labels[order], groups[order], digests=contents[order], **options)
    assert again.tolist() == changed[order].tolist()


@pytest.mark.parametrize("seed", [9, 17, 24, 28])  # whose first order does not meet it
def test_other_orders_are_tried_until_whole_groups_make_the_number(seed: int) -> None:
    groups = np.concatenate([np.repeat(np.arange(10), 2), np.repeat(np.arange(10, 20), 3)])
    labels = np.zeros(50, np.int64)  # 7 is 2 + 2 + 3, but an order that begins with 2 + 2 + 2 or 3 + 3 does not meet it
    changed = complete_splits(np.full(50, ""), labels, groups, test_per_class=7, val_fraction=0, seed=seed)
    assert ((changed == "test").sum(), (changed == "").sum()) == (7, 0)


def test_the_orders_that_are_tried_are_fixed_for_all_time() -> None:
    groups = np.concatenate([np.repeat(np.arange(10), 2), np.repeat(np.arange(10, 20), 3)])
    labels = np.zeros(50, np.int64)
    chosen = [
        np.unique(
            groups[
                complete_splits(np.full(50, ""), labels, groups, test_per_class=7, val_fraction=0, seed=seed) == "test"
            ]
        )
        for seed in (9, 17)
    ]
    assert [each.tolist() for each in chosen] == [[5, 8, 16], [0, 7, 11]]


def test_a_group_that_is_held_already_does_not_fill_up_once_more() -> None:
    groups, labels = np.repeat(np.arange(6), 3), np.zeros(18, np.int64)  # no order of threes makes four
    for seed in range(24):
        changed = complete_splits(np.full(18, ""), labels, groups, test_per_class=4, val_fraction=0, seed=seed)
        assert ((changed == "test").sum(), (changed == "").sum(), (changed == "train").sum()) == (4, 2, 12)


def test_what_a_stage_lacks_is_told_with_what_there_is() -> None:
    def lacks(counts: dict[str, int], stage: str, devices: int = 1) -> str:
        with pytest.raises(DataError) as caught:
            check_splits(stripes_table(counts), stage, devices, "Own", {"val": "--val", "test": "--test"})
        return str(caught.value)

    assert lacks({"train": 14}, "test") == (
        "Own: 'test' needs the test split, which holds no sample (found: train 14); train with --test to set a test "
        "part aside"
    )
    assert lacks({"train": 14, "val": 7}, "predict").endswith(
        "(found: train 14, val 7); fer validate scores the validation split; train with --test to set a test part aside"
    )
    assert lacks({"val": 7}, "test").endswith("(found: val 7); fer validate scores the validation split")
    assert lacks({"train": 14}, "fit").endswith("(found: train 14); pass --val to split it off the training images")
    assert "3 devices cannot share the val split (found: train 14, val 2)" in lacks({"train": 14, "val": 2}, "fit", 3)
    check_splits(stripes_table({"train": 14, "val": 2}), "fit", 2, "Own")


def test_which_rows_of_a_large_group_are_tested_on_depends_on_the_seed() -> None:
    labels, groups = np.zeros(20, np.int64), np.repeat([0, 1], 10)
    contents = np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8)
    chosen = {
        tuple(
            np.flatnonzero(
                complete_splits(
                    np.full(20, ""), labels, groups, test_per_class=3, val_fraction=0, seed=seed, digests=contents
                )
                == "test"
            ).tolist()
        )
        for seed in range(8)
    }
    assert len(chosen) > 2  # more than one for each of the two groups


def test_a_twin_of_an_official_validation_row_is_not_tested_on() -> None:
    splits = np.array(["train"] * 40 + ["val"] * 20)
    groups = np.concatenate([np.arange(40), np.arange(20)])
    changed = complete_splits(splits, np.zeros(60, np.int64), groups, test_fraction=0.5)
    assert changed[40:].tolist() == ["val"] * 20
    assert changed[:20].tolist() == ["train"] * 20
    assert (changed == "test").sum() == 10


def test_too_many_test_rows_are_refused() -> None:
    labels = array([0] * 9 + [1] * 4)
    for count in (4, 40):
        with pytest.raises(
            DataError, match=f"test_per_class {count}: (sad has 4|happy has 9) images, and some must stay"
        ):
            complete_splits(np.full(13, ""), labels, np.arange(13), test_per_class=count, class_names=["happy", "sad"])
    with pytest.raises(DataError, match="class 0 has 9 images, and some must stay for training that are not linked"):
        complete_splits(np.full(13, ""), labels, np.repeat([0, 1], [9, 4]), test_per_class=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.0}, "data.val_fraction must be at least 0 and below 1, not 1"),
        ({"val_fraction": float("nan")}, "data.val_fraction must be at least 0 and below 1, not nan"),
        ({"test_fraction": -0.1}, "data.test_fraction must be at least 0 and below 1, not -0.1"),
        ({"test_per_class": 0}, "data.test_per_class must be at least 1, not 0"),
    ],
)
def test_wrong_shares_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete_splits(np.array(["train", "val", "test"]), array([0, 0, 0]), np.arange(3), **options)
