"""Train on small images first and on those of full size at the end."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import ConfigError
from fer_lightning.models.backbones import feature_width
from fer_lightning.models.task import EmotionTask

__all__ = ["ProgressiveSize"]

_SMALLEST = 8  # pixels, as everywhere


class ProgressiveSize(Callback):
    """Makes training batches smaller in the first part of the run (Howard 2018; Tan and Le 2021, arXiv:2104.00298).

    Batches are resized on the device, before augmentation; validation and test are at full size always. The size
    follows from the epoch alone, so there is nothing to restore on resume. Networks that work at one size only are
    refused before training.

    Args:
        schedule: from which share of the epochs on, 0..1, images have which side in pixels: ``{0: 32, 0.5: 40, 0.8:
            48}``. Before the first share, and if nothing else is said, they have the full size of the data.

    Raises:
        ConfigError: for a schedule that makes no sense.
    """

    def __init__(self, schedule: dict[float, int]) -> None:
        if not schedule:
            raise ConfigError("ProgressiveSize: the schedule is empty; an example is {0: 32, 0.5: 40, 0.8: 48}")
        for share, side in schedule.items():
            if not 0 <= share < 1:
                raise ConfigError(f"ProgressiveSize: {share:g} is no share of the run (0 up to below 1)")
            if side < _SMALLEST:
                raise ConfigError(f"ProgressiveSize: a side must be at least {_SMALLEST} pixels, not {side}")
        self.schedule = dict(sorted(schedule.items()))
        self._data: EmotionDataModule | None = None
        self._side: int | None = None

    def decide(self, progress: float, full: int) -> tuple[int, str]:
        """Return the side of training images at ``progress`` (epochs done over epochs to do, 0..1), and why.

        ``full`` is the data's side; both in pixels.
        """
        reached = [share for share in self.schedule if share <= progress + 1e-9]  # 0.1 + 0.2 is a little above 3 / 10
        if not reached:
            return full, f"full size before {min(self.schedule):g} of the run"
        return self.schedule[max(reached)], f"from {max(reached):g} of the run on"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the data module; raise ``ConfigError`` if data or network cannot do it."""
        if stage != TrainerFn.FITTING:
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, EmotionTask) or not isinstance(data, EmotionDataModule):
            raise ConfigError("ProgressiveSize needs an EmotionTask and an EmotionDataModule")
        if not trainer.max_epochs or trainer.max_epochs < 1:
            raise ConfigError("ProgressiveSize must know the length of the run: set trainer.max_epochs")
        full, channels = data.image_size, data.channels
        backbone = pl_module.classifier.backbone
        width = feature_width(backbone, channels, full)
        for side in self.schedule.values():
            if side > full:
                raise ConfigError(f"ProgressiveSize: {side} pixels are more than the data's {full} (data.image_size)")
            try:
                fits = feature_width(backbone, channels, side) == width
            except ConfigError:
                fits = False
            if not fits:
                raise ConfigError(
                    f"ProgressiveSize: the backbone {type(backbone).__name__}, built for {full} pixels, does not work "
                    f"with {side}: choose larger sizes, a network that averages over positions, or leave this out"
                )
        self._data = data
        data.steps.training_size = lambda progress: self.decide(progress, full)[0]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Say when the size changes; here, since a run resumed inside an epoch does not start it again."""
        if self._data is None or not trainer.max_epochs:
            return
        side, reason = self.decide(trainer.current_epoch / trainer.max_epochs, self._data.image_size)
        if side != self._side:
            self._side = side
            rank_zero_info(f"epoch {trainer.current_epoch}: training images of {side} pixels ({reason})")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the size."""
        if self._side is not None:
            pl_module.log("train_image_size", float(self._side), batch_size=1)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the data module back as it was."""
        if self._data is not None and stage == TrainerFn.FITTING:
            self._data.steps.training_size = None
            self._data = self._side = None
