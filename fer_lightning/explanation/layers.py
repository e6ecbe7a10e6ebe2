"""Finding the layer whose activations a class activation map is made of, in any network, without its name.

Such a layer must see the whole image and pass all of it on: a convolution inside of a residual block is no good,
because the shortcut goes around it. So a layer is taken if the logits no longer depend on the image once its output is
cut off. Of those, the deepest whose map is large enough is the best: deeper layers know more of the class, and larger
maps show more exactly where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fer_lightning.models.backbones import in_eval_mode
from fer_lightning.models.classifier import EmotionClassifier

__all__ = ["MapLayer", "find_layer", "gradients_allowed", "map_layers", "replaced_output"]

_SMALLEST = 2  # side of a map: a single value shows no place
_TRIED = 2  # images of the dry run
_MOST_PREFIX = 4  # tokens in front of those of the image, where the network does not say how many


@dataclass(frozen=True)
class MapLayer:
    """A layer whose output is a map of the image.

    Attributes:
        name: of the module in the classifier.
        module: the layer.
        side: of its map, in cells.
        form: of its output: ``NCHW`` or ``NHWC``, or ``tokens``, ``(N, T, D)``.
        prefix: tokens in front of those of the image, such as the class token.
    """

    name: str
    module: nn.Module
    side: int
    form: str
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """Return an output of the layer, or its gradient, as maps ``(N, C, side, side)``."""
        if self.form == "tokens":
            cells = output[:, self.prefix :].transpose(1, 2)
            return cells.reshape(len(output), -1, self.side, self.side)
        return output.permute(0, 3, 1, 2) if self.form == "NHWC" else output


@contextmanager
def gradients_allowed(device: torch.device) -> Iterator[None]:
    """Let gradients be computed in the type of the weights inside of the block, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def replaced_output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let a module give what ``change`` makes of its output, inside of the block."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return change(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def find_layer(network: EmotionClassifier, channels: int, size: int, least: int) -> MapLayer | None:
    """Return the deepest layer whose map has at least so many cells along a side.

    Where no map is so large, it is the deepest of those with the largest map, and ``None`` if nothing in the network is
    a map of the image.

    Args:
        network: in any mode; it is left as it was.
        channels: of its input.
        size: side of its input in pixels.
        least: cells along a side.
    """
    parameter = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_TRIED, channels, size, size, generator=generator).to(parameter)
    with in_eval_mode(network), gradients_allowed(parameter.device):
        found = [layer for layer in map_layers(network, images) if layer.side >= _SMALLEST]
        for side in sorted({min(layer.side, least) for layer in found}, reverse=True):
            for layer in reversed(found):
                if layer.side >= side and _sees_all(network, layer, images):
                    return layer
    return None


def map_layers(network: EmotionClassifier, images: Tensor) -> list[MapLayer]:
    """Return all modules of a backbone whose output has a square of places, in the order in which they end.

    Those that are called more than once are left out.

    Args:
        network: in eval mode.
        images: to try, ``(N, C, S, S)``, prepared.
    """
    backbone = network.backbone
    names = {module: name for name, module in network.named_modules()}
    ended: list[tuple[nn.Module, torch.Size | None]] = []

    def hook(module: nn.Module, inputs: object, output: object) -> None:
        ended.append((module, output.shape if isinstance(output, Tensor) else None))

    handles = [module.register_forward_hook(hook) for module in backbone.modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    calls = [module for module, _ in ended]
    found = []
    for module, shape in ended:
        form = None if shape is None or shape[0] != len(images) else _form(shape, backbone)
        if form is not None and calls.count(module) == 1:
            found.append(MapLayer(names[module], module, *form))
    return found


def _form(shape: torch.Size, backbone: nn.Module) -> tuple[int, str, int] | None:
    """Return side, form and number of prefix tokens of an output, ``None`` if it is no map."""
    if len(shape) == 4:
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"  # timm's name for it
        if shape[1] == shape[2] and (last or shape[2] != shape[3]):
            return shape[1], "NHWC", 0
        return (shape[2], "NCHW", 0) if shape[2] == shape[3] else None
    if len(shape) == 3:
        prefix = getattr(backbone, "num_prefix_tokens", None)
        side = math.isqrt(shape[1] - (prefix or 0))
        prefix = min(shape[1] - side**2, _MOST_PREFIX) if prefix is None else prefix
        return (side, "tokens", prefix) if side**2 + prefix == shape[1] else None
    return None


def _sees_all(network: EmotionClassifier, layer: MapLayer, images: Tensor) -> bool:
    """Tell whether the logits depend on the image through this layer alone, and on the places of its map."""
    inputs = images.clone().requires_grad_()
    with replaced_output(layer.module, Tensor.detach):
        logits = network(inputs).sum()
    if logits.requires_grad and torch.autograd.grad(logits, inputs, allow_unused=True)[0] is not None:
        return False
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[0].clone()

    with replaced_output(layer.module, keep):
        logits = network(images).sum()
    if not logits.requires_grad:
        return False
    gradient = torch.autograd.grad(logits, outputs[0], allow_unused=True)[0]
    return gradient is not None and bool(layer.maps(gradient).any())
