"""How sure the scores of an evaluation are: what ``report.json`` holds as ``uncertainty`` and its page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.evaluation.confidence import (
    brier_scores,
    ece_of,
    log_losses,
    null_ece,
    reliability_bins,
)
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.resampling import (
    DRAWS,
    clusters_of,
    interval,
    matrix_scores,
    resampled_matrices,
    resampled_means,
)
from fer_lightning.evaluation.score_intervals import class_ends, distinct_shares, score_ends, with_width
from fer_lightning.metrics import wilson_interval

__all__ = ["PAIRS", "believability", "distinct_images", "uncertainty"]

PAIRS = 10
"""Pairs of classes that are told, those confused most often."""

_SCORES = ("accuracy", "balanced_accuracy", "f1_macro")
Ends = tuple[float, float]


def uncertainty(
    result: Predictions, seen: NDArray[np.bool_] | None = None, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Return what the scores could be on other test images, by resampling groups of identical images.

    Args:
        result: predictions with targets, at least one.
        seen: bool ``(N,)``, images that the model was trained or chosen on, identical ones alike; ``None``: none.
        draws: resamples.
        seed: of the draws.

    Returns:
        Plain values: ``distinct`` images, ``draws``, ``seed``; ``accuracy, balanced_accuracy, f1_macro`` (each
        ``value, low, high``; those of ``score_ends`` where all resamples agree); ``per_class`` (by name, ends of
        ``precision, recall, f1``, of ``class_ends``, with as many images as the resamples say that a class is
        worth); ``confusions`` (``true, predicted, count, share, low, high`` of the
        true class, most often first); ``calibration`` (``ece, nll, brier``, ``ece_perfect`` with ``mean, low, high`` of
        a perfect model, ``confidence`` minus accuracy, ``bins``); ``unseen`` (``n``, scores, ``difference`` to all) or
        ``None`` where no image, or every one, was seen. Ends that cannot be known are NaN.
    """
    clusters = distinct_images(result)
    classes, marked = len(result.class_names), np.zeros(len(result.target), np.int64)
    if seen is not None and 0 < seen.sum() < len(seen):
        marked = seen.astype(np.int64)
    # images that were seen are classes of their own: the matrix falls into a block of them and one of the others
    blocks = classes * (1 + int(marked.max()))
    drawn = resampled_matrices(
        result.target + classes * marked, result.preds + classes * marked, clusters, blocks, draws, seed
    )[:, 0]
    parts = [drawn[:, at : at + classes, at : at + classes] for at in range(0, blocks, classes)]
    scores, own = matrix_scores(np.sum(parts, axis=0)), matrix_scores(result.matrix)
    worth = _worth(result.matrix, scores["recall"], distinct_shares(result.target, clusters, classes))
    ends = score_ends(result.matrix, worth)
    return {
        "distinct": int(clusters.max()) + 1,
        "draws": draws,
        "seed": seed,
        **{score: asdict(with_width(interval(float(own[score]), scores[score]), ends[score])) for score in _SCORES},
        "per_class": _per_class(result.class_names, class_ends(result.matrix, worth)),
        "confusions": _confusions(result.class_names, result.matrix, worth),
        "calibration": believability(result, clusters, seed),
        "unseen": _unseen(result, marked, scores, matrix_scores(parts[0]), worth) if marked.any() else None,
    }


def distinct_images(result: Predictions) -> NDArray[np.int64]:
    """Return the cluster of identical images of each row, int64 ``(N,)``; rows without a digest stand alone."""
    rows = np.char.add("row ", np.arange(len(result.digests)).astype(np.str_))
    return clusters_of(np.where(result.digests == "", rows, result.digests))


def _worth(
    matrix: NDArray[np.int64], recall: NDArray[np.float64], distinct: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how many independent images an image of each class is worth, ``(K,)`` in 0..1: identical ones say less.

    The variance of independent images over that of the resamples, float64 ``(draws, K)``: Kish's design effect. The
    share of distinct images, ``(K,)``, where all images of a class are right or all are wrong: without variance.
    """
    worth: NDArray[np.float64] = distinct.copy()
    for label, drawn in enumerate(recall.T):
        known, support = drawn[~np.isnan(drawn)], int(matrix[label].sum())
        share = int(matrix[label, label]) / max(support, 1)
        if 0 < share < 1:
            worth[label] = min(share * (1 - share) / support / float(known.var()), 1.0)
    return worth


def _wilson(hits: float, total: float, worth: float) -> Ends:
    return wilson_interval(hits * worth, total * worth)


def _per_class(names: Sequence[str], ends: Mapping[str, Sequence[Ends]]) -> dict[str, dict[str, Ends]]:
    return {name: {score: each[label] for score, each in ends.items()} for label, name in enumerate(names)}


def _confusions(
    names: Sequence[str], matrix: NDArray[np.int64], worth: NDArray[np.float64]
) -> list[dict[str, str | float]]:
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs: list[dict[str, str | float]] = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        count, support = int(wrong[true, predicted]), int(matrix[true].sum())
        if count:
            low, high = _wilson(count, support, float(worth[true]))
            told = {"true": names[true], "predicted": names[predicted]}
            pairs.append({**told, "count": count, "share": count / support, "low": low, "high": high})
    return pairs


def believability(result: Predictions, clusters: NDArray[np.int64], seed: int = 0) -> dict[str, Any]:
    """Return how far the probabilities can be believed, as plain values: ``calibration`` of ``uncertainty``.

    Args:
        result: predictions with targets, at least one.
        clusters: of ``distinct_images``, int64 ``(N,)``.
        seed: of the draws.
    """
    losses = np.stack([log_losses(result.probs, result.target), brier_scores(result.probs, result.target)], axis=1)
    resampled = resampled_means(losses, clusters, seed=seed)
    nll, brier = (interval(float(losses[:, k].mean()), resampled[:, k]) for k in range(2))
    perfect = null_ece(result.probs, seed=seed)
    low, high = np.quantile(perfect, [0.025, 0.975]).tolist()
    return {
        "ece": ece_of(result.probs, result.target),
        "ece_perfect": {"mean": float(perfect.mean()), "low": low, "high": high},
        "nll": asdict(nll),
        "brier": asdict(brier),
        "confidence": float(result.confidence.mean(dtype=np.float64) - (result.preds == result.target).mean()),
        "bins": reliability_bins(result.confidence, result.preds == result.target, seed),
    }


def _unseen(
    result: Predictions,
    marked: NDArray[np.int64],
    scores: dict[str, NDArray[np.float64]],
    scores_unseen: dict[str, NDArray[np.float64]],
    worth: NDArray[np.float64],
) -> dict[str, Any]:
    classes, rows = len(result.class_names), marked == 0
    cells = np.bincount(result.target[rows] * classes + result.preds[rows], minlength=classes * classes)
    matrix = cells.reshape(classes, classes)
    all_of, own, ends = matrix_scores(result.matrix), matrix_scores(matrix), score_ends(matrix, worth)
    return {
        "n": int(rows.sum()),
        **{
            score: asdict(with_width(interval(float(own[score]), scores_unseen[score]), ends[score]))
            for score in _SCORES
        },
        "difference": {
            score: asdict(interval(float(own[score] - all_of[score]), scores_unseen[score] - scores[score]))
            for score in _SCORES
        },
    }
