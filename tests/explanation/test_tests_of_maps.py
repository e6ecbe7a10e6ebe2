"""The tests that maps are put to: covered pixels, random weights."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from fer_lightning.explanation.occlusion import STEPS, blurred, covering_curves
from fer_lightning.explanation.randomised import cascade, number_of_stages, rank_correlations
from tests.explanation.test_layers import VIT, classifier


def left_half(images: Tensor) -> Tensor:
    """Return probabilities that follow from the brightness of the left half alone."""
    shown = images[..., :4].mean((1, 2, 3))
    return torch.stack([shown, 1 - shown], dim=1)


def test_covering_what_matters_first_is_better_than_covering_it_last() -> None:
    images, fill, labels = torch.ones(3, 1, 8, 8), torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)
    good = np.zeros((8, 8), np.float32)
    good[:, :4] = 1
    curves = covering_curves(left_half, images, fill, labels, good)
    wanted = np.clip(1 - np.arange(STEPS) / 4, 0, 1)
    np.testing.assert_allclose(curves.deletion, wanted, atol=1e-6)
    np.testing.assert_allclose(curves.insertion, 1 - wanted, atol=1e-6)
    assert curves.areas == pytest.approx((0.25, 0.75))
    bad = covering_curves(left_half, images, fill, labels, np.broadcast_to(1 - good, (3, 8, 8)))
    assert bad.areas == pytest.approx((0.75, 0.25))


def test_a_blur_leaves_the_mean_and_nothing_else() -> None:
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    soft = blurred(images)
    assert soft.shape == images.shape
    torch.testing.assert_close(soft.mean((2, 3)), images.mean((2, 3)), atol=0.02, rtol=0)
    assert soft.std() < 0.2 * images.std()


def test_weights_become_random_from_the_head_down() -> None:
    network, fresh = classifier("fer_b_fast"), classifier("fer_b_fast")
    with torch.no_grad():
        for tensor in fresh.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(1)
    before = copy.deepcopy(network.state_dict())
    source, changed = fresh.state_dict(), []
    for stage, other in cascade(network, fresh):
        state = other.state_dict()
        new = {name for name in source if name.endswith(("weight", "bias")) and torch.equal(state[name], source[name])}
        changed.append((stage, new))
    assert [stage for stage, _ in changed] == ["head", "stages.2", "stages.1", "stages.0", "stem.0"]
    assert len(changed) == number_of_stages(network)
    assert changed[0][1] == {"head.fc.weight", "head.fc.bias"}
    assert all(first < second for (_, first), (_, second) in pairwise(changed))
    assert changed[-1][1] == {name for name in source if name.endswith(("weight", "bias"))}
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_what_is_not_stored_with_the_weights_stays() -> None:
    network = classifier("fer_b_fast")
    network.backbone.stages[0].register_buffer("places", torch.arange(3), persistent=False)  # type: ignore[index,union-attr]  # a Sequential
    for _, other in cascade(network, classifier("fer_b_fast")):
        assert other.backbone.stages[0].places.tolist() == [0, 1, 2]  # type: ignore[index,union-attr]  # likewise


def test_a_deep_network_becomes_random_in_a_few_stages() -> None:
    network = classifier("vit_tiny_patch16_224", **{**VIT, "depth": 12})
    assert len(list(cascade(network, network))) == number_of_stages(network) == 7


def test_rank_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((5, 6, 6)).astype(np.float32).clip(0.5)
    second = (first + rng.random((5, 6, 6))).astype(np.float32)
    wanted = [spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlations(first, second), wanted)
    assert np.isnan(rank_correlations(first, np.zeros_like(second))).all()
