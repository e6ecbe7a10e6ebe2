"""How long a network takes for faces that are cut out already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fer_lightning.inference.model import Backend

__all__ = ["milliseconds", "timed", "using_threads"]


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads inside of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def milliseconds(backend: Backend, images: Tensor, calls: int, warm_up: int = 3) -> list[float]:
    """Return the time of each of some calls, in milliseconds.

    Args:
        backend: answers on the CPU, so that a call has ended when it comes back.
        images: float32 ``(N, c, S, S)`` in 0..1: the batch of every call.
        calls: that are timed.
        warm_up: calls before, which are not.
    """
    return timed(partial(backend, images), calls, warm_up)


def timed(call: Callable[[], Any], calls: int, warm_up: int = 3) -> list[float]:
    """Return the time of each of some calls of anything, in milliseconds, without those before them."""
    times: list[float] = []
    for _ in range(warm_up + calls):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times[warm_up:]
