from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.heads import CosineHead, LinearHead, MLPHead


@pytest.mark.parametrize(
    "head", [LinearHead, MLPHead, CosineHead, partial(LinearHead, dropout=0.2), partial(MLPHead, hidden=3)]
)
def test_a_head_is_made_from_two_numbers(head: Callable[[int, int], nn.Module]) -> None:
    assert head(12, 7)(torch.rand(5, 12)).shape == (5, 7)


def test_linear_head_is_one_layer() -> None:
    head = LinearHead(12, 7).eval()
    features = torch.rand(5, 12)
    torch.testing.assert_close(head(features), features @ head.fc.weight.T + head.fc.bias)
    assert sum(p.numel() for p in head.parameters()) == 12 * 7 + 7


def test_mlp_head_has_one_hidden_layer() -> None:
    head = MLPHead(12, 7, hidden=20)
    assert sum(p.numel() for p in head.parameters()) == 12 * 20 + 20 + 20 * 7 + 7


@pytest.mark.parametrize("head", [partial(LinearHead, dropout=0.5), MLPHead])
def test_dropout_acts_in_training_only(head: Callable[[int, int], nn.Module]) -> None:
    torch.manual_seed(0)
    built, features = head(64, 7), torch.rand(5, 64)
    assert not torch.equal(built(features), built(features))
    built.eval()
    assert torch.equal(built(features), built(features))


@pytest.mark.parametrize("head", [LinearHead, MLPHead, CosineHead])
@pytest.mark.parametrize(
    ("sizes", "dropout", "message"),
    [
        ((0, 7), 0.0, "at least 1 feature, got 0"),
        ((12, 1), 0.0, "at least 2 classes, got 1"),
        ((12, 7), 1.0, "less than 1, got 1.0"),
        ((12, 7), -0.5, "got -0.5"),
    ],
)
def test_bad_numbers_are_named(head: type[nn.Module], sizes: tuple[int, int], dropout: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        head(*sizes, dropout=dropout)


def test_hidden_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="hidden must be at least 1, got 0"):
        MLPHead(12, 7, hidden=0)


def test_cosine_head_gives_scaled_cosines() -> None:
    head = CosineHead(12, 7, scale=30)
    features = torch.rand(5, 12) - 0.5
    expected = 30 * torch.nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head(features * 100), expected, rtol=1e-4, atol=1e-4)
    assert head(torch.zeros(2, 12)).abs().max() == 0  # black images of a dry run


def test_the_scale_is_learned_if_asked_for() -> None:
    assert [name for name, _ in CosineHead(4, 2).named_parameters()] == ["weight"]
    head = CosineHead(4, 2, scale=10, learn_scale=True)
    torch.nn.functional.cross_entropy(head(torch.rand(3, 4)), torch.tensor([0, 1, 1])).backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
    assert head.log_scale.grad is not None
    assert float(head.log_scale.grad.abs()) > 0
    assert "log_scale" in CosineHead(4, 2).state_dict()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_a_scale_must_be_above_zero(scale: float) -> None:
    with pytest.raises(ConfigError, match="scale of a cosine head must be above 0"):
        CosineHead(4, 2, scale=scale)


def test_what_heads_compute_in_training() -> None:
    linear, hidden = LinearHead(6, 3, dropout=0.5), MLPHead(6, 3, hidden=8, dropout=0.5)
    cosine = CosineHead(6, 3, scale=4.0, dropout=0.5)
    first, last = hidden.layers[0], hidden.layers[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    by_hand: dict[nn.Module, Callable[[Tensor], Tensor]] = {
        linear: lambda x: F.linear(F.dropout(x), linear.fc.weight, linear.fc.bias),
        hidden: lambda x: last(F.dropout(first(x).clamp(min=0))),
        cosine: lambda x: 4 * F.cosine_similarity(F.dropout(x)[:, None], cosine.weight[None], dim=2),
    }
    features = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    for head, computed in by_hand.items():
        torch.manual_seed(0)
        found = head(features)
        torch.manual_seed(0)
        torch.testing.assert_close(found, computed(features))


def test_a_cosine_head_measures_half_precision_features_in_float32() -> None:
    head, features = CosineHead(64, 7), 300 * torch.randn(5, 64).half()  # whose squares float16 cannot hold
    found = head(features)
    assert found.dtype == torch.float32
    assert torch.equal(found, head(features.float()))
