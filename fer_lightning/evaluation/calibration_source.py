"""Where a calibration gets its predictions: of a run's validation part, or of all folds of an arm of a comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.class_weights import log_prior
from fer_lightning.errors import DataError, FERError
from fer_lightning.evaluation.calibration import pooled
from fer_lightning.evaluation.predictions import PREDICTIONS, Predictions, read_predictions
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS, TASK_KEY, read_checkpoint, run_folder_of
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.model_folder import is_model_folder
from fer_lightning.runs.records import Run, find_run

__all__ = ["Source", "find_source", "runs_of_arm"]

_STUDY = "study.json"
_OF_AN_ARM = re.compile(r"(fold\d+_)?seed\d+")  # names of the runs that fer crossval makes


@dataclass(frozen=True)
class Source:
    """Predictions to calibrate on.

    Attributes:
        folder: where the calibration is stored: a run folder, or that of an arm.
        evaluations: folders that the predictions are from.
        predictions: of all of them.
        prior: logarithm of each class's share of the training images, float64 ``(K,)``; ``None`` if not known.
        step: of the run's best checkpoint; ``None`` for several runs.
        trained_on: how many of the images the models were trained on.
    """

    folder: Path
    evaluations: list[Path]
    predictions: Predictions
    prior: NDArray[np.float64] | None
    step: int | None
    trained_on: int


def find_source(wanted: str, root: Path) -> Source:
    """Find the validation predictions of a run, or of all runs of an arm, and read them.

    Args:
        wanted: a name (its newest run), ``name/version_3``, the path of a run or of a checkpoint in it, or the folder
            of an arm of ``fer crossval``.
        root: the folder of all runs.

    Raises:
        DataError: if there are none, or only such without digests; the message names the command that makes them.
        ConfigError: if there is no such run.
    """
    path = Path(wanted).expanduser()
    if path.is_file() and path.name == PREDICTIONS:
        path = path.parent
        wanted = str(path)
    wanted = str(run_folder_of(path) or wanted) if path.is_file() else wanted
    given = next((place for place in (root / wanted, Path(wanted).expanduser()) if place.is_dir()), None)
    if given is not None:
        _refuse(given)
    arm = [] if given is None or Run(given).exists else runs_of_arm(given)
    runs = arm or [find_run(wanted, root)]
    facts = [_Facts.of(run, needed=not arm) for run in runs]
    evaluations = dict(_evaluation(run, fact) for run, fact in zip(runs, facts, strict=True))
    predictions = pooled(list(evaluations.values()))
    counts = [fact.class_counts for fact in facts if fact.class_counts]
    prior = log_prior(np.sum(counts, axis=0).tolist()) if len(counts) == len(facts) else None
    folder = given if arm and given is not None else runs[0]
    seen = sum(_trained_on(each) for each in evaluations)
    return Source(folder, list(evaluations), predictions, prior, None if arm else facts[0].step, seen)


@dataclass(frozen=True)
class _Facts:
    """Step of the best checkpoint of a run, and training images of each class; ``None`` is not known."""

    step: int | None = None
    class_counts: list[int] | None = None

    @classmethod
    def of(cls, run: Path, needed: bool) -> _Facts:
        try:
            content = read_checkpoint(Run(run).checkpoint(BEST), mapped=True)
        except FERError:
            if needed:
                raise
            return cls()  # of a fold whose weights were removed
        return cls(content.get("global_step"), list((content.get(TASK_KEY, {}).get("class_counts") or {}).values()))


def _refuse(given: Path) -> None:
    """Refuse folders that are no run, with what to give instead."""
    if (given / PREDICTIONS).is_file():
        run, split = given.parent, read_predictions(given).split
        tested = split == "test" or (not split and given.name == "test")
        why = "of the test part, which a calibration must not see" if tested else "of an evaluation, not the run itself"
        raise DataError(f"fer calibrate: {given} holds predictions {why}: fer calibrate {run}")
    if is_model_folder(given):
        raise DataError(
            f"fer calibrate: {given} is a model folder without validation predictions: fer calibrate RUN, for the run "
            "that it is of, and fer export again"
        )
    if (given / _STUDY).is_file():
        arms = sorted(path.name for path in given.iterdir() if path.is_dir() and run_folders(path))
        if arms:
            raise DataError(
                f"fer calibrate: {given} is a comparison of the arms {', '.join(arms)}: fer calibrate {given / arms[0]}"
            )


def runs_of_arm(folder: Path) -> list[Path]:
    """Return the newest run of each fold and seed in the folder of an arm; none for any other folder."""
    newest: dict[Path, Path] = {}
    for run in run_folders(folder):
        if Run(run).exists:
            newest[run.parent] = run  # versions come in order
    ours = all(each.parent == folder and _OF_AN_ARM.fullmatch(each.name) for each in newest)
    return list(newest.values()) if ours else []


def _evaluation(run: Path, facts: _Facts) -> tuple[Path, Predictions]:
    """Return folder and table of the newest validation of a run's best checkpoint whose table has digests."""
    again = f"fer validate --ckpt_path {run}"
    asked = Run(run).evaluation("validate", run / CHECKPOINTS / BEST)
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
