"""From pixels to a network's input: the channels, the size and the scale that it was trained with.

There is one way, ``prepare``, for training, evaluation, distillation and serving. What a network expects of it is a
``Preprocessing``, plain values that are stored with its weights.

Images are resized by one weight matrix for each axis, ``Wy @ image @ Wx.T``, in float32, colour being turned to gray
before. Two rules say what the weights are; both stretch the sides independently of each other:

``area``
    An axis that shrinks: the mean over the length that each new pixel covers, as in OpenCV's ``INTER_AREA``. An axis
    that grows: linear between the centres of the pixels, as in OpenCV's ``INTER_LINEAR``. This is the default.
``bilinear``
    An axis that shrinks: a triangle as wide as two new pixels, as in Pillow's ``BILINEAR`` and in torch with
    ``antialias``. An axis that grows: the same as ``area``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.types import Interpolation, Preprocessing

__all__ = [
    "LUMA",
    "check_preprocessing",
    "input_in_words",
    "normalised",
    "prepare",
    "resize_weights",
    "resized",
    "resized_picture",
    "scaled",
    "to_channels",
]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray: ITU-R BT.601, as in Pillow's ``convert("L")`` and OpenCV."""

_HALF = np.float32(0.501)  # added before uint8 is cut off: halves go up, whatever float32 makes of their last digits
_BAND = 16  # rows of a weight matrix that are taken together
_ONE_THREAD = 2**18  # multiplications in a product up to which OpenBLAS works in one thread


def input_in_words(preprocessing: Preprocessing) -> str:
    """Return what a network takes in words, such as ``48x48 gray``."""
    size = preprocessing["image_size"]
    return f"{size}x{size} {'gray' if preprocessing['channels'] == 1 else 'colour'}"


def prepare(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return images as a network expects them.

    Args:
        images: ``(N, C, H, W)``, C being 1 or 3: uint8 in 0..255, or floats in 0..1.
        preprocessing: of the network.

    Returns:
        float32 ``(N, c, S, S)``, normalised, with the network's channels c and image size S.

    Raises:
        ConfigError: for a rule of resizing that there is not.
    """
    return normalised(scaled(images, preprocessing), preprocessing["mean"], preprocessing["std"])


def scaled(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return images in the network's channels and size, not normalised yet: float32 ``(N, c, S, S)`` in 0..1.

    Args:
        images: as in ``prepare``.
        preprocessing: of the network.

    Raises:
        ConfigError: for a rule of resizing that there is not.
    """
    values = images.float().div_(255) if images.dtype == torch.uint8 else images
    if preprocessing["channels"] == 1:
        values = to_channels(values, 1)
    values = resized(values, preprocessing["image_size"], preprocessing["interpolation"])
    return to_channels(values, preprocessing["channels"])


def check_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """Return a preprocessing that was read from a file, with the rule of resizing that older versions had.

    Raises:
        CheckpointError: if a value is missing or wrong.
    """
    size, channels = values.get("image_size"), values.get("channels")
    rule, mean, std = values.get("interpolation", "bilinear"), values.get("mean"), values.get("std")
    right = isinstance(size, int) and size > 0 and channels in (1, 3) and rule in get_args(Interpolation)
    for numbers in (mean, std):
        right = right and isinstance(numbers, list) and len(numbers) == channels
    if not right:
        raise CheckpointError(
            f"the preprocessing {dict(values)} is damaged: it needs {', '.join(Preprocessing.__annotations__)}"
        )
    return {"image_size": size, "channels": channels, "mean": mean, "std": std, "interpolation": rule}  # type: ignore[typeddict-item]  # checked above


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Return images of 1 (gray) or 3 channels: colour becomes gray by ``LUMA``, gray is repeated.

    >>> colour = torch.tensor([255, 255, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> to_channels(colour, 1).item()
    226

    Args:
        images: ``(N, C, H, W)``, C being 1 or 3, of floats or of uint8; uint8 is rounded as Pillow rounds it.
        channels: 1 or 3.

    Returns:
        ``(N, channels, H, W)`` of the same type; a view, or the images themselves, where nothing is computed.
    """
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    if images.dtype == torch.uint8:  # in whole numbers of 1/65536
        weights = torch.tensor([round(weight * 2**16) for weight in LUMA], device=images.device)
        return ((images * weights[:, None, None]).sum(1, keepdim=True) + 2**15 >> 16).to(torch.uint8)
    return (images * _per_channel(images, LUMA)).sum(dim=1, keepdim=True)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return ``(images - mean) / std`` of float images ``(N, C, H, W)``, with one mean and std for each channel."""
    return (images - _per_channel(images, mean)) / _per_channel(images, std)


def resized(images: Tensor, size: int, interpolation: Interpolation = "area") -> Tensor:
    """Return float images ``(N, C, H, W)`` as squares of another size, float32 ``(N, C, size, size)``.

    The rules stand in this module's docstring; images that have that size are returned themselves.

    Raises:
        ConfigError: for a rule that there is not.
    """
    if images.shape[2:] == (size, size):
        return images
    down, across = (_weights_on(images.device, length, size, interpolation) for length in images.shape[2:])
    with torch.autocast(images.device.type, enabled=False):  # which would make bfloat16 of the products
        return down @ images.float() @ across.T


def resized_picture(picture: NDArray[np.uint8], size: int, interpolation: Interpolation = "area") -> NDArray[np.uint8]:
    """Return what ``resized`` makes of one picture uint8 ``(H, W, C)``; on the CPU, as fast as Pillow.

    Returned is uint8 ``(size, size, C)``, halves rounded up; the picture itself if it has that size.

    Raises:
        ConfigError: for a rule that there is not.
    """
    height, width, channels = picture.shape
    if (height, width) == (size, size):
        return picture
    flat = picture.reshape(height, width * channels).astype(np.float32)
    rows = np.empty((size, width * channels), np.float32)
    for new, old, weights in _bands(height, size, interpolation):
        for part in _parts(flat.shape[1], weights.size):
            np.matmul(weights, flat[old, part], out=rows[new, part])
    planes = rows.reshape(size, width, channels).transpose(2, 0, 1).reshape(channels * size, width)
    made = np.empty((channels * size, size), np.float32)
    for new, old, weights in _bands(width, size, interpolation):
        for part in _parts(len(planes), weights.size):
            np.matmul(planes[part, old], weights.T, out=made[part, new])
    made += _HALF
    square: NDArray[np.uint8] = made.astype(np.uint8).reshape(channels, size, size).transpose(1, 2, 0)
    return square


def resize_weights(length: int, size: int, interpolation: Interpolation = "area") -> Tensor:
    """Return the matrix that resizes an axis of ``length`` pixels, float32 ``(size, length)``; its rows sum to 1.

    >>> resize_weights(3, 2)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]])
    >>> resize_weights(2, 4)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]])

    Raises:
        ConfigError: for a rule that there is not.
    """
    if interpolation not in get_args(Interpolation):
        known = " or ".join(get_args(Interpolation))
        raise ConfigError(f"unknown interpolation '{interpolation}', expected {known}")
    scale = length / size
    before = torch.arange(length, dtype=torch.float64)
    after = torch.arange(size, dtype=torch.float64)[:, None] * scale  # left edges of the new pixels
    if interpolation == "area" and scale > 1:
        weights = (torch.minimum(before + 1, after + scale) - torch.maximum(before, after)).clamp(min=0)
    else:
        distance = (before + 0.5 - (after + scale / 2)).abs()  # between centres
        weights = (1 - distance / max(scale, 1)).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is kept here also serves calls that are differentiated
def _weights_on(device: torch.device, length: int, size: int, interpolation: Interpolation) -> Tensor:
    return resize_weights(length, size, interpolation).to(device)


@functools.lru_cache(maxsize=256)
def _bands(length: int, size: int, interpolation: Interpolation) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """Return a weight matrix in bands of a few rows: of each, its rows, the pixels before that it uses, their weights.

    Most weights of the whole matrix are 0.
    """
    matrix = resize_weights(length, size, interpolation).numpy()
    bands = []
    for start in range(0, size, _BAND):
        rows = matrix[start : start + _BAND]
        used = np.flatnonzero(rows.any(axis=0))
        old = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((slice(start, start + len(rows)), old, np.ascontiguousarray(rows[:, old])))
    return bands


def _parts(length: int, weights: int) -> list[slice]:
    """Divide a product with so many weights: OpenBLAS would start threads for a larger one, in each loader process."""
    step = max(_ONE_THREAD // weights, 1)
    return [slice(start, start + step) for start in range(0, length, step)]


def _per_channel(images: Tensor, values: Sequence[float]) -> Tensor:
    return images.new_tensor(values)[:, None, None]
