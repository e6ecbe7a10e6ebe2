"""How often each class is expected: by the loss of a training step, and by the decision everywhere else."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from fer_lightning.class_weights import log_prior
from fer_lightning.errors import ConfigError

__all__ = ["PriorCorrection"]


class PriorCorrection:
    """What the frequencies of the classes add to the logits, in training and outside it.

    Args:
        in_training: add ``log q`` to the logits that the loss gets, q the shares in which an epoch draws the classes
            (balanced softmax, arXiv:2007.10740, with the drawn shares).
        tau: decide by ``z + tau log pi``, pi the shares of the training images; ``None`` for 1 with ``in_training``,
            else 0.
        num_classes: K.

    Attributes:
        class_counts: training images of each class, by name in label order; ``None`` while they are not known.
    """

    def __init__(self, in_training: bool, tau: float | None, num_classes: int) -> None:
        self.in_training = in_training
        self.tau = float(in_training) if tau is None else tau
        self.num_classes = num_classes
        self.class_counts: dict[str, int] | None = None

    def trained(self, logits: Tensor, data: object) -> Tensor:
        """Return the logits that the training loss gets, float32 ``(N, K)`` as those of the network.

        Raises:
            ConfigError: if the data module's ``draws`` of each class are needed and it has none.
        """
        if not self.in_training:
            return logits
        draws = getattr(data, "draws", None)
        if draws is None:
            raise ConfigError("model.prior_correction needs a data module that says how often it draws each class")
        return logits + _log_prior_on(tuple(draws.values()), logits.device)

    def shift(self) -> Tensor | None:
        """Return ``tau log pi``, float32 ``(K,)`` on the CPU; ``None`` while that needs class counts not known yet."""
        if self.tau == 0:
            return torch.zeros(self.num_classes)
        if self.class_counts is None:
            return None
        return self.tau * _log_prior_on(tuple(self.class_counts.values()), torch.device("cpu"))

    def check(self) -> None:
        """Raise ``ConfigError`` if ``tau`` is not 0 and the class counts are not known."""
        if self.tau != 0 and self.class_counts is None:
            raise ConfigError(
                f"model.tau {self.tau:g} needs the training samples of each class, which the checkpoint does not hold"
            )


@lru_cache(maxsize=8)
def _log_prior_on(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Return ``log_prior`` of class counts, float32 ``(K,)`` on a device."""
    with torch.inference_mode(False):  # what is kept must serve training too
        return torch.from_numpy(log_prior(counts)).float().to(device)
