"""Maps of what a decision depends on: LayerCAM and Grad-CAM, gradients, attention.

None of these functions touches the ``grad`` of a parameter, the mode of a module or a random number generator, so they
can be called in the middle of a training. They work under ``torch.inference_mode`` and with frozen weights, and compute
in the type of the weights. Maps are raw: they are scaled for pictures only, so that a map without any heat can be told
from others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.explanation.layers import MapLayer, gradients_allowed, replaced_output
from fer_lightning.models.backbones import in_eval_mode
from fer_lightning.models.classifier import EmotionClassifier

__all__ = ["attention_map", "class_activation_map", "enlarged", "gradient_map"]

_SMOOTH = 5  # pixels: a single gradient is noise


def class_activation_map(
    network: EmotionClassifier, layer: MapLayer, images: Tensor, labels: Tensor, layercam: bool = False
) -> Tensor:
    """Return class activation maps, float32 ``(N, side, side)`` of the layer, raw and at least 0.

    Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) weights the channels by the mean of their gradient. LayerCAM
    (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943) weights each place by its own, where that is positive, and so
    stays exact in layers with large maps.

    Args:
        network: whose decision is explained.
        layer: from ``find_layer``.
        images: prepared, ``(N, C, S, S)``.
        labels: whose logit is explained, int64 ``(N,)``.
        layercam: LayerCAM instead of Grad-CAM.
    """
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output)
        return output.clone()  # what follows may change its input in place

    with in_eval_mode(network), gradients_allowed(images.device):
        with replaced_output(layer.module, keep):
            logits = network(_leaf(network, images))
        gradient = torch.autograd.grad(_chosen(logits, labels), outputs[0])[0]
    gradient, activation = layer.maps(gradient.float()), layer.maps(outputs[0].detach().float())
    weight = gradient.clamp_min(0) if layercam else gradient.mean((2, 3), keepdim=True)
    return (weight * activation).sum(1).clamp_min(0)


def gradient_map(network: EmotionClassifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return how strongly a logit depends on each pixel, the mean over 5x5 pixels, float32 ``(N, S, S)``.

    Simonyan et al. 2014, arXiv:1312.6034; the arguments are those of ``class_activation_map``.
    """
    with in_eval_mode(network), gradients_allowed(images.device):
        inputs = _leaf(network, images)
        gradient = torch.autograd.grad(_chosen(network(inputs), labels), inputs)[0]
    strength = gradient.float().abs().sum(1, keepdim=True)
    return F.avg_pool2d(strength, _SMOOTH, 1, _SMOOTH // 2, count_include_pad=False)[:, 0]


def attention_map(network: EmotionClassifier, images: Tensor) -> Tensor | None:
    """Return attention rollout, float32 ``(N, side, side)`` (Abnar and Zuidema 2020, arXiv:2005.00928).

    It shows how much each patch enters the features, and is the same for all classes: it explains none of them.
    ``None`` if the network has no attention of timm's kind in which every patch sees all others.

    Args:
        network: to look into.
        images: prepared, ``(N, C, S, S)``.
    """
    kept: list[Tensor] = []
    modules = _attentions(network)
    handles = [
        module.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output.detach()))
        for module in modules
    ]
    try:
        with in_eval_mode(network), _plain_attention(modules), torch.no_grad():
            network(images.to(next(network.parameters()).dtype))
    finally:
        for handle in handles:
            handle.remove()
    tokens = kept[0].shape[-1] if kept else 0
    if not kept or any(each.shape[0] != len(images) or each.shape[2:] != (tokens, tokens) for each in kept):
        return None
    same = torch.eye(tokens, device=images.device)
    rollout = same.expand(len(images), -1, -1)
    for attention in kept:
        rollout = (0.5 * attention.float().mean(1) + 0.5 * same) @ rollout
    prefix = getattr(network.backbone, "num_prefix_tokens", 0)
    to_patches = rollout[:, 0, prefix:] if prefix else rollout.mean(1)
    side = math.isqrt(to_patches.shape[1])
    return to_patches.reshape(len(images), side, side)


def enlarged(maps: Tensor, size: int) -> Tensor:
    """Return maps ``(N, h, w)`` at the size of the image, ``(N, size, size)``: linear between the centres of cells."""
    return F.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def _leaf(network: EmotionClassifier, images: Tensor) -> Tensor:
    """Return a copy of images, in the type of the weights, that gradients can be taken of."""
    return images.clone().to(next(network.parameters()).dtype).requires_grad_()


def _chosen(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the logits of some labels; the images are independent of each other."""
    return logits.gather(1, labels.clone()[:, None]).sum()


def _attentions(network: EmotionClassifier) -> list[Any]:
    """Return the attention modules of timm's kind: those that can do without the fused kernel, which hides its maps."""
    modules = [module for module in network.backbone.modules() if hasattr(module, "fused_attn")]
    return [module for module in modules if isinstance(getattr(module, "attn_drop", None), nn.Module)]


@contextmanager
def _plain_attention(modules: Sequence[Any]) -> Iterator[None]:
    before = [module.fused_attn for module in modules]
    for module in modules:
        module.fused_attn = False
    try:
        yield
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused_attn = fused
