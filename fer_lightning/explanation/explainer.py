"""One network with the layers that its maps are made of: a fine map that shows places, and the familiar Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fer_lightning.explanation.layers import MapLayer, find_layer
from fer_lightning.explanation.maps import attention_map, class_activation_map, enlarged, gradient_map
from fer_lightning.models.backbones import in_eval_mode
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import normalised
from fer_lightning.types import Preprocessing

__all__ = ["COARSE_SIDE", "FINE_SIDE", "Explainer"]

FINE_SIDE = 24
"""Cells along a side that the layer of the fine map has, where there is such a layer."""
COARSE_SIDE = 6
"""Likewise of Grad-CAM."""

_LEAST_FINE = 12  # cells: below that, gradients show places better than LayerCAM
_PIXELS = 230_400  # in a batch: 100 images of 48x48


@dataclass(frozen=True)
class Explainer:
    """Explains the decisions of a network.

    Attributes:
        network: in any mode.
        preprocessing: of its input.
        fine: layer of LayerCAM; ``None`` where no map is large enough, and in transformers: gradients are shown.
        coarse: layer of Grad-CAM, ``None`` where nothing in the network is a map.
        attention: whether attention can be shown.
    """

    network: EmotionClassifier
    preprocessing: Preprocessing
    fine: MapLayer | None
    coarse: MapLayer | None
    attention: bool

    @classmethod
    def of(cls, network: EmotionClassifier, preprocessing: Preprocessing) -> Explainer:
        """Find the layers of a network."""
        channels, size = preprocessing["channels"], preprocessing["image_size"]
        fine, coarse = (find_layer(network, channels, size, least) for least in (FINE_SIDE, COARSE_SIDE))
        if fine is not None and (fine.form == "tokens" or fine.side < _LEAST_FINE):
            fine = None
        blank = torch.zeros(2, channels, size, size, device=next(network.parameters()).device)
        return cls(network, preprocessing, fine, coarse, attention_map(network, blank) is not None)

    def of_other(self, network: EmotionClassifier) -> Explainer:
        """Return the explainer of a network of the same architecture, with the same layers."""
        modules = dict(network.named_modules())
        fine, coarse = (
            None if layer is None else replace(layer, module=modules[layer.name]) for layer in (self.fine, self.coarse)
        )
        return replace(self, network=network, fine=fine, coarse=coarse)

    @property
    def fine_name(self) -> str:
        """What the fine map is, such as ``LayerCAM 24x24``."""
        return "gradient" if self.fine is None else f"LayerCAM {self.fine.side}x{self.fine.side}"

    @property
    def coarse_name(self) -> str:
        """What the coarse map is, empty if there is none."""
        return "" if self.coarse is None else f"Grad-CAM {self.coarse.side}x{self.coarse.side}"

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probabilities of images in 0..1, float32 ``(N, c, S, S)``: float32 ``(N, K)``, on the CPU."""
        with in_eval_mode(self.network), torch.no_grad():
            return self._in_batches(lambda part: self.network(part).softmax(1), images)

    def fine_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the fine maps of images in 0..1, raw, at the size of the images: float32 ``(N, S, S)``, on the CPU.

        Args:
            images: float32 ``(N, c, S, S)`` in 0..1.
            labels: whose logit is explained, int64 ``(N,)``.
        """

        def made(part: Tensor, label: Tensor) -> Tensor:
            if self.fine is None:
                return gradient_map(self.network, part, label)
            return class_activation_map(self.network, self.fine, part, label, layercam=True)

        return enlarged(self._in_batches(made, images, labels), images.shape[2])

    def coarse_maps(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """Return Grad-CAM likewise, ``None`` where there is no layer for it."""
        if (layer := self.coarse) is None:
            return None
        made = self._in_batches(
            lambda part, label: class_activation_map(self.network, layer, part, label), images, labels
        )
        return enlarged(made, images.shape[2])

    def attention_maps(self, images: Tensor) -> Tensor | None:
        """Return attention rollout likewise, which is the same for all classes; ``None`` where there is none."""
        if not self.attention:
            return None

        def made(part: Tensor) -> Tensor:
            found = attention_map(self.network, part)
            assert found is not None  # as it was not when the layers were found
            return found

        return enlarged(self._in_batches(made, images), images.shape[2])

    def _in_batches(self, function: Callable[..., Tensor], images: Tensor, *others: Tensor) -> Tensor:
        """Call a function with prepared images and rows of further tensors, batch by batch, and join the results."""
        rows = max(1, _PIXELS // images.shape[2] ** 2)
        device = next(self.network.parameters()).device
        mean, std = self.preprocessing["mean"], self.preprocessing["std"]
        parts = [
            function(normalised(images[start : start + rows].to(device), mean, std), *further)
            for start in range(0, len(images), rows)
            for further in [[each[start : start + rows].to(device) for each in others]]
        ]
        return torch.cat([part.cpu() for part in parts])
