"""Distillation: a network learns from the probabilities of others (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import prepare
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS
from fer_lightning.types import Preprocessing

__all__ = ["Distillation", "Teacher", "Teachers", "change_preprocessing", "distillation_loss"]

_BEST = Path(CHECKPOINTS) / BEST  # in a run folder


class Teacher(Protocol):
    """What distillation needs of a trained task.

    Attributes:
        class_names: in label order.
        preprocessing: how its images are made.
        classifier: its network; the plain logits teach, without the shift of its own decision.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    classifier: EmotionClassifier


def distillation_loss(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Return the mean Kullback-Leibler divergence of the softened student from its teacher, times temperature squared.

    The factor keeps the size of the gradients when the temperature changes (section 2 of the paper). Both are
    ``(N, K)``: float32 logits, and probabilities softened by the same temperature.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(student, probabilities, reduction="batchmean") * temperature**2


def change_preprocessing(images: Tensor, given: Preprocessing, wanted: Preprocessing) -> Tensor:
    """Return images as another network expects them.

    Args:
        images: float ``(N, C, H, W)``, normalised; smaller or larger than ``given`` says where a recipe asks for that.
        given: how they were made.
        wanted: how what is returned is made.
    """
    same = all(given[key] == wanted[key] for key in ("channels", "mean", "std"))
    if same and images.shape[2:] == (wanted["image_size"],) * 2:
        return images
    mean, std = (images.new_tensor(given[key])[:, None, None] for key in ("mean", "std"))
    return prepare(images * std + mean, wanted)


class Teachers:
    """Trained networks whose probabilities are averaged.

    Not an ``nn.Module``, so that the student's ``state_dict``, optimizer and averaged copy do not take them in. They
    stay in eval mode and get no gradients.

    Args:
        members: trained tasks.
        class_names: the student's classes, in its order.

    Raises:
        ConfigError: if there is none, or one knows other classes.
    """

    def __init__(self, members: Sequence[Teacher], class_names: Sequence[str]) -> None:
        if not members:
            raise ConfigError("model.teacher: the list of teachers is empty")
        for member in members:
            if set(member.class_names) != set(class_names):
                raise ConfigError(
                    f"model.teacher knows the classes {', '.join(member.class_names)}; the data has "
                    f"{', '.join(class_names)}: choose a teacher of the same classes"
                )
        self._networks = [member.classifier.eval().requires_grad_(False) for member in members]
        self._preprocessing = [member.preprocessing for member in members]
        self._orders = [[member.class_names.index(name) for name in class_names] for member in members]

    def __deepcopy__(self, memo: dict[int, Any]) -> Teachers:
        """Return the object itself: a copy of the student (for averaged weights) needs no copy of its teachers."""
        return self

    @classmethod
    def load(cls, paths: Sequence[str], read: Callable[[Path], Teacher], class_names: Sequence[str]) -> Teachers:
        """Load checkpoint files, or the best checkpoint of run folders; ``read`` makes a task from a file.

        Raises:
            CheckpointError: if one is missing or cannot be read.
            ConfigError: if one knows other classes.
        """
        return cls([_read(path, read) for path in paths], class_names)

    @torch.no_grad()
    def probabilities(self, images: Tensor, given: Preprocessing, temperature: float) -> Tensor:
        """Return the mean of the members' softened probabilities, float32 ``(N, K)``.

        Images are float ``(N, C, H, W)``, as the student sees them; ``given`` is their preprocessing.
        """
        total = torch.zeros((), device=images.device)
        for network, wanted, order in zip(self._networks, self._preprocessing, self._orders, strict=True):
            network.to(images.device)  # the trainer moves the student only
            logits = network.logits(change_preprocessing(images, given, wanted)).float()[:, order]
            total = total + F.softmax(logits / temperature, dim=1)
        return total / len(self._networks)


class Distillation:
    """How a student learns from teachers.

    Args:
        teacher: checkpoint or run folder, or several.
        weight: share of the teachers in the loss, in 0..1.
        temperature: above 0.

    Raises:
        ConfigError: for values outside their ranges.
    """

    def __init__(self, teacher: str | Sequence[str], weight: float, temperature: float) -> None:
        if not 0.0 < weight <= 1.0:
            raise ConfigError(f"model.teacher_weight must be above 0 and at most 1, not {weight:g}")
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(f"model.temperature must be above 0, not {temperature:g}")
        self.paths = [teacher] if isinstance(teacher, str) else list(teacher)
        self.weight = weight
        self.temperature = temperature
        self.teachers: Teachers | None = None

    def load(self, read: Callable[[Path], Teacher], class_names: Sequence[str]) -> None:
        """Load the teachers, before training; see ``Teachers.load``."""
        self.teachers = Teachers.load(self.paths, read, class_names)

    def mixed(self, loss: Tensor, logits: Tensor, images: Tensor, given: Preprocessing) -> Tensor:
        """Return the loss of the labels and that of the teachers, by their shares.

        Teachers look at the images ``(N, C, H, W)`` as the student has seen them, which gave logits float32 ``(N, K)``;
        ``given`` is their preprocessing.

        Raises:
            ConfigError: if the teachers have not been loaded.
        """
        if self.teachers is None:
            raise ConfigError("model.teacher has not been loaded: train with a Trainer, whose fit does that")
        probabilities = self.teachers.probabilities(images, given, self.temperature)
        learned = distillation_loss(logits, probabilities, self.temperature)
        return (1 - self.weight) * loss + self.weight * learned


def _read(path: str, read: Callable[[Path], Teacher]) -> Teacher:
    file = Path(path) / _BEST if Path(path).is_dir() else Path(path)
    if not file.is_file():
        what = f"holds no {_BEST}" if Path(path).is_dir() else "does not exist"
        raise CheckpointError(f"model.teacher: '{path}' {what}; expected a checkpoint or the folder of a finished run")
    try:
        return read(file)
    except CheckpointError as error:
        raise CheckpointError(f"model.teacher: {error}") from error
    except FERError as error:
        raise CheckpointError(f"model.teacher: '{file}': {error}") from error
    except Exception as error:  # torch, pickle, zip and the parser each have their own; all are about this file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"model.teacher: '{file}' is no checkpoint of this program: {lines[0]}") from error
