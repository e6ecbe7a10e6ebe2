"""The LightningModule: steps of training, validation, test and prediction around a plain classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.saving import _load_state
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fer_lightning.errors import ConfigError
from fer_lightning.losses import TakesClassCounts, TakesClassNames, TakesEpoch
from fer_lightning.models.auxiliary_head import auxiliary_head, with_votes
from fer_lightning.models.backbones import backbone_name
from fer_lightning.models.classifier import build_classifier
from fer_lightning.models.compiled import TrainingFeatures
from fer_lightning.models.criterion import check_takes_labels, check_weighable, weighted_loss
from fer_lightning.models.distillation import Distillation
from fer_lightning.models.epoch_scores import EpochScores, Split
from fer_lightning.models.heads import LinearHead
from fer_lightning.models.hf_folder import MeetsData
from fer_lightning.models.layer_groups import RateShares, parameters_by_group
from fer_lightning.models.prior import PriorCorrection
from fer_lightning.models.views import Views
from fer_lightning.optim import PlateauWatch, ScaledRates, StepSchedule, parameter_groups
from fer_lightning.preprocessing import input_in_words
from fer_lightning.runs.checkpoint import TASK_KEY, read_checkpoint
from fer_lightning.types import Batch, Preprocessing

__all__ = ["EmotionTask"]


def _default_optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)


class EmotionTask(LightningModule):
    """Training and evaluation of an expression classifier.

    Logged: ``train_loss``, ``val_loss``, and for each split ``acc``, ``balanced_acc``, ``f1_macro``, ``f1_weighted``,
    ``ece`` and ``precision_<emotion>``, ``recall_<emotion>``, ``f1_<emotion>`` behind ``train_``, ``val_``, ``test_``.

    Args:
        backbone: one of ours (``fer_a``, ``compact_resnet_418k``, ...), a timm name, ``hf:PATH`` for a local image
            classification folder of Hugging Face's, or any module by class_path.
        backbone_args: further arguments of a backbone given by name.
        pretrained: start from the weights that timm publishes for this name.
        weights: a local file of weights to start from (``.safetensors``, ``.pth``).
        head: makes the classifier on the features: called with their number and the number of classes.
        loss: makes the criterion: called with logits ``(N, K)`` and labels ``(N,)`` or soft labels ``(N, K)``.
        optimizer: makes the optimizer of the parameter groups.
        lr_scheduler: makes the schedule of the optimizer; ``null`` for a constant rate.
        monitor: what ReduceLROnPlateau watches.
        decay_norm_and_bias: apply weight decay to vectors too.
        backbone_lr_factor: learning rate of the backbone's top layer group as a share of the head's, in 0..1.
        layer_lr_decay: learning rate of each layer group as a share of that of the group above it, in 0..1.
        aux_weight: weight of the loss of an auxiliary head that learns the votes which the data gives
            (``data.soft_label_role votes``) beside the labels; it is not used outside training. 0 for none.
        teacher: checkpoint or run folder of a network to learn from; of several, the mean of their probabilities.
        teacher_weight: share of the teacher in the loss, in 0..1; the labels have the rest.
        temperature: softens the probabilities of teacher and student for each other.
        prior_correction: train on ``z + log q``, q the shares in which an epoch draws the classes: sampling then
            decides what the network works on, and not what it expects (balanced softmax, arXiv:2007.10740, with the
            drawn shares).
        tau: outside training, decide by ``z + tau log pi``, pi the shares of the training images; ``null`` for 1 with
            ``prior_correction``, else 0: classes are expected as often as they stand in the training images. Below 0
            rare classes are chosen more often; -1, of a network trained without correction, decides for classes
            equally frequent (Menon et al. 2021, arXiv:2007.07314).
        views: outside training, average the probabilities of several views of each image: ``flip`` (and its mirror
            image) or ``flip_shift`` (ten views); a validation takes as many times as long.
        channels_last: memory layout in which convolutions are fastest.
        compile: train with ``torch.compile``: a step takes 0.8 of the time on a CPU, the first one up to a minute.
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
        backbone_lr_factor: float = 1.0,
        layer_lr_decay: float = 1.0,
        aux_weight: float = 0.0,
        teacher: str | list[str] | None = None,
        teacher_weight: float = 0.5,
        temperature: float = 4.0,
        prior_correction: bool = False,
        tau: float | None = None,
        views: Views = "none",
        channels_last: bool = True,
        compile: bool = False,
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
        channels, size = preprocessing["channels"], preprocessing["image_size"]
        if "image_size" in (backbone_args or {}):
            raise ConfigError("a backbone takes the size of the data's images: set --data.image_size alone")
        start: dict[str, Any] = {"pretrained": pretrained, "weights": weights, **(backbone_args or {})}
        self.classifier = build_classifier(backbone, head, num_classes, channels, size, views=views, **start)
        if isinstance(self.classifier.backbone, MeetsData):
            self.classifier.backbone.meet(self.classifier.head, self.class_names, preprocessing)
        if channels_last:
            self.classifier = self.classifier.to(memory_format=torch.channels_last)
        self.channels_last = channels_last
        self.training_features = TrainingFeatures(compile)
        self.criterion = loss()
        if isinstance(self.criterion, TakesClassNames):
            self.criterion.set_class_names(self.class_names)
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.plateau = PlateauWatch(monitor)
        self.decay_norm_and_bias = decay_norm_and_bias
        self.rates = RateShares(backbone_lr_factor, layer_lr_decay)
        self.distillation = None if teacher is None else Distillation(teacher, teacher_weight, temperature)
        self.aux_head = auxiliary_head(self.classifier.backbone, preprocessing, num_classes, aux_weight)
        self.prior = PriorCorrection(prior_correction, tau, num_classes)
        self._set_shift()
        self.repeated = False  # whether a batch is computed a second time, which is not counted or logged
        self.scores = EpochScores(class_names)

    def __deepcopy__(self, memo: dict[int, Any]) -> EmotionTask:
        """Copy all but the factories of optimizer and schedule, through which a copy would reach trainer and data."""
        for shared in (self.make_optimizer, self.make_lr_scheduler):
            memo[id(shared)] = shared
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__dict__.update(deepcopy(self.__getstate__(), memo))
        return twin

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        name, size = backbone_name(self.hparams["backbone"]), input_in_words(self.preprocessing)
        return f"{type(self).__name__}: {name}, {count:,} parameters; {len(self.class_names)} classes, {size}"

    def setup(self, stage: str) -> None:
        """Take the class counts of the training data, which loss and decision may depend on, and load the teachers.

        Raises:
            CheckpointError: if a teacher cannot be loaded.
            ConfigError: if a loss or teacher does not suit the data, or there is no compiler to compile with.
        """
        if stage == "fit":
            self.training_features.check()
            self.take_class_counts(getattr(self.trainer, "datamodule", None))
            if self.distillation is not None:
                self.distillation.load(_read_task, self.class_names)

    def take_class_counts(self, data: object) -> None:
        """Take the ``class_counts`` of a data module, and tell a loss that depends on them how often each is drawn.

        Raises:
            ConfigError: if there is no such data and the loss cannot do without, or it takes no labels.
        """
        counts = getattr(data, "class_counts", None)
        if counts is not None:
            self.prior.class_counts = dict(counts)
            self._set_shift()
        if getattr(getattr(data, "group_balance", None), "kind", "none") == "weights":
            check_weighable(self.criterion)
        if isinstance(self.criterion, TakesClassCounts):
            if counts is not None:
                self.criterion.set_class_counts(getattr(data, "draws", counts))
            elif getattr(self.criterion, "lacks_class_counts", True):
                raise ConfigError(
                    f"{type(self.criterion).__name__} needs the training samples of each class, and there is no data "
                    "module with class_counts: train with one, or call set_class_counts of the loss first"
                )
        check_takes_labels(self.criterion, len(self.class_names))

    def _set_shift(self) -> None:
        shift = self.prior.shift()
        if shift is not None:
            self.classifier.set_shift(shift)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits to decide by, float32 ``(N, K)``, of normalised images ``(N, C, H, W)``.

        Raises:
            ConfigError: if ``tau`` is not 0 and the training images are not known.
        """
        self.prior.check()
        logits: Tensor = self.classifier(self._laid_out(images))
        return logits

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a training batch, a scalar.

        Raises:
            ConfigError: if the batch has votes and the task no auxiliary head, or the other way round.
        """
        self.prior.check()
        features = self.training_features(self.classifier, self._laid_out(batch["image"]))
        logits: Tensor = self.classifier.head(features).float()
        drawn = self.prior.trained(logits, getattr(self._trainer, "datamodule", None))
        loss = self._learned(drawn, batch)
        if self.distillation is not None:
            loss = self.distillation.mixed(loss, logits, batch["image"], self.preprocessing)
        loss = with_votes(loss, self.aux_head, features, batch)
        if not self.repeated:
            self.scores.of_train.update(self.classifier.decided(logits.detach()), batch["label"])
            self.scores.train_loss.update(loss, len(batch["label"]))
            self.log("train_loss_step", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def _learned(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of logits ``(N, K)`` and the labels of a batch, whose samples may be weighed."""
        target = batch.get("soft_label", batch["label"])
        if "weight" in batch:
            return weighted_loss(self.criterion, logits, target, batch["weight"])
        loss: Tensor = self.criterion(logits, target)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Return loss, logits to decide by ``(N, K)``, label and index ``(N,)`` of a validation batch.

        Of the focus part, which comes as a second loader, no score is logged and no loss returned.
        """
        if dataloader_idx:
            return {"logits": self(batch["image"]), "label": batch["label"], "index": batch["index"]}
        return self._evaluated(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return loss, logits to decide by ``(N, K)``, label and index ``(N,)`` of a test batch."""
        return self._evaluated(batch, "test")

    def _evaluated(self, batch: Batch, split: Split) -> dict[str, Tensor]:
        logits = self(batch["image"])
        loss = self.criterion(logits, batch["label"])
        self.scores.of(split).update(logits, batch["label"])
        # a float, because Lightning averages whole sizes over the processes to whole numbers
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": float(len(batch["label"]))}
        self.log(f"{split}_loss", loss, sync_dist=True, add_dataloader_idx=False, **options)
        return {"loss": loss, "logits": logits, "label": batch["label"], "index": batch["index"]}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return logits to decide by ``(N, K)`` and index ``(N,)``."""
        return {"logits": self(batch["image"]), "index": batch["index"]}

    def on_train_epoch_start(self) -> None:
        """Discard the sums of an epoch that was left before its end; tell the loss which epoch begins."""
        self.scores.forget_training()
        if isinstance(self.criterion, TakesEpoch):
            self.criterion.set_epoch(self.current_epoch)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of the training batches once the epoch's last one is done, before validation."""
        if self.trainer.fit_loop.epoch_loop._is_training_done:
            self._log_scores("train")  # not by on_epoch of each step: Lightning's sums are in no checkpoint

    def on_validation_epoch_start(self) -> None:
        """Set the shift of averaged weights, which now take the place of the task's.

        Their copy may have been made before the class counts were known.
        """
        self._set_shift()

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation split and show them to a plateau schedule.

        Raises:
            ConfigError: if ``monitor`` is none of them.
            LabelError: if a label was outside ``0..K-1``.
            NonFiniteError: if a logit was NaN or infinite.
        """
        values = self._log_scores("val")
        if self.plateau.schedule is not None and not self.trainer.sanity_checking:
            self.plateau.step({**values, "val_loss": self.trainer.callback_metrics["val_loss"]})

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test split."""
        self._log_scores("test")

    def _log_scores(self, split: Split) -> dict[str, Tensor]:
        values = self.scores.computed(split)
        for name, value in values.items():
            on_bar = name in ("val_acc", "val_f1_macro", "test_acc", "test_f1_macro")
            self.log(name, value, prog_bar=on_bar, on_step=False, on_epoch=True, batch_size=1)
        return values

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, unless it is a plateau schedule, the schedule.

        Raises:
            ConfigError: if the optimizer refuses an argument, or the schedule does not know the length of the run or
                sets rates of its own.
        """
        make = self.make_optimizer
        if self.rates != RateShares():
            make = ScaledRates(make, self.rates.factors(parameters_by_group(self, self.classifier.backbone)))
        try:
            optimizer = make(parameter_groups(self, self.decay_norm_and_bias))
        except ValueError as error:  # a learning rate below 0, and the like
            raise ConfigError(f"model.optimizer: {error}") from error
        if self.make_lr_scheduler is None:
            return optimizer
        scheduler = self.make_lr_scheduler(optimizer)
        if isinstance(make, ScaledRates):
            make.check(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            self.plateau.take(scheduler)
            return optimizer
        interval = "epoch"
        if isinstance(scheduler, StepSchedule):
            scheduler.plan(self.trainer.estimated_stepping_batches)
            interval = "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what belongs to the weights: classes, preprocessing, class counts, rates, plateau, unfinished sums."""
        checkpoint[TASK_KEY] = {
            "class_names": list(self.class_names),
            "preprocessing": dict(self.preprocessing),
            "class_counts": self.prior.class_counts,
            "rates": asdict(self.rates),
            "plateau": self.plateau.state_dict(),
            "train_sums": self.scores.saved(alone=self._trainer is None or self.trainer.interrupted),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of other classes; restore class counts, plateau, epoch of the loss and unfinished sums.

        Raises:
            ConfigError: if the checkpoint's classes are not those of the data, or training goes on with other shares of
                the learning rate.
        """
        if isinstance(self.criterion, TakesEpoch) and "epoch" in checkpoint:
            self.criterion.set_epoch(checkpoint["epoch"])  # a run resumed inside an epoch does not start it again
        state, own = checkpoint.get("state_dict", {}), self.state_dict().keys()
        for name in [name for name in state if name.startswith("criterion.") and name not in own]:
            del state[name]  # of another loss, which was exchanged for this one
        stored = checkpoint.get(TASK_KEY)
        if stored is None:
            return
        if tuple(stored["class_names"]) != self.class_names:
            further = [name for name in self.class_names if name not in stored["class_names"]]
            mapped = hasattr(getattr(self._trainer, "datamodule", None), "mapping")
            mapping = ", ".join(f"{name}: null" for name in further)
            cure = f"; leave {' and '.join(further)} out: --data.mapping '{{{mapping}}}'"
            raise ConfigError(
                f"the checkpoint was trained on classes {', '.join(stored['class_names'])}; "
                f"the data has {', '.join(self.class_names)}{cure if mapped and further else ''}"
            )
        self._check_size(state, stored["preprocessing"])
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self.rates.check_resumed(stored.get("rates", {}))
            if "train_sums" in stored and self.trainer.is_global_zero:
                self.scores.load(stored["train_sums"])
        if self.prior.class_counts is None:
            self.prior.class_counts = stored.get("class_counts")
            self._set_shift()
        self.plateau.load_state_dict(stored["plateau"])

    def _check_size(self, state: Mapping[str, Tensor], trained: Preprocessing) -> None:
        """Refuse weights of a network that does not take the images of the data."""
        own = self.classifier.state_dict(prefix="classifier.")
        other = [name for name, value in own.items() if name in state and state[name].shape != value.shape]
        both = (trained, self.preprocessing)
        sizes = [f"{images['image_size']} pixels, {images['channels']} channel(s)" for images in both]
        if other and sizes[0] != sizes[1]:
            raise ConfigError(
                f"the checkpoint's network takes images of {sizes[0]}; for {sizes[1]} it is another one "
                f"('{other[0]}' differs): leave data.image_size and data.channels out"
            )


def _read_task(path: Path) -> EmotionTask:
    """Read a trained task from a checkpoint, which has all weights."""
    task = _load_state(EmotionTask, read_checkpoint(path), pretrained=False, weights=None, teacher=None)
    assert isinstance(task, EmotionTask)  # the class was given
    return task
