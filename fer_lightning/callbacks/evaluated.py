"""What an evaluation is of: weights, split and settings; which images the model has seen; how often it was looked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.callbacks.checkpoints import first_callback, is_rehearsal
from fer_lightning.callbacks.reports import EvaluationReport
from fer_lightning.runs.looks import Look, append_look
from fer_lightning.runs.trained_on import TrainedOn

__all__ = ["Evaluated", "Subject"]


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        look: the split, the weights and the settings.
        id: 8 hexadecimal digits, the same for the same weights, split and settings.
        root: folder of all runs, with the log of looks.
        trained_on: which images the model was trained on, ``None`` if it does not say.
        members: files of the models whose average it is; empty if it is one model.
    """

    look: Look
    id: str
    root: Path
    trained_on: TrainedOn | None = field(repr=False)
    members: tuple[str, ...] = ()


class Evaluated(Callback):
    """Tells the report what is evaluated, and notes each look at a test split before it is computed."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the report; a validation split may be looked at as often as one likes."""
        self._tell(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the look, and tell the report."""
        if trainer.is_global_zero and not is_rehearsal(trainer):
            report = self._tell(trainer)
            report.standing = append_look(self.subject.root, self.subject.look)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the look: predictions of test images are one, even if no score is computed here."""
        if trainer.is_global_zero and not is_rehearsal(trainer):
            append_look(self.subject.root, self.subject.look)

    def _tell(self, trainer: Trainer) -> EvaluationReport:
        report, look = first_callback(trainer, EvaluationReport), self.subject.look
        assert report is not None  # every run has one
        report.trained_on = self.subject.trained_on
        report.subject = {
            "evaluation": self.subject.id,
            "sha256": look.sha256,
            "weights": look.weights,
            "settings": look.settings,
            **({"checkpoint": ",".join(self.subject.members)} if self.subject.members else {}),
        }
        return report
