"""Networks whose weights are replaced by random ones, from the head down: their maps must become others.

A map that stays as it was shows the image, not the network (Adebayo et al. 2018, arXiv:1810.03292).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.models.layer_groups import layer_groups

__all__ = ["cascade", "number_of_stages", "rank_correlations"]

_MOST_STAGES = 6  # of the backbone: more would say no more and take longer


def cascade(network: EmotionClassifier, fresh: EmotionClassifier) -> Iterator[tuple[str, EmotionClassifier]]:
    """Give one network again and again, each time with one more stage of random weights, from the head to the stem.

    Args:
        network: trained; it stays as it is.
        fresh: of the same architecture, with random weights.

    Yields:
        What was replaced last, such as ``stages.2``, and the network.
    """
    changed, source = copy.deepcopy(network), fresh.state_dict()
    head = [name for name in source if name.startswith("head.")]
    groups = [
        [f"backbone.{name}" for name in (*group.parameters, *group.buffers)]
        for group in reversed(layer_groups(network.backbone))
    ]
    parts = np.array_split(np.arange(len(groups)), number_of_stages(network) - 1)
    stages = [head, *([name for place in part.tolist() for name in groups[place]] for part in parts)]
    for names, lowest in zip(stages, [head, *(groups[part[-1]] for part in parts)], strict=True):
        state = changed.state_dict()
        for name in source.keys() & set(names):  # tables of positions and the like are not in it, and not learned
            state[name].copy_(source[name])
        yield _stage(lowest[0]), changed


def number_of_stages(network: EmotionClassifier) -> int:
    """Return how many networks ``cascade`` gives."""
    return 1 + min(len(layer_groups(network.backbone)), _MOST_STAGES)


def _stage(name: str) -> str:
    """Return what stage of the network the first of its parameters belongs to."""
    first, *others = name.removeprefix("backbone.").split(".")
    return f"{first}.{others[0]}" if others and others[0].isdigit() else first


def rank_correlations(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Spearman's correlation of each map with its partner, both ``(N, S, S)``: float64 ``(N,)``.

    NaN where one of the two is the same everywhere.
    """
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations: NDArray[np.float64] = (one * other).sum(axis=1) / np.sqrt(
            (one**2).sum(axis=1) * (other**2).sum(axis=1)
        )
    return correlations
