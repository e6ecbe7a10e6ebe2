"""A backbone and a head in one module that runs without a trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.backbones import create_backbone, feature_width, pool_features
from fer_lightning.types import Preprocessing

__all__ = ["EmotionClassifier", "auxiliary_head", "build_classifier"]


class EmotionClassifier(nn.Module):
    """An expression classifier: images to features to logits.

    Args:
        backbone: maps images ``(N, C, H, W)`` to features ``(N, F)`` or feature maps ``(N, F, h, w)``.
        head: maps features ``(N, F)`` to logits ``(N, K)``.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, F)``; feature maps are averaged over their positions."""
        return pool_features(self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, K)``."""
        logits: Tensor = self.head(self.features(images))
        return logits


def build_classifier(
    backbone: str | nn.Module,
    head: Callable[[int, int], nn.Module],
    num_classes: int,
    in_channels: int,
    image_size: int,
    pretrained: bool = False,
    weights: str | None = None,
    **options: Any,
) -> EmotionClassifier:
    """Build a classifier for images of one size; the head is as wide as a dry run says.

    Args:
        backbone: a name or a module, see :func:`~fer_lightning.models.backbones.create_backbone`.
        head: called with the number of features and of classes.
        num_classes: K, at least 2.
        in_channels: 1 for gray, 3 for RGB.
        image_size: side of the images in pixels.
        pretrained: start the backbone from the weights that timm publishes for it.
        weights: a local file of weights for the backbone.
        **options: further arguments of a backbone given by name.

    Raises:
        ConfigError: for a name, option or size that does not work, or a head that does not return ``(N, K)``.
        CheckpointError: if ``weights`` is missing, unreadable or belongs to another network.
    """
    network = create_backbone(backbone, in_channels, pretrained, weights, image_size, **options)
    width = feature_width(network, in_channels, image_size)
    built = head(width, num_classes)
    _check_head(built, width, num_classes)
    return EmotionClassifier(network, built)


def auxiliary_head(
    classifier: EmotionClassifier, preprocessing: Preprocessing, num_classes: int, weight: float
) -> nn.Linear | None:
    """Return a second head on the features of a classifier, which training alone uses; ``None`` for a weight of 0.

    Raises:
        ConfigError: for a weight below 0.
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise ConfigError(f"model.aux_weight must be at least 0, not {weight:g}")
    if weight == 0:
        return None
    width = feature_width(classifier.backbone, preprocessing["channels"], preprocessing["image_size"])
    return nn.Linear(width, num_classes)


def _check_head(head: nn.Module, width: int, num_classes: int) -> None:
    """Raise :class:`ConfigError` unless the head maps ``(2, F)`` to ``(2, K)``."""
    like = next(head.parameters(), torch.zeros(0))
    training = {module: module.training for module in head.modules()}
    head.eval()
    try:
        with torch.no_grad():
            logits = head(torch.zeros(2, width, device=like.device, dtype=like.dtype))
    finally:
        for module, mode in training.items():
            module.training = mode
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"the head {type(head).__name__} must map features (2, {width}) to logits (2, {num_classes}), got {got}"
        )
