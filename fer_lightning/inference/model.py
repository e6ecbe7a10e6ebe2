"""A trained network with everything that it needs to answer: classes, preprocessing, framing, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.emotions import scheme_of
from fer_lightning.errors import ConfigError
from fer_lightning.inference.framing import Framing
from fer_lightning.models.architecture import Architecture
from fer_lightning.models.calibration import Calibration
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.models.views import Views
from fer_lightning.preprocessing import input_in_words, normalised, scaled
from fer_lightning.runs.trained_on import TrainedOn
from fer_lightning.types import Preprocessing

__all__ = ["Backend", "Card", "Model", "TorchBackend"]


class Backend(Protocol):
    """Runs a network."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits to decide by, float32 ``(N, K)``, of images float32 ``(N, c, S, S)`` in 0..1."""


class TorchBackend:
    """Runs a network by PyTorch.

    Args:
        network: put into eval mode.
        preprocessing: of its input.
        device: where it runs.
    """

    def __init__(
        self, network: EmotionClassifier, preprocessing: Preprocessing, device: str | torch.device = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self._mean, self._std = preprocessing["mean"], preprocessing["std"]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits to decide by, float32 ``(N, K)`` on the CPU, of images ``(N, c, S, S)`` in 0..1."""
        ready = normalised(images.to(self.device), self._mean, self._std)
        logits: Tensor = self.network(ready.contiguous(memory_format=torch.channels_last))
        return logits.cpu()


@dataclass(frozen=True)
class Card:
    """Where a model comes from: plain values for its folder and its card.

    Attributes:
        name: of the model, as it is shown.
        training: data set, counts and fingerprints of the splits, seed, epochs.
        metrics: scores by split.
        licence: of the weights and of what they were trained on.
        version: of the package that trained it.
    """

    name: str
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    version: str = ""


@dataclass
class Model:
    """A trained network that answers.

    Attributes:
        backend: runs the network.
        class_names: in the order of its outputs.
        preprocessing: of its input.
        card: where it comes from.
        architecture: ``None`` where only the backend knows it, as in ONNX files.
        framings: how a face sits in the images that it was trained on, by the name of the detector that measured it;
            empty if nobody has.
        calibration: of its probabilities.
        trained_on: which images it was trained on and chosen on, ``None`` if that is not known.
    """

    backend: Backend
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    card: Card
    architecture: Architecture | None = None
    framings: Mapping[str, Framing] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    trained_on: TrainedOn | None = None

    @property
    def scheme(self) -> str:
        """Name of the label scheme."""
        return scheme_of(self.class_names)

    def set_views(self, views: Views) -> None:
        """Choose of which views of each face the probabilities are averaged; see ``models.views.Views``.

        A calibration, which is of the views so far, is left out if they change.

        Raises:
            ConfigError: if the model has no PyTorch network, as one that was read from an ONNX file.
        """
        if not isinstance(self.backend, TorchBackend) or self.architecture is None:
            raise ConfigError(f"the views of {self.card.name} are part of its file: choose them where it is exported")
        if views != self.backend.network.views:
            self.calibration = Calibration()
        self.backend.network.views = views
        self.architecture = {**self.architecture, "views": views}

    def probabilities(self, crops: Sequence[NDArray[np.uint8]] | Tensor) -> NDArray[np.float32]:
        """Return the calibrated probabilities of face crops, float32 ``(N, K)``.

        Args:
            crops: pictures uint8 ``(H, W, 3)`` or ``(H, W, 1)`` of any sizes, or a tensor uint8 ``(N, C, H, W)``.
        """
        if len(crops) == 0:
            return np.zeros((0, len(self.class_names)), np.float32)
        return self.calibration.probabilities(self.backend(self.scaled(crops))).numpy()

    def scaled(self, crops: Sequence[NDArray[np.uint8]] | Tensor) -> Tensor:
        """Return face crops in the network's size and channels, float32 ``(N, c, S, S)`` in 0..1."""
        if isinstance(crops, Tensor):
            return scaled(crops, self.preprocessing)
        return torch.cat([scaled(torch.from_numpy(crop).permute(2, 0, 1)[None], self.preprocessing) for crop in crops])

    def __repr__(self) -> str:
        return f"{self.card.name}: {', '.join(self.class_names)} from faces, {input_in_words(self.preprocessing)}"
