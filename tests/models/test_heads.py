from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.heads import LinearHead, MLPHead


@pytest.mark.parametrize("head", [LinearHead, MLPHead, partial(LinearHead, dropout=0.2), partial(MLPHead, hidden=3)])
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


@pytest.mark.parametrize("head", [LinearHead, MLPHead])
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
