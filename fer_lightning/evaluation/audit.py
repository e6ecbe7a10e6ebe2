"""How a classifier does on groups of people, and which differences chance explains."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.groups import (
    FEWEST_OF_A_CLASS,
    class_recalls,
    equalised_odds,
    group_matrices,
    group_scores,
    largest_gap,
    minus_rest,
    shuffled_matrices,
    simultaneous,
    standardised,
    too_few,
)
from fer_lightning.evaluation.pairs import add_holm
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.resampling import DRAWS, clusters_of, interval, matrix_scores, resampled_counts
from fer_lightning.text import did_you_mean, excerpt

__all__ = ["SHUFFLES", "Attribute", "attributes_of", "audit", "check_auditable"]

SHUFFLES = 2_000
"""Shuffles of the groups. The least p value is 1 / 2,001."""
_FEWEST_SHUFFLES = 100
_MOST_GROUPS = 100


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
        ConfigError: if a column is not there, empty in every row, or has one value only, or so many that they are no
            groups.
    """
    if intersect < 1:
        raise ConfigError(f"--intersect must be 1 or more, not {intersect}")
    names = list(dict.fromkeys(names))
    for name in names:
        _check_column(predictions.groups, name)
    found = []
    for count in range(1, min(intersect, len(names)) + 1):
        for chosen in combinations(names, count):
            columns = [np.char.strip(predictions.groups[name]) for name in chosen]
            known = np.all([column != "" for column in columns], axis=0)
            labels = np.array([", ".join(parts) for parts in zip(*columns, strict=True)], np.str_)
            groups = tuple(sorted(set(labels[known].tolist()), key=_natural))
            number = {name: place for place, name in enumerate(groups)}
            member = np.array([number.get(label, -1) if own else -1 for label, own in zip(labels, known, strict=True)])
            found.append(Attribute(" x ".join(chosen), groups, member.astype(np.int64)))
    return found


def _check_column(columns: Mapping[str, NDArray[np.str_]], name: str) -> None:
    if name not in columns:
        there = f"there are {', '.join(columns)}" if columns else "they have none: the data set knows no groups"
        raise ConfigError(f"there is no column '{name}' in these predictions{did_you_mean(name, columns)} ({there})")
    values = {value.strip() for value in columns[name].tolist()} - {""}
    if not values:
        raise ConfigError(f"the column '{name}' is empty in every row: the data set does not know it of these images")
    if len(values) == 1:
        raise ConfigError(f"the column '{name}' has one value only, {excerpt(values.pop())}: no groups to compare")
    if len(values) > _MOST_GROUPS:
        raise ConfigError(f"the column '{name}' has {len(values):,} different values: these are no groups of people")


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them: 3-9 before 10-19."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def check_auditable(predictions: Predictions) -> None:
    """Raise ``DataError`` if predictions know no true classes or no digests."""
    if not predictions.known or (predictions.digests == "").any():
        lacking = "true classes" if not predictions.known else "digests of its images (an older version wrote it)"
        raise DataError(f"this evaluation has no {lacking}")


def audit(
    predictions: Predictions,
    attributes: Sequence[Attribute],
    shuffles: int = SHUFFLES,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Return the scores of groups and the largest gap of each attribute beside what chance makes of it.

    Args:
        predictions: with targets and digests.
        attributes: of the images.
        shuffles: of the groups.
        seed: of shuffles and resamples.
        draws: resamples of groups of identical images, for the intervals of F1 and of differences to the rest.

    Returns:
        Plain values: ``images, distinct, class_names, split, model, shuffles, draws, seed``, ``total`` (scores of all
        images) and ``attributes``: of each ``name, unknown`` (images without a group), ``groups`` (fields of
        ``GroupScores``; of those with enough images also ``f1_low, f1_high`` and ``rest``: accuracy minus that
        of the others, with ``low, high``, simultaneous, and ``p``, or ``None`` without a common class), ``left_out``
        (groups with too few images for their accuracy, which do not enter any gap), ``gap`` (fields of ``Gap``,
        and ``p_holm``, corrected for the number of attributes; ``None`` with fewer than two groups),
        ``equalised_odds`` (likewise) and ``classes``: of
        each class ``class`` and the fields of the gap in its recall, ``p_holm`` being corrected for the classes.

    Raises:
        ConfigError: for too few shuffles.
        DataError: if the predictions know no true classes or no digests.
    """
    if shuffles < _FEWEST_SHUFFLES:
        raise ConfigError(f"--shuffles must be {_FEWEST_SHUFFLES} or more, not {shuffles}")
    check_auditable(predictions)
    classes, everyone = len(predictions.class_names), np.zeros(len(predictions.target), np.int64)
    clusters = clusters_of(predictions.digests)
    total = group_matrices(everyone, predictions.target, predictions.preds, 1, classes)
    found = [_audited(predictions, attribute, clusters, shuffles, draws, seed) for attribute in attributes]
    for key in ("gap", "equalised_odds"):
        add_holm([each[key] for each in found if each[key]])
    return {
        "images": len(predictions.target),
        "distinct": int(clusters.max()) + 1,
        "class_names": list(predictions.class_names),
        "split": predictions.split,
        "model": predictions.model,
        "shuffles": shuffles,
        "draws": draws,
        "seed": seed,
        "total": _plain(asdict(group_scores(total, ["all"])[0])),
        "attributes": found,
    }


def _audited(
    predictions: Predictions, attribute: Attribute, clusters: NDArray[np.int64], shuffles: int, draws: int, seed: int
) -> dict[str, Any]:
    target, preds, classes = predictions.target, predictions.preds, len(predictions.class_names)
    matrices = group_matrices(attribute.member, target, preds, len(attribute.groups), classes)
    large = [place for place, matrix in enumerate(matrices) if too_few(matrix) != "accuracy"]
    names = [attribute.groups[place] for place in large]
    found: dict[str, Any] = {
        "name": attribute.name,
        "unknown": int((attribute.member < 0).sum()),
        "groups": [_plain(asdict(score)) for score in group_scores(matrices, attribute.groups)],
        "left_out": [name for name in attribute.groups if name not in names],
        "gap": None,
        "equalised_odds": None,
        "classes": [],
    }
    if len(large) < 2:
        return found
    own, member = matrices[large], _renumbered(attribute.member, large)
    shape = len(large), classes
    shuffled = shuffled_matrices(member, target, preds, clusters, shape, shuffles, seed)
    gap = largest_gap(standardised(own), standardised(shuffled), names)
    found["gap"] = None if gap is None else asdict(gap)
    rates = [f"recall of {name}" for name in predictions.class_names]
    rates += [f"false {name}" for name in predictions.class_names]
    odds = largest_gap(equalised_odds(own, FEWEST_OF_A_CLASS), equalised_odds(shuffled), names, rates)
    found["equalised_odds"] = None if odds is None else asdict(odds)
    recall, drawn = class_recalls(own, FEWEST_OF_A_CLASS), class_recalls(shuffled)
    for label, name in enumerate(predictions.class_names):
        of_class = largest_gap(recall[:, label], drawn[..., label], names)
        if of_class is not None:
            found["classes"].append({"class": name, **asdict(of_class)})
    add_holm(found["classes"])
    inside = member >= 0
    cells = (member[inside] * classes + target[inside]) * classes + preds[inside]
    _add_intervals([found["groups"][place] for place in large], own, cells, clusters[inside], draws, seed)
    return found


def _add_intervals(
    groups: Sequence[dict[str, Any]],
    matrices: NDArray[np.int64],
    cells: NDArray[np.int64],
    clusters: NDArray[np.int64],
    draws: int,
    seed: int,
) -> None:
    """Add ``f1_low``, ``f1_high`` and ``rest`` to the groups whose matrices are given, int64 ``(G, K, K)``."""
    f1, rest = [], []
    for block in resampled_counts(cells[None], clusters, matrices.size, draws, seed):
        drawn = block.reshape(-1, *matrices.shape)
        f1.append(matrix_scores(drawn)["f1_macro"])
        rest.append(minus_rest(drawn))
    differences = minus_rest(matrices)
    known = np.flatnonzero(~np.isnan(differences))  # a group that has no class in common with the others has none
    of_known = simultaneous(differences[known], np.concatenate(rest)[:, known]) if len(known) else ([], [])
    rests = {place: {**asdict(own), "p": p} for place, own, p in zip(known.tolist(), *of_known, strict=True)}
    scores, resamples = matrix_scores(matrices)["f1_macro"], np.concatenate(f1)
    for place, group in enumerate(groups):
        of_f1 = interval(float(scores[place]), resamples[:, place])
        group["f1_low"], group["f1_high"] = of_f1.low, of_f1.high
        group["rest"] = rests.get(place)


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
