"""Where studies are kept: Optuna's storages, opened with clear errors, and what a study belongs to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import DBAPIError

from fer_lightning.errors import ConfigError
from fer_lightning.runs.changes import what_differs
from fer_lightning.studies.tune.search_space import SearchSpace
from fer_lightning.text import folded

__all__ = ["identify", "open_storage", "shown"]

IDENTITY = "fer"
"""The study's user attribute that says what it belongs to."""
_ATTEMPTS = 5
SQLITE_SECONDS = 60
"""How long SQLite waits for another process to finish writing."""


def open_storage(where: str) -> optuna.storages.BaseStorage:
    """Open a storage, an Optuna journal or, with ``://``, a database; raise ``ConfigError`` if that fails."""
    if "://" not in where:
        return _journal(Path(where))
    options = {"connect_args": {"timeout": SQLITE_SECONDS}} if where.startswith("sqlite:") else None
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(where, engine_kwargs=options)
        except Exception as error:  # every driver has errors of its own
            if isinstance(error, DBAPIError) and attempt + 1 < _ATTEMPTS:
                time.sleep(0.5)  # another process may be making the same tables
                continue
            raise ConfigError(f"the storage {shown(where)} cannot be opened: {folded(error, 300)}") from error
    raise AssertionError("the last attempt returns or raises")


def _journal(path: Path) -> JournalStorage:
    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        raise ConfigError(f"--storage {path} looks like a database: write sqlite:///{path}, or name a file study.log")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise ConfigError(f"the storage {path} cannot be opened: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise ConfigError(f"the storage {path} is damaged or no journal of Optuna: {error}") from error


def _mend(path: Path) -> None:
    """Cut off a last line that a full disk or a crash left unfinished: what is appended to it could not be read."""
    if not path.exists() or path.stat().st_size == 0 or path.read_bytes()[-1:] == b"\n":
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def shown(where: str) -> str:
    """Return a storage as it may be printed: without a password."""
    scheme, separator, rest = where.partition("://")
    account, at, place = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{place}"


def identify(study: optuna.Study, base: Mapping[str, Any], space: SearchSpace, metric: str, mode: str) -> None:
    """Write down what a new study belongs to, or see that an old one belongs to the same.

    Raises:
        ConfigError: if it does not, with what differs.
    """
    described = {key: parameter.described() for key, parameter in space.items()}
    used = json.loads(json.dumps({"metric": metric, "mode": mode, "space": described, "base": base}))
    stored = study.user_attrs.get(IDENTITY)
    if stored is None:
        if study.get_trials(deepcopy=False):
            raise ConfigError(f"the study '{study.study_name}' was not made by fer tune: choose another --study")
        study.set_user_attr(IDENTITY, used)
        return
    lines = [f"{key} {stored[key]} -> {used[key]}" for key in ("metric", "mode") if stored[key] != used[key]]
    for key in {**stored["space"], **used["space"]}:
        before, after = stored["space"].get(key), used["space"].get(key)
        if before != after:
            lines.append(f"space {key} {before} -> {after}")
    lines += what_differs(stored["base"], used["base"])
    if lines:
        shown_lines = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
        raise ConfigError(
            f"the study '{study.study_name}' has trials of another search ({shown_lines}): choose another --study"
        )
