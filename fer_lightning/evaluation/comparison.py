"""Several classifiers on the same images: paired differences, and whether they are more than chance makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import DataError
from fer_lightning.evaluation.confidence import brier_scores, ece_of, log_losses
from fer_lightning.evaluation.pairs import cluster_mcnemar, holm
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.resampling import (
    DRAWS,
    clusters_of,
    interval,
    matrix_scores,
    resampled_matrices,
)

__all__ = ["Evaluation", "aligned", "comparison"]

_SCORES = ("accuracy", "f1_macro")


@dataclass(frozen=True)
class Evaluation:
    """What is compared.

    Attributes:
        name: as it is shown.
        predictions: of one classifier, with targets and digests.
    """

    name: str
    predictions: Predictions


def aligned(evaluations: Sequence[Evaluation]) -> list[NDArray[np.int64]]:
    """Return the order in which the rows of each evaluation are the same images, int64 ``(N,)`` each.

    Images are brought together by digest; identical ones by their labels, then in the order of their rows.

    Raises:
        DataError: if the evaluations are of other classes, splits or images, or an evaluation knows no digests or
            targets; the message says which.
    """
    first = evaluations[0]
    orders = []
    for each in evaluations:
        own = each.predictions
        if not own.known or (own.digests == "").any():
            lacking = "true classes" if not own.known else "digests (it was written by an older version)"
            raise DataError(f"{each.name} has no {lacking}: run fer test again")
        if own.class_names != first.predictions.class_names:
            names = (", ".join(one.predictions.class_names) for one in (first, each))
            raise DataError(f"{first.name} and {each.name} have other classes: {' / '.join(names)}")
        orders.append(np.lexsort((own.index, own.target, own.digests)))
    for each, order in zip(evaluations[1:], orders[1:], strict=True):
        _check_same(first, orders[0], each, order)
    return orders


def _check_same(first: Evaluation, order: NDArray[np.int64], other: Evaluation, own: NDArray[np.int64]) -> None:
    one, two = first.predictions, other.predictions
    both = f"{first.name} ({one.split}) and {other.name} ({two.split})"
    shared = len(set(one.digests) & set(two.digests))
    if len(order) != len(own) or not np.array_equal(one.digests[order], two.digests[own]):
        raise DataError(
            f"{both} are evaluations of other images ({len(order):,} and {len(own):,}, {shared:,} in common): evaluate "
            "both on the same split of the same data"
        )
    differing = int((one.target[order] != two.target[own]).sum())
    if differing:
        raise DataError(f"{both} were scored against other labels: {differing:,} of {len(order):,} images differ")


def comparison(evaluations: Sequence[Evaluation], draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Compare classifiers on the same images, resampled together in groups of identical ones.

    Args:
        evaluations: two or more; the first is the one that others are compared with by class.
        draws: resamples.
        seed: of the draws.

    Returns:
        Plain values: ``images, distinct, class_names, split, draws, seed``; ``models``: of each ``name, accuracy,
        f1_macro`` (with ``value, low, high``), ``ece, nll, brier``; ``pairs``: of each two ``first, second, accuracy,
        f1_macro`` (second minus first), ``first_only, second_only`` (images that only one gets right), ``p`` (McNemar,
        by groups of identical images) and ``p_holm``; ``classes``: of each further model and class ``model, class,
        images, recall`` (minus that of the first), ``p, p_holm``.

    Raises:
        DataError: if there are fewer than two, or they cannot be compared; see :func:`aligned`.
    """
    if len(evaluations) < 2:
        raise DataError("a comparison needs two evaluations or more")
    orders = aligned(evaluations)
    first = evaluations[0].predictions
    target, names = first.target[orders[0]], first.class_names
    probs = [each.predictions.probs[order] for each, order in zip(evaluations, orders, strict=True)]
    preds = np.stack([each.argmax(axis=1) for each in probs])
    right, clusters = preds == target, clusters_of(first.digests[orders[0]])
    drawn = matrix_scores(resampled_matrices(target, preds, clusters, len(names), draws, seed))
    own = matrix_scores(_matrices(target, preds, len(names)))
    models = [
        {
            "name": each.name,
            **{score: asdict(interval(float(own[score][place]), drawn[score][:, place])) for score in _SCORES},
            "ece": ece_of(probs[place], target),
            "nll": float(log_losses(probs[place], target).mean()),
            "brier": float(brier_scores(probs[place], target).mean()),
        }
        for place, each in enumerate(evaluations)
    ]
    pairs = _pairs([each.name for each in evaluations], own, drawn, right, clusters)
    classes = [
        _class_change(evaluations[place].name, names[label], target == label, right[0], right[place], clusters)
        for place in range(1, len(evaluations))
        for label in range(len(names))
    ]
    for listed in (pairs, classes):
        for entry, corrected in zip(listed, holm([entry["p"] for entry in listed]), strict=True):
            entry["p_holm"] = corrected
    return {
        "images": len(target),
        "distinct": int(clusters.max()) + 1,
        "class_names": list(names),
        "split": first.split,
        "draws": draws,
        "seed": seed,
        "models": models,
        "pairs": pairs,
        "classes": classes,
    }


def _pairs(
    names: Sequence[str],
    own: Mapping[str, NDArray[np.float64]],
    drawn: Mapping[str, NDArray[np.float64]],
    right: NDArray[np.bool_],
    clusters: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Return how each two models differ: second minus first."""
    return [
        {
            "first": names[a],
            "second": names[b],
            **{
                score: asdict(interval(float(own[score][b] - own[score][a]), drawn[score][:, b] - drawn[score][:, a]))
                for score in _SCORES
            },
            "first_only": int((right[a] & ~right[b]).sum()),
            "second_only": int((right[b] & ~right[a]).sum()),
            "p": cluster_mcnemar(right[a], right[b], clusters),
        }
        for a, b in combinations(range(len(names)), 2)
    ]


def _matrices(target: NDArray[np.int64], preds: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix of each model, int64 ``(M, K, K)``."""
    cells = target * classes + preds
    return np.stack([np.bincount(row, minlength=classes * classes).reshape(classes, classes) for row in cells])


def _class_change(
    model: str,
    name: str,
    rows: NDArray[np.bool_],
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    clusters: NDArray[np.int64],
) -> dict[str, Any]:
    """Return how the recall of one class differs from that of the first model."""
    images = int(rows.sum())
    change = float(after[rows].mean() - before[rows].mean()) if images else None
    p = cluster_mcnemar(before[rows], after[rows], clusters[rows]) if images else 1.0
    return {"model": model, "class": name, "images": images, "recall": change, "p": p}
