"""Sharpness-aware minimisation: each step takes the gradient of the worst point nearby."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from fer_lightning.errors import ConfigError
from fer_lightning.models.task import EmotionTask

__all__ = ["SAM", "SAMOptimizer"]

_ETA = 0.01  # Kwon et al. 2021, section 4: keeps weights at zero from standing still
_TINY = 1e-12


class SAMOptimizer(Optimizer):
    """Another optimizer, with the gradient at ``w + e`` in place of ``w``: ``e`` has length ``rho`` and leads uphill.

    Foret et al. 2021, arXiv:2010.01412, algorithm 1. Groups, state and state dict are those of the other optimizer, so
    schedules and checkpoints work as with it alone.

    Args:
        base: the optimizer that makes the step.
        rho: length of ``e``, or, if adaptive, of ``e / |w|``.
        adaptive: measure the length relative to each weight (Kwon et al. 2021, arXiv:2102.11600, equation 8).
        again: entered around the second evaluation of the closure.
    """

    def __init__(
        self, base: Optimizer, rho: float, adaptive: bool, again: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.base = base
        self.rho = rho
        self.adaptive = adaptive
        self.again = again
        super().__init__(base.param_groups, base.defaults)
        self.param_groups = base.param_groups
        self.state = base.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate the closure at the weights and at the worst point nearby, then make the step from the weights.

        Raises:
            ConfigError: without a closure, which computes loss and gradients.
        """
        if closure is None:
            raise ConfigError("SAM evaluates each batch twice and needs a step with a closure")
        random = self._random_state()
        with torch.enable_grad():
            loss = closure()
        saved = self._climb()
        try:
            random()
            with torch.enable_grad(), self.again():
                closure()
        finally:
            with torch.no_grad():
                for parameter, value in saved:
                    parameter.copy_(value)  # not subtracted: that would round
        self.base.step()
        return loss

    def _random_state(self) -> Callable[[], None]:
        """Return what brings the present random numbers back, so that dropout drops the same."""
        places = {parameter.device for group in self.param_groups for parameter in group["params"]}
        on_host = torch.get_rng_state()
        on_devices = {place: torch.cuda.get_rng_state(place) for place in places if place.type == "cuda"}

        def restore() -> None:
            torch.set_rng_state(on_host)
            for place, state in on_devices.items():
                torch.cuda.set_rng_state(state, place)

        return restore

    @torch.no_grad()
    def _climb(self) -> list[tuple[Tensor, Tensor]]:
        """Move the parameters to the worst point nearby and return them with their values."""
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not moved:
            return []
        scales = [p.abs() + _ETA for p in moved] if self.adaptive else [torch.ones((), device=p.device) for p in moved]
        scaled = [p.grad * scale for p, scale in zip(moved, scales, strict=True)]
        norms = [torch.linalg.vector_norm(gradient) for gradient in scaled]
        length = self.rho / (torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms])) + _TINY)
        saved = [(p, p.clone()) for p in moved]
        for parameter, gradient, scale in zip(moved, scaled, scales, strict=True):
            parameter.add_(gradient * scale * length.to(parameter.device, parameter.dtype))
        return saved

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the other optimizer: there is no further one."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the other optimizer."""
        self.base.load_state_dict(state_dict)
        self.param_groups = self.base.param_groups
        self.state = self.base.state


class SAM(Callback):
    """Sharpness-aware minimisation around the model's optimizer (Foret et al. 2021, arXiv:2010.01412).

    Each step evaluates its batch twice and so takes twice as long. Both evaluations see the same augmented images and
    the same dropout; only the first one counts in running statistics of batch norm, metrics and logs. Gradients are
    clipped as without it. There is no state: a resumed run goes on exactly.

    Refused: accumulated gradients (the worst point belongs to one batch), fp16 with its gradient scaler (use bf16), and
    strategies that share parameters out.

    Args:
        rho: how far away the worst point may be; 0.05 in the paper, 0.5 to 2 if adaptive.
        adaptive: measure that relative to each weight (Kwon et al. 2021, arXiv:2102.11600).

    Raises:
        ConfigError: for a ``rho`` that is not above 0.
    """

    def __init__(self, rho: float = 0.05, adaptive: bool = False) -> None:
        if not (math.isfinite(rho) and rho > 0):
            raise ConfigError(f"SAM: rho is a distance above 0, not {rho}")
        self.rho = rho
        self.adaptive = adaptive
        self._make: Callable[[Iterable[Any]], Optimizer] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wrap the optimizer before it is made; raise ``ConfigError`` for a trainer that does not allow that."""
        if stage != TrainerFn.FITTING:
            return
        if not isinstance(pl_module, EmotionTask):
            raise ConfigError(f"SAM needs an EmotionTask, got {type(pl_module).__name__}")
        if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise ConfigError(f"SAM cannot run under {type(trainer.strategy).__name__}: use one device or ddp")
        precision = trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is not None:
            raise ConfigError("SAM does not work with 16-mixed (scaled gradients): use --trainer.precision bf16-mixed")
        self._refuse_accumulation(trainer)
        self._give_back(pl_module)  # after a run that failed
        self._make = make = pl_module.make_optimizer

        def sharpness_aware(parameters: Iterable[Any]) -> Optimizer:
            return SAMOptimizer(make(parameters), self.rho, self.adaptive, lambda: self._again(pl_module))

        pl_module.make_optimizer = sharpness_aware

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Raise ``ConfigError`` if a schedule accumulates gradients from this epoch on."""
        self._refuse_accumulation(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the task its optimizer back."""
        if stage == TrainerFn.FITTING:
            self._give_back(pl_module)

    @contextmanager
    def _again(self, task: EmotionTask) -> Iterator[None]:
        """Let the task compute a batch a second time, without changing metrics, logs or batch norm statistics."""
        norms = [module for module in task.modules() if isinstance(module, _NormBase) and module.track_running_stats]
        task.repeated = True
        for norm in norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            task.repeated = False
            for norm in norms:
                norm.track_running_stats = True

    def _give_back(self, task: LightningModule) -> None:
        if self._make is not None and isinstance(task, EmotionTask):
            task.make_optimizer, self._make = self._make, None

    @staticmethod
    def _refuse_accumulation(trainer: Trainer) -> None:
        if trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                f"SAM cannot accumulate gradients over {trainer.accumulate_grad_batches} batches: set "
                "trainer.accumulate_grad_batches to 1 and take a larger data.batch_size"
            )
