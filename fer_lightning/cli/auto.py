"""``--ckpt_path auto``: go on with the run of this name that has these settings, or begin it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from fer_lightning.cli.stored_config import newest_exact
from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.runs.changes import change_text, changes_for
from fer_lightning.runs.checkpoint import CHECKPOINTS, RESUME, check_checkpoint
from fer_lightning.runs.folder import CONFIG, Claim, claim_run_folder, versions
from fer_lightning.runs.lineage import Change
from fer_lightning.runs.lock import LOCK, RunLock, living_holder, lock_run_folder, read_lock, refuse_if_held
from fer_lightning.runs.records import Run

__all__ = ["StartOrGoOn", "with_decided"]

_START_S = 30.0  # a run that has made its folder writes its configuration at once; reading data comes before
_POLL_S = 0.1
_PLACE = "data.root"


def with_decided(used: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``used`` with what a run decides for itself at its first start: the precision, a seed drawn by chance."""
    decided = deepcopy(dict(used))
    if decided["trainer"].get("precision") is None:
        decided["trainer"]["precision"] = stored.get("trainer", {}).get("precision")
    if decided.get("seed_everything") is True:
        decided["seed_everything"] = stored.get("seed_everything")
    return decided


class StartOrGoOn:
    """Finds the run that a command goes on with, and the folder of the run that it begins.

    A run fits if it has the name and all settings that have a say in what is learned. Of several, those whose data lie
    where they lie now come first, then the newest.

    Args:
        root: the folder of all runs.
        name: of the experiment.
        used: the configuration of the command as plain values.
    """

    def __init__(self, root: Path, name: str, used: Mapping[str, Any]) -> None:
        self.root = root
        self.name = name
        self.used = used
        self._rejected: set[Path] = set()

    def checkpoint(self) -> Path | None:
        """Return the newest whole and exact checkpoint of the run to go on with, ``None`` if there is none.

        What is decided is said, unless there was no run of this name before.

        Raises:
            ConfigError: if another process writes into that run.
            CheckpointError: if a checkpoint is there, but the system does not let it be read.
        """
        fitting = list(self._fitting(self._newest_first()))
        for folder, _ in sorted(fitting, key=lambda pair: not pair[1]):  # stable: the newest first
            found = _newest_whole(folder)
            self._rejected.add(folder)
            if found is not None:
                return found
        differing = [] if fitting else [folder for folder in self._newest_first() if not _is_blank(folder)]
        if differing:
            changes = ", ".join(map(change_text, self._learned(differing[0])[:3])) or "its configuration is unknown"
            print(f"begins a new run: no run '{self.name}' has these settings; {differing[0]}: {changes}")
        return None

    def take_folder(self) -> tuple[Path, Claim | None, RunLock]:
        """Return the locked folder of a run that begins, and the claim if the folder was made for it.

        A folder that a killed start has left without a checkpoint is used again.

        Raises:
            ConfigError: if another process begins or writes the same run, or the folder cannot be made.
        """
        while True:
            seen = self._newest_first()
            claim, folder = None, self._left_without_checkpoint()
            if folder is None:
                claim = claim_run_folder(self.root, self.name)
                folder = claim.folder
            try:
                lock = lock_run_folder(folder)
            except ConfigError:
                if read_lock(folder / LOCK) is None:
                    raise
                continue  # another process was faster: look what it trains
            if claim is None:
                print(f"begins again in {folder}, where an earlier start has left no checkpoint")
                return folder, claim, lock
            try:
                self._refuse_begun([other for other in self._newest_first() if other not in (*seen, folder)])
            except ConfigError:
                claim.discard()
                raise
            return folder, claim, lock

    def _newest_first(self) -> list[Path]:
        return [folder for folder in reversed(versions(self.root / self.name)) if folder.is_dir()]

    def _learned(self, folder: Path) -> list[Change]:
        """Return what differs from the configuration of a run and has a say in what is learned."""
        try:
            stored = Run(folder).first_config
        except FERError:
            return []
        return [change for change in changes_for("fit", stored, with_decided(self.used, stored)) if not change.harmless]

    def _fitting(self, folders: list[Path]) -> Iterator[tuple[Path, bool]]:
        """Return those runs that fit, and whether their data lie in the same place.

        Raises:
            ConfigError: if another process writes into one whose data lie in the same place.
        """
        for folder in folders:
            _wait_for_configuration(folder)
            try:
                stored = Run(folder).first_config
            except FERError:
                continue
            changes = changes_for("fit", stored, with_decided(self.used, stored)) if stored else []
            if not stored or any(not change.harmless for change in changes):
                continue
            same = all(_same_path(change) for change in changes if change.key == _PLACE)
            if same:
                refuse_if_held(folder)
            yield folder, same

    def _left_without_checkpoint(self) -> Path | None:
        """Return the folder of a killed start of this run that has left no checkpoint, ``None`` for none."""
        folders = self._newest_first()
        fitting = {folder for folder, same in self._fitting(folders) if same}
        for folder in folders:
            if folder in fitting and any((folder / CHECKPOINTS).glob("*.ckpt")):
                if folder not in self._rejected:
                    raise ConfigError(f"the same run was trained in {folder} meanwhile; start again to go on with it")
                return None
            if folder in fitting:
                return folder
            if _is_blank(folder) and not _is_held(folder):
                return folder
        return None

    def _refuse_begun(self, others: list[Path]) -> None:
        """Raise ``ConfigError`` if one of these folders, which have just been made, belongs to the same run."""
        for other in others:
            until = time.monotonic() + 2
            while _is_blank(other) and not _is_held(other) and time.monotonic() < until:
                time.sleep(_POLL_S)
        for folder, same in self._fitting(others):
            if same:
                raise ConfigError(f"the same run was begun in {folder} at this moment; start again to go on with it")


def _newest_whole(folder: Path) -> Path | None:
    """Return the newest whole and exact checkpoint of a run, ``None`` if it has none, which is said."""
    place = folder / CHECKPOINTS
    files = sorted(place.glob("*.ckpt"))
    for path in files:
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:  # not damaged: it may be there again in a moment
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if not files:
        return None
    try:
        check_checkpoint(place / RESUME)
    except CheckpointError as error:
        try:
            return newest_exact(place / RESUME, error)
        except CheckpointError as none:
            print(f"fer: {none}; begins anew", file=sys.stderr)
            return None
    return place / RESUME


def _same_path(change: Change) -> bool:
    return None not in (change.before, change.after) and Path(change.before).resolve() == Path(change.after).resolve()


def _is_held(folder: Path) -> bool:
    """Tell whether a process that is not known to be gone holds the lock of a folder."""
    return living_holder(folder / LOCK) is not None


def _is_blank(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what a start writes at the very first."""
    return all(path.name.startswith((LOCK, ".")) for path in folder.iterdir())


def _wait_for_configuration(folder: Path) -> None:
    """Wait until a process that has just made a folder says what it trains there."""
    until = time.monotonic() + _START_S
    while not (folder / CONFIG).exists() and _is_held(folder) and time.monotonic() < until:
        time.sleep(_POLL_S)
