"""Train the head first and the backbone later, one layer group after another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from fer_lightning.errors import ConfigError
from fer_lightning.models.layer_groups import layer_groups
from fer_lightning.models.task import EmotionTask

__all__ = ["GradualUnfreezing", "ScaledRates"]

_BACKBONE = "classifier.backbone."


class ScaledRates:
    """An optimizer factory that gives some parameters a share of the learning rate.

    Args:
        make: the factory to call.
        factors: the share for each parameter, by identity; 1 for those that are not among them.
    """

    def __init__(self, make: OptimizerCallable, factors: dict[nn.Parameter, float]) -> None:
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
            # The full rate first: what shows one rate for the run shows that of the first group.
            for share in sorted(shares, reverse=True):
                split.append({**group, "params": shares[share], "lr_factor": share})
        optimizer = self.make(split)
        for made in optimizer.param_groups:
            made["lr"] *= made.get("lr_factor", 1.0)
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        return optimizer

    def check(self, optimizer: Optimizer) -> None:
        """Look whether the schedule kept the shares.

        Raises:
            ConfigError: if the schedule set rates of its own.
        """
        first = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        kept = [start / rate for start, rate in zip(first, self.rates, strict=True) if rate > 0]
        if any(not math.isclose(ratio, kept[0], rel_tol=1e-6) for ratio in kept):
            raise ConfigError(
                "GradualUnfreezing: the schedule sets the learning rates itself (as OneCycleLR and CyclicLR do), and "
                "backbone_lr_factor and group_lr_decay are lost: set both to 1 or choose another model.lr_scheduler"
            )


class GradualUnfreezing(Callback):
    """Trains the head first, then the backbone's layer groups from the top (Howard and Ruder 2018, arXiv:1801.06146).

    Give either ``every`` or ``schedule``. The groups are those of
    :func:`~fer_lightning.models.layer_groups.layer_groups`, of any timm network and of ours. Frozen parameters have
    ``requires_grad`` False and no gradient, so the optimizer leaves them alone, weight decay and momentum included;
    frozen batch norm uses and keeps its running statistics. Dropout stays as it is. All parameters are in the optimizer
    from the start: schedules see the same groups throughout, and what is frozen follows from the epoch alone, so there
    is nothing to restore on resume.

    Supported: one device, and DDP with ``--trainer.strategy ddp_find_unused_parameters_true``. Plain DDP waits for the
    gradients of frozen parameters, and FSDP and its like do not allow a change of ``requires_grad``: both are refused.

    Logged after each epoch: ``trainable_groups`` (of the backbone) and ``trainable_parameters`` (the head included).

    Args:
        every: one more group trains after each so many epochs; in the first ``every`` epochs the head alone.
        schedule: from which epoch on (the first is 0) how many groups train, counted from the top; ``all`` for the
            whole backbone. ``{5: all}`` trains the head for five epochs, then everything.
        backbone_lr_factor: learning rate of the backbone's top group as a share of the head's, in 0..1.
        group_lr_decay: learning rate of each group as a share of the one above it, in 0..1.

    Raises:
        ConfigError: for a schedule or factor that makes no sense.
    """

    def __init__(
        self,
        every: int | None = None,
        schedule: dict[int, int | Literal["all"]] | None = None,
        backbone_lr_factor: float = 1.0,
        group_lr_decay: float = 1.0,
    ) -> None:
        if (every is None) == (schedule is None):
            raise ConfigError("GradualUnfreezing: give either 'every' or 'schedule'")
        if every is not None and every < 1:
            raise ConfigError(f"GradualUnfreezing: 'every' is a number of epochs, at least 1, not {every}")
        for name, value in (("backbone_lr_factor", backbone_lr_factor), ("group_lr_decay", group_lr_decay)):
            if not 0.0 < value <= 1.0:
                raise ConfigError(f"GradualUnfreezing: {name} must be above 0 and at most 1, got {value}")
        self.every = every
        self.schedule = None if schedule is None else _checked(schedule)
        self.backbone_lr_factor = backbone_lr_factor
        self.group_lr_decay = group_lr_decay
        self._parameters: list[list[nn.Parameter]] = []
        self._norms: list[list[nn.Module]] = []
        self._frozen_norms: dict[nn.Module, bool] = {}  # and whether each was training before
        self._epoch: int | None = None
        self._count = 0

    def decide(self, epoch: int, total: int) -> tuple[int, str]:
        """Return how many of ``total`` groups train in an epoch, counted from the top, and why."""
        if self.every is not None:
            count = min(epoch // self.every, total)
            return count, "all" if count == total else f"one more after every {self.every} epochs"
        assert self.schedule is not None
        reached = [start for start in self.schedule if start <= epoch]
        if not reached:
            return 0, f"head only before epoch {min(self.schedule)}"
        asked = self.schedule[max(reached)]
        return (total if asked == "all" else min(asked, total)), f"schedule from epoch {max(reached)}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the layer groups and scale their learning rates, before the optimizer is made.

        Raises:
            ConfigError: for a task, strategy or number of groups with which this cannot work.
        """
        if stage != TrainerFn.FITTING:
            return
        if not isinstance(pl_module, EmotionTask):
            raise ConfigError(f"GradualUnfreezing needs an EmotionTask, got {type(pl_module).__name__}")
        _check_strategy(trainer.strategy)
        self._find_groups(pl_module)
        total = len(self._parameters)
        largest = max((count for count in (self.schedule or {}).values() if count != "all"), default=0)
        if largest > total:
            raise ConfigError(
                f"GradualUnfreezing: the schedule asks for {largest} groups, but the backbone "
                f"{type(pl_module.classifier.backbone).__name__} has {total} (or 'all')"
            )
        make = pl_module.make_optimizer
        make = make.make if isinstance(make, ScaledRates) else make  # fitted before
        factors = {
            parameter: self.backbone_lr_factor * self.group_lr_decay**depth
            for depth, group in enumerate(reversed(self._parameters))
            for parameter in group
        }
        pl_module.make_optimizer = ScaledRates(make, factors)

    def _find_groups(self, task: EmotionTask) -> None:
        backbone = task.classifier.backbone
        named = dict(backbone.named_parameters())
        every_name = task.named_parameters(remove_duplicate=False)
        outside = {parameter for name, parameter in every_name if not name.startswith(_BACKBONE)}  # tied to the head
        norms: dict[str, nn.Module] = {}
        for name, module in backbone.named_modules():
            if isinstance(module, _NormBase):
                norms |= {f"{name}.{buffer}".lstrip("."): module for buffer, _ in module.named_buffers(recurse=False)}
        self._parameters, self._norms = [], []
        for group in layer_groups(backbone):
            members = [named[name] for name in group.parameters]
            # What the network itself keeps fixed (a sine position table) stays fixed.
            self._parameters.append([p for p in members if p.requires_grad and p not in outside])
            self._norms.append(list({norms[name]: None for name in group.buffers if name in norms}))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look whether the schedule kept the shares of the learning rate."""
        assert isinstance(pl_module, EmotionTask)
        if isinstance(pl_module.make_optimizer, ScaledRates):
            for optimizer in trainer.optimizers:
                pl_module.make_optimizer.check(optimizer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Freeze and unfreeze for the epoch, and see that frozen batch norm is in eval mode.

        Here and not at the start of the epoch, which Lightning leaves out when it resumes inside one; and each time,
        since anything may have called ``train()`` meanwhile.
        """
        if trainer.current_epoch != self._epoch:
            self._epoch = trainer.current_epoch
            count, reason = self.decide(self._epoch, len(self._parameters))
            if self._apply(count):
                rank_zero_info(f"epoch {self._epoch}: {count} of {len(self._parameters)} layer groups train ({reason})")
        for norm in self._frozen_norms:
            if norm.training:
                norm.eval()

    def _apply(self, count: int) -> bool:
        """Let the top ``count`` groups train, freeze the others; tell whether that changes anything."""
        first = len(self._parameters) - count
        changed = False
        for index, (parameters, norms) in enumerate(zip(self._parameters, self._norms, strict=True)):
            trains = index >= first
            for parameter in parameters:
                changed |= parameter.requires_grad != trains
                parameter.requires_grad_(trains)
                if not trains:
                    parameter.grad = None
            for norm in norms:
                if not trains:
                    self._frozen_norms.setdefault(norm, norm.training)
                elif norm in self._frozen_norms:
                    norm.train(self._frozen_norms.pop(norm))
        self._count = count
        return changed

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was trained."""
        parameters = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        pl_module.log("trainable_groups", float(self._count), batch_size=1)
        pl_module.log("trainable_parameters", float(parameters), batch_size=1)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give back a network whose parameters can all be trained."""
        if stage == TrainerFn.FITTING:
            self._apply(len(self._parameters))
            self._epoch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Do the same after an error."""
        self.teardown(trainer, pl_module, TrainerFn.FITTING)

    def state_dict(self) -> dict[str, Any]:
        """Return the shares that are built into the optimizer's groups."""
        return {"backbone_lr_factor": self.backbone_lr_factor, "group_lr_decay": self.group_lr_decay}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with other shares: the optimizer's state would silently bring back the old ones.

        Raises:
            ConfigError: if they differ. The schedule may change.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        plain = {"backbone_lr_factor": 1.0, "group_lr_decay": 1.0}
        stored = checkpoint.get("callbacks", {}).get(self.state_key, plain)
        for name, value in self.state_dict().items():
            if stored[name] != value:
                raise ConfigError(
                    f"GradualUnfreezing: the checkpoint was trained with {name} {stored[name]:g}, not {value:g}: a "
                    f"resumed run keeps its optimizer, so set it back or start a new run"
                )


def _checked(schedule: dict[int, int | Literal["all"]]) -> dict[int, int | Literal["all"]]:
    """Return the schedule in the order of its epochs.

    Raises:
        ConfigError: if it is empty, has negative numbers, or freezes again what was unfrozen.
    """
    if not schedule:
        raise ConfigError("GradualUnfreezing: the schedule is empty; an example is {2: 1, 4: all}")
    ordered = dict(sorted(schedule.items()))
    before = 0.0
    for epoch, count in ordered.items():
        size = math.inf if count == "all" else count
        if epoch < 0 or size < 0:
            raise ConfigError(f"GradualUnfreezing: epochs and numbers of groups start at 0, got {epoch}: {count}")
        if size < before:
            raise ConfigError(f"GradualUnfreezing: {epoch}: {count} would freeze again what trains before that epoch")
        before = size
    return ordered


def _check_strategy(strategy: Strategy) -> None:
    """Raise :class:`ConfigError` for strategies under which ``requires_grad`` must not change."""
    if isinstance(strategy, SingleDeviceStrategy):
        return
    options = strategy._ddp_kwargs if isinstance(strategy, DDPStrategy) else {}
    if not options.get("find_unused_parameters", False) or options.get("static_graph", False):
        raise ConfigError(
            f"GradualUnfreezing cannot run under {type(strategy).__name__} as it is set up: parameters get no gradient "
            "while they are frozen. Use one device or --trainer.strategy ddp_find_unused_parameters_true"
        )
