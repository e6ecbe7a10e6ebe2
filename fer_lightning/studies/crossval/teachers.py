"""The networks of the folds of ``fer crossval``: finding them, and seeing that none has seen what it left out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.callbacks.provenance import stored_data
from fer_lightning.data.table.samples import FOCUS, SamplesTable
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.calibration_place import runs_of_arm
from fer_lightning.runs.checkpoint import BEST
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.records import Run
from fer_lightning.runs.trained_on import TrainedOn, digest_numbers, joined, read_trained_on
from fer_lightning.studies.crossval.study import STUDY
from fer_lightning.text import one_line

__all__ = ["FoldRun", "TeacherArm", "find_arm", "left_out_rows", "seen_by"]


@dataclass(frozen=True)
class FoldRun:
    """A finished run that left out one fold.

    Attributes:
        arm: name of its arm, with that of the study.
        folder: the run folder.
        folds: number of folds.
        fold: the one that it left out.
        fold_seed: chose which images are in which fold.
        seed: of the run.
        checkpoint: its best one.
    """

    arm: str
    folder: Path
    folds: int
    fold: int
    fold_seed: int
    seed: int
    checkpoint: Path

    @property
    def name(self) -> str:
        """Name of the run, with those of its arm and study."""
        return f"{self.arm}/{self.folder.parent.name}"

    @property
    def flags(self) -> list[str]:
        """The options of the data module that leave out the same fold."""
        return [f"--data.folds={self.folds}", f"--data.fold={self.fold}", f"--data.fold_seed={self.fold_seed}"]


@dataclass(frozen=True)
class TeacherArm:
    """An arm of a study.

    Attributes:
        name: with that of the study.
        runs: the finished ones, by seed and fold.
        missing: folds without a finished run, by seed.
    """

    name: str
    runs: tuple[FoldRun, ...]
    missing: dict[int, list[int]]

    @property
    def is_whole(self) -> bool:
        """Whether with one seed at least every fold was left out once."""
        return any(not folds for folds in self.missing.values())

    def missing_lines(self) -> list[str]:
        """Return a line for each seed that lacks folds."""
        return [
            f"missing      {self.name} seed {seed}: no finished run of fold {', '.join(map(str, folds))}"
            for seed, folds in self.missing.items()
            if folds
        ]


def find_arm(wanted: str, root: Path) -> TeacherArm:
    """Find the runs of an arm of ``fer crossval --folds K``.

    Args:
        wanted: folder of an arm, as ``runs/STUDY/ARM`` or ``STUDY/ARM``; that of a study with one arm alone.
        root: the folder of all runs.

    Raises:
        ConfigError: if there is no such arm, it has no folds, or its runs divide the images in different ways.
    """
    folder = next((place for place in (root / wanted, Path(wanted).expanduser()) if place.is_dir()), None)
    if folder is None:
        raise ConfigError(one_line(f"fer soft_labels: there is no folder {wanted}, nor {root / wanted}"))
    arms = sorted({run.parents[1] for run in run_folders(folder)}) if (folder / STUDY).is_file() else [folder]
    if len(arms) != 1:
        each = shlex.join(str(arm) for arm in arms) or "it has no runs yet"
        raise ConfigError(one_line(f"fer soft_labels: {wanted} is a comparison; name the arms to average: {each}"))
    folder = arms[0].absolute()
    name = f"{folder.parent.name}/{folder.name}"
    found = [run for path in runs_of_arm(folder) if (run := _fold_run(path, name)) is not None]
    if not found:
        raise ConfigError(
            one_line(
                f"fer soft_labels: {wanted} holds no finished run of fer crossval --folds: it must be the folder of an "
                "arm, runs/STUDY/ARM"
            )
        )
    ways = {(run.folds, run.fold_seed) for run in found}
    if len(ways) > 1:
        raise ConfigError(f"fer soft_labels: the runs of {name} divide the images into folds in different ways")
    runs = tuple(sorted(found, key=lambda run: (run.seed, run.fold)))
    done = {seed: {run.fold for run in runs if run.seed == seed} for seed in sorted({run.seed for run in runs})}
    missing = {seed: [fold for fold in range(runs[0].folds) if fold not in folds] for seed, folds in done.items()}
    return TeacherArm(name, runs, missing)


def _fold_run(folder: Path, arm: str) -> FoldRun | None:
    """Return a run of an arm, ``None`` if it is not finished or has no folds."""
    run = Run(folder)
    config = run.config
    given: dict[str, Any] = config.get("data", {}).get("init_args") or {}
    if run.status != "finished" or given.get("folds") is None:
        return None
    folds, fold, fold_seed = (int(given[key]) for key in ("folds", "fold", "fold_seed"))
    return FoldRun(arm, folder, folds, fold, fold_seed, int(config["seed_everything"]), run.checkpoint(BEST))


def left_out_rows(run: FoldRun, table: SamplesTable, known: TrainedOn) -> NDArray[np.int64]:
    """Return the rows of the fold that a run left out, int64 ``(M,)``, none of whose images its network has seen.

    Args:
        run: the run.
        table: its data, with the splits of its fold.
        known: which images its network was trained on; see ``seen_by``.

    Raises:
        DataError: if the network was trained on an image of its fold.
    """
    rows = table.rows("val")
    trained, _ = known.roles(digest_numbers(table.digests[rows]))
    if trained.any():
        raise DataError(
            one_line(
                f"fer soft_labels: {run.name} was trained on {int(trained.sum()):,} of the {len(rows):,} images of "
                f"fold {run.fold}, the first is {table.files[rows[np.argmax(trained)]]}: it must not label them. "
                "Train it on the other folds alone, from weights and teachers that have not seen them"
            )
        )
    return rows


def seen_by(run: FoldRun, table: SamplesTable) -> tuple[TrainedOn, str]:
    """Return which images the network of a run was trained on, and how that is known.

    The digests in its checkpoint say it. Where it has none, its data are read again, which must be the same as in the
    training.

    Args:
        run: the run.
        table: its data, with the splits of its fold.

    Raises:
        DataError: if the checkpoint has no digests and the data are not those of the training.
        CheckpointError: if the checkpoint cannot be read.
    """
    record = read_trained_on(run.checkpoint)
    if record is not None and len(record.train):
        return record, "the digests in its checkpoint"
    stored = stored_data(run.checkpoint).get("fingerprints", {})
    if any(stored.get(split) != table.fingerprint(split) for split in ("train", "val")):
        raise DataError(
            one_line(
                f"fer soft_labels: the checkpoint of {run.name} does not say which images it was trained on, and the "
                "data are not those of its training: name these with --data.root DIR, or train it again"
            )
        )
    parts = [np.concatenate([table.rows(split) for split in splits]) for splits in (("train",), ("val", FOCUS))]
    train, val = (np.unique(digest_numbers(table.digests[rows])) for rows in parts)
    own = TrainedOn(train, val, _origins(run))
    return joined([own] if record is None else [own, TrainedOn(unknown=record.unknown)]), "its data, which are the same"


def _origins(run: FoldRun) -> tuple[str, ...]:
    """Return the options of a run by which its network may have seen further images."""
    config = Run(run.folder).config
    given = {
        **config.get("model", {}),
        "soft_label_file": (config["data"].get("init_args") or {}).get("soft_label_file"),
    }
    names: Sequence[str] = ("pretrained", "weights", "teacher", "soft_label_file")
    return tuple(f"{name} of {run.name}" for name in names if given.get(name))
