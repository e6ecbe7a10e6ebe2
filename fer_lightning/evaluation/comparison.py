"""Several classifiers on the same images: paired differences, and whether they are more than chance makes.

Intervals hold 95 % of the resamples. Of few images, or of models without mistakes, these know too little. So a score
whose resamples all agree has the interval of ``score_ends`` (Wilson's, for the accuracy), and differences reach at
least as far as the score interval of Tango 1998 (``paired_ends``), those of macro F1 as ``unseen_changes``.
Identical images count once there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import DataError
from fer_lightning.evaluation.confidence import brier_scores, ece_of, log_losses
from fer_lightning.evaluation.pairs import add_holm, cluster_mcnemar
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.resampling import (
    DRAWS,
    clusters_of,
    confusion_matrices,
    interval,
    matrix_scores,
    resampled_matrices,
)
from fer_lightning.evaluation.score_intervals import (
    distinct_shares,
    paired_ends,
    score_ends,
    unseen_changes,
    widened,
    with_width,
)
from fer_lightning.text import counted

__all__ = ["Evaluation", "aligned", "comparison"]

_SCORES = ("accuracy", "f1_macro")


@dataclass(frozen=True)
class Evaluation:
    """What is compared.

    Attributes:
        name: as it is shown.
        predictions: of one classifier, with targets and digests.
        fingerprint: of the split, empty if it is not known.
        again: command that makes the evaluation again, for messages.
    """

    name: str
    predictions: Predictions
    fingerprint: str = ""
    again: str = "fer test"


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
            lacking = "true classes" if not own.known else "digests of its images (an older version wrote it)"
            raise DataError(f"{each.name} has no {lacking}: run {each.again} again")
        if own.class_names != first.predictions.class_names:
            raise DataError(_other_classes(first, each))
        orders.append(np.lexsort((own.index, own.target, own.digests)))
    for each, order in zip(evaluations[1:], orders[1:], strict=True):
        _check_same(first, orders[0], each, order)
    return orders


def _other_classes(first: Evaluation, other: Evaluation) -> str:
    """Return in what the classes of two evaluations differ."""
    one, two = first.predictions.class_names, other.predictions.class_names
    more = [(first.name, [name for name in one if name not in two])]
    more += [(other.name, [name for name in two if name not in one])]
    only = [f"only {name} has {', '.join(classes)}" for name, classes in more if classes]
    how = "; ".join(only) if only else "they are in another order"
    return f"{first.name} has {len(one)} classes and {other.name} {len(two)}, which cannot be compared: {how}"


def _check_same(first: Evaluation, order: NDArray[np.int64], other: Evaluation, own: NDArray[np.int64]) -> None:
    one, two = first.predictions, other.predictions
    if len(order) != len(own) or not np.array_equal(one.digests[order], two.digests[own]):
        told = " and ".join(_whereof(each) for each in (first, other))
        shared = len(set(one.digests) & set(two.digests))
        raise DataError(
            f"they are evaluations of other images, with {shared:,} in common: {told}; evaluate both on the same split "
            "of the same data"
        )
    differing = int((one.target[order] != two.target[own]).sum())
    if differing:
        raise DataError(
            f"{_whereof(first)} and {_whereof(other)} were scored against other labels: {differing:,} of "
            f"{len(order):,} images differ"
        )


def _whereof(evaluation: Evaluation) -> str:
    """Return name, split, fingerprint and number of images of an evaluation."""
    known = [counted(len(evaluation.predictions.index), "image")]
    known += [evaluation.predictions.split] if evaluation.predictions.split else []
    known += [f"fingerprint {evaluation.fingerprint}"] if evaluation.fingerprint else []
    return f"{evaluation.name} ({', '.join(known)})"


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
        images, before`` (recall of the first model), ``after`` (its own), ``recall`` and ``f1`` (minus those of the
        first), ``p`` (of the recall) and ``p_holm``; ``luck``: by how much the most accurate of so many equal models
        would exceed their mean.

    Raises:
        DataError: if there are fewer than two, or they cannot be compared; see ``aligned``.
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
    matrices = confusion_matrices(target, preds, len(names))
    own = matrix_scores(matrices)
    worth = distinct_shares(target, clusters, len(names))
    models = [
        {
            "name": each.name,
            **_scores(place, own, drawn, score_ends(matrices[place], worth)),
            **_calibration(probs[place], target),
        }
        for place, each in enumerate(evaluations)
    ]
    distinct = np.bincount(target, minlength=len(names)) * worth
    pairs = _pairs([each.name for each in evaluations], own, drawn, right, clusters, distinct)
    classes = _classes([each.name for each in evaluations], names, target, right, own["f1"], clusters)
    for rows in (pairs, classes):
        add_holm(rows)
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
        "luck": _luck(drawn["accuracy"]),
    }


def _scores(
    place: int,
    own: Mapping[str, NDArray[np.float64]],
    drawn: Mapping[str, NDArray[np.float64]],
    ends: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    """Return the scores of the model in a place, each with its interval."""
    intervals = {score: interval(float(own[score][place]), drawn[score][:, place]) for score in _SCORES}
    return {score: asdict(with_width(each, ends[score])) for score, each in intervals.items()}


def _pairs(
    names: Sequence[str],
    own: Mapping[str, NDArray[np.float64]],
    drawn: Mapping[str, NDArray[np.float64]],
    right: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    distinct: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Return how each two models differ, second minus first; of each class the number of distinct images is given."""
    images, found = float(distinct.sum()), []
    more, share = unseen_changes(distinct), images / right.shape[1]
    for a, b in combinations(range(len(names)), 2):
        first, second = int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())
        change = {score: float(own[score][b] - own[score][a]) for score in _SCORES}
        ends = {
            "accuracy": paired_ends(first * share, second * share, images),
            "f1_macro": (change["f1_macro"] - more, change["f1_macro"] + more),
        }
        intervals = {score: interval(change[score], drawn[score][:, b] - drawn[score][:, a]) for score in _SCORES}
        found.append({
            "first": names[a],
            "second": names[b],
            **{score: asdict(widened(each, ends[score])) for score, each in intervals.items()},
            "first_only": first,
            "second_only": second,
            "p": cluster_mcnemar(right[a], right[b], clusters),
        })  # fmt: skip
    return found


def _classes(
    models: Sequence[str],
    names: Sequence[str],
    target: NDArray[np.int64],
    right: NDArray[np.bool_],
    f1: NDArray[np.float64],
    clusters: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Return how recall and F1 of each class differ from those of the first model."""
    return [
        {
            "model": model,
            "class": name,
            **_class_change(target == label, right[0], right[place], clusters),
            "f1": _known(f1[place, label] - f1[0, label]),
        }
        for place, model in enumerate(models[1:], start=1)
        for label, name in enumerate(names)
    ]


def _class_change(
    rows: NDArray[np.bool_], before: NDArray[np.bool_], after: NDArray[np.bool_], clusters: NDArray[np.int64]
) -> dict[str, Any]:
    """Return how the recall of one class, whose rows are given, differs from that of the first model."""
    images = int(rows.sum())
    if not images:
        return {"images": 0, "before": None, "after": None, "recall": None, "p": 1.0}
    one, two = float(before[rows].mean()), float(after[rows].mean())
    p = cluster_mcnemar(before[rows], after[rows], clusters[rows])
    return {"images": images, "before": one, "after": two, "recall": two - one, "p": p}


def _calibration(probs: NDArray[np.float32], target: NDArray[np.int64]) -> dict[str, float]:
    """Return ``ece``, ``nll`` and ``brier``."""
    nll, brier = float(log_losses(probs, target).mean()), float(brier_scores(probs, target).mean())
    return {"ece": ece_of(probs, target), "nll": nll, "brier": brier}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _luck(accuracies: NDArray[np.float64]) -> float:
    """Return what the best of several equal models has more than their mean, by resampled accuracies ``(draws, M)``.

    Each model is moved to the mean of all; what is left is how far chance carries the best one away.
    """
    centred = accuracies - accuracies.mean(axis=0)
    return float((centred.max(axis=1) - centred.mean(axis=1)).mean())
