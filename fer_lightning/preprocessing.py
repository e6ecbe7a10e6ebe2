"""The last step towards a network's input: its channels and its scale."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["normalised"]


def normalised(images: Tensor, channels: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return images of a network's channels, normalised.

    Args:
        images: float ``(N, C, H, W)`` in 0..1, C being 1 or 3.
        channels: 1 or 3; colour becomes gray by its luma, gray is repeated.
        mean: per channel of what is returned.
        std: likewise.
    """
    if images.shape[1] == 3 and channels == 1:
        weights = images.new_tensor([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's convert("L")
        images = (images * weights[:, None, None]).sum(dim=1, keepdim=True)
    elif images.shape[1] == 1 and channels == 3:
        images = images.expand(-1, 3, -1, -1)
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]
