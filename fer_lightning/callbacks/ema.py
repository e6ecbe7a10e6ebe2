"""An exponential moving average of the weights, updated by one call for all tensors of a kind."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fer_lightning.errors import ConfigError

__all__ = ["EMA"]


class EMA(EMAWeightAveraging):
    """Lightning's ``EMAWeightAveraging``, faster: it averages tensor by tensor and makes copies on the way.

    Validation, test and the best checkpoint have the averaged weights, running statistics of batch norm included.

    Args:
        decay: share of the average that stays at each step, 0..1.
        update_every_n_steps: optimizer steps between updates.
        update_starting_at_step: first optimizer step that counts; ``null`` for the first.

    Raises:
        ConfigError: for a decay outside 0..1.
    """

    def __init__(
        self, decay: float = 0.998, update_every_n_steps: int = 1, update_starting_at_step: int | None = None
    ) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"EMA: decay must be at least 0 and below 1, not {decay}")
        if update_every_n_steps < 1:
            raise ConfigError(f"EMA: update_every_n_steps must be at least 1, not {update_every_n_steps}")
        options: dict[str, Any] = {"multi_avg_fn": get_ema_multi_avg_fn(decay)}  # type: ignore[no-untyped-call]  # not typed
        # Past the parent, which hands over a function for single tensors, and torch takes one or the other.
        WeightAveraging.__init__(self, use_buffers=True, **options)
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch: int | None = None
