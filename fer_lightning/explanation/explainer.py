"""One network with the layers that its maps are made of: a fine map that shows places, and the familiar Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.explanation.layers import MapLayer, find_layer
from fer_lightning.explanation.maps import attention_map, class_activation_map, enlarged, gradient_map
from fer_lightning.models.backbones import in_eval_mode
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import normalised
from fer_lightning.types import Preprocessing

__all__ = ["COARSE_SIDE", "FINE_SIDE", "Explainer", "Maps", "Step", "as_array"]

FINE_SIDE = 24
"""Cells along a side that the layer of the fine map has, where there is such a layer."""
COARSE_SIDE = 6
"""Likewise of Grad-CAM."""

_LEAST_FINE = 12  # cells: below that, gradients show places better than LayerCAM
_PIXELS = 230_400  # in a batch: 100 images of 48x48


Step = Callable[[str], object]
"""Called with what is done next, once for each step of the work."""


@dataclass(frozen=True)
class Maps:
    """What a network says of images, and why.

    Attributes:
        probs: float32 ``(N, K)``.
        fine: raw, of the predicted class, float32 ``(N, S, S)``.
        coarse: Grad-CAM likewise, ``None`` where there is none.
        attention: likewise; it is the same for all classes.
    """

    probs: NDArray[np.float32]
    fine: NDArray[np.float32]
    coarse: NDArray[np.float32] | None
    attention: NDArray[np.float32] | None

    @property
    def preds(self) -> NDArray[np.int64]:
        """Predicted labels, int64 ``(N,)``."""
        preds: NDArray[np.int64] = self.probs.argmax(axis=1)
        return preds


def as_array(maps: Tensor | None) -> NDArray[np.float32] | None:
    """Return maps as an array, if there are any."""
    return None if maps is None else maps.numpy()


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

    @property
    def names(self) -> list[str]:
        """What the maps are, in the order in which they are shown."""
        coarse = [] if self.coarse is None else [self.coarse_name]
        return [self.fine_name, *coarse, *(["attention"] if self.attention else [])]

    def explained(self, images: Tensor, step: Step = lambda what: None) -> Maps:
        """Return the maps of images, float32 ``(N, c, S, S)`` in 0..1, for the class that the network predicts.

        Args:
            images: to be explained.
            step: called before each of three parts of the work.
        """
        step("predictions")
        probs = self.probabilities(images)
        labels = probs.argmax(1)
        step(self.fine_name)
        fine = self.fine_maps(images, labels)
        step(self.coarse_name or "attention")
        coarse, attention = self.coarse_maps(images, labels), self.attention_maps(images)
        return Maps(probs.numpy(), fine.numpy(), as_array(coarse), as_array(attention))

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
        like = next(self.network.parameters())
        mean, std = self.preprocessing["mean"], self.preprocessing["std"]
        parts = [
            function(normalised(images[start : start + rows].to(like.device), mean, std).to(like.dtype), *further)
            for start in range(0, len(images), rows)
            for further in [[each[start : start + rows].to(like.device) for each in others]]
        ]
        return torch.cat([part.cpu() for part in parts])
