"""Which run or arm a calibration is of: found, or refused, before anything that takes long is read or imported."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import DataError
from fer_lightning.outputs import folder_to_write
from fer_lightning.runs.checkpoint import run_folder_of
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.model_folder import is_model_folder
from fer_lightning.runs.records import Run, find_run

__all__ = ["Place", "Wishes", "find_place", "runs_of_arm"]

_PREDICTIONS = "predictions.csv"
_STUDY = "study.json"
_OF_AN_ARM = re.compile(r"(fold\d+_)?seed\d+")  # names of the runs that fer crossval makes


@dataclass(frozen=True)
class Wishes:
    """What is asked of a calibration.

    Attributes:
        kind: one of ``KINDS``; ``None`` for the one with the best likelihood in cross-fitting, or none at all.
        risk: share of wrong answers among those that are not marked as uncertain; ``None`` for half of that of all,
            which counts as one wrong answer where there is none.
        coverage: of the prediction sets that are judged.
        seed: of halves and draws.
    """

    kind: str | None = None
    risk: float | None = None
    coverage: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, usual in (("risk", self.risk, 0.1), ("coverage", self.coverage, 0.9)):
            if value is not None and not 0 < value < 1:
                raise DataError(f"the {name} must be between 0 and 1, such as {usual}, not {value:g}")


@dataclass(frozen=True)
class Place:
    """Where a calibration is stored, and whose predictions it is fitted on.

    Attributes:
        folder: a run folder, or that of an arm.
        runs: whose validation predictions are taken.
        pooled: whether they are all runs of an arm.
        origin: the arm, if ``folder`` is a run that is none of its own; else empty.
    """

    folder: Path
    runs: tuple[Path, ...]
    pooled: bool
    origin: str = ""


def find_place(wanted: str, root: Path, arm: Path | None = None) -> Place:
    """Find the run, or all runs of an arm, and see that the calibration can be written there.

    Args:
        wanted: a name (its newest run), ``name/version_3``, the path of a run or of a checkpoint in it, or the folder
            of an arm of ``fer crossval``.
        root: the folder of all runs.
        arm: folder of an arm, of whose runs the predictions are, instead of those of the run itself.

    Raises:
        DataError: if it is something else, or the arm trains another network; the message names what to give instead.
        ConfigError: if there is no such run, or nothing can be written there.
    """
    path = Path(wanted).expanduser()
    if path.is_file() and path.name == _PREDICTIONS:
        path = path.parent
        wanted = str(path)
    wanted = str(run_folder_of(path) or wanted) if path.is_file() else wanted
    given = next((place for place in (root / wanted, Path(wanted).expanduser()) if place.is_dir()), None)
    if given is not None:
        _refuse(given)
    own = [] if given is None or Run(given).exists else runs_of_arm(given)
    folder = given if own and given is not None else find_run(wanted, root)
    folder_to_write(folder)
    if arm is None:
        return Place(folder, tuple(own) or (folder,), bool(own))
    others = next((each for each in map(runs_of_arm, (root / arm, arm.expanduser())) if each), [])
    if own:
        raise DataError(f"fer calibrate: {folder} is an arm; --from is for a run: fer calibrate RUN --from {folder}")
    if not others:
        raise DataError(f"fer calibrate: --from {arm} is no folder of an arm of fer crossval: give one, STUDY/ARM")
    here, there = (Run(each).config.get("model", {}).get("backbone") for each in (folder, others[0]))
    if here != there:
        raise DataError(f"fer calibrate: {folder} trains {here}, and the folds of {arm} {there}: no calibration of it")
    return Place(folder, tuple(others), True, str(arm))


def _refuse(given: Path) -> None:
    """Refuse folders that are no run, with what to give instead."""
    if (given / _PREDICTIONS).is_file():
        run, split = given.parent, _split_of(given / _PREDICTIONS)
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


def _split_of(table: Path) -> str:
    """Return the split that a table of predictions names in its first row, empty if it does not, or is damaged."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.DictReader(file)).get("split") or ""
    except (OSError, csv.Error, UnicodeDecodeError, StopIteration):
        return ""


def runs_of_arm(folder: Path) -> list[Path]:
    """Return the newest run of each fold and seed in the folder of an arm; none for any other folder."""
    newest: dict[Path, Path] = {}
    for run in run_folders(folder):
        if Run(run).exists:
            newest[run.parent] = run  # versions come in order
    ours = all(each.parent == folder and _OF_AN_ARM.fullmatch(each.name) for each in newest)
    return list(newest.values()) if ours else []
