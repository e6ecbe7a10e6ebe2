"""What is asked of a loss: that it takes logits and labels, and weighs samples that do not all count the same."""

from __future__ import annotations

import copy
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.losses import LogitAdjustedLoss, WeightedCrossEntropy
from fer_lightning.text import first_line

__all__ = ["check_takes_labels", "check_weighable", "weighted_loss"]


def check_takes_labels(criterion: nn.Module, num_classes: int) -> None:
    """Raise ``ConfigError`` if a loss does not map logits ``(N, K)`` and labels ``(N,)`` to a number."""
    name, instead = type(criterion).__name__, "take torch.nn.CrossEntropyLoss or one of fer_lightning.losses"
    if isinstance(criterion, nn.NLLLoss):
        raise ConfigError(f"model.loss: {name} wants logarithms of probabilities, and networks give logits: {instead}")
    logits, labels = torch.zeros(2, num_classes), torch.arange(2)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = copy.deepcopy(criterion).cpu().eval()(logits, labels)
    except FERError:  # it says itself what it lacks
        raise
    except Exception as error:  # a loss raises whatever it meets
        taken = f"logits (N, {num_classes}) and labels (N,)"
        raise ConfigError(f"model.loss: {name} does not take {taken} ({first_line(error)}): {instead}") from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ConfigError(f"model.loss: {name} gives no single number for a batch: {instead}, with reduction: mean")


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
