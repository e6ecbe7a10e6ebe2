"""Finding evaluations: of a run, of a model, or by their own folders."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError, FERError
from fer_lightning.evaluation.beside import PAGE, Beside
from fer_lightning.evaluation.predictions import PREDICTIONS, Predictions, read_predictions
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS, run_folder_of
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.model_folder import is_model_folder, read_values, released
from fer_lightning.runs.records import REPORT, Run, find_run, read_report
from fer_lightning.text import absent, joined, short_path

__all__ = ["FoundEvaluation", "evaluated_model", "find_evaluations", "seen_notes"]

_VERBS = {"test": "test", "val": "validate"}
_VERSION = re.compile(r"version_\d+")
_NAMED = 3  # models that a sentence lists by name even if it is true of all


@dataclass(frozen=True)
class FoundEvaluation:
    """An evaluation on the disk.

    Attributes:
        name: by which it is shown, told apart from those that were found with it.
        table: its table of predictions.
        owner: the run or model folder whose evaluation it is, or the folder of the table itself.
        report: its ``report.json``; empty if there is none.
    """

    name: str
    table: Path
    owner: Path
    report: Mapping[str, Any]

    @property
    def split(self) -> str:
        """The split that was evaluated, empty if nothing tells."""
        return str(self.report.get("split") or "")

    @property
    def fingerprint(self) -> str:
        """The fingerprint of that split, empty if nothing tells."""
        prints = self.report.get("context", {}).get("data", {}).get("fingerprints", {})
        return str(prints.get(self.split) or "")

    @property
    def weights(self) -> str:
        """Digest of the weights that were evaluated, empty if nothing tells."""
        return Beside(self.table.parent, self.table.parent / PAGE, self.report).weights

    @property
    def run(self) -> Path | None:
        """The run folder whose evaluation it is, ``None`` for that of a model folder, or one that lies elsewhere."""
        return self.owner if (self.owner / CHECKPOINTS).is_dir() else None

    @property
    def again(self) -> str:
        """The command that makes it again."""
        model, context = str(self.owner), self.report.get("context", {})
        if self.owner == self.table.parent or is_model_folder(self.owner):  # it lies beside no run: its report knows
            if context.get("command"):
                return str(context["command"])
            model = str(context.get("checkpoint") or "MODEL")
        return f"fer {_VERBS.get(self.split, 'test')} --ckpt_path {shlex.quote(model)}"

    def predictions(self) -> Predictions:
        """Read its table.

        Raises:
            DataError: if it is damaged or has no rows; the message names the command that makes it again.
        """
        try:
            found = read_predictions(self.table)
        except DataError as error:
            raise DataError(f"{error}; run {self.again} again") from error
        if not len(found.index):
            raise DataError(f"{short_path(self.table)} has no rows; run {self.again} again")
        return found

    @property
    def seen(self) -> str:
        """What the model has seen of these images before, as the end of a sentence; empty for nothing."""
        if not self.report:
            return "no report tells whether these images were trained on"
        seen = self.report.get("seen")
        if not isinstance(seen, Mapping):  # an older version counted equal images of the data set alone
            seen = {"train": self.report.get("context", {}).get("overlap_with_train") or 0}
        if seen["train"] is None:
            return f"whether some of these images were trained on is not known: {'; '.join(seen.get('unknown', []))}"
        of = "of these images"
        parts = [f"trained on {seen['train']:,} {of}"] if seen["train"] else []
        if seen.get("val") and self.split != "val":  # validation images are there to choose by
            parts.append(f"chosen by {seen['val']:,} {'more' if parts else of}")
        accuracy = (seen.get("without") or {}).get("accuracy")
        without = f"; accuracy without them {accuracy:.2%}" if parts and accuracy is not None else ""
        return f"{joined(parts)}{without}"


def seen_notes(evaluations: Sequence[FoundEvaluation]) -> list[str]:
    """Return a sentence for the models that have seen as many of the images that they are evaluated on."""
    names: dict[str, list[str]] = {}
    for each in evaluations:
        if each.seen:
            names.setdefault(each.seen, []).append(each.name)
    many = len(evaluations) > _NAMED
    return [
        f"{f'all {len(alike)} models' if many and len(alike) == len(evaluations) else joined(alike)}: {seen}"
        for seen, alike in names.items()
    ]


def find_evaluations(
    given: Sequence[str], split: str | None = None, root: Path = Path("runs")
) -> list[FoundEvaluation]:
    """Find the evaluation that each of some words stands for.

    Args:
        given: of each a folder with ``predictions.csv`` or that file; or a run (a folder, a checkpoint in it, or its
            name in ``root``), or a model folder, of which the newest evaluation of the split is taken. ``NAME=`` before
            it chooses the name.
        split: ``test`` or ``val``, for runs and models; if not given, ``test`` if all of them have it, else ``val``.
        root: the folder of all runs.

    Raises:
        ConfigError: if there is no such run or evaluation, or one, or a name, is given twice.
        DataError: if a file or folder that is named does not exist, or a report is damaged.
    """
    names, places = zip(*(_named(word) for word in given), strict=True)
    direct = [_direct(place) for place in places]
    owners = [None if table else _owner(place, root) for place, table in zip(places, direct, strict=True)]
    of_owners = {owner: _evaluations(owner, root) for owner in owners if owner is not None}
    splits = [{_split(table) for table in tables} for tables in of_owners.values()]
    common = next((each for each in _VERBS if all(each in has for has in splits)), "")
    wanted = split or common or ("val" if any("val" in has for has in splits) else "test")
    found = []
    for table, owner in zip(direct, owners, strict=True):
        if table is None and owner is not None:
            table = _newest(owner, of_owners[owner], wanted, root)
        assert table is not None  # a word has one or the other
        found.append((table, owner or _owner_of(table), _report(table)))
    shown = _told_apart([(table, owner) for table, owner, _ in found])
    shown = [str(found[0][1])] if len(found) == 1 else shown
    named = [name or short for name, short in zip(names, shown, strict=True)]
    _check_names(named, places)
    return [FoundEvaluation(name, *of) for name, of in zip(named, found, strict=True)]


def _check_names(names: Sequence[str], places: Sequence[str]) -> None:
    """Raise ``ConfigError`` if two evaluations are called the same."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        alike = [place for name, place in zip(names, places, strict=True) if name == twice]
        others = [shlex.quote(f"{twice}_{number}={place}") for number, place in enumerate(alike, start=1)]
        raise ConfigError(f"'{twice}' names {len(alike)} evaluations: choose other names, such as {' '.join(others)}")


def _named(word: str) -> tuple[str, str]:
    """Divide ``NAME=PLACE``; a place of its own that has an equals sign in it stays whole."""
    name, equals, place = word.partition("=")
    return (name, place) if equals and name and place and "/" not in name and not Path(word).exists() else ("", word)


def _direct(place: str) -> Path | None:
    """Return the table of predictions that a path is or holds, ``None`` if it is something else."""
    path = Path(place).expanduser()
    if path.is_file() and path.suffix.lower() == ".csv":
        return path
    return path / PREDICTIONS if (path / PREDICTIONS).is_file() else None


def _owner(place: str, root: Path) -> Path:
    """Return the run folder or model folder that a word stands for."""
    path = Path(place).expanduser()
    if path.is_file():
        folder = run_folder_of(path) or path.parent
        if path.suffix == ".ckpt" or is_model_folder(folder):
            return folder
        raise ConfigError(f"{path} is no evaluation: give the folder of a run, or one that holds {PREDICTIONS}")
    if is_model_folder(path):
        return path
    if not path.exists() and place in released():
        return released()[place]
    if not path.exists() and "/" in place and not (root / place).exists():
        raise DataError(absent(path, "the folder of an evaluation, a run or a model"))
    return find_run(str(path), root)


def _evaluations(owner: Path, root: Path) -> list[Path]:
    """Return the tables of all evaluations of a run or model: first those with its own settings, the newest first.

    Those of a run lie inside of it; one of a model folder is a run of its own, whose report names the model.
    """
    found = [table for table in owner.glob(f"*/{PREDICTIONS}") if (table.parent / REPORT).is_file()]
    if is_model_folder(owner):
        for table in root.glob(f"**/{PREDICTIONS}"):
            checkpoint = _report(table).get("context", {}).get("checkpoint")
            if checkpoint and Path(checkpoint).absolute().parent == owner.absolute():
                found.append(table)
    return sorted(found, key=_preference, reverse=True)


def _preference(table: Path) -> tuple[bool, float]:
    """Return what the evaluation with the checkpoint's own settings, and of these the newest, has most of."""
    return not _report(table).get("context", {}).get("settings"), table.stat().st_mtime


def _split(table: Path) -> str:
    return str(_report(table).get("split") or "")


def _newest(owner: Path, tables: Sequence[Path], wanted: str, root: Path) -> Path:
    """Return the first table of the split that is wanted."""
    for table in tables:
        if _split(table) == wanted:
            return table
    has = sorted({_split(table) for table in tables} - {""})
    what = f"has an evaluation of {joined(has)} only" if has else "has no evaluation yet"
    how, data = _data_for(owner, root) if is_model_folder(owner) else ("run", "")
    raise ConfigError(f"{owner} {what}: {how} fer {_VERBS[wanted]} --ckpt_path {shlex.quote(str(owner))}{data}")


def _data_for(model: Path, root: Path) -> tuple[str, str]:
    """Return how to evaluate a model folder, which does not know where its data lies, and the options that name data.

    They name the data of a run in ``root`` that read the same data set, if that is still there; else drawn faces, which
    need no download, if the model has their classes.
    """
    values = read_values(model)
    kind = str(values.get("training", {}).get("data") or "")
    name = (kind.rpartition(".")[2] if kind.startswith("fer_lightning.") else kind) or "DATAMODULE"
    for folder in reversed(run_folders(root)):
        with suppress(FERError):
            data = Run(folder).config.get("data") or {}
            place = (data.get("init_args") or {}).get("root")
            if data.get("class_path") == kind and place and Path(place).exists():
                return "run", f" --data {name} --data.root {shlex.quote(str(place))}"
    if tuple(values["class_names"]) == SEVEN.class_names:
        own = f"--data {name} --data.root PATH"
        return f"evaluate it on your data ({own}), or on drawn faces:", " --data SketchDataModule"
    return "run", f" --data {name} --data.root PATH"


def evaluated_model(folder: Path) -> Path | None:
    """Return the model that the evaluation in a folder is of: its run, its checkpoint if not the best, or model folder.

    ``None`` if nothing tells.

    Raises:
        DataError: if the report is damaged.
    """
    beside = Beside(folder, folder / PAGE, _report(folder / PREDICTIONS))
    if beside.run is None:
        return beside.model
    file = beside.run / CHECKPOINTS / Path(str(beside.context.get("checkpoint") or BEST)).name
    return file if file.name != BEST and file.is_file() else beside.run


def _owner_of(table: Path) -> Path:
    """Return the run that a table lies in, else the folder of the table."""
    return table.parent.parent if (table.parent.parent / CHECKPOINTS).is_dir() else table.parent


def _report(table: Path) -> dict[str, Any]:
    """Return the report beside a table, empty if there is none."""
    path = table.parent / REPORT
    return read_report(path) if path.exists() else {}


def _told_apart(evaluations: Sequence[tuple[Path, Path]]) -> list[str]:
    """Return the shortest ends of paths that tell evaluations apart; of each its table and its owner are given.

    The number of a run's version and the name of its evaluation are left out where names differ without them.
    """
    folders = [table.parent if table.name == PREDICTIONS else table for table, _ in evaluations]
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) < len(parts):
        twice = next(folder for folder, path in zip(folders, parts, strict=True) if parts.count(path) > 1)
        raise ConfigError(f"{twice} is given twice")
    owners = [
        (owner.parent if _VERSION.fullmatch(owner.name) else owner).absolute().parts if owner != table.parent else path
        for (table, owner), path in zip(evaluations, parts, strict=True)
    ]
    parts = owners if len(set(owners)) == len(owners) else parts
    while len({path[-1] for path in parts}) == 1 and len(parts) > 1:
        parts = [path[:-1] for path in parts]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return names
