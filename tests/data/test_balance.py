from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_lightning.data.splitting.balance import Balance, cap_classes, draws_per_class, largest_remainder, parse_balance
from fer_lightning.errors import ConfigError, DataError

COUNTS = {"angry": 30, "disgust": 4, "fear": 0, "happy": 70}
NONE, OVERSAMPLE, WEIGHTED = Balance(), Balance("oversample"), Balance("weighted")


def rows_of(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return labels of unequal classes and digests, some of which occur twice."""
    labels = rng.choice(4, rows, p=[0.5, 0.3, 0.15, 0.05]).astype(np.int64)
    digests = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    digests[rng.choice(rows, rows // 10)] = digests[rng.choice(rows, rows // 10)]
    return labels, digests


def content(labels: NDArray[np.int64], digests: NDArray[np.uint8]) -> list[tuple[int, bytes]]:
    return sorted((label, row.tobytes()) for label, row in zip(labels.tolist(), digests, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", NONE),
        ("cap:500", Balance("cap", 500)),
        (" Cap: 1 ", Balance("cap", 1)),
        ("oversample", OVERSAMPLE),
        ("weighted", WEIGHTED),
    ],
)
def test_parse(text: str, expected: Balance) -> None:
    assert parse_balance(text) == expected
    assert parse_balance(text).resamples == (text in ("oversample", "weighted"))


@pytest.mark.parametrize(
    "text", ["", "balanced", "cap", "cap:", "cap:0", "cap:-3", "cap:1.5", "cap:five", "cap:1:2", "none:3", "weighted:"]
)
def test_parse_refuses_anything_else(text: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown balance '{text}', expected none, cap:<n> .*, oversample or wei"):
        parse_balance(text)


@given(st.integers(1, 200), st.integers(1, 60), st.integers(-5, 2**40))
@settings(max_examples=40, deadline=None)
def test_cap_keeps_exactly_n_where_there_are_so_many(rows: int, n: int, seed: int) -> None:
    labels, digests = rows_of(np.random.default_rng(rows), rows)
    keep = cap_classes(labels, digests, n, seed)
    for label in range(4):
        assert np.count_nonzero(keep & (labels == label)) == min(n, np.count_nonzero(labels == label))


def test_cap_does_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    labels, digests = rows_of(rng, 300)
    order = rng.permutation(300)
    keep, again = cap_classes(labels, digests, 20, 3), cap_classes(labels[order], digests[order], 20, 3)
    assert content(labels[keep], digests[keep]) == content(labels[order][again], digests[order][again])


def test_cap_is_by_hash_of_seed_and_digest() -> None:
    digests = np.random.default_rng(1).integers(0, 256, (50, 16), dtype=np.uint8)
    by_hash = sorted(range(50), key=lambda row: hashlib.blake2b(b"9:" + digests[row].tobytes(), digest_size=8).digest())
    keep = cap_classes(np.zeros(50, np.int64), digests, 12, 9)
    assert set(np.flatnonzero(keep)) == set(by_hash[:12])


def test_another_seed_keeps_other_rows_and_a_smaller_cap_fewer_of_the_same() -> None:
    labels, digests = rows_of(np.random.default_rng(0), 300)
    keep = cap_classes(labels, digests, 20, 3)
    assert keep.tolist() != cap_classes(labels, digests, 20, 4).tolist()
    assert not (cap_classes(labels, digests, 8, 3) & ~keep).any()


def test_copies_of_an_image_come_last() -> None:
    digests = np.repeat(np.arange(5, dtype=np.uint8)[:, None], 16, axis=1)[[0, 1, 1, 2, 1, 3, 4, 0]]
    labels = np.zeros(8, np.int64)
    for seed in range(10):
        assert len(np.unique(digests[cap_classes(labels, digests, 5, seed)], axis=0)) == 5
        assert np.bincount(digests[cap_classes(labels, digests, 7, seed), 0]).tolist() == [2, 2, 1, 1, 1]


def test_the_same_image_under_two_labels_counts_for_both() -> None:
    keep = cap_classes(np.array([0, 1, 0]), np.zeros((3, 16), np.uint8), 1, 0)
    assert keep.tolist() == [True, True, False]


def test_cap_of_no_rows() -> None:
    assert cap_classes(np.zeros(0, np.int64), np.zeros((0, 16), np.uint8), 3, 0).tolist() == []


def test_cap_refuses_nonsense() -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        cap_classes(np.zeros(2, np.int64), np.zeros((2, 16), np.uint8), 0, 0)
    with pytest.raises(DataError, match="2 labels but 3 digests"):
        cap_classes(np.zeros(2, np.int64), np.zeros((3, 16), np.uint8), 1, 0)


@pytest.mark.parametrize(
    ("balance", "multipliers", "expected"),
    [
        (NONE, None, [30, 4, 0, 70]),
        (Balance("cap", 100), None, [30, 4, 0, 70]),
        (NONE, {"disgust": 3, "happy": 0.25}, [30, 12, 0, 18]),
        (NONE, {"anger": 0.75, "disgust": 1.125}, [23, 5, 0, 70]),  # halves, 22.5 and 4.5, are rounded up
        (OVERSAMPLE, None, [70, 70, 0, 70]),
        (OVERSAMPLE, {"anger": 0.5, "fear": 9}, [35, 70, 0, 70]),
        (WEIGHTED, None, [35, 35, 0, 34]),
        (WEIGHTED, {"disgust": 2}, [26, 52, 0, 26]),
        (WEIGHTED, {"happy": 0}, [52, 52, 0, 0]),
    ],
)
def test_draws(balance: Balance, multipliers: dict[str, float] | None, expected: list[int]) -> None:
    draws = draws_per_class(COUNTS, balance, multipliers)
    assert list(draws) == list(COUNTS)
    assert list(draws.values()) == expected


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=9).filter(any), st.floats(0.1, 9))
@settings(max_examples=80, deadline=None)
def test_weighted_keeps_the_length_of_the_epoch(counts: list[int], factor: float) -> None:
    named = {f"class{label}": count for label, count in enumerate(counts)}
    draws = list(draws_per_class(named, WEIGHTED, {"class0": factor}).values())
    assert sum(draws) == sum(counts)
    present = [quota for quota, count in zip(draws[1:], counts[1:], strict=True) if count]
    assert max(present, default=0) - min(present, default=0) <= 1
    assert all(quota == 0 for quota, count in zip(draws, counts, strict=True) if not count)
    if counts[0]:
        assert abs(draws[0] - sum(counts) * factor / (factor + len(present))) < 1 + 1e-6


@pytest.mark.parametrize("balance", [NONE, OVERSAMPLE, WEIGHTED])
def test_draws_refuse_nonsense(balance: Balance) -> None:
    with pytest.raises(ConfigError, match="no training image is left to draw"):
        draws_per_class({"a": 0, "b": 0}, balance)
    with pytest.raises(ConfigError, match="no training image is left to draw"):
        draws_per_class({"a": 0, "b": 5}, balance, {"b": 0})
    with pytest.raises(ConfigError, match="'c' is none of the classes a, b"):
        draws_per_class({"a": 1, "b": 1}, balance, {"c": 2})


def test_multipliers_that_round_everything_away_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave no image to draw"):
        draws_per_class({"a": 3}, NONE, {"a": 0.1})


def test_largest_remainder_by_hand() -> None:
    # Seats of 10 by 41.6 : 33.7 : 24.7 are 4.16, 3.37, 2.47: the last has the largest remainder.
    assert largest_remainder(np.array([41.6, 33.7, 24.7]), 10).tolist() == [4, 3, 3]
    assert largest_remainder(np.array([1.0, 1.0, 1.0, 0.0]), 5).tolist() == [2, 2, 1, 0]
    assert largest_remainder(np.array([0.1, 0.3]), 0).tolist() == [0, 0]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9).filter(lambda s: sum(s) > 1e-3), st.integers(0, 10**7))
@settings(max_examples=80, deadline=None)
def test_largest_remainder_sums_up_and_is_less_than_one_off(shares: list[float], total: int) -> None:
    whole = largest_remainder(np.array(shares), total)
    assert whole.sum() == total
    assert (np.abs(whole - total * np.array(shares) / sum(shares)) < 1 + 1e-6).all()


def test_remainders_that_differ_in_their_last_bit_are_equal() -> None:
    assert 100.3 - 100 < 1.3 - 1
    assert largest_remainder(np.array([100.3, 1.3, 0.2, 0.2]), 102).tolist() == [101, 1, 0, 0]
