"""Train the head first and the backbone later, one layer group after another."""

from __future__ import annotations

import math
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fer_lightning.errors import ConfigError
from fer_lightning.models.layer_groups import RateShares, layer_groups, parameters_by_group
from fer_lightning.models.task import EmotionTask

__all__ = ["GradualUnfreezing"]


class GradualUnfreezing(Callback):
    """Trains the head first, then the backbone's layer groups from the top (Howard and Ruder 2018, arXiv:1801.06146).

    Give either ``every`` or ``schedule``. The groups are those of
    ``layer_groups``, of any timm network and of ours. Frozen parameters have
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
        backbone_lr_factor: sets ``model.backbone_lr_factor``, the learning rate of the backbone's top group as a share
            of the head's; 1 leaves it as it is.
        group_lr_decay: sets ``model.layer_lr_decay``, the learning rate of each group as a share of the one above it.

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
        self._before: RateShares | None = None  # the task's own

    def decide(self, epoch: int, total: int) -> tuple[int, str]:
        """Return how many of ``total`` groups train in an epoch, counted from the top, and why."""
        if self.every is not None:
            count = min(epoch // self.every, total)
            often = "epoch" if self.every == 1 else f"{self.every} epochs"
            return count, "all" if count == total else f"one more after every {often}"
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
        self._give_back_rates(pl_module)  # after a run that failed
        own = RateShares(self.backbone_lr_factor, self.group_lr_decay)
        if own != RateShares():
            if pl_module.rates != RateShares():
                raise ConfigError(
                    "both GradualUnfreezing (backbone_lr_factor, group_lr_decay) and the model (backbone_lr_factor, "
                    "layer_lr_decay) set shares of the learning rate: choose one"
                )
            self._before, pl_module.rates = pl_module.rates, own

    def _find_groups(self, task: EmotionTask) -> None:
        backbone = task.classifier.backbone
        norms: dict[str, nn.Module] = {}
        for name, module in backbone.named_modules():
            if isinstance(module, _NormBase):
                norms |= {f"{name}.{buffer}".lstrip("."): module for buffer, _ in module.named_buffers(recurse=False)}
        self._parameters = parameters_by_group(task, backbone)
        self._norms = [
            list({norms[name]: None for name in group.buffers if name in norms}) for group in layer_groups(backbone)
        ]

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
            self._give_back_rates(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Do the same after an error, but for the shares of the rate: a checkpoint may still be written."""
        self._apply(len(self._parameters))
        self._epoch = None

    def _give_back_rates(self, task: LightningModule) -> None:
        if self._before is not None and isinstance(task, EmotionTask):
            task.rates, self._before = self._before, None


def _checked(schedule: dict[int, int | Literal["all"]]) -> dict[int, int | Literal["all"]]:
    """Return the schedule in the order of its epochs."""
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
    """Raise ``ConfigError`` for strategies under which ``requires_grad`` must not change."""
    if isinstance(strategy, SingleDeviceStrategy):
        return
    options = strategy._ddp_kwargs if isinstance(strategy, DDPStrategy) else {}
    if not options.get("find_unused_parameters", False) or options.get("static_graph", False):
        raise ConfigError(
            f"GradualUnfreezing cannot run under {type(strategy).__name__} as it is set up: parameters get no gradient "
            "while they are frozen. Use one device or --trainer.strategy ddp_find_unused_parameters_true"
        )
