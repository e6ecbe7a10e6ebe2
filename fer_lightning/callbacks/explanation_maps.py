"""Pictures of what the network looks at, as training goes on."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from fer_lightning.callbacks.checkpoints import is_rehearsal
from fer_lightning.callbacks.full_disk import warn_if_full
from fer_lightning.callbacks.reports import datamodule_of
from fer_lightning.errors import ConfigError
from fer_lightning.explanation.explainer import Explainer, Maps
from fer_lightning.explanation.pictures import grid_figure, stack
from fer_lightning.explanation.subject import Subject, subject_of
from fer_lightning.figures import figure_pixels, pixels_png
from fer_lightning.files import write_atomically
from fer_lightning.models.task import EmotionTask

__all__ = ["FOLDER", "ExplanationMaps"]

FOLDER = "explanations"
"""Folder in a run folder that the pictures are in."""


class ExplanationMaps(Callback):
    """Draws the same validation faces with their maps every n epochs, into the run folder and TensorBoard.

    Nothing of the training is touched: it goes on bit for bit as without this callback.

    Args:
        every_n_epochs: draw after every n-th epoch, counted from 1.
        per_class: faces of each class.

    Raises:
        ConfigError: if a number is below 1.
    """

    def __init__(self, every_n_epochs: int = 5, per_class: int = 2) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("per_class", per_class)):
            if value < 1:
                raise ConfigError(f"ExplanationMaps: {name} must be at least 1, not {value}")
        self.every_n_epochs = every_n_epochs
        self.per_class = per_class
        self._subject: Subject | None = None
        self._explainer: Explainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that there is a network to look into; raise ``ConfigError`` if there is none."""
        if stage == "fit" and not isinstance(pl_module, EmotionTask):
            raise ConfigError("ExplanationMaps needs an EmotionTask")

    def due(self, epoch: int) -> bool:
        """Tell whether pictures are drawn after an epoch, counted from 0."""
        return (epoch + 1) % self.every_n_epochs == 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if it is due, on the first process."""
        if not trainer.is_global_zero or is_rehearsal(trainer) or not self.due(trainer.current_epoch):
            return
        assert isinstance(pl_module, EmotionTask)  # as setup has seen
        data = datamodule_of(trainer)
        if not len(data.table.rows("val")):
            return
        if self._subject is None:
            labels = list(range(len(data.class_names)))
            count = self.per_class * len(labels)
            self._subject, _ = subject_of(data.table, data.preprocessing, "val", labels, count, seed=0)
        if self._explainer is None or self._explainer.network is not pl_module.classifier:
            self._explainer = Explainer.of(pl_module.classifier, data.preprocessing)
        maps = self._explainer.explained(self._subject.images)
        self._draw(trainer, self._subject, self._explainer, maps)

    def _draw(self, trainer: Trainer, subject: Subject, explainer: Explainer, maps: Maps) -> None:
        columns = []
        for row in sorted(range(len(subject.labels)), key=lambda each: int(subject.labels[each])):
            true, said = (subject.class_names[label] for label in (subject.labels[row], maps.preds[row]))
            columns.append((stack(subject, maps, row), said if said == true else f"{said}\n({true})"))
        epoch = trainer.current_epoch
        pixels = figure_pixels(grid_figure(columns, ["face", *explainer.names], f"after epoch {epoch + 1}"))
        path = Path(trainer.default_root_dir) / FOLDER / f"epoch_{epoch:04d}.png"
        with warn_if_full(f"the picture {path}"):
            write_atomically(path, pixels_png(pixels))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/explanations", pixels, trainer.global_step, dataformats="HWC")
