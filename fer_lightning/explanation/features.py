"""What the features of a network know: of each image in front of the head, and how well they keep groups together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.table.images import ImageArray
from fer_lightning.models.backbones import in_eval_mode
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import prepare
from fer_lightning.types import Preprocessing

__all__ = ["NEIGHBOURS", "features_of", "grouping"]

NEIGHBOURS = 10
"""Nearest neighbours whose groups are compared."""

_PIXELS = 230_400  # in a batch: 100 images of 48x48


def features_of(
    network: EmotionClassifier,
    preprocessing: Preprocessing,
    images: ImageArray,
    rows: NDArray[np.int64],
    done: Callable[[int], object] = lambda count: None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what stands in front of the head, and what the network says: float32 ``(M, F)``, int64 ``(M,)``.

    Args:
        network: in any mode; it is left as it was.
        preprocessing: of its input.
        images: uint8 ``(N, C, H, W)``.
        rows: which of them, int64 ``(M,)``.
        done: called with the number of images of each batch.
    """
    step = max(1, _PIXELS // preprocessing["image_size"] ** 2)
    device = next(network.parameters()).device
    features, preds = [], []
    with in_eval_mode(network), torch.inference_mode():
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            found = network.features(prepare(torch.from_numpy(images[part]), preprocessing).to(device))
            features.append(found.float().cpu().numpy())
            preds.append(network.decided(network.head(found)).argmax(1).cpu().numpy())
            done(len(part))
    return np.concatenate(features), np.concatenate(preds)


def grouping(components: NDArray[np.float32], groups: NDArray[np.int64]) -> dict[str, float]:
    """Return how well points of a group lie together, as plain numbers.

    Args:
        components: of the points, float32 ``(M, P)``.
        groups: of the points, int64 ``(M,)``, at least two different ones.

    Returns:
        ``silhouette``: mean over the points, -1 to 1 (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7); 0 is no
        grouping at all. ``purity``: share of the 10 nearest neighbours that are of the point's own group, the mean over
        the groups; ``chance``: what it would be if neighbours were drawn at random.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(groups) - 1)
    near = NearestNeighbors(n_neighbors=count).fit(components).kneighbors(return_distance=False)
    same = (groups[near] == groups[:, None]).mean(axis=1)
    names, sizes = np.unique(groups, return_counts=True)
    purity = float(np.mean([same[groups == name].mean() for name in names]))
    chance = float(np.mean((sizes - 1) / (len(groups) - 1)))
    enough = 2 <= len(names) < len(groups)
    silhouette = float(silhouette_score(components, groups)) if enough else 0.0
    return {"silhouette": silhouette, "purity": purity, "chance": chance}
