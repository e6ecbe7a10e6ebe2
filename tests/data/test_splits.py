from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_lightning.data.splits import drop_overlap, grouped_stratified_holdout
from fer_lightning.errors import ConfigError, DataError

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
