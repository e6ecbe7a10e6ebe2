"""Parameter groups, shares of the learning rate, and schedules that know the length of the run.

Any optimizer and schedule of torch takes their place by class_path: ``MultiStepLR``, ``CosineAnnealingWarmRestarts``
and the like move once an epoch, ``ReduceLROnPlateau`` after each validation. Those of ours move at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fer_lightning.errors import ConfigError

__all__ = ["OneCycle", "PlateauWatch", "ScaledRates", "StepSchedule", "WarmupCosine", "parameter_groups"]


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


class ScaledRates:
    """An optimizer factory that gives some parameters a share of the learning rate.

    Args:
        make: the factory to call.
        factors: the share for each parameter, by identity; 1 for those that are not among them.
    """

    def __init__(self, make: Callable[[Iterable[Any]], Optimizer], factors: Mapping[nn.Parameter, float]) -> None:
        self.make = make
        self.factors = factors
        self.rates: list[float] = []

    def __call__(self, parameters: Iterable[Any]) -> Optimizer:
        """Make the optimizer, with each group of ``parameters`` split into one group per share."""
        given = list(parameters)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        split: list[dict[str, Any]] = []
        for group in groups:
            shares: dict[float, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                shares.setdefault(self.factors.get(parameter, 1.0), []).append(parameter)
            # The full rate first: loggers and progress displays that show one rate show that of the first group.
            for share in sorted(shares, reverse=True):
                split.append({**group, "params": shares[share], "lr_factor": share})
        optimizer = self.make(split)
        for made in optimizer.param_groups:
            made["lr"] *= made.get("lr_factor", 1.0)
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        return optimizer

    def check(self, optimizer: Optimizer) -> None:
        """Raise ``ConfigError`` if the schedule has set rates of its own, without the shares."""
        first = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        kept = [start / rate for start, rate in zip(first, self.rates, strict=True) if rate > 0]
        if any(not math.isclose(ratio, kept[0], rel_tol=1e-6) for ratio in kept):
            raise ConfigError(
                "the schedule sets the learning rates itself (as OneCycleLR and CyclicLR do), and the shares of "
                "backbone_lr_factor and layer_lr_decay are lost: set both to 1 or choose another model.lr_scheduler "
                "(OneCycle keeps them)"
            )


class StepSchedule(LRScheduler):
    """Base of schedules that move at every optimizer step and need to know how many there will be.

    The task calls ``plan`` once the trainer knows the number of steps. A run that is resumed with another length
    goes on where the schedule of that length stands at its step.
    """

    total_steps: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what changes in training; the length of the run is planned anew."""
        state: dict[str, Any] = super().state_dict()
        state.pop("total_steps", None)
        return state

    def plan(self, total_steps: float) -> None:
        """Set the number of steps of the run and start at the first; ``ConfigError`` if it has no end."""
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


class OneCycle(StepSchedule):
    """Up to the highest rate and far down again, momentum the other way round (Smith 2018, arXiv:1803.09820).

    As ``torch.optim.lr_scheduler.OneCycleLR``, whose defaults these are, but with the length of the run, the highest
    rate and the shares of the parameter groups taken from the run and the optimizer.

    Args:
        optimizer: the optimizer whose rates are set; its ``lr`` is the highest rate.
        peak: share of the run after which the rate is highest, above 0 and below 1.
        start: first rate as a share of the highest.
        final: last rate as a share of the highest.
        momentum: lowest and highest momentum (or first beta of Adam); the optimizer has to use one. ``null`` leaves it
            as it is.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        peak: float = 0.3,
        start: float = 0.04,
        final: float = 4e-6,
        momentum: tuple[float, float] | None = (0.85, 0.95),
    ) -> None:
        if not 0 < peak < 1:
            raise ConfigError(f"OneCycle: peak is a share of the run between 0 and 1, not {peak}")
        if momentum is not None:
            if not 0 <= momentum[0] <= momentum[1] < 1:
                raise ConfigError(f"OneCycle: momentum must be two ascending values in 0..1, not {tuple(momentum)}")
            if any("betas" not in group and not group.get("momentum") for group in optimizer.param_groups):
                raise ConfigError(
                    f"OneCycle: {type(optimizer).__name__} uses no momentum: give it one, or set momentum: null"
                )
        self.peak = peak
        self.start = start
        self.final = final
        self.momentum = momentum
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """Return the multiplier of the base learning rate at ``progress`` in 0..1."""
        if progress < self.peak:
            return _eased(self.start, 1.0, progress / self.peak)
        return _eased(1.0, self.final, (progress - self.peak) / (1 - self.peak))

    def momentum_at(self, progress: float) -> float | None:
        """Return the momentum at ``progress`` in 0..1, ``None`` if it is left alone."""
        if self.momentum is None:
            return None
        low, high = self.momentum
        if progress < self.peak:
            return _eased(high, low, progress / self.peak)
        return _eased(low, high, (progress - self.peak) / (1 - self.peak))

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each group and set its momentum, as torch's ``OneCycleLR`` does."""
        if self.total_steps is not None:
            momentum = self.momentum_at(min(1.0, self.last_epoch / self.total_steps))
            for group in self.optimizer.param_groups if momentum is not None else []:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return super().get_lr()


class PlateauWatch:
    """Lets a ``ReduceLROnPlateau`` look at a metric after each validation.

    Lightning would do that after the epoch's checkpoint is written, and lose one step whenever a run is resumed.

    Args:
        monitor: name of the metric.

    Attributes:
        schedule: the schedule, ``None`` while there is none.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.schedule: ReduceLROnPlateau | None = None
        self._stored: dict[str, Any] | None = None

    def take(self, schedule: ReduceLROnPlateau) -> None:
        """Take the schedule of a run, and give it the state that was loaded before, if any."""
        self.schedule = schedule
        self.load_state_dict(self._stored)

    def step(self, values: Mapping[str, Tensor]) -> None:
        """Show the schedule scalars by name of a validation; ``ConfigError`` if the watched one is missing."""
        if self.schedule is None:
            return
        if self.monitor not in values:
            raise ConfigError(f"model.monitor '{self.monitor}' is not logged; known: {', '.join(sorted(values))}")
        self.schedule.step(float(values[self.monitor]))

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the schedule; ``None`` without one."""
        return None if self.schedule is None else self.schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Load the state of a schedule, now or as soon as there is one; ``None`` changes nothing."""
        self._stored = state
        if self.schedule is not None and state is not None:
            self.schedule.load_state_dict(state)


def _eased(first: float, last: float, share: float) -> float:
    """Return a value between two, after a share (0..1) of half a cosine.

    Example:
        >>> [_eased(0.0, 1.0, share) for share in (0.0, 0.5, 1.0)]
        [0.0, 0.5, 1.0]
    """
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))
