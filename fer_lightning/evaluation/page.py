"""The page of an evaluation, for a reader who doubts: verdict, doubts, classes, confusions, calibration, mistakes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.images import ImageArray
from fer_lightning.evaluation.audit import attributes_of
from fer_lightning.evaluation.beside import PAGE, Beside
from fer_lightning.evaluation.checks import checks, weak_spot
from fer_lightning.evaluation.groups import group_matrices, group_scores
from fer_lightning.evaluation.page_parts import beside_part, calibration_part
from fer_lightning.evaluation.predictions import EvaluationResult, Predictions
from fer_lightning.figures import thumbnail
from fer_lightning.pages import render

__all__ = ["MISTAKES_SHOWN", "Training", "page_html", "worst_mistakes"]

MISTAKES_SHOWN = 24
"""Number of the most confident mistakes that are shown."""

_BY_PAIR = (3, 6)  # pairs of classes of which mistakes are shown, and mistakes of each
_SUSPECTS = 12
_GROUPS_LISTED = 12  # groups of a column that are listed; a column of more is no attribute of people
_NAMES = {"val": "the validation part", "test": "the test part"}


@dataclass(frozen=True)
class Training:
    """What the page of a run tells beyond its best validation.

    Attributes:
        curves: a drawing of losses and scores over the epochs, ``""`` for none.
        starts: rows of a table, one for each start or resume, its head first.
        config: content of ``config.yaml``.
    """

    curves: str
    starts: Sequence[Sequence[str]]
    config: str


def worst_mistakes(result: EvaluationResult, count: int = MISTAKES_SHOWN) -> NDArray[np.int64]:
    """Return the positions of the ``count`` most confident wrong predictions, most confident first, int64 ``(M,)``."""
    wrong = np.flatnonzero(result.preds != result.target)
    # equal confidences in the order of the index, however the samples were batched
    order = np.lexsort((result.index[wrong], -result.confidence[wrong]))
    return wrong[order][:count]


def page_html(
    report: Mapping[str, Any],
    result: Predictions,
    images: ImageArray | None = None,
    training: Training | None = None,
    beside: Beside | None = None,
) -> str:
    """Return the page: one file without scripts that needs no network.

    Args:
        report: content of ``report.json``, with ``uncertainty``.
        result: the predictions, at least one.
        images: uint8 ``(rows of the samples table, C, H, W)``; without them mistakes are listed, not shown.
        training: for the page of a run.
        beside: of the evaluation; ``None`` for one that lies in the working folder, with no run.
    """
    what = f"{result.model or 'A model'} on {_NAMES.get(result.split, result.split or 'all images')}"
    sections = {"verdict": "Verdict", "believe": "Can it be believed?"}
    if training is not None:
        sections["training"] = "Training"
    if report["uncertainty"]["unseen"]:
        sections["unseen"] = "Without images seen in training"
    sections |= {
        "classes": "Classes",
        "confusion": "Confusions",
        "calibration": "Calibration",
        "mistakes": "Mistakes",
        "groups": "Groups",
        "beside": "What else is known",
        "repeat": "How to repeat",
    }
    beside = Beside(Path(), Path(PAGE), report) if beside is None else beside
    return render(
        "evaluation.html",
        sections=sections,
        title=what,
        about=_about(report),
        report=report,
        weak=weak_spot(report),
        checks=checks(report),
        heat=_heat(np.array(report["confusion_matrix"])),
        calibration=calibration_part(beside, lambda: result),
        beside=beside_part(beside),
        mistakes=_mistakes(result, images),
        suspects=[_cell(result, place, images) for place in _suspects(result)[:_SUSPECTS]],
        suspect_count=len(_suspects(result)),
        groups=_groups(result),
        training=training,
        place=shlex.quote(str(beside.folder)),
        prefix=beside.prefix,
    )


def _about(report: Mapping[str, Any]) -> str:
    data = report["context"].get("data") or {}
    sources = ", ".join(data.get("sources") or ())
    return f"{data.get('datamodule', 'data')}{f' ({sources})' if sources else ''}, labels: {report['scheme']}"


def _heat(matrix: NDArray[np.int64]) -> list[list[float | None]]:
    """Return the share of each cell in its row, ``None`` in the row of a class without images."""
    support = matrix.sum(axis=1)
    return [[int(n) / int(total) if total else None for n in row] for row, total in zip(matrix, support, strict=True)]


def _cell(result: Predictions, place: int, images: ImageArray | None) -> dict[str, Any]:
    """Return what is shown of an image."""
    pred, true = int(result.preds[place]), int(result.target[place])
    return {
        "image": thumbnail(images[result.index[place : place + 1]][0]) if images is not None else "",
        "true": result.class_names[true],
        "predicted": result.class_names[pred],
        "p": float(result.probs[place, pred]),
        "p_true": float(result.probs[place, true]),
        "file": str(result.files[place]),
    }


def _mistakes(result: Predictions, images: ImageArray | None) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return titled lists of mistakes: the most confident, then those of the pairs that are confused most."""
    worst = worst_mistakes(result, len(result.target))
    listed = [("Most confident", worst[:MISTAKES_SHOWN])]
    pairs, counts = np.unique(result.target[worst] * len(result.class_names) + result.preds[worst], return_counts=True)
    own = result.target[worst] * len(result.class_names) + result.preds[worst]
    for pair in pairs[np.argsort(-counts, kind="stable")][: _BY_PAIR[0]]:
        true, pred = divmod(int(pair), len(result.class_names))
        title = f"{result.class_names[true]}, taken for {result.class_names[pred]}"
        listed.append((title, worst[own == pair][: _BY_PAIR[1]]))
    return [(title, [_cell(result, place, images) for place in places]) for title, places in listed]


def _suspects(result: EvaluationResult) -> NDArray[np.int64]:
    """Return images whose label may be wrong, most doubtful first, int64 ``(M,)``.

    Those of which another class is stated with more confidence than its own images have on average (confident
    learning: Northcutt et al. 2021, arXiv:1911.00068), by how much less the true class gets.
    """
    probs, target, rows = result.probs, result.target, np.arange(len(result.target))
    usual = np.array([probs[target == k, k].mean() if (target == k).any() else 2.0 for k in range(probs.shape[1])])
    sure = np.where(probs >= usual, probs, 0.0)
    other = (result.preds != target) & (sure[rows, result.preds] > 0)
    places = np.flatnonzero(other)
    margin = probs[places, target[places]] - probs[places, result.preds[places]]
    return places[np.lexsort((result.index[places], margin))]


def _groups(result: Predictions) -> dict[str, list[tuple[str, ...]]]:
    """Return a table for each group column, its head first."""
    tables = {}
    for name, column in result.groups.items():
        if not 2 <= len(set(column[column != ""].tolist())) <= _GROUPS_LISTED:
            continue
        [attribute] = attributes_of(result, [name])
        count, classes = len(attribute.groups), len(result.class_names)
        matrices = group_matrices(attribute.member, result.target, result.preds, count, classes)
        tables[name] = [
            (name, "images", "accuracy", "95 % interval", "macro F1"),
            *(
                (
                    group.name,
                    f"{group.images:,}",
                    *(f"{share:.1%}" for share in (group.accuracy,)),
                    f"{group.accuracy_low:.1%} to {group.accuracy_high:.1%}",
                    f"{group.f1_macro:.1%}",
                )
                for group in group_scores(matrices, attribute.groups)
            ),
        ]
    return tables
