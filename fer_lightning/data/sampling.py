"""Samplers and loaders whose order is a function of (seed, epoch), so that a run can stop and go on anywhere.

Lightning keeps the position of a run in its loop counters. The loader below asks for that position each time it is
iterated, and the sampler starts there: nothing of its own needs to be saved, and worker counts may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fer_lightning.data.randomness import draw_keys
from fer_lightning.types import Batch

__all__ = ["Draw", "EpochSampler", "ResumableLoader"]

Draw = tuple[int, int]
"""Row of the samples table and random key of one draw."""


class EpochSampler(Sampler[Draw]):
    """Every row once per epoch, in an order that is a pure function of (seed, epoch).

    All processes build the same global order and take every ``world``-th slot of it, padded by repetition so that all
    have equally many.

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
        return -(-len(self.drawn_rows) // self.world)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of an epoch in the order of their slots, for all processes together."""
        generator = torch.Generator().manual_seed(abs(self.seed) * 1_000_003 + epoch)
        order = self.drawn_rows[torch.randperm(len(self.drawn_rows), generator=generator).numpy()]
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


class ResumableLoader(DataLoader[Batch]):
    """A training loader that starts where the trainer stands.

    ``__iter__`` is a generator: nothing is drawn or prefetched before the first batch is asked for, which is after
    Lightning has restored its counters.

    Args:
        dataset: gives whole batches through ``__getitems__``.
        sampler: what is drawn, in which order.
        position: returns (epoch, number of batches of it already processed).
        **options: further arguments of :class:`torch.utils.data.DataLoader`.
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
        """Accept what :meth:`state_dict` returned."""
