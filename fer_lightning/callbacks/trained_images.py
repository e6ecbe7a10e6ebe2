"""Which images a run is trained and chosen on, for its checkpoints: its own, and those of the models it learns from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.callbacks.checkpoints import first_callback
from fer_lightning.callbacks.reports import EvaluationReport, datamodule_of
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.table.samples import FOCUS, SamplesTable
from fer_lightning.data.table.soft_labels import read_teachers
from fer_lightning.errors import FERError
from fer_lightning.models.weight_files import weight_file
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS, run_folder_of
from fer_lightning.runs.trained_on import (
    TRAINED_ON_KEY,
    TrainedOn,
    digest_numbers,
    joined,
    read_trained_on,
    trained_on_in,
    without_digests,
)

__all__ = ["TrainedImages"]


class TrainedImages(Callback):
    """Puts the digests of the training and validation images into each checkpoint, 8 bytes for each image.

    ``fer test`` tells by them which of its images a model has seen, wherever the model goes. Those of the weights that
    training starts from, of teachers, and of the checkpoint that a run goes on from are among them.

    Args:
        digests: store the digests. With them, whoever has a model and an image can find out whether the model was
            trained on it; without them only the number of images is stored.

    Attributes:
        record: which images they are, from the start of training on.
    """

    def __init__(self, digests: bool = True) -> None:
        self.digests = digests
        self.record = TrainedOn()
        self._before: TrainedOn | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run."""
        self._before = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over what the checkpoint that the run goes on from was trained on."""
        if trainer.state.fn == "fit":
            self._before = trained_on_in(checkpoint, Path(str(trainer.ckpt_path))) or TrainedOn(
                unknown=(f"the start of {_shown(trainer.ckpt_path)}",)
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the record together; say if a model that the run learns from knows validation images."""
        data = datamodule_of(trainer)
        own = _of_table(data.table)
        parents = [] if self._before is not None else list(_origin(pl_module))
        parents += [*_teachers(pl_module), *_soft_labels(data)]
        before = [] if self._before is None else [self._before]
        self.record = joined([own, *before, *parents])
        report = first_callback(trainer, EvaluationReport)
        if report is not None:
            report.trained_on = self.record
        known, _ = joined(parents).roles(digest_numbers(data.table.digests[data.table.rows("val")]))
        if known.any() and trainer.is_global_zero:
            print(
                f"seen         the weights or teachers of this run were trained on {int(known.sum()):,} of the "
                f"{len(known):,} validation images: scores on these are too good"
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record to a checkpoint."""
        record = self.record if self.digests else without_digests(self.record)
        checkpoint[TRAINED_ON_KEY] = record.state()


def _of_table(table: SamplesTable) -> TrainedOn:
    """Return what a run on these samples is trained on, and chosen on."""
    chosen = np.concatenate([table.rows("val"), table.rows(FOCUS)])
    train, val = (np.unique(digest_numbers(table.digests[rows])) for rows in (table.rows("train"), chosen))
    return TrainedOn(train, val)


def _origin(task: LightningModule) -> Iterator[TrainedOn]:
    """Yield what the weights that training starts from were trained on."""
    given: dict[str, Any] = dict(task.hparams)
    backbone = given.get("backbone")
    if given.get("weights"):
        yield _of_file(Path(given["weights"]), f"weights {_shown(given['weights'])}")
    elif isinstance(backbone, str) and backbone.startswith("hf:"):
        yield TrainedOn(unknown=(f"weights of {_shown(backbone.removeprefix('hf:'))}",))
    elif given.get("pretrained"):
        config = getattr(getattr(getattr(task, "classifier", None), "backbone", None), "pretrained_cfg", None) or {}
        tag = config.get("tag")
        name = f"{config.get('architecture', backbone)}{f'.{tag}' if tag else ''}"
        yield TrainedOn(unknown=(f"timm {name}",))


def _teachers(task: LightningModule) -> Iterator[TrainedOn]:
    teacher = dict(task.hparams).get("teacher")
    for path in [teacher] if isinstance(teacher, str) else teacher or ():
        yield _of_file(Path(path), f"teacher {_shown(path)}")


def _soft_labels(data: EmotionDataModule) -> Iterator[TrainedOn]:
    """Yield what the models were trained on whose predictions are trained on; those of a run lie in its folder."""
    for file in data.soft_label_files:
        told = read_teachers(Path(file)) if Path(file).suffix.lower() == ".npz" else None
        best = Path(file).absolute().parents[1] / CHECKPOINTS / BEST
        yield told or _of_file(best if best.is_file() else Path(file), f"soft labels {_shown(file)}")


def _of_file(path: Path, name: str) -> TrainedOn:
    """Return what the model in a file, or in the folder of a run, was trained on; unknown under a name if not told."""
    best = path / CHECKPOINTS / BEST
    try:
        found = read_trained_on(best if best.is_file() else weight_file(path))
    except FERError:  # of another program
        found = None
    return TrainedOn(unknown=(name,)) if found is None else found


def _shown(path: Any) -> str:
    """Return the name of a file, in a run with that of the run, without telling where on a machine it lies."""
    file = Path(path)
    run = file if file.name.startswith("version_") else run_folder_of(file)
    return file.name if run is None else "/".join([*run.parts[-2:], *([file.name] if run != file else [])])
