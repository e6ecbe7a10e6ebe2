"""Losses of samples that do not all count the same."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.losses import LogitAdjustedLoss, WeightedCrossEntropy

__all__ = ["check_weighable", "weighted_loss"]


def check_weighable(criterion: nn.Module) -> None:
    """Raise ``ConfigError`` if a loss cannot weigh its samples."""
    plain = isinstance(criterion, nn.CrossEntropyLoss) and criterion.weight is None and criterion.reduction == "mean"
    if not plain and not isinstance(criterion, (LogitAdjustedLoss, WeightedCrossEntropy)):
        raise ConfigError(
            f"data.group_balance weights: {type(criterion).__name__} cannot weigh samples; take "
            "torch.nn.CrossEntropyLoss without weights, a loss of fer_lightning, or --data.group_balance draws"
        )


def weighted_loss(criterion: nn.Module, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of the losses of samples times their weights ``(N,)``; of weights 1 it is the loss itself.

    Raises:
        ConfigError: see ``check_weighable``.
    """
    check_weighable(criterion)
    if isinstance(criterion, nn.CrossEntropyLoss):
        smoothing = criterion.label_smoothing
        return (F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing) * weight).mean()
    loss: Tensor = criterion(logits, target, weight)
    return loss
