"""Options of a resumed run that its checkpoint would silently set back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from fer_lightning.models.task import EmotionTask
from fer_lightning.optim import StepSchedule
from fer_lightning.runs.lineage import Change

__all__ = ["ChangedOptions", "scale_rates", "set_option"]

_OPTIMIZER = "model.optimizer"
_SCHEDULER = "model.lr_scheduler"
_CALLBACKS = "trainer.callbacks."


class ChangedOptions(Callback):
    """Makes changed options of optimizer, schedule and callbacks count in a resumed run.

    Their state in the checkpoint holds the old values, which torch and Lightning restore over the new ones. A changed
    learning rate scales the rates of all parameter groups and of the schedule; other options are set. If the optimizer
    or the schedule is of another class now, the stored state is dropped. A new schedule of ours then begins at the
    current step, one of torch's at its start. Without ``changes`` it does nothing.
    """

    def __init__(self) -> None:
        self.changes: Sequence[Change] = ()

    def _exchanged(self, key: str) -> bool:
        return any(change.key == key for change in self.changes)

    def _options(self, prefix: str) -> list[tuple[str, Change]]:
        """Return the changed options directly under a key, by name."""
        found = [(change.key.removeprefix(prefix), change) for change in self.changes if change.key.startswith(prefix)]
        return [(name, change) for name, change in found if "." not in name]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave out the state of what was exchanged."""
        if self._exchanged(_OPTIMIZER):
            checkpoint["optimizer_states"] = []
        if self._exchanged(_SCHEDULER) or self._exchanged(_OPTIMIZER):
            checkpoint["lr_schedulers"] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the changed options, now that the checkpoint is restored."""
        schedules: list[Any] = [config.scheduler for config in trainer.lr_scheduler_configs]
        plateau = pl_module.plateau.schedule if isinstance(pl_module, EmotionTask) else None
        schedules += [] if plateau is None else [plateau]
        for name, change in self._options(f"{_OPTIMIZER}."):
            for optimizer in trainer.optimizers:
                if name == "lr":
                    scale_rates(optimizer, schedules, change.before, change.after)
                else:
                    set_option(optimizer, name, change.before, change.after)
        if self._exchanged(_SCHEDULER) or self._exchanged(_OPTIMIZER):
            for schedule in schedules:
                if isinstance(schedule, StepSchedule):  # it knows the whole run, so it can begin in the middle
                    schedule.last_epoch = trainer.global_step
                    schedule.plan(trainer.estimated_stepping_batches)
        for name, change in self._options(f"{_SCHEDULER}."):
            for schedule in schedules:
                _set_attribute(schedule, name, change.after)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for name, change in self._options(f"{_CALLBACKS}{type(callback).__name__}."):
                _set_attribute(callback, name, change.after)


def scale_rates(optimizer: Optimizer, schedules: Sequence[Any], before: float, after: float) -> None:
    """Multiply the rates of optimizer and schedules by ``after / before``; shares and the schedule's place stay."""

    def scaled(rate: Any) -> Any:
        if isinstance(rate, Tensor):
            return rate * (after / before)
        return after if rate == before else rate * (after / before)

    for group in optimizer.param_groups:
        for key in ("lr", "initial_lr"):
            if key in group:
                group[key] = scaled(group[key])
    for schedule in schedules:
        for name in ("base_lrs", "_last_lr"):
            if hasattr(schedule, name):
                setattr(schedule, name, [scaled(rate) for rate in getattr(schedule, name)])


def set_option(optimizer: Optimizer, name: str, before: Any, after: Any) -> None:
    """Set an option of the parameter groups that have the old value; others, such as no decay for norms, stay."""
    before, after = (tuple(value) if isinstance(value, list) else value for value in (before, after))
    for group in (*optimizer.param_groups, optimizer.defaults):
        if name in group and (group[name] == before or before is None):
            group[name] = after


def _set_attribute(target: Any, name: str, value: Any) -> None:
    if hasattr(target, name):
        setattr(target, name, value)
