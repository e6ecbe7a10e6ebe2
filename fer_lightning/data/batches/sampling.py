"""Samplers and loaders whose order is a function of (seed, epoch), so that a run can stop and go on anywhere.

Lightning keeps the position of a run in its loop counters. The loader below asks for that position each time it is
iterated, and the sampler starts there: nothing of its own needs to be saved, and worker counts may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fer_lightning.errors import ConfigError
from fer_lightning.randomness import draw_keys
from fer_lightning.types import Batch

__all__ = ["Draw", "EpochSampler", "QuotaSampler", "ResumableLoader"]

Draw = tuple[int, int]
"""Row of the samples table and random key of one draw."""


class EpochSampler(Sampler[Draw]):
    """Every row once per epoch, in an order that is a pure function of (seed, epoch).

    All processes build the same global order and take every ``world``-th slot of it. What is left over at its end is
    left out, other rows in each epoch: so all have equally many, and ``world`` processes with batches of B do the steps
    of one process with batches of ``world`` times B, over the same rows.

    Args:
        rows: int64 ``(N,)``: rows of the samples table to draw from.
        seed: seed of the run, the same on every process.
        rank: number of this process.
        world: number of processes.
    """

    def __init__(self, rows: NDArray[np.int64], seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.drawn_rows = rows
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.skip = 0

    def __len__(self) -> int:
        return _share(len(self.drawn_rows), self.world)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of an epoch in the order of their slots, for all processes together."""
        order = self.drawn_rows[_permutation(len(self.drawn_rows), self.seed, epoch)]
        return np.resize(order, len(self) * self.world)

    def start_at(self, epoch: int, skip: int) -> None:
        """Choose the epoch, and how many of this process's draws are already done in it."""
        self.epoch = epoch
        self.skip = skip

    def __iter__(self) -> Iterator[Draw]:
        order = self.order(self.epoch)
        slots = np.arange(self.rank + self.skip * self.world, len(order), self.world)
        keys = draw_keys(self.seed, self.epoch, slots)
        return zip(order[slots].tolist(), keys.tolist(), strict=True)


def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    generator = torch.Generator().manual_seed(abs(seed) * 1_000_003 + epoch)
    order: NDArray[np.int64] = torch.randperm(count, generator=generator).numpy()
    return order


def _share(draws: int, world: int) -> int:
    """Return how many draws each process gets: as many as all can have, and at least one, by repetition."""
    return max(draws // world, 1)


class QuotaSampler(EpochSampler):
    """A given number of draws of each class per epoch, in an order that is a pure function of (seed, epoch, quotas).

    Each class is shuffled once. Every epoch takes the next ``quota`` rows of that list, from where the epoch before it
    stopped and wrapping at its end. Of ``n`` rows each is thus drawn ``quota / n`` times in an epoch, rounded down or
    up; while the quotas stay, all are drawn equally often over time. The draws of all classes are shuffled together.

    Further to those of ``EpochSampler``:

    Args:
        labels: int64 ``(N,)``: label of each of the rows.
        quotas: draws of each class in an epoch, ``(K,)`` whole numbers in label order.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        quotas: Sequence[int] | NDArray[np.int64],
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(rows, seed, rank, world)
        shuffled = _permutation(len(rows), seed, -1)  # as an epoch before the first
        shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
        counts = np.bincount(labels, minlength=len(quotas))
        self._decks = np.split(rows[shuffled], np.cumsum(counts)[:-1])
        self.set_quotas(quotas)

    def set_quotas(self, quotas: Sequence[int] | NDArray[np.int64]) -> None:
        """Choose the draws of each class, ``(K,)``, from the next iteration on.

        Another sum is another number of batches, which a trainer reads once, before its first epoch.

        Raises:
            ConfigError: if there is not one quota for each class, one is negative, all are 0, or a class without rows
                has one.
        """
        chosen = np.array(quotas, np.int64)
        if len(chosen) != len(self._decks):
            raise ConfigError(f"sampler: {len(chosen)} quotas for {len(self._decks)} classes")
        if chosen.min() < 0 or not chosen.any():
            raise ConfigError(f"sampler: the quotas must be 0 or more and not all 0, not {chosen.tolist()}")
        for label, deck in enumerate(self._decks):
            if chosen[label] and not len(deck):
                raise ConfigError(f"sampler: {chosen[label]} draws of class {label}, which has no rows")
        self._quotas = chosen

    def __len__(self) -> int:
        return _share(int(self._quotas.sum()), self.world)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of an epoch in the order of their slots, for all processes together."""
        drawn = np.concatenate(
            [
                deck[(epoch * quota + np.arange(quota)) % len(deck)]
                for deck, quota in zip(self._decks, self._quotas.tolist(), strict=True)
                if quota
            ]
        )
        return np.resize(drawn[_permutation(len(drawn), self.seed, epoch)], len(self) * self.world)


class ResumableLoader(DataLoader[Batch]):
    """A training loader that starts where the trainer stands.

    ``__iter__`` is a generator: nothing is drawn or prefetched before the first batch is asked for, which is after
    Lightning has restored its counters.

    Args:
        dataset: gives whole batches through ``__getitems__``.
        sampler: what is drawn, in which order.
        position: returns (epoch, number of batches of it already processed).
        **options: further arguments of ``torch.utils.data.DataLoader``.
    """

    sampler: EpochSampler

    def __init__(
        self, dataset: Dataset[Batch], sampler: EpochSampler, position: Callable[[], tuple[int, int]], **options: Any
    ) -> None:
        super().__init__(dataset, sampler=sampler, **options)
        self._position = position

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator on purpose, see the class docstring
        epoch, done = self._position()
        self.sampler.start_at(epoch, done * (self.batch_size or 1))
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the position is in the trainer's counters. Its presence tells Lightning so."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept what ``state_dict`` returned."""
