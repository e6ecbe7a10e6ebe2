from __future__ import annotations

import hashlib

import numpy as np
import torch

from fer_lightning.randomness import draw_keys, order_key, uniform


def test_numbers_are_uniform_and_unrelated() -> None:
    keys = torch.from_numpy(draw_keys(0, 0, np.arange(20_000)))
    draws = uniform(keys, 3)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert torch.allclose(draws.mean(dim=0), torch.full((3,), 0.5), atol=0.01)
    assert torch.allclose(draws.var(dim=0), torch.full((3,), 1 / 12), atol=0.005)
    counts = torch.histc(draws[:, 0], 20, 0, 1)
    assert ((counts - 1000).abs() < 150).all()
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.03
    assert abs(float(torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1])) < 0.03


def test_streams_seeds_and_epochs_differ() -> None:
    keys = torch.from_numpy(draw_keys(0, 0, np.arange(1000)))
    others = [draw_keys(0, 1, np.arange(1000)), draw_keys(1, 0, np.arange(1000))]
    base = uniform(keys, 1)[:, 0]
    for other in [uniform(keys, 1, stream=1)[:, 0], *(uniform(torch.from_numpy(k), 1)[:, 0] for k in others)]:
        assert abs(float(torch.corrcoef(torch.stack([base, other]))[0, 1])) < 0.1


def test_a_key_belongs_to_its_slot_alone() -> None:
    assert (draw_keys(3, 5, np.array([7, 9])) == draw_keys(3, 5, np.arange(10))[[7, 9]]).all()
    assert len(np.unique(draw_keys(3, 5, np.arange(100_000)))) == 100_000


def test_an_order_is_a_hash_of_seed_purpose_and_content() -> None:
    assert order_key(7, b"x") == hashlib.blake2b(b"7:x", digest_size=16).digest()
    assert order_key(7, b"x", b"order:", 8) == hashlib.blake2b(b"order:7:x", digest_size=8).digest()
