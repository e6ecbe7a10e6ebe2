from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.data.sampling import EpochSampler

ROWS = np.arange(100, 131)


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
    assert {len(part) for part in parts} == {-(-len(ROWS) // world)}
    woven = [draw for group in zip(*parts, strict=True) for draw in group]
    assert woven[: len(ROWS)] == list(EpochSampler(ROWS, seed=2))
