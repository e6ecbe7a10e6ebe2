"""How a classifier does on groups of people, and which differences chance explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.groups import group_matrices, group_scores, largest_gap, too_few
from fer_lightning.evaluation.pairs import add_holm
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.resampling import clusters_of, matrix_scores

__all__ = ["Attribute", "attributes_of", "audit"]

_DRAWS = 2_000


@dataclass(frozen=True)
class Attribute:
    """Groups of people: one column of the data, or several intersected.

    Attributes:
        name: of the column; of several ``gender x age_group``.
        groups: names, in the order of their numbers.
        member: number of the group of each image, int64 ``(N,)``; -1 where it is not known.
    """

    name: str
    groups: tuple[str, ...]
    member: NDArray[np.int64]


def attributes_of(predictions: Predictions, names: Sequence[str], intersect: int = 1) -> list[Attribute]:
    """Return the groups that columns of a table of predictions make, and their intersections.

    Args:
        predictions: with group columns.
        names: of the columns.
        intersect: also intersect up to so many columns.

    Raises:
        ConfigError: if a column is not there, or empty in every row.
    """
    found = []
    for name in names:
        if name not in predictions.groups:
            known = ", ".join(predictions.groups) or "none: the data set has no such columns"
            raise ConfigError(f"there is no column '{name}' in these predictions (known: {known})")
        column = predictions.groups[name]
        if not (column != "").any():
            raise ConfigError(f"the column '{name}' is empty in every row")
    for count in range(1, min(intersect, len(names)) + 1):
        for chosen in combinations(names, count):
            columns = [predictions.groups[name] for name in chosen]
            known = np.all([column != "" for column in columns], axis=0)
            labels = np.array([", ".join(parts) for parts in zip(*columns, strict=True)], np.str_)
            groups = tuple(sorted(set(labels[known].tolist())))
            number = {name: place for place, name in enumerate(groups)}
            member = np.array([number.get(label, -1) if own else -1 for label, own in zip(labels, known, strict=True)])
            found.append(Attribute(" x ".join(chosen), groups, member.astype(np.int64)))
    return found


def audit(
    predictions: Predictions, attributes: Sequence[Attribute], draws: int = _DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Return the scores of groups and the largest gap of each attribute beside what chance makes of it.

    Args:
        predictions: with targets.
        attributes: of the images.
        draws: shuffles of the groups.
        seed: of the shuffles.

    Returns:
        Plain values: ``images, class_names, split, model, draws, seed`` and ``attributes``: of each ``name, unknown``
        (images without a group), ``groups`` (fields of :class:`.GroupScores`), ``left_out`` (groups with too few images
        for their accuracy, which do not enter the gap), ``gap`` (fields of :class:`.Gap`, and ``p_holm``, corrected for
        the number of attributes; ``None`` with fewer than two groups), ``equalised_odds`` and ``classes``: of each
        class ``class, gap, best, worst, p, p_holm`` of its recall.
    """
    target, preds = predictions.target, predictions.preds
    right, classes = preds == target, len(predictions.class_names)
    clusters = clusters_of(predictions.digests) if (predictions.digests != "").all() else np.arange(len(target))
    found: list[dict[str, Any]] = []
    for attribute in attributes:
        matrices = group_matrices(attribute.member, target, preds, len(attribute.groups), classes)
        scores = group_scores(matrices, attribute.groups)
        large = [place for place, matrix in enumerate(matrices) if too_few(matrix) != "accuracy"]
        names = [attribute.groups[place] for place in large]
        member = _renumbered(attribute.member, large)
        gap = None
        if len(large) > 1:
            gap = asdict(largest_gap(member, target, right, names, clusters, draws, seed))
        found.append(
            {
                "name": attribute.name,
                "unknown": int((attribute.member < 0).sum()),
                "groups": [_plain(asdict(score)) for score in scores],
                "left_out": [name for name in attribute.groups if name not in names],
                "gap": gap,
                "equalised_odds": _equalised_odds(matrices[large]) if len(large) > 1 else None,
                "classes": _by_class(predictions, member, names, right, clusters, draws, seed) if gap else [],
            }
        )
    known = [each["gap"] for each in found if each["gap"]]
    add_holm(known)
    return {
        "images": len(target),
        "class_names": list(predictions.class_names),
        "split": predictions.split,
        "model": predictions.model,
        "draws": draws,
        "seed": seed,
        "attributes": found,
    }


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores with ``None`` in place of NaN, as JSON wants it."""

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and np.isnan(value) else value

    return {
        name: [known(each) for each in value] if isinstance(value, tuple) else known(value)
        for name, value in scores.items()
    }


def _renumbered(member: NDArray[np.int64], kept: Sequence[int]) -> NDArray[np.int64]:
    """Return the numbers of groups of which only some are kept; others become -1."""
    number = {place: position for position, place in enumerate(kept)}
    return np.array([number.get(place, -1) for place in member.tolist()], np.int64)


def _equalised_odds(matrices: NDArray[np.int64]) -> float:
    """Return the equalised-odds difference for several classes.

    It is the largest difference between two groups in the rate at which a class is given to images of that class, or
    to images of others.
    """
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    others = matrices.sum(axis=(1, 2))[:, None] - matrices.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        false = (matrices.sum(axis=1) - hits) / others
    rates = np.concatenate([matrix_scores(matrices)["recall"], false], axis=1)
    return float(np.nanmax(np.nanmax(rates, axis=0) - np.nanmin(rates, axis=0)))


def _by_class(
    predictions: Predictions,
    member: NDArray[np.int64],
    names: Sequence[str],
    right: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the largest gap in the recall of each class that two groups have."""
    found: list[dict[str, Any]] = []
    for label, name in enumerate(predictions.class_names):
        rows = np.flatnonzero((predictions.target == label) & (member >= 0))
        present = sorted(set(member[rows].tolist()))
        if len(present) < 2:
            continue
        own = _renumbered(member[rows], present)
        shown = [names[place] for place in present]
        gap = largest_gap(own, np.zeros(len(rows), np.int64), right[rows], shown, clusters[rows], draws, seed)
        found.append({"class": name, "gap": gap.observed, "best": gap.best, "worst": gap.worst, "p": gap.p})
    add_holm(found)
    return found
