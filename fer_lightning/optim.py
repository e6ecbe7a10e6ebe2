"""Parameter groups and learning-rate schedules that know the length of the run."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fer_lightning.errors import ConfigError

__all__ = ["StepSchedule", "WarmupCosine", "parameter_groups"]


def parameter_groups(module: nn.Module, decay_norm_and_bias: bool = False) -> list[dict[str, object]]:
    """Split the trainable parameters into those with and those without weight decay.

    Vectors and scalars (biases, the gains of normalisation layers, class tokens) are not decayed unless asked for
    (He et al. 2019, arXiv:1812.01187, section 3.1).

    Returns:
        Groups for an optimizer; the second one carries ``weight_decay: 0``. Empty groups are left out.
    """
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decayed if decay_norm_and_bias or parameter.ndim > 1 else plain).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class StepSchedule(LRScheduler):
    """Base of schedules that move at every optimizer step and need to know how many there will be.

    The task calls :meth:`plan` once the trainer knows the number of steps.
    """

    total_steps: int | None = None

    def plan(self, total_steps: float) -> None:
        """Set the number of optimizer steps of the whole run and start at the first one.

        Raises:
            ConfigError: if the run has no known end.
        """
        if not math.isfinite(total_steps) or total_steps < 1:
            raise ConfigError(
                f"{type(self).__name__} must know the length of the run: set trainer.max_epochs or trainer.max_steps"
            )
        self.total_steps = int(total_steps)
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def factor(self, progress: float) -> float:
        """Return the multiplier of the base learning rate at ``progress`` in 0..1."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each group."""
        if self.total_steps is None:  # while the base class initialises itself, before `plan`
            return list(self.base_lrs)
        factor = self.factor(min(1.0, self.last_epoch / self.total_steps))
        return [base * factor for base in self.base_lrs]


class WarmupCosine(StepSchedule):
    """Linear warm-up, then half a cosine down to a floor (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Args:
        optimizer: the optimizer whose rates are set; its ``lr`` is the highest rate.
        warmup: share of the run spent warming up, 0..1.
        start: first rate as a share of the highest.
        final: last rate as a share of the highest.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.1, start: float = 0.04, final: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise ConfigError(f"WarmupCosine: warmup is a share of the run in 0..1, not {warmup}")
        self.warmup = warmup
        self.start = start
        self.final = final
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """Return the multiplier of the base learning rate at ``progress`` in 0..1."""
        if progress < self.warmup:
            return self.start + (1 - self.start) * progress / self.warmup
        turned = (progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * turned))
