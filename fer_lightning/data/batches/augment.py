"""Augmentation of whole batches, on the device where they are.

Flip, rotation, scale and shift are one affine ``grid_sample`` with parameters of their own for each sample; light,
erasing, occlusion and noise follow. Every random number comes from the sample's key (see ``randomness``).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_lightning.errors import ConfigError
from fer_lightning.randomness import uniform

__all__ = ["BatchAugment"]

_PADDING = ("border", "reflection", "zeros")


class BatchAugment:
    """Random change of images in 0..1, each sample on its own.

    The defaults are what helps most on FER2013 from scratch: flip, rotation by 15 degrees, scale 0.85 to 1.15, shift by
    12 per cent, erasing.

    Args:
        flip: probability of a left-right flip.
        rotation: largest angle, degrees, either way.
        scale: smallest and largest magnification.
        shift: largest shift along each axis, as a share of the side.
        brightness: largest change of brightness, in 0..1 of the value range, either way.
        contrast: largest relative change of contrast, either way.
        erasing: probability of one random rectangle filled with one gray value (Zhong et al. 2020, arXiv:1708.04896).
        erasing_area: smallest and largest area of that rectangle, as a share of the image.
        occlusion: probability of one black square.
        occlusion_size: its side, as a share of the image's side.
        noise: probability of Gaussian noise.
        noise_std: its standard deviation, in 0..1 of the value range.
        padding: what lies outside the image: ``border``, ``reflection`` or ``zeros``.
        calm: share of the run, at its end, in which everything is weakened: the network then sees nearly what it will
            be asked about.
        calm_strength: how strong the augmentation is then, 0..1.
    """

    def __init__(
        self,
        flip: float = 0.5,
        rotation: float = 15.0,
        scale: tuple[float, float] = (0.85, 1.15),
        shift: float = 0.12,
        brightness: float = 0.1,
        contrast: float = 0.2,
        erasing: float = 0.3,
        erasing_area: tuple[float, float] = (0.02, 0.2),
        occlusion: float = 0.0,
        occlusion_size: float = 0.25,
        noise: float = 0.0,
        noise_std: float = 0.05,
        padding: str = "border",
        calm: float = 0.1,
        calm_strength: float = 0.4,
    ) -> None:
        shares = {"flip": flip, "erasing": erasing, "occlusion": occlusion, "noise": noise, "calm": calm}
        shares |= {"shift": shift, "brightness": brightness, "occlusion_size": occlusion_size}
        shares |= {"calm_strength": calm_strength}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"BatchAugment: {name} must be in 0..1, not {value}")
        if not 0 < scale[0] <= scale[1]:
            raise ConfigError(f"BatchAugment: scale must be two ascending factors above 0, not {tuple(scale)}")
        if not 0 < erasing_area[0] <= erasing_area[1] < 1:
            raise ConfigError(f"BatchAugment: erasing_area must be two ascending shares, not {tuple(erasing_area)}")
        if padding not in _PADDING:
            raise ConfigError(f"BatchAugment: padding must be one of {', '.join(_PADDING)}, not '{padding}'")
        self.flip = flip
        self.rotation = rotation
        self.scale = scale
        self.shift = shift
        self.brightness = brightness
        self.contrast = contrast
        self.erasing = erasing
        self.erasing_area = erasing_area
        self.occlusion = occlusion
        self.occlusion_size = occlusion_size
        self.noise = noise
        self.noise_std = noise_std
        self.padding = padding
        self.calm = calm
        self.calm_strength = calm_strength

    def strength(self, progress: float) -> float:
        """Return how strong the augmentation is at ``progress`` (epochs done over epochs to do, 0..1)."""
        return self.calm_strength if self.calm > 0 and progress >= 1 - self.calm else 1.0

    def __call__(self, images: Tensor, keys: Tensor, strength: float = 1.0) -> Tensor:
        """Return changed copies of float images ``(N, C, H, W)`` in 0..1, given the random key of each, int64 ``(N,)``.

        A ``strength`` of 1 stands for the configured ranges, less for weaker ones; the flip is not weakened.
        """
        images = self._move(images, keys, strength)
        if self.brightness > 0 or self.contrast > 0:
            images = self._relight(images, keys, strength)
        if self.erasing > 0:
            images = self._erase(images, keys, strength)
        if self.occlusion > 0:
            images = self._occlude(images, keys, strength)
        if self.noise > 0:
            images = self._add_noise(images, keys, strength)
        return images

    def _move(self, images: Tensor, keys: Tensor, strength: float) -> Tensor:
        if self.flip == self.rotation == self.shift == 0 and self.scale[0] == self.scale[1] == 1:
            return images
        draws = uniform(keys, 5, stream=1)
        mirror = torch.where(draws[:, 0] < self.flip, -1.0, 1.0)
        angle = (2 * draws[:, 1] - 1) * math.radians(self.rotation) * strength
        low, high = (1 + (bound - 1) * strength for bound in self.scale)
        zoom = 1 / (low + (high - low) * draws[:, 2])
        shift = (2 * draws[:, 3:5] - 1) * 2 * self.shift * strength  # the grid spans -1..1
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        theta = torch.stack(
            [
                torch.stack([cosine * mirror, -sine, shift[:, 0]], dim=1),
                torch.stack([sine * mirror, cosine, shift[:, 1]], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode=self.padding, align_corners=False)

    def _relight(self, images: Tensor, keys: Tensor, strength: float) -> Tensor:
        draws = (2 * uniform(keys, 2, stream=2) - 1) * strength
        offset = (draws[:, 0] * self.brightness)[:, None, None, None]
        gain = (1 + draws[:, 1] * self.contrast)[:, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return torch.addcmul(mean * (1 - gain) + offset, images, gain).clamp_(0, 1)

    def _erase(self, images: Tensor, keys: Tensor, strength: float) -> Tensor:
        draws = uniform(keys, 6, stream=3)
        low, high = self.erasing_area
        area = low + (high - low) * draws[:, 1]
        ratio = torch.exp((2 * draws[:, 2] - 1) * math.log(3.0))  # height over width, 1/3 to 3
        height, width = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        inside = _rectangles(images, draws[:, 3] * (1 - height), draws[:, 4] * (1 - width), height, width)
        inside &= (draws[:, 0] < self.erasing * strength)[:, None, None, None]
        return torch.where(inside, draws[:, 5][:, None, None, None], images)

    def _occlude(self, images: Tensor, keys: Tensor, strength: float) -> Tensor:
        draws = uniform(keys, 3, stream=4)
        side = torch.full_like(draws[:, 0], self.occlusion_size)
        inside = _rectangles(images, draws[:, 1] * (1 - side), draws[:, 2] * (1 - side), side, side)
        inside &= (draws[:, 0] < self.occlusion * strength)[:, None, None, None]
        return images.masked_fill(inside, 0.0)

    def _add_noise(self, images: Tensor, keys: Tensor, strength: float) -> Tensor:
        chosen = (uniform(keys, 1, stream=5)[:, 0] < self.noise * strength).nonzero()[:, 0]
        values = images[0].numel()
        draws = uniform(keys[chosen], 2 * values, stream=6)
        radius = torch.sqrt(-2 * torch.log1p(-draws[:, :values]))  # Box-Muller
        normal = radius * torch.cos(2 * math.pi * draws[:, values:])
        changed = images.clone()
        changed[chosen] = (images[chosen] + self.noise_std * normal.view(-1, *images.shape[1:])).clamp(0, 1)
        return changed


def _rectangles(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Return a mask ``(N, 1, H, W)`` that is true inside each sample's rectangle, given in shares of the side."""
    rows = (torch.arange(images.shape[2], device=images.device) + 0.5) / images.shape[2]
    columns = (torch.arange(images.shape[3], device=images.device) + 0.5) / images.shape[3]
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
