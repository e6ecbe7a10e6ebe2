"""Random numbers that are a function of where a sample stands in a run, not of what was drawn before.

Every draw of a sample has an int64 *key*, made of (seed, epoch, slot). Augmentation derives its numbers from that key
alone, so they do not depend on batch size, worker count, number of devices or interruptions.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["draw_keys", "order_key", "uniform"]

# SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), constants as signed 64-bit integers.
_GAMMA = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def draw_keys(seed: int, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the key of each slot of an epoch, int64 ``(N,)``; different (seed, epoch, slot) give unrelated keys.

    Args:
        seed: seed of the run.
        epoch: number of the epoch.
        slots: int64 ``(N,)``: position of each draw in the epoch's global order.
    """
    start = np.random.SeedSequence([abs(seed), epoch]).generate_state(1, np.uint64)
    with np.errstate(over="ignore"):
        mixed = _splitmix_numpy(slots.astype(np.uint64) + start)
    return mixed.view(np.int64)


def _splitmix_numpy(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value * np.uint64(_GAMMA % 2**64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MIX_1 % 2**64)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MIX_2 % 2**64)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


def order_key(seed: int, content: bytes, purpose: bytes = b"", size: int = 16) -> bytes:
    """Return a hash of (seed, content): whoever sorts by it gets an order that depends on nothing else.

    It is the same on every machine, for every version of every library, and whatever order the contents come in.

    Args:
        seed: another seed gives an unrelated order.
        content: what is put in order, such as the digest of an image.
        purpose: orders of different purposes are unrelated.
        size: bytes of the hash, 1 to 64.
    """
    return hashlib.blake2b(b"%s%d:%s" % (purpose, seed, content), digest_size=size).digest()


def uniform(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Return independent uniform numbers in [0, 1) for each key, float32 ``(N, count)``.

    Args:
        keys: int64 ``(N,)``, on any device.
        count: how many numbers for each key.
        stream: numbers of different streams are independent of each other.
    """
    offset = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) + stream * 1_000_003
    value = keys[:, None] + offset * _GAMMA
    value = (value ^ _shift_right(value, 30)) * _MIX_1
    value = (value ^ _shift_right(value, 27)) * _MIX_2
    value = value ^ _shift_right(value, 31)
    return _shift_right(value, 40).to(torch.float32) * 2.0**-24


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Shift without copying the sign bit, which torch's ``>>`` does for int64."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
