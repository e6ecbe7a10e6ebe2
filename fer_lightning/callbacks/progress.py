"""A progress bar that fits into one line of a terminal."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, convert_inf

__all__ = ["OneLineBar"]

_SHORT = {"train_loss_step": "loss", "val_acc": "acc", "val_f1_macro": "f1"}


class OneLineBar(TQDMProgressBar):
    """Lightning's bar in one line of 80 columns: epochs from 1, short names, validation in the place of training.

    The values of the sanity check, which has seen two batches, are not shown.
    """

    BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining} left{postfix}"

    def __init__(self) -> None:
        super().__init__()
        self._validated = False

    @property
    def sanity_check_description(self) -> str:
        """Label of the bar of a validation, and of the sanity check before training."""
        return "checking" if self.trainer.sanity_checking else "validating"

    def init_validation_tqdm(self) -> Tqdm:
        """Return the bar of a validation; during training it takes the line of that bar."""
        return self.init_sanity_tqdm() if self.trainer.state.fn == "fit" else super().init_validation_tqdm()

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin the bar of an epoch, counted from 1."""
        bar, last = self.train_progress_bar, trainer.max_epochs
        bar.reset(convert_inf(self.total_train_batches))
        bar.set_description_str(f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last and last > 0 else ""))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin the bar of a split."""
        if self.has_dataloader_changed(dataloader_idx):
            self.val_progress_bar.reset(convert_inf(self.total_val_batches_current_dataloader))
            self.val_progress_bar.set_description_str(self.sanity_check_description)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there are values to show."""
        self._validated = self._validated or not trainer.sanity_checking
        super().on_validation_end(trainer, pl_module)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return loss, accuracy and macro F1 under short names."""
        values = super().get_metrics(trainer, pl_module)
        return {
            short: f"{float(values[name]):.3f}"  # type: ignore[arg-type]  # logged values are numbers
            for name, short in _SHORT.items()
            if name in values and (self._validated or not name.startswith("val_"))
        }
