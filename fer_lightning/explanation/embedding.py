"""What training has done to the features of a network: maps and numbers, before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.explanation.features import features_of, grouping
from fer_lightning.inspection.embedding import (
    check_tsne,
    flat_pixels,
    principal_components,
    stratified_rows,
    tsne_places,
)
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.text import did_you_mean, excerpt
from fer_lightning.types import Preprocessing

__all__ = ["AFTER", "BEFORE", "PIXELS", "Colouring", "Embedding", "colourings", "distinct_rows", "embedded"]

PIXELS, BEFORE, AFTER = "pixels", "before training", "after training"
_MOST_GROUPS = 12  # of a column: more are names, not groups
CLASS, SOURCE = "class", "source"


@dataclass(frozen=True)
class Colouring:
    """One way to divide images into groups.

    Attributes:
        name: ``class``, ``source`` or a column of the table.
        groups: names of the groups.
        labels: group of each image, int64 ``(M,)``; -1 where it is not known.
    """

    name: str
    groups: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Embedding:
    """What was found of some images.

    Attributes:
        rows: of the table, int64 ``(M,)``.
        features: in front of the head, float32 ``(M, F)``, by when: ``BEFORE``, ``AFTER``.
        places: in the plane, float64 ``(M, 2)``, likewise.
        preds: what the trained network says, int64 ``(M,)``.
        scores: by space (``PIXELS``, ``BEFORE``, ``AFTER``) and colouring, see ``grouping``.
    """

    rows: NDArray[np.int64]
    features: dict[str, NDArray[np.float32]]
    places: dict[str, NDArray[np.float64]]
    preds: NDArray[np.int64]
    scores: dict[str, dict[str, dict[str, float]]]


def distinct_rows(table: SamplesTable, split: str, count: int, seed: int) -> NDArray[np.int64]:
    """Draw at most ``count`` rows of a split, int64 ``(M,)``; classes keep their shares.

    Of identical images, which would be each other's nearest neighbours, one is taken.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
        ConfigError: if there are fewer than five.
        DataError: if the split has none.
    """
    rows = table.rows(split)
    if not len(rows):
        having = ", ".join(name for name in ("train", "val", "test") if len(table.rows(name)))
        raise DataError(f"the data has no image in its split '{split}'; splits with images: {having or 'none'}")
    _, first = np.unique(table.digests[rows], axis=0, return_index=True)
    chosen = stratified_rows(table.labels, rows[np.sort(first)], count, seed)
    check_tsne(len(chosen))
    return chosen


def colourings(table: SamplesTable, rows: NDArray[np.int64], wanted: str = "") -> list[Colouring]:
    """Return the ways to divide rows of a table: by class, by source and by columns with groups.

    Args:
        table: of the data set.
        rows: int64 ``(M,)``.
        wanted: columns, with commas between; all that have 2 to 12 groups if it is empty.

    Raises:
        ConfigError: if there is no such column, or it has fewer than two groups in these rows.
    """
    texts = {name: column[rows] for name, column in table.columns.items() if column.dtype.kind == "U"}
    names = [name for name in (each.strip() for each in wanted.split(",")) if name]
    for name in names:
        if name not in texts:
            known = ", ".join(texts) or "none"
            raise ConfigError(f"there is no column '{name}'{did_you_mean(name, texts)} (columns with groups: {known})")
    for name in names:
        if len(values := np.unique(texts[name][texts[name] != ""])) < 2:
            told = f"has one value only, {excerpt(str(values[0]))}," if len(values) else "is empty"
            raise ConfigError(f"the column '{name}' {told} in the {len(rows):,} images chosen: no groups to colour by")
    counts = {name: len(np.unique(column[column != ""])) for name, column in texts.items()}
    found = [Colouring(CLASS, tuple(table.class_names), table.labels[rows])]
    columns = {name: texts[name] for name in names or [each for each in texts if 2 <= counts[each] <= _MOST_GROUPS]}
    for name, column in {SOURCE: table.sources[rows], **columns}.items():
        groups = tuple(np.unique(column[column != ""]).tolist())
        if len(groups) > 1:
            places = np.searchsorted(groups, column)
            found.append(Colouring(name, groups, np.where(column == "", -1, places).astype(np.int64)))
    return found


def embedded(
    networks: Mapping[str, EmotionClassifier],
    preprocessing: Preprocessing,
    table: SamplesTable,
    rows: NDArray[np.int64],
    ways: list[Colouring],
    seed: int,
    step: Callable[[str], object] = lambda what: None,
) -> Embedding:
    """Return features, maps and numbers of rows of a table.

    Args:
        networks: ``BEFORE`` and ``AFTER``.
        preprocessing: of their input.
        table: of the data set.
        rows: int64 ``(M,)``, of it.
        ways: to divide them.
        seed: of PCA and t-SNE.
        step: called before each part of the work, twice for each network and once more.
    """
    step(PIXELS)
    spaces = {PIXELS: principal_components(flat_pixels(table, rows), seed)}
    features, places, preds = {}, {}, np.zeros(0, np.int64)
    for when, network in networks.items():
        step(f"features {when}")
        features[when], preds = features_of(network, preprocessing, table.images, rows)
        spaces[when] = principal_components(features[when], seed)
        step(f"t-SNE {when}")
        places[when] = tsne_places(spaces[when], seed)
    scores: dict[str, dict[str, Any]] = {space: {} for space in spaces}
    for way in ways:
        known = way.labels >= 0
        for space, components in spaces.items():
            scores[space][way.name] = grouping(components[known], way.labels[known])
    return Embedding(rows, features, places, preds, scores)
