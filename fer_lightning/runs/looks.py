"""The log of looks at test splits: ``evaluations.jsonl`` beside the runs, a line for each, written before computing.

Each line holds the SHA-256 of the line before it, so that a line that was changed, or taken out between others, is
found. Lines that were cut off at the end are not found that way: nothing keeps whoever owns the folder from that.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.files import file_digest
from fer_lightning.runs.checkpoint import (
    CONFIG_KEY,
    LINEAGE_KEY,
    MEMBERS_KEY,
    read_checkpoint,
    run_folder_of,
    weights_digest,
)

__all__ = [
    "LOG",
    "Look",
    "Standing",
    "append_look",
    "broken_links",
    "look_at",
    "look_key",
    "read_looks",
    "root_of_runs",
    "standing",
]

LOG = "evaluations.jsonl"
"""Name of the file in the folder of all runs."""
_FIRST = ""  # in place of the hash of a line before the first


@dataclass(frozen=True)
class Look:
    """A look at a split.

    Attributes:
        time: local time with zone, ISO 8601.
        verb: that looked, such as ``test``.
        split: that was looked at.
        fingerprint: of the split; two splits of the same images and labels have the same.
        n: its images.
        checkpoint: path of the file, relative to the folder of all runs if it lies there; of an ensemble the paths of
            its members, joined by commas.
        sha256: of that file; of an ensemble, of the digests of its members' files, joined by commas.
        weights: digest of the network's weights, the same in a checkpoint and a model folder that was made from it.
        settings: values that the evaluation has changed against the checkpoint, and the precision if it is not float32.
        node: id of the start of the run that wrote the checkpoint, empty if it does not say.
        commit: of the code, empty if that is not known.
        previous: SHA-256 of the line before, empty in the first one.
    """

    time: str
    verb: str
    split: str
    fingerprint: str
    n: int
    checkpoint: str
    sha256: str
    weights: str
    settings: dict[str, str]
    node: str = ""
    commit: str = ""
    previous: str = _FIRST

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes a look another one; see ``look_key``."""
        return look_key(self.fingerprint, self.weights, self.settings)


def look_key(fingerprint: str, weights: str, settings: Mapping[str, str]) -> tuple[str, str, str]:
    """Return what tells looks apart: the split, the weights and the settings."""
    return fingerprint, weights, json.dumps(dict(settings), sort_keys=True)


@dataclass(frozen=True)
class Standing:
    """How often a split was looked at.

    Attributes:
        number: which look at the split this is, from 1: how many models, or settings of one, were scored on it.
        repeats: how often this very evaluation was done before.
    """

    number: int
    repeats: int


def standing(looks: Sequence[Look]) -> Standing:
    """Return how often the split of the last of some looks was looked at.

    A model that is scored again under the same settings is a repeat and no further look.
    """
    last = looks[-1]
    own = [look.key for look in looks if look.fingerprint == last.fingerprint]
    return Standing(len(dict.fromkeys(own[: own.index(last.key)])) + 1, own.count(last.key) - 1)


def look_at(
    checkpoint: Path,
    verb: str,
    split: tuple[str, str, int],
    root: Path,
    settings: Mapping[str, str] | None = None,
    commit: str = "",
) -> tuple[Path, Look]:
    """Return the folder of runs whose log a look belongs into, and the look.

    Args:
        checkpoint: a checkpoint, or the weights in a model folder.
        verb: that looks.
        split: name, fingerprint and number of images.
        root: the folder of all runs, for a checkpoint that lies in no run, or in one that cannot be written to; of
            another one it is found by its path.
        settings: what is changed against the checkpoint, by option.
        commit: of the code.

    Raises:
        CheckpointError: if the file is damaged.
    """
    content, run = read_checkpoint(checkpoint, mapped=True), run_folder_of(checkpoint.absolute())
    if run is not None and os.access(run, os.W_OK):
        root = root_of_runs(run, content.get(CONFIG_KEY, {}).get("name", "default"))
    members = content.get(MEMBERS_KEY) or [{"checkpoint": checkpoint, "sha256": file_digest(checkpoint, "sha256")}]
    digests = ",".join(each["sha256"] for each in members)
    look = Look(
        time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        verb=verb,
        split=split[0],
        fingerprint=split[1],
        n=split[2],
        checkpoint=",".join(_shown(Path(each["checkpoint"]), root) for each in members),
        sha256=hashlib.sha256(digests.encode()).hexdigest() if len(members) > 1 else digests,
        weights=weights_digest(content.get("state_dict", {})),
        settings=dict(settings or {}),
        node=content.get(LINEAGE_KEY, {}).get("node", ""),
        commit=commit,
    )
    return root, look


def _shown(path: Path, root: Path) -> str:
    whole, above = path.resolve(), root.resolve()
    return str(whole.relative_to(above) if whole.is_relative_to(above) else whole)


def append_look(root: Path, look: Look) -> Standing:
    """Add a look to the log in the folder of all runs, and return how often its split was looked at.

    Several processes may do so at the same time.

    Raises:
        ConfigError: if the log cannot be written.
    """
    path = root / LOG
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"the look at the test split cannot be noted in {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            _lock(file)
            before = file.read()
            lines = before.splitlines()
            chained = {**asdict(look), "previous": _hash(lines[-1]) if lines else _FIRST}
            text = json.dumps(chained, ensure_ascii=False).encode() + b"\n"
            file.write((b"" if not before or before.endswith(b"\n") else b"\n") + text)
            os.fsync(descriptor)
        except OSError as error:
            raise ConfigError(f"the look at the test split cannot be noted in {path}: {error.strerror}") from error
    return standing([*_parsed(lines), look])


def _lock(file: IO[bytes]) -> None:
    """Wait until no other process writes into a file; on a file system without locks, do without."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def read_looks(root: Path) -> list[Look]:
    """Return the looks in the log of a folder of runs, oldest first, without lines that are damaged.

    Raises:
        DataError: if the log cannot be read.
    """
    return _parsed(_lines(root))


def broken_links(root: Path) -> list[str]:
    """Return what is wrong with the log of a folder of runs, a text for each line that is; none if it is whole.

    Raises:
        DataError: if the log cannot be read.
    """
    found, previous = [], _FIRST
    for number, line in enumerate(_lines(root), start=1):
        look = _look(line)
        if look is None:
            found.append(f"line {number} is damaged")
        elif look.previous != previous:
            found.append(f"line {number} does not follow the line before it: that was changed, or lines were taken out")
        previous = _hash(line)
    return found


def root_of_runs(folder: Path, name: str) -> Path:
    """Return the folder of all runs of a run folder, whose experiment has this name."""
    above, parts = folder.absolute().parent, Path(name).parts
    return above.parents[len(parts) - 1] if above.parts[-len(parts) :] == parts else above.parent


def _lines(root: Path) -> list[bytes]:
    try:
        return (root / LOG).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{root / LOG} cannot be read: {error.strerror}") from error


def _parsed(lines: Sequence[bytes]) -> list[Look]:
    return [look for line in lines if (look := _look(line)) is not None]


def _look(line: bytes) -> Look | None:
    try:
        values = json.loads(line)
        names = {each.name for each in fields(Look)}
        look = Look(**{name: value for name, value in values.items() if name in names})
        return look if isinstance(look.settings, dict) else None
    except (ValueError, TypeError, AttributeError):
        return None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
