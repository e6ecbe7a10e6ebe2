"""Programs of ``torch.export`` (.pt2): the network with its normalisation, for PyTorch without this package."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.inference.model import Model, TorchBackend
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.models.views import mean_logits, views_of
from fer_lightning.preprocessing import normalised
from fer_lightning.text import first_line

__all__ = ["ProgramBackend", "exportable", "program_bytes"]


class _WithNormalisation(nn.Module):
    """A classifier of images in 0..1. Several views of each go through the network as one batch."""

    def __init__(self, network: EmotionClassifier, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, images: Tensor) -> Tensor:
        ready = normalised(images, self.mean, self.std)
        if self.network.views == "none":
            logits: Tensor = self.network(ready)
            return logits
        views = list(views_of(ready, self.network.views))
        each = self.network.decided(self.network.logits(torch.cat(views)))
        return mean_logits(each.view(len(views), -1, each.shape[1]).unbind())


def exportable(model: Model) -> tuple[nn.Module, Tensor]:
    """Return a copy of a model's network that takes images in 0..1, and two such images.

    Raises:
        ConfigError: if the model has no PyTorch network.
    """
    if not isinstance(model.backend, TorchBackend):
        raise ConfigError(f"{model.card.name} has no PyTorch network to export: export the model that it came from")
    network = copy.deepcopy(model.backend.network).to("cpu").to(memory_format=torch.contiguous_format)
    size, channels = model.preprocessing["image_size"], model.preprocessing["channels"]
    whole = _WithNormalisation(network, model.preprocessing["mean"], model.preprocessing["std"]).eval()
    return whole, torch.rand(2, channels, size, size)


def program_bytes(model: Model) -> bytes:
    """Return a model as the content of a ``.pt2`` file; the batch may have any size.

    Raises:
        ConfigError: if the network cannot be exported.
    """
    network, images = exportable(model)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = {"images": {0: torch.export.Dim("batch")}}
            torch.export.save(torch.export.export(network, (images,), dynamic_shapes=batch), buffer)
    except Exception as error:  # the exporter raises whatever its passes meet
        raise ConfigError(f"{model.card.name} cannot be exported as a program: {first_line(error)}") from error
    return buffer.getvalue()


class ProgramBackend:
    """Runs the content of a ``.pt2`` file."""

    def __init__(self, content: bytes) -> None:
        self._network: Any = torch.export.load(io.BytesIO(content)).module()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits to decide by, float32 ``(N, K)``, of images float32 ``(N, c, S, S)`` in 0..1."""
        logits: Tensor = self._network(images)
        return logits
