"""A second head that learns the votes which the data gives beside the labels; training alone uses it."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.backbones import feature_width
from fer_lightning.types import Batch, Preprocessing

__all__ = ["AuxiliaryHead", "auxiliary_head", "with_votes"]


class AuxiliaryHead(nn.Linear):
    """A linear head on the features of a classifier; ``loss_weight`` is the factor of its loss in that of training."""

    def __init__(self, in_features: int, num_classes: int, loss_weight: float) -> None:
        super().__init__(in_features, num_classes)
        self.loss_weight = loss_weight


def auxiliary_head(
    backbone: nn.Module, preprocessing: Preprocessing, num_classes: int, weight: float
) -> AuxiliaryHead | None:
    """Return an auxiliary head for a backbone; ``None`` for a weight of 0, ``ConfigError`` below it."""
    if not (math.isfinite(weight) and weight >= 0):
        raise ConfigError(f"model.aux_weight must be at least 0, not {weight:g}")
    if weight == 0:
        return None
    width = feature_width(backbone, preprocessing["channels"], preprocessing["image_size"])
    return AuxiliaryHead(width, num_classes, weight)


def with_votes(loss: Tensor, head: AuxiliaryHead | None, features: Tensor, batch: Batch) -> Tensor:
    """Return a training loss with that of the auxiliary head on the votes of the batch added, both scalars.

    Features are ``(N, F)``.

    Raises:
        ConfigError: if there are votes and no auxiliary head, or the other way round.
    """
    if (head is None) == ("votes" in batch):
        raise ConfigError(
            "model.aux_weight and data.soft_label_role go together: votes are learned by an auxiliary head "
            "(--model.aux_weight 0.4), which learns nothing else (--data.soft_label_role votes, with soft labels)"
        )
    if head is None:
        return loss
    return loss + head.loss_weight * F.cross_entropy(head(features).float(), batch["votes"])
