"""The metrics of each split and the mean loss of training, summed up over an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fer_lightning.metrics import EmotionMetrics, MeanLoss, load_sums, saved_sums

__all__ = ["EpochScores", "Split", "score_names"]

Split = Literal["train", "val", "test"]
"""A split that is scored."""


def score_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the scores of a split, as they are logged behind ``val_`` and the like."""
    metrics = EmotionMetrics(class_names)
    metrics.update(torch.zeros(1, len(class_names)), torch.zeros(1, dtype=torch.int64))
    return tuple(metrics.compute())


class EpochScores(nn.Module):
    """Sums of an epoch; they follow the task to its device and are not part of its ``state_dict``."""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self.of_train, self.of_val, self.of_test = (EmotionMetrics(class_names) for _ in range(3))
        self.train_loss = MeanLoss()

    def of(self, split: Split) -> EmotionMetrics:
        """Return the metrics of a split."""
        return {"train": self.of_train, "val": self.of_val, "test": self.of_test}[split]

    def computed(self, split: Split) -> dict[str, Tensor]:
        """Return the scores of a split that are numbers, float32 scalars by name (``val_acc``), and start anew.

        Of the training split the mean loss is one of them.

        Raises:
            LabelError: if a label was outside ``0..K-1``.
            NonFiniteError: if a logit was NaN or infinite.
        """
        values = {} if split != "train" else {"loss": self.train_loss.compute()}
        values |= {name: value for name, value in self.of(split).compute().items() if not torch.isnan(value)}
        for sums in self._of_training if split == "train" else [self.of(split)]:
            sums.reset()
        return {f"{split}_{name}": value for name, value in values.items()}

    @property
    def _of_training(self) -> list[EmotionMetrics | MeanLoss]:
        return [self.train_loss, self.of_train]

    def forget_training(self) -> None:
        """Discard what was summed up of a training epoch that was left before its end."""
        for sums in self._of_training:
            sums.reset()

    def saved(self, alone: bool) -> list[dict[str, Tensor]]:
        """Return what the training epoch has summed up so far, see ``saved_sums``."""
        return saved_sums(self._of_training, alone)

    def load(self, sums: list[dict[str, Tensor]]) -> None:
        """Go on with the sums of a checkpoint, see ``load_sums``."""
        load_sums(self._of_training, sums)
