"""The LightningModule: one step shared by training, validation and test, around a plain classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fer_lightning.errors import ConfigError
from fer_lightning.losses import TakesClassCounts, TakesClassNames, TakesEpoch
from fer_lightning.metrics import EmotionMetrics
from fer_lightning.models.classifier import build_classifier
from fer_lightning.models.heads import LinearHead
from fer_lightning.optim import StepSchedule, parameter_groups
from fer_lightning.types import Batch, Preprocessing

__all__ = ["EmotionTask"]

Split = Literal["train", "val", "test"]


def _default_optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)


class EmotionTask(LightningModule):
    """Training and evaluation of an expression classifier.

    Logged: ``train_loss``, ``val_loss``, and for each split ``acc``, ``balanced_acc``, ``f1_macro``, ``f1_weighted``,
    ``ece`` and ``precision_<emotion>``, ``recall_<emotion>``, ``f1_<emotion>`` behind ``train_``, ``val_``, ``test_``.

    Args:
        backbone: one of ours (``fer_a``, ``compact_resnet_418k``, ...), a timm name, or any module by class_path.
        backbone_args: further arguments of a backbone given by name.
        pretrained: start from the weights that timm publishes for this name.
        weights: a local file of weights to start from (``.safetensors``, ``.pth``).
        head: makes the classifier on the features: called with their number and the number of classes.
        loss: makes the criterion: called with logits ``(N, K)`` and labels ``(N,)`` or soft labels ``(N, K)``.
        optimizer: makes the optimizer of the parameter groups.
        lr_scheduler: makes the schedule of the optimizer; ``null`` for a constant rate.
        monitor: what ReduceLROnPlateau watches.
        decay_norm_and_bias: apply weight decay to vectors too.
        channels_last: memory layout in which convolutions are fastest.
        class_names: names of the classes in label order; comes from the data.
        num_classes: their number; comes from the data.
        preprocessing: size, channels and normalisation of the input; comes from the data.
    """

    def __init__(
        self,
        backbone: nn.Module | str = "fer_a",
        backbone_args: dict[str, Any] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        head: Callable[[int, int], nn.Module] = LinearHead,
        loss: Callable[[], nn.Module] = nn.CrossEntropyLoss,
        optimizer: OptimizerCallable = _default_optimizer,
        lr_scheduler: LRSchedulerCallable | None = None,
        monitor: str = "val_loss",
        decay_norm_and_bias: bool = False,
        channels_last: bool = True,
        class_names: list[str] | None = None,
        num_classes: int | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        if class_names is None or num_classes is None or preprocessing is None:
            raise ConfigError("EmotionTask needs class_names, num_classes and preprocessing: they come from the data")
        if len(class_names) != num_classes:
            raise ConfigError(f"EmotionTask: {num_classes} classes but {len(class_names)} class_names")
        self.save_hyperparameters(logger=False)
        self.class_names = tuple(class_names)
        self.preprocessing = preprocessing
        self.classifier = build_classifier(
            backbone,
            head,
            num_classes,
            preprocessing["channels"],
            preprocessing["image_size"],
            pretrained=pretrained,
            weights=weights,
            **(backbone_args or {}),
        )
        if channels_last:
            self.classifier = self.classifier.to(memory_format=torch.channels_last)
        self.channels_last = channels_last
        self.criterion = loss()
        if isinstance(self.criterion, TakesClassNames):
            self.criterion.set_class_names(self.class_names)
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.monitor = monitor
        self.decay_norm_and_bias = decay_norm_and_bias
        self.metrics = nn.ModuleDict({f"{split}_metrics": EmotionMetrics(class_names) for split in _SPLITS})
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Hand the class counts of the training data to a loss that depends on them."""
        if stage == "fit":
            self.take_class_counts(getattr(self.trainer, "datamodule", None))

    def take_class_counts(self, data: object) -> None:
        """Hand the ``class_counts`` of a data module to a loss that depends on them; do nothing for other losses.

        Raises:
            ConfigError: if there is no such data and the loss cannot do without.
        """
        if not isinstance(self.criterion, TakesClassCounts):
            return
        counts = getattr(data, "class_counts", None)
        if counts is not None:
            self.criterion.set_class_counts(counts)
        elif getattr(self.criterion, "lacks_class_counts", True):
            raise ConfigError(
                f"{type(self.criterion).__name__} needs the training samples of each class, and there is no data "
                "module with class_counts: train with one, or call set_class_counts of the loss first"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of normalised images ``(N, C, H, W)``."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(images)
        return logits

    def _shared_step(self, batch: Batch, split: Split) -> dict[str, Tensor]:
        logits = self(batch["image"]).float()
        soft = batch.get("soft_label") if split == "train" else None
        loss = self.criterion(logits, batch["label"] if soft is None else soft)
        self._metrics(split).update(logits.detach(), batch["label"])
        size = len(batch["label"])
        self.log(f"{split}_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=split != "train")
        return {"loss": loss, "logits": logits.detach(), "label": batch["label"], "index": batch["index"]}

    def _metrics(self, split: Split) -> EmotionMetrics:
        metrics = self.metrics[f"{split}_metrics"]
        assert isinstance(metrics, EmotionMetrics)  # narrows ModuleDict's value type
        return metrics

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a training batch."""
        loss = self._shared_step(batch, "train")["loss"]
        self.log("train_loss_step", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return loss, logits ``(N, K)``, label and index ``(N,)`` of a validation batch."""
        return self._shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return loss, logits ``(N, K)``, label and index ``(N,)`` of a test batch."""
        return self._shared_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return logits ``(N, K)`` and index ``(N,)``."""
        return {"logits": self(batch["image"]).float(), "index": batch["index"]}

    def on_train_epoch_start(self) -> None:
        """Forget the metrics of an epoch that was left before its end; tell the loss which epoch begins."""
        self._metrics("train").reset()
        if isinstance(self.criterion, TakesEpoch):
            self.criterion.set_epoch(self.current_epoch)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of the training batches once the epoch's last one is done, before validation."""
        if self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._log_metrics("train")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation split and let a plateau schedule look at them."""
        values = self._log_metrics("val")
        if self._plateau is not None and not self.trainer.sanity_checking:
            values["val_loss"] = self.trainer.callback_metrics["val_loss"]
            if self.monitor not in values:
                raise ConfigError(f"model.monitor '{self.monitor}' is not logged; known: {', '.join(sorted(values))}")
            # Here and not by Lightning, which steps it after the epoch's checkpoint is written and so loses one step
            # whenever a run is resumed.
            self._plateau.step(float(values[self.monitor]))

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test split."""
        self._log_metrics("test")

    def _log_metrics(self, split: Split) -> dict[str, Tensor]:
        metrics = self._metrics(split)
        values = {f"{split}_{name}": value for name, value in metrics.compute().items() if not torch.isnan(value)}
        metrics.reset()
        shown = (f"{split}_acc", f"{split}_f1_macro")
        for name, value in values.items():
            on_bar = split != "train" and name in shown
            self.log(name, value, prog_bar=on_bar, on_step=False, on_epoch=True, batch_size=1)
        return values

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, unless it is a plateau schedule, the schedule."""
        optimizer = self.make_optimizer(parameter_groups(self, self.decay_norm_and_bias))
        if self.make_lr_scheduler is None:
            return optimizer
        scheduler = self.make_lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            self._plateau = scheduler
            if self._plateau_state is not None:
                scheduler.load_state_dict(self._plateau_state)
            return optimizer
        interval = "epoch"
        if isinstance(scheduler, StepSchedule):
            scheduler.plan(self.trainer.estimated_stepping_batches)
            interval = "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights mean: classes, preprocessing, and the state of a plateau schedule."""
        checkpoint["fer_task"] = {
            "class_names": list(self.class_names),
            "preprocessing": dict(self.preprocessing),
            "plateau": None if self._plateau is None else self._plateau.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of other classes; restore a plateau schedule and the epoch of the loss.

        Raises:
            ConfigError: if the checkpoint's classes are not those of the data.
        """
        if isinstance(self.criterion, TakesEpoch) and "epoch" in checkpoint:
            self.criterion.set_epoch(checkpoint["epoch"])  # a run resumed inside an epoch does not start it again
        state, own = checkpoint.get("state_dict", {}), self.state_dict().keys()
        for name in [name for name in state if name.startswith("criterion.") and name not in own]:
            del state[name]  # of another loss, which was exchanged for this one
        stored = checkpoint.get("fer_task")
        if stored is None:
            return
        if tuple(stored["class_names"]) != self.class_names:
            raise ConfigError(
                f"the checkpoint was trained on classes {', '.join(stored['class_names'])}; "
                f"the data has {', '.join(self.class_names)}"
            )
        self._plateau_state = stored["plateau"]
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)


_SPLITS: tuple[Split, ...] = ("train", "val", "test")
