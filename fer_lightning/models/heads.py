"""Heads: what turns features ``(N, F)`` into logits ``(N, K)``.

A head is made by calling it with the number of features and of classes, in this order; everything else is configured.
Any callable that does the same takes its place by class_path.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.errors import ConfigError

__all__ = ["CosineHead", "LinearHead", "MLPHead"]


class LinearHead(nn.Module):
    """One linear layer, behind dropout.

    Args:
        in_features: width of the backbone's features.
        num_classes: number of logits.
        dropout: probability of dropping a feature. Added to what the backbone itself drops.
    """

    def __init__(self, in_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        _check(in_features, num_classes, dropout)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, F)`` to logits ``(N, K)``."""
        logits: Tensor = self.fc(self.dropout(features))
        return logits


class MLPHead(nn.Module):
    """One hidden layer with ReLU, and dropout in front of the last layer.

    Args:
        in_features: width of the backbone's features.
        num_classes: number of logits.
        hidden: width of the hidden layer.
        dropout: probability of dropping a hidden value.
    """

    def __init__(self, in_features: int, num_classes: int, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        _check(in_features, num_classes, dropout)
        if hidden < 1:
            raise ConfigError(f"hidden must be at least 1, got {hidden}")
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, F)`` to logits ``(N, K)``."""
        logits: Tensor = self.layers(features)
        return logits


class CosineHead(nn.Module):
    """Cosines of the features with a direction for each class, times a scale (Wang et al. 2018, arXiv:1801.05599).

    How long features and weights are does not count. ``LDAMLoss`` is meant for such logits and brings its own
    scale of 30: give this head ``scale: 1`` there.

    Args:
        in_features: width of the backbone's features.
        num_classes: number of logits.
        scale: factor of the cosines; with cross-entropy it must be well above 1 (30 in the paper).
        learn_scale: train the scale too; it stays above 0.
        dropout: probability of dropping a feature.
    """

    def __init__(
        self, in_features: int, num_classes: int, scale: float = 30.0, learn_scale: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check(in_features, num_classes, dropout)
        if not (math.isfinite(scale) and scale > 0):
            raise ConfigError(f"the scale of a cosine head must be above 0, got {scale}")
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, in_features)))
        log_scale = torch.tensor(math.log(scale))  # a logarithm, so that it stays above 0
        self.log_scale: Tensor
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, F)`` to logits ``(N, K)``, within plus and minus the scale."""
        directions = F.normalize(self.dropout(features).float())  # the length of a half-precision vector can overflow
        cosines = F.linear(directions, F.normalize(self.weight))
        return cosines * self.log_scale.exp()


def _check(in_features: int, num_classes: int, dropout: float) -> None:
    """Raise ``ConfigError`` for sizes that make no head."""
    if in_features < 1:
        raise ConfigError(f"a head needs at least 1 feature, got {in_features}")
    if num_classes < 2:
        raise ConfigError(f"a head needs at least 2 classes, got {num_classes}")
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout must be at least 0 and less than 1, got {dropout}")
