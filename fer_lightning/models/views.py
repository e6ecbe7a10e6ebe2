"""Several views of an image whose probabilities are averaged: test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_lightning.errors import ConfigError

__all__ = ["Views", "check_views", "mean_logits", "views_of"]

Views = Literal["none", "flip", "flip_shift"]
"""``none``: the image alone; ``flip``: and its mirror image; ``flip_shift``: both, each also moved to four sides."""

_SHIFT = 1 / 24  # of the side: 2 pixels of 48


def check_views(views: str) -> None:
    """Raise ``ConfigError`` if such views are not known."""
    if views not in get_args(Views):
        raise ConfigError(f"model.views must be one of {', '.join(get_args(Views))}, not {views}")


def views_of(images: Tensor, views: Views) -> Iterator[Tensor]:
    """Give the views of images ``(N, C, H, W)``, each of the same shape, the images themselves first.

    Moved images are filled up at the border with their outermost pixels.
    """
    yield images
    if views == "none":
        return
    yield images.flip(-1)
    if views == "flip":
        return
    height, width = images.shape[-2:]
    down, right = max(1, round(height * _SHIFT)), max(1, round(width * _SHIFT))
    for image in (images, images.flip(-1)):
        padded = F.pad(image, (right, right, down, down), mode="replicate")
        for top, left in ((0, right), (2 * down, right), (down, 0), (down, 2 * right)):
            yield padded[..., top : top + height, left : left + width]


def mean_logits(logits: Iterable[Tensor]) -> Tensor:
    """Return the logarithms of the mean probabilities of several logits ``(N, K)``: logits of the same shape."""
    shares = [each.softmax(dim=1) for each in logits]
    return torch.stack(shares).mean(dim=0).clamp_min(torch.finfo(torch.float32).tiny).log()
