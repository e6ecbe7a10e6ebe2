"""Mixup and cutmix of whole batches, on the device where they are.

Each image is mixed with another one of its batch, and its label with that one's label. Every random number comes from
the samples' keys (see ``randomness``), so that a resumed run and any number of workers mix the same.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_lightning.errors import ConfigError
from fer_lightning.randomness import uniform
from fer_lightning.types import Batch

__all__ = ["BatchMix", "partners", "symmetric_beta"]

_STREAM = 7  # BatchAugment takes 1 to 6


class BatchMix:
    """Mixing of pairs of training samples, images and labels alike.

    Each sample has a partner in its batch, never itself unless it is alone, and is the partner of one other; under DDP
    that is the batch of its own process. Each sample draws its own share, as timm's ``elem`` mode does. With both kinds
    on, each sample gets one of them, half and half.

    Args:
        mixup: alpha of the Beta distribution of the two shares when images are blended (Zhang et al. 2018,
            arXiv:1710.09412); 0 for off.
        cutmix: the same when a box of the partner is pasted in (Yun et al. 2019, arXiv:1905.04899); 0 for off.
        probability: of a sample being mixed at all.
        calm: share of the run, at its end, in which nothing is mixed: the network then sees whole faces.

    Raises:
        ConfigError: for an alpha below 0, or a probability or share outside 0..1.
    """

    def __init__(self, mixup: float = 0.2, cutmix: float = 0.0, probability: float = 1.0, calm: float = 0.0) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"BatchMix: {name} is the alpha of a Beta distribution, at least 0, not {value}")
        for name, value in (("probability", probability), ("calm", calm)):
            if not 0 <= value <= 1:
                raise ConfigError(f"BatchMix: {name} must be in 0..1, not {value}")
        self.mixup = mixup
        self.cutmix = cutmix
        self.probability = probability
        self.calm = calm

    def active(self, progress: float) -> bool:
        """Tell whether batches are mixed at ``progress`` (epochs done over epochs to do, 0..1)."""
        on = (self.mixup > 0 or self.cutmix > 0) and self.probability > 0
        return on and (self.calm == 0 or progress < 1 - self.calm)

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        """Return float images ``(N, C, H, W)`` mixed, with soft labels ``(N, num_classes)``; so are ``votes``.

        ``label`` becomes that of the picture of the larger share; ``index`` and ``key`` stay as they are. Where a batch
        has no ``soft_label``, ``label`` is taken as certain.
        """
        images, label = batch["image"], batch["label"]
        draws = uniform(batch["key"], 7, stream=_STREAM)
        partner = partners(draws[:, 6])
        cut = draws[:, 1] < (0.0 if self.cutmix == 0 else 1.0 if self.mixup == 0 else 0.5)
        share = symmetric_beta(draws[:, 2:4], torch.where(cut, self.cutmix, self.mixup))  # of the partner
        share = share.masked_fill(draws[:, 0] >= self.probability, 0.0)
        share = share.to(images.dtype).float()  # what a coarser type makes of it, for labels too
        weight = share[:, None, None, None]
        if self.cutmix > 0:
            in_rows, in_columns = _boxes(images, draws[:, 4:6], share)
            inside = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
            weight = torch.where(cut[:, None, None, None], inside, weight)
            pixels = in_rows.sum(1) * in_columns.sum(1)  # a box that is cut off at the border holds less than drawn
            share = torch.where(cut, pixels / (images.shape[2] * images.shape[3]), share)
        soft = batch["soft_label"] if "soft_label" in batch else F.one_hot(label, num_classes).float()
        if "votes" in batch:
            batch = {**batch, "votes": torch.lerp(batch["votes"], batch["votes"][partner], share[:, None])}
        return {
            **batch,
            "image": torch.lerp(images, images[partner], weight.to(images.dtype)),  # exact where a weight is 0 or 1
            "label": torch.where(share > 0.5, label[partner], label),
            "soft_label": torch.lerp(soft, soft[partner], share[:, None]),
        }


def symmetric_beta(draws: Tensor, alpha: Tensor) -> Tensor:
    """Return numbers of the distribution Beta(alpha, alpha), float32 ``(N,)``, from draws ``(N, 2)`` uniform in [0, 1).

    If T has Student's distribution with 2 alpha degrees of freedom, then 1/2 + T / (2 sqrt(2 alpha + T^2)) has this
    one, and T is sqrt(2 alpha (u^(-1/alpha) - 1)) cos(2 pi v) (Bailey 1994, doi:10.1090/S0025-5718-1994-1219702-8).
    That is exact for every alpha above 0 and takes the same two numbers always, as rejection does not. Rearranged here
    so that nothing overflows: in 999 of 1000 draws float32 is off by less than 4e-6. The same batch gives the same bits
    on one device; devices may differ among each other by as much.
    """
    power = torch.log1p(-draws[:, 0]) / alpha  # log of u^(1 / alpha), with u in (0, 1]
    cosine = torch.cos(2 * math.pi * draws[:, 1])
    root, spread = power.exp(), -cosine.square() * torch.expm1(power)
    total = root + spread
    smaller = root / total / (2 * (1 + torch.sqrt(spread / total)))  # (1 - s) / 2 as (1 - s^2) / 2 (1 + s)
    return torch.where(cosine < 0, smaller, 1 - smaller)


def partners(draws: Tensor) -> Tensor:
    """Return the partner of each sample, int64 ``(N,)``: in one ring through the batch, ordered by draws ``(N,)``."""
    order = torch.argsort(draws, stable=True)
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def _boxes(images: Tensor, centre: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows ``(N, H)`` and columns ``(N, W)`` of images lie in each sample's box, of the image's shape.

    A box has its centre ``(N, 2)`` in shares of the sides and would hold a share ``area``, ``(N,)``, of the image.
    """
    half = area.sqrt()[:, None] / 2
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        place = (torch.arange(length, device=images.device) + 0.5) / length - centre[:, axis, None]
        inside.append((place >= -half) & (place < half))
    return inside[0], inside[1]
