"""A backbone and a head in one module that runs without a trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.backbones import create_backbone, feature_width, in_eval_mode, pool_features
from fer_lightning.models.views import Views, check_views, mean_logits, views_of

__all__ = ["EmotionClassifier", "build_classifier"]


class EmotionClassifier(nn.Module):
    """An expression classifier: images to features, to logits, to the logits that it decides by.

    ``forward`` decides: training alone looks at the plain ``logits``.

    Args:
        backbone: maps images ``(N, C, H, W)`` to features ``(N, F)`` or feature maps ``(N, F, h, w)``.
        head: maps features ``(N, F)`` to logits ``(N, K)``.
        num_classes: K.
        views: of each image, outside of training: their probabilities are averaged. See ``views.Views``.

    Attributes:
        shift: float32 ``(K,)``, added to the logits for a decision; 0 until ``set_shift`` or a ``state_dict`` gives
            it. See ``tau`` of the task.
    """

    shift: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, num_classes: int, views: Views = "none") -> None:
        super().__init__()
        check_views(views)
        self.views: Views = views
        self.backbone = backbone
        self.head = head
        # float32, so that an average of weights over time, which takes buffers along, leaves it exactly as it is
        self.register_buffer("shift", torch.zeros(num_classes))
        self._has_own_shift = False

    def set_shift(self, shift: Tensor) -> None:
        """Set the shift, float32 ``(K,)``; a ``state_dict`` that is loaded later does not change it any more."""
        self.shift.copy_(shift)
        self._has_own_shift = True

    def features(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, F)``; feature maps are averaged over their positions."""
        return pool_features(self.backbone(images))

    def logits(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to plain logits ``(N, K)``, in the type that the head computes in."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def decided(self, logits: Tensor) -> Tensor:
        """Return plain logits ``(N, K)`` with the shift added, float32."""
        return logits.float() + self.shift

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to the logits to decide by, float32 ``(N, K)``; their softmax are the scores.

        Of several views these are the logarithms of the mean probabilities.
        """
        if self.training or self.views == "none":
            return self.decided(self.logits(images))
        return mean_logits(self.decided(self.logits(view)) for view in views_of(images, self.views))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Keep the shift that was set, and where the ``state_dict`` is of a version that had none."""
        name = f"{prefix}shift"
        if self._has_own_shift or name not in state_dict:
            state_dict[name] = self.shift
        super()._load_from_state_dict(state_dict, prefix, *args)


def build_classifier(
    backbone: str | nn.Module,
    head: Callable[[int, int], nn.Module],
    num_classes: int,
    in_channels: int,
    image_size: int,
    pretrained: bool = False,
    weights: str | None = None,
    views: Views = "none",
    **options: Any,
) -> EmotionClassifier:
    """Build a classifier for images of one size; the head is as wide as a dry run says.

    ``head`` is called with the number of features and of classes (K, at least 2); ``views`` is for
    ``EmotionClassifier``. All else is given to
    ``create_backbone``, which says what it is.

    Raises:
        ConfigError: for a name, option or size that does not work, or a head that does not return ``(N, K)``.
        CheckpointError: if ``weights`` is missing, unreadable or belongs to another network.
    """
    network = create_backbone(backbone, in_channels, pretrained, weights, image_size, **options)
    width = feature_width(network, in_channels, image_size)
    built = head(width, num_classes)
    _check_head(built, width, num_classes)
    return EmotionClassifier(network, built, num_classes, views)


def _check_head(head: nn.Module, width: int, num_classes: int) -> None:
    """Raise ``ConfigError`` unless the head maps ``(2, F)`` to ``(2, K)``."""
    like = next(head.parameters(), torch.zeros(0))
    with in_eval_mode(head), torch.no_grad():
        logits = head(torch.zeros(2, width, device=like.device, dtype=like.dtype))
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"the head {type(head).__name__} must map features (2, {width}) to logits (2, {num_classes}), got {got}"
        )
