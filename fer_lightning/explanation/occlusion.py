"""What a network still says when parts of an image are covered: deletion and insertion curves, and parts at rest.

Petsiuk et al. 2018, arXiv:1806.07421. What covers a pixel decides: gray or a blur makes images that no network has
seen, and rewards maps that mislead the network rather than show what it looks at. The same face at rest is a fill
without that fault, and exists for drawn faces. Else, a blur is used, and only the difference to a random order says
something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Curves", "blurred", "covering_curves"]

STEPS = 9
"""Points of a curve: nothing covered, an eighth, ..., everything."""

_BLUR = 1 / 8  # standard deviation as a share of the side: no feature of a face is left

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Curves:
    """Mean probability of the explained class over the share of pixels that are covered or shown.

    Attributes:
        deletion: float64 ``(9,)``: the hottest pixels are covered first. A good map makes it fall soon.
        insertion: float64 ``(9,)``: the hottest pixels are shown first, on a covered image. A good map makes it rise.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def areas(self) -> tuple[float, float]:
        """Area under the deletion curve (less is better) and under the insertion curve (more is better), 0..1."""
        deletion, insertion = (float((c[1:] + c[:-1]).mean() / 2) for c in (self.deletion, self.insertion))
        return deletion, insertion


def blurred(images: Tensor) -> Tensor:
    """Return images ``(N, c, S, S)`` so blurred that no feature of a face is left, float32, on the CPU."""
    sigma = _BLUR * images.shape[3]
    soft = [cv2.GaussianBlur(image, (0, 0), sigma) for image in images.reshape(-1, *images.shape[2:]).cpu().numpy()]
    return torch.from_numpy(np.stack(soft)).reshape(images.shape)


def covering_curves(
    probabilities: Callable[[Tensor], Tensor], images: Tensor, fill: Tensor, labels: Tensor, order: Maps
) -> Curves:
    """Return what becomes of the probability of a class when pixels are covered, or shown, from the hottest on.

    Args:
        probabilities: of images, ``(N, K)``.
        images: float32 ``(N, c, S, S)``.
        fill: likewise: what covers them.
        labels: the class of each image, int64 ``(N,)``.
        order: a map for each image, ``(N, S, S)``, or one for all, ``(S, S)``.
    """
    maps = np.broadcast_to(order, (len(images), *images.shape[2:])).reshape(len(images), -1)
    place = np.empty(maps.shape, np.int64)
    np.put_along_axis(place, np.argsort(-maps, axis=1, kind="stable"), np.arange(maps.shape[1])[None], axis=1)
    rank = torch.from_numpy(place).reshape(len(images), 1, *images.shape[2:])
    deletion: list[float] = []
    insertion: list[float] = []
    for step in range(STEPS):
        first = rank < round(step / (STEPS - 1) * maps.shape[1])
        for points, new, old in ((deletion, fill, images), (insertion, images, fill)):
            chosen = probabilities(torch.where(first, new, old)).gather(1, labels[:, None])
            points.append(float(chosen.double().mean()))
    return Curves(np.array(deletion), np.array(insertion))
