"""Where a calibration gets its predictions: of a run's validation part, or of all folds of an arm of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.class_weights import log_prior
from fer_lightning.errors import DataError, FERError
from fer_lightning.evaluation.calibration import pooled
from fer_lightning.evaluation.calibration_place import Place
from fer_lightning.evaluation.predictions import PREDICTIONS, Predictions, read_predictions
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS, LINEAGE_KEY, TASK_KEY, read_checkpoint
from fer_lightning.runs.records import Run

__all__ = ["Source", "read_source"]


@dataclass(frozen=True)
class Source:
    """Predictions to calibrate on.

    Attributes:
        evaluations: folders that the predictions are from.
        predictions: of all of them.
        prior: logarithm of each class's share of the training images, float64 ``(K,)``; ``None`` if not known.
        step: of the best checkpoint of the run that is calibrated; ``None`` for an arm.
        trained_on: how many of the images the models were trained on.
    """

    evaluations: list[Path]
    predictions: Predictions
    prior: NDArray[np.float64] | None
    step: int | None
    trained_on: int


def read_source(place: Place) -> Source:
    """Read the validation predictions of a run, or of all runs of an arm.

    Raises:
        DataError: if there are none, or only such without digests; the message names the command that makes them. Also
            if a run is to be calibrated by those of an arm that has other classes.
    """
    facts = [_Facts.of(run, needed=not place.pooled) for run in place.runs]
    evaluations = dict(_evaluation(run, fact) for run, fact in zip(place.runs, facts, strict=True))
    predictions = pooled(list(evaluations.values()))
    counts = [fact.class_counts for fact in facts if fact.class_counts]
    prior = log_prior(np.sum(counts, axis=0).tolist()) if len(counts) == len(facts) else None
    seen = sum(_trained_on(each) for each in evaluations)
    own = _Facts.of(place.folder, needed=True) if place.origin else None if place.pooled else facts[0]
    if own is not None and place.origin and own.class_names not in ((), predictions.class_names):
        here, there = (", ".join(names) for names in (own.class_names, predictions.class_names))
        raise DataError(f"fer calibrate: {place.folder} has the classes {here}; {place.origin} has {there}")
    return Source(list(evaluations), predictions, prior, None if own is None else own.step, seen)


@dataclass(frozen=True)
class _Facts:
    """What the best checkpoint of a run tells; ``None`` or empty is not known.

    Attributes:
        step: of the checkpoint.
        class_counts: training images of each class.
        class_names: of the classes.
        fingerprint: of the validation part that the run was trained with.
    """

    step: int | None = None
    class_counts: list[int] | None = None
    class_names: tuple[str, ...] = ()
    fingerprint: str = ""

    @classmethod
    def of(cls, run: Path, needed: bool) -> _Facts:
        try:
            content = read_checkpoint(Run(run).checkpoint(BEST), mapped=True)
        except FERError:
            if needed:
                raise
            return cls()  # of a fold whose weights were removed
        task = content.get(TASK_KEY, {})
        counts = list((task.get("class_counts") or {}).values())
        prints = content.get(LINEAGE_KEY, {}).get("data", {}).get("fingerprints", {})
        names = tuple(task.get("class_names", ()))
        return cls(content.get("global_step"), counts, names, str(prints.get("val") or ""))


def _evaluation(run: Path, facts: _Facts) -> tuple[Path, Predictions]:
    """Return folder and table of the newest validation of a run's best checkpoint whose table has digests.

    Validations on other images than those of the run's own validation part are left out.
    """
    again = f"fer validate --ckpt_path {run}"
    asked = Run(run).evaluation("validate", run / CHECKPOINTS / BEST, facts.fingerprint)
    found = [run / "val"] if _is_of_training(run, facts) else []
    found += [] if asked is None else [run / asked]
    tables = {folder: read_predictions(folder) for folder in found if (folder / PREDICTIONS).is_file()}
    ours = [folder for folder, table in tables.items() if table.split in ("val", "")]  # older tables name no split
    whole = [folder for folder in ours if tables[folder].split and all(tables[folder].digests)]
    if whole:
        newest = max(whole, key=lambda folder: (folder / PREDICTIONS).stat().st_mtime)
        return newest, tables[newest]
    if ours and not len(tables[ours[0]].index):
        raise DataError(f"fer calibrate: {ours[0]} holds predictions of no images: {again}")
    if ours:
        raise DataError(f"fer calibrate: {ours[0]} holds predictions of an older version, without digests: {again}")
    raise DataError(f"fer calibrate: {run} has no validation predictions of its best checkpoint: {again}")


def _is_of_training(run: Path, facts: _Facts) -> bool:
    """Tell whether what the training has said of its best validation is of the best checkpoint."""
    if not Run(run).has_report("val"):
        return False
    step = Run(run).report("val").get("context", {}).get("step")
    return bool(step == facts.step or None in (step, facts.step))


def _trained_on(folder: Path) -> int:
    """Return how many of the images of an evaluation the model was trained on, as far as its report tells."""
    report = Run(folder.parent).report(folder.name)
    return int((report.get("seen") or {}).get("train") or 0)
