"""Where the heat of a map lies: hits of the hottest pixel, shares of the heat, and maps that look at no network."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.preprocessing import to_channels

__all__ = ["centre_map", "edge_maps", "heat_over_area", "hits", "is_empty", "moved", "ninths", "unit_maps", "widened"]

_LEVELS = 15  # gray levels by which a pixel must differ from the resting face
_MARGIN = 2 / 48  # by which truth is widened, as a share of the side: a hit need not be exact to the pixel

Maps = NDArray[np.float32]


def moved(faces: NDArray[np.uint8], resting: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels of faces differ from the same faces at rest, bool ``(N, H, W)``.

    Both are uint8 ``(N, C, H, W)``; differences of at most 15 levels are shading.
    """
    where: NDArray[np.bool_] = np.any(np.abs(faces.astype(np.int16) - resting) > _LEVELS, axis=1)
    return where


def widened(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return masks ``(N, S, S)`` with a margin of 2 pixels in 48 around them."""
    reach = max(1, round(_MARGIN * masks.shape[1]))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    grown = [cv2.dilate(mask.astype(np.uint8), kernel) for mask in masks]
    return np.array(grown, np.bool_).reshape(masks.shape)


def is_empty(maps: Maps) -> NDArray[np.bool_]:
    """Return which maps ``(N, S, S)`` have no heat at all, bool ``(N,)``."""
    empty: NDArray[np.bool_] = maps.max(axis=(1, 2)) <= 0
    return empty


def hits(maps: Maps, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return in which maps ``(N, S, S)`` the hottest pixel lies in a mask ``(N, S, S)``, bool ``(N,)``.

    The pointing game of Zhang et al. 2018, arXiv:1608.00507. An empty map points nowhere: no hit.
    """
    hottest = maps.reshape(len(maps), -1).argmax(axis=1)
    inside: NDArray[np.bool_] = masks.reshape(len(masks), -1)[np.arange(len(maps)), hottest]
    return inside & ~is_empty(maps)


def heat_over_area(maps: Maps, masks: NDArray[np.bool_]) -> float:
    """Return the share of the heat in masks over their share of the area: the mean over maps that are not empty.

    1 is what a map without any idea has; NaN if all are empty.
    """
    known = ~is_empty(maps) & masks.any(axis=(1, 2))
    if not known.any():
        return float("nan")
    heat, inside = maps[known].astype(np.float64), masks[known]
    shares = (heat * inside).sum(axis=(1, 2)) / heat.sum(axis=(1, 2)) / inside.mean(axis=(1, 2))
    return float(shares.mean())


def unit_maps(maps: Maps) -> Maps:
    """Return maps ``(N, S, S)`` whose heat sums to 1; those that are empty are left out."""
    full = maps[~is_empty(maps)]
    return np.asarray(full / full.sum(axis=(1, 2), keepdims=True), np.float32)


def ninths(mean_map: Maps) -> list[list[float]]:
    """Return the share of the heat of one map ``(S, S)`` in each ninth of the image, row by row from above."""
    parts = [np.array_split(row, 3, axis=1) for row in np.array_split(mean_map, 3, axis=0)]
    total = float(mean_map.sum())
    return [[float(part.sum()) / total if total > 0 else 0.0 for part in row] for row in parts]


def centre_map(size: int) -> Maps:
    """Return a map that is hottest in the middle, whatever the image: a normal curve of a quarter of the side."""
    along = (np.arange(size) + 0.5) / size - 0.5
    squared = along[:, None] ** 2 + along[None, :] ** 2
    return np.asarray(np.exp(-squared / (2 * 0.25**2)), np.float32)


def edge_maps(images: Maps) -> Maps:
    """Return the strength of the edges (Sobel) in images ``(N, c, S, S)`` in 0..1, ``(N, S, S)``."""
    gray = to_channels(torch.from_numpy(images), 1).numpy()[:, 0]
    return np.stack([np.hypot(cv2.Sobel(each, cv2.CV_32F, 1, 0), cv2.Sobel(each, cv2.CV_32F, 0, 1)) for each in gray])
