"""One run of a comparison, read back from its folder: scores as trained and with ``tau`` chosen, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.class_weights import log_prior
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.audit import attributes_of
from fer_lightning.evaluation.groups import group_matrices, standardised, too_few
from fer_lightning.evaluation.predictions import EvaluationResult, Predictions, read_predictions
from fer_lightning.evaluation.prior import best_tau, cross_fitted, shifted
from fer_lightning.evaluation.report import report_content
from fer_lightning.evaluation.spread import Key
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS
from fer_lightning.runs.lineage import Node
from fer_lightning.runs.records import REPORT, Run

__all__ = [
    "DECISIONS",
    "GROUP_SCORES",
    "LESS_IS_BETTER",
    "SCORES",
    "TRAINED",
    "TUNED",
    "RunResult",
    "read_run",
    "scores_of",
]

SCORES = {
    "f1_macro": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "worst_recall": "worst class",
    "ece": "ECE",
}
"""Scores of a run and their titles; ``worst_recall`` is the lowest recall of a class. More is better, except for the
ECE. There are ``recall_<class>`` and ``f1_<class>`` too."""

GROUP_SCORES = {"worst_group": "worst group", "group_gap": "group gap"}
"""Further ones of runs whose data names groups: the lowest accuracy of a group at equal class mix, and the difference
between the highest and the lowest."""

LESS_IS_BETTER = ("ece", "group_gap")
"""Scores of which less is better."""

TRAINED = "as trained"
"""The predicted class is the most probable one."""
TUNED = "tau tuned"
"""The predicted class is chosen after adding ``tau`` times the log prior."""
DECISIONS = (TRAINED, TUNED)
"""How the predicted class was chosen: by the largest probability, or after adding ``tau`` times the log prior."""

_SMALLEST = float(np.finfo(np.float32).tiny)  # what a probability of 0 is taken for before its logarithm


@dataclass(frozen=True)
class RunResult:
    """What one run gave.

    Attributes:
        arm: its arm.
        key: fold and seed.
        folder: its folder.
        scores: of each split that was evaluated and each of ``DECISIONS``, by score. ``None`` is not known; the
            tuned ones are missing where class counts are.
        taus: of each split: the amount that was chosen on the validation split, or the two of its halves.
        class_names: in label order.
        fingerprints: of each split.
        counts: images of each split.
        precision: of the training.
        monitor: metric that chose the checkpoint.
        best_epoch: epoch of that checkpoint, from 0.
        epochs: epochs that were trained.
        images: training images drawn over all epochs, in whole batches.
        wall_s: seconds of training; ``None`` where a part of it is not known.
    """

    arm: str
    key: Key
    folder: Path
    scores: dict[str, dict[str, dict[str, float | None]]]
    taus: dict[str, list[float]]
    class_names: tuple[str, ...]
    fingerprints: dict[str, str]
    counts: dict[str, int]
    precision: str = ""
    monitor: str = ""
    best_epoch: int | None = None
    epochs: int | None = None
    images: int | None = None
    wall_s: float | None = None


def scores_of(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the scores in a report (of ``report_content``, or read back from ``report.json``), flat."""
    recalls = {name: row["recall"] for name, row in report["per_class"].items()}
    known = [recall for recall in recalls.values() if recall is not None]
    worst: dict[str, float | None] = {"worst_recall": min(known) if known else None}
    return {
        **{name: report[name] for name in SCORES if name in report},
        **worst,
        **{f"recall_{name}": recall for name, recall in recalls.items()},
        **{f"f1_{name}": row["f1"] for name, row in report["per_class"].items()},
    }


def _predictions(path: Path, class_names: tuple[str, ...]) -> Predictions:
    """Return the predictions of an evaluation; raise a DataError unless they are of these classes, with targets."""
    found = read_predictions(path)
    if found.class_names != class_names or not found.known:
        raise DataError(f"{path}: expected predictions with targets for {', '.join(class_names)}")
    return found


def read_run(arm: str, key: Key, folder: Path, digests: NDArray[np.uint8] | None = None) -> RunResult:
    """Read what a finished run left in its folder.

    ``tau`` is chosen on the validation split for the best macro F1. The test split, where it was evaluated, is scored
    with it; for the validation split itself each half (identical images in one) is scored with what is best on the
    other.

    Identical images are known by ``digests``, content hashes uint8 ``(rows of the samples table, D)``; without them
    every image counts as another one.

    Raises:
        DataError: if a report is missing or damaged.
        ConfigError: if another file of the run is damaged.
    """
    run = Run(folder)
    tested = run.evaluation("test", folder / CHECKPOINTS / BEST)
    reports = {"val": _report(run, "val"), **({} if tested is None else {"test": _report(run, tested)})}
    names = tuple(reports["val"]["class_names"])
    scores = {split: {TRAINED: scores_of(report)} for split, report in reports.items()}
    context, data = reports["val"]["context"], reports["val"]["context"]["data"]
    taus: dict[str, list[float]] = {}
    counts = data.get("class_counts", {}).get("train")
    if counts is not None:
        prior = log_prior([counts[name] for name in names])
        val = _predictions(folder / "val", names)
        groups = _index_names(val.index) if digests is None else digests[val.index]
        moved, halves = cross_fitted(_log(val), val.target, prior, groups)
        scores["val"][TUNED], taus["val"] = _rescored(val, moved), list(halves)
        if "test" in reports:
            test = _predictions(folder / str(tested), names)
            tau, _ = best_tau(_log(val), val.target, prior)
            scores["test"][TUNED], taus["test"] = _rescored(test, shifted(_log(test), prior, tau)), [tau]
    if columns := _groups_of(run):
        for split, folder_of in (("val", "val"), ("test", str(tested))):
            if split in reports:
                scores[split][TRAINED] |= group_scores_of(_predictions(folder / folder_of, names), columns)
    cost = _cost(run, int(str(context.get("devices", "1")).partition(" ")[0]))
    cost |= {"precision": str(context.get("precision", "")), "best_epoch": context.get("epoch")}
    prints, images = dict(data["fingerprints"]), dict(data["counts"])
    return RunResult(arm, key, folder, scores, taus, names, prints, images, **cost)


def _groups_of(run: Run) -> list[str]:
    """Return the columns by which the data of a run tells people apart, none if it names none."""
    return list(run.config.get("data", {}).get("init_args", {}).get("groups") or [])


def group_scores_of(predictions: Predictions, columns: Sequence[str]) -> dict[str, float | None]:
    """Return the ``GROUP_SCORES`` of the groups that columns make together; ``None`` with fewer than two of them.

    Groups with too few images to say anything (see ``too_few``) do not count.
    """
    try:
        attribute = attributes_of(predictions, columns, len(columns))[-1]
    except ConfigError:  # a column that these images do not have
        return dict.fromkeys(GROUP_SCORES)
    classes = len(predictions.class_names)
    matrices = group_matrices(attribute.member, predictions.target, predictions.preds, len(attribute.groups), classes)
    large = [matrix for matrix in matrices if too_few(matrix) != "accuracy"]
    if len(large) < 2:
        return dict.fromkeys(GROUP_SCORES)
    accuracies = standardised(np.stack(large))
    lowest, highest = float(accuracies.min()), float(accuracies.max())
    return {"worst_group": lowest, "group_gap": highest - lowest}


def _report(run: Run, split: str) -> dict[str, Any]:
    report = run.report(split)
    try:
        _ = report["class_names"], report["per_class"], report["context"]["data"]["fingerprints"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{run.folder / split / REPORT} is not the report of an evaluation: {error}") from error
    return report


def _index_names(index: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(index).view(np.uint8).reshape(len(index), -1)


def _log(result: EvaluationResult) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(result.probs.astype(np.float64), _SMALLEST))
    return logs


def _rescored(result: EvaluationResult, log_probs: NDArray[np.float64]) -> dict[str, float | None]:
    probs = np.exp(log_probs).astype(np.float32)
    return scores_of(report_content(EvaluationResult(result.class_names, result.index, result.target, probs), {}))


def _cost(run: Run, devices: int) -> dict[str, Any]:
    """Return ``monitor``, ``wall_s``, ``epochs`` and ``images`` of a run, as far as its files are there."""
    config, rows = run.config, run.history
    trainer, options = config.get("trainer", {}), config.get("data", {}).get("init_args", {})
    found: dict[str, Any] = {"monitor": config.get("checkpoint", {}).get("monitor", ""), "wall_s": _wall(run.lineage)}
    if rows:
        found["epochs"] = len(rows)
        accumulated = trainer.get("accumulate_grad_batches", 1)
        if "batch_size" in options and rows[-1].get("step"):
            found["images"] = int(rows[-1]["step"]) * accumulated * options["batch_size"] * devices
    return found


def _wall(nodes: list[Node]) -> float | None:
    """Return the seconds that a run took over all its starts; ``None`` if one was killed before it could say."""
    if not nodes or not all(node.ended for node in nodes):
        return None
    return sum(node.wall_s for node in nodes)
