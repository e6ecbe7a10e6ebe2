from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fer_lightning.data.batches.sampling import Draw, EpochSampler, QuotaSampler, ResumableLoader
from fer_lightning.errors import ConfigError
from fer_lightning.types import Batch

ROWS = np.arange(100, 131)
LABELS = np.array([0] * 20 + [1] * 3 + [3] * 8)[np.random.default_rng(0).permutation(31)]  # class 2 has no rows
QUOTAS = [13, 8, 0, 8]


def test_every_row_once_and_other_orders_in_other_epochs() -> None:
    sampler = EpochSampler(ROWS, seed=1)
    first = list(sampler)
    sampler.start_at(1, 0)
    second = list(sampler)
    assert sorted(row for row, _ in first) == ROWS.tolist()
    assert [row for row, _ in first] != [row for row, _ in second]
    assert not {key for _, key in first} & {key for _, key in second}


def test_order_depends_on_seed_and_epoch_alone() -> None:
    one, two = EpochSampler(ROWS, seed=4), EpochSampler(ROWS, seed=4)
    list(one)
    for sampler in (one, two):
        sampler.start_at(3, 0)
    assert list(one) == list(two)
    assert list(EpochSampler(ROWS, seed=5)) != list(EpochSampler(ROWS, seed=4))


@pytest.mark.parametrize("skip", [1, 7, 31])
def test_skipping_gives_the_rest(skip: int) -> None:
    sampler = EpochSampler(ROWS, seed=2)
    whole = list(sampler)
    sampler.start_at(0, skip)
    assert list(sampler) == whole[skip:]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_global_order(world: int) -> None:
    parts = [list(EpochSampler(ROWS, seed=2, rank=rank, world=world)) for rank in range(world)]
    woven = [draw for group in zip(*parts, strict=True) for draw in group]
    assert len(ROWS) - world < len(woven) <= len(ROWS)
    assert woven == list(EpochSampler(ROWS, seed=2))[: len(woven)]


def batches_of(world: int, batch: int, count: int) -> list[list[Draw]]:
    """Return what ``world`` processes draw together at each step of an epoch over ``count`` rows."""
    parts = [list(EpochSampler(np.arange(count), rank=rank, world=world)) for rank in range(world)]
    steps = len(parts[0]) // batch  # the loader drops a last batch that is not whole
    return [[draw for part in parts for draw in part[step * batch : (step + 1) * batch]] for step in range(steps)]


@pytest.mark.parametrize("count", range(16, 33))
def test_several_processes_do_the_steps_of_one_with_their_batches_together(count: int) -> None:
    alone = batches_of(1, 8, count)
    for world, batch in ((2, 4), (4, 2), (8, 1)):
        together = batches_of(world, batch, count)
        assert [sorted(step) for step in together] == [sorted(step) for step in alone]


def test_more_processes_than_rows_share_what_there_is() -> None:
    assert [row for rank in range(3) for row, _ in EpochSampler(np.array([7, 8]), rank=rank, world=3)] in (
        [7, 8, 7],
        [8, 7, 8],
    )


def quotas_of(seed: int = 1, rank: int = 0, world: int = 1, quotas: Sequence[int] = QUOTAS) -> QuotaSampler:
    return QuotaSampler(ROWS, LABELS, quotas, seed, rank, world)


def times_drawn(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each of ROWS stands in an order, int64 (31,)."""
    return np.bincount(order - ROWS[0], minlength=len(ROWS))


def test_a_known_order_has_not_changed() -> None:
    # Another one would break the resume of runs that began before it.
    assert EpochSampler(ROWS, seed=1).order(2).tolist() == [
        128, 122, 101, 102, 129, 106, 123, 104, 103, 124, 107, 126, 125, 120, 115, 114,
        112, 130, 117, 118, 111, 113, 116, 121, 119, 108, 100, 109, 110, 127, 105,
    ]  # fmt: skip
    quotas = QuotaSampler(np.arange(10), np.array([0, 1] * 5), [6, 4], seed=1)
    assert quotas.order(2).tolist() == [5, 0, 1, 3, 8, 4, 7, 6, 2, 8]


@pytest.mark.parametrize("quotas", [QUOTAS, [20, 3, 0, 8], [70, 70, 0, 70], [1, 0, 0, 7]])
def test_quotas_are_met_by_even_turns(quotas: list[int]) -> None:
    sampler = quotas_of(quotas=quotas)
    total = np.zeros(len(ROWS), np.int64)
    for epoch in range(9):
        times = times_drawn(sampler.order(epoch))
        total += times
        assert len(sampler) == times.sum() == sum(quotas)
        for label in (0, 1, 3):
            images = np.flatnonzero(np.equal(LABELS, label))
            share = quotas[label] / len(images)
            assert times[images].sum() == quotas[label]
            assert set(times[images]) <= {int(np.floor(share)), int(np.ceil(share))}
            assert total[images].max() - total[images].min() <= 1


def test_the_extra_turn_goes_to_other_images_in_other_epochs() -> None:
    sampler = quotas_of()
    extra = [frozenset(np.flatnonzero(times_drawn(sampler.order(epoch))[LABELS == 1] == 3)) for epoch in range(3)]
    assert len(set(extra)) == 3
    assert all(len(images) == 2 for images in extra)


def test_classes_are_shuffled_together() -> None:
    order = quotas_of(quotas=[300, 0, 0, 300]).order(0)
    changes = np.count_nonzero(np.diff(LABELS[order - ROWS[0]]))
    assert 240 < changes < 360  # of 599 neighbours about half differ


def test_quota_order_depends_on_seed_epoch_and_quotas_alone() -> None:
    one, two = quotas_of(), quotas_of()
    list(one)
    for sampler in (one, two):
        sampler.start_at(3, 0)
    assert list(one) == list(two)
    assert one.order(3).tolist() != one.order(4).tolist()
    assert one.order(3).tolist() != quotas_of(seed=2).order(3).tolist()
    two.set_quotas([5, 5, 0, 5])
    assert len(two) == 15
    assert two.order(3).tolist() == quotas_of(quotas=[5, 5, 0, 5]).order(3).tolist()
    two.set_quotas(QUOTAS)
    assert list(one) == list(two)


def test_the_sampler_keeps_its_own_quotas() -> None:
    quotas = np.array(QUOTAS)
    sampler = QuotaSampler(ROWS, LABELS, quotas)
    quotas[0] = 1000
    assert len(sampler) == sum(QUOTAS)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_draws_of_the_quotas(world: int) -> None:
    whole = list(quotas_of())
    parts = [list(quotas_of(rank=rank, world=world)) for rank in range(world)]
    woven = [draw for group in zip(*parts, strict=True) for draw in group]
    assert len(whole) - world < len(woven) <= len(whole)
    assert woven == whole[: len(woven)]
    assert len({key for _, key in woven}) == len(woven)


@pytest.mark.parametrize("skip", [1, 7, 29])
def test_skipping_gives_the_rest_of_the_quotas(skip: int) -> None:
    sampler = quotas_of(rank=0)
    sampler.start_at(2, 0)
    whole = list(sampler)
    sampler.start_at(2, skip)
    assert list(sampler) == whole[skip:]


class Rows(Dataset[Batch]):
    """Gives the drawn rows as they are."""

    def __getitems__(self, items: Sequence[Draw]) -> Batch:
        rows, keys = torch.tensor(items).unbind(1)
        return {"image": torch.zeros(len(rows), 1, 1, 1), "label": rows, "index": rows, "key": keys}


def as_it_is(batch: Batch) -> Batch:
    return batch


def loaded(epoch: int, done: int, workers: int) -> list[Draw]:
    """Return what a loader gives that starts after ``done`` batches of 4."""
    loader = ResumableLoader(
        Rows(), quotas_of(), lambda: (epoch, done), batch_size=4, num_workers=workers, collate_fn=as_it_is
    )
    return [draw for batch in loader for draw in zip(batch["index"].tolist(), batch["key"].tolist(), strict=True)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_quotas_starts_anywhere(workers: int) -> None:
    sampler = quotas_of()
    sampler.start_at(1, 0)
    whole = list(sampler)
    assert loaded(1, 0, workers) == whole
    assert loaded(1, 3, workers) == whole[12:]


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ([1, 1, 1, 1], "1 draws of class 2, which has no rows"),
        ([1, -1, 0, 1], "0 or more and not all 0, not \\[1, -1, 0, 1\\]"),
        ([0, 0, 0, 0], "0 or more and not all 0"),
        ([1, 1, 0], "3 quotas for 4 classes"),
    ],
)
def test_wrong_quotas_are_refused(quotas: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quotas_of(quotas=quotas)
    if len(quotas) == 4:
        sampler = quotas_of()
        with pytest.raises(ConfigError, match=message):
            sampler.set_quotas(quotas)
        assert len(sampler) == sum(QUOTAS)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions are called meanwhile, of Python and of C."""
    calls, before = 0, sys.getprofile()

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def test_an_epoch_of_a_large_set_calls_nothing_per_row() -> None:
    labels = np.random.default_rng(0).choice(8, 450_000, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.02, 0.02, 0.01])
    sampler = QuotaSampler(np.arange(450_000), labels, [56_250] * 8)
    drawn: list[Draw] = []
    assert calls_of(lambda: drawn.extend(sampler)) < 45_000  # a tenth of the rows; the first call also imports
    assert len(drawn) == 450_000


@pytest.mark.parametrize("make", [EpochSampler, partial(QuotaSampler, labels=LABELS, quotas=QUOTAS)])
def test_processes_that_skip_share_the_rest(make: Callable[..., EpochSampler]) -> None:
    whole = list(make(ROWS, seed=2))
    for world in (2, 3):
        parts = [make(ROWS, seed=2, rank=rank, world=world) for rank in range(world)]
        for part in parts:
            part.start_at(0, 4)
        woven = [draw for group in zip(*parts, strict=True) for draw in group]
        assert woven == whole[4 * world : len(whole) // world * world]


def test_who_is_drawn_more_often_does_not_follow_the_table() -> None:
    once = [set(QuotaSampler(ROWS, 0 * ROWS, [15], seed).order(0).tolist()) for seed in range(3)]
    assert all(4 < len(rows & set(ROWS[:15].tolist())) < 11 for rows in once)  # 7.3 are expected
    assert len(set(map(frozenset, once))) == 3


def test_whole_decks_are_shuffled_anew_in_each_epoch() -> None:
    sampler = quotas_of(quotas=[20, 3, 0, 8])
    patterns = {tuple(LABELS[sampler.order(epoch) - ROWS[0]]) for epoch in range(3)}
    assert len(patterns) == 3


def test_the_last_classes_may_have_neither_rows_nor_draws() -> None:
    sampler = QuotaSampler(np.arange(4), np.array([0, 1, 0, 1]), [2, 2, 0, 0])
    assert sorted(sampler.order(0).tolist()) == [0, 1, 2, 3]
