"""Run folders: where a run writes, and how a checkpoint is found again.

A run lives in ``<root>/<name>/version_<k>``: ``config.yaml``, ``checkpoints/best.ckpt`` and ``resume.ckpt``,
TensorBoard's event files, and the report of its best validation. Evaluations of a checkpoint write beside it
(``test/``, ...). While a run writes into its folder, ``run.lock`` says which process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.files import write_atomically
from fer_lightning.runs.lineage import read_lineage

__all__ = [
    "BEST",
    "LOCK",
    "RESUME",
    "Claim",
    "Holder",
    "RunLock",
    "claim_run_folder",
    "find_checkpoint",
    "lock_run_folder",
    "newest_run",
    "run_folder_of",
    "run_folders",
    "run_status",
]

BEST = "best.ckpt"
RESUME = "resume.ckpt"
LOCK = "run.lock"


def _versions(folder: Path) -> list[Path]:
    """Return the ``version_<k>`` folders in a folder, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("version_*") if (match := _NUMBER.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


_NUMBER = re.compile(r"version_(\d+)")


@dataclass(frozen=True)
class Claim:
    """A run folder that this process has created.

    Attributes:
        folder: the folder.
        above: the nearest folder above it that was there before, absolute.
    """

    folder: Path
    above: Path

    def discard(self) -> None:
        """Remove the folder and what was written into it, and the folders that were created for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        path = self.folder.absolute().parent
        while path != self.above:
            try:
                path.rmdir()
            except OSError:
                return  # another run is in it
            path = path.parent


def claim_run_folder(root: Path, name: str) -> Claim:
    """Create the next free ``<root>/<name>/version_<k>``.

    Raises:
        ConfigError: if the folder cannot be created.
    """
    target = (root / name).absolute()
    above = next(path for path in (target, *target.parents) if path.exists())
    used = _versions(root / name)
    number = int(used[-1].name.removeprefix("version_")) + 1 if used else 0
    while True:
        folder = root / name / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise ConfigError(f"the run folder {folder} cannot be created: a file is in the way") from None
            number += 1  # another process was faster
        except OSError as error:
            raise ConfigError(f"the run folder {folder} cannot be created: {error.strerror}") from error
        else:
            return Claim(folder, above)


def run_folder_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, ``None`` if it lies elsewhere."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else None


def find_checkpoint(wanted: str, root: Path, name: str, file: str) -> Path:
    """Find a checkpoint file.

    Args:
        wanted: a file, a run folder, or ``best`` or ``last`` of the newest run that has one.
        root: the folder of all runs.
        name: name of the experiment, for ``best`` and ``last``.
        file: which file of a run folder to take where ``wanted`` is a folder.

    Raises:
        CheckpointError: if there is none; the message lists what there is.
    """
    path = Path(wanted).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _in_run(path, file)
    if wanted not in ("best", "last"):
        raise CheckpointError(f"there is no checkpoint {wanted}{_what_there_is(root)}")
    file = BEST if wanted == "best" else RESUME
    for version in reversed(_versions(root / name)):
        if (version / "checkpoints" / file).is_file():
            return version / "checkpoints" / file
    raise CheckpointError(f"no run in {root / name} has a '{wanted}' checkpoint ({file}){_what_there_is(root)}")


def _in_run(folder: Path, file: str) -> Path:
    for candidate in (folder / file, folder / "checkpoints" / file):
        if candidate.is_file():
            return candidate
    inside = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ckpt"))[:5]
    found = f"; it holds {', '.join(inside)}" if inside else ""
    raise CheckpointError(f"the folder {folder} holds no {file}{found}")


def _what_there_is(root: Path) -> str:
    found = sorted(root.glob("*/version_*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)[-5:]
    return f"; there is: {', '.join(map(str, found))}" if found else f"; there is no checkpoint under {root}"


@dataclass(frozen=True)
class Holder:
    """The process that writes into a run folder.

    Attributes:
        host: name of its machine.
        pid: its number there.
        born: when the process was started, in the machine's own count; a later process of the same number differs.
            Empty where the system does not tell.
        since: when it took the lock, local time in ISO format.
    """

    host: str
    pid: int
    born: str
    since: str

    @classmethod
    def myself(cls) -> Holder:
        """Return the holder that this process is."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _born(pid), time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, as far as can be told: of another machine's nothing can."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it lives and belongs to another user
        return bool(self.born) and _born(self.pid) not in ("", self.born)


def _born(pid: int) -> str:
    """Return boot and start time of a process, empty where there is no ``/proc``."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # proc(5): the second field is a name in brackets that may hold anything, the 22nd the start in clock ticks
        return f"{boot}/{Path(f'/proc/{pid}/stat').read_text(errors='replace').rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


def newest_run(root: Path, name: str) -> Path | None:
    """Return the newest run folder ``<root>/<name>/version_<k>``, ``None`` if there is none."""
    folders = [path for path in _versions(root / name) if path.is_dir()]
    return folders[-1] if folders else None


def run_folders(root: Path) -> list[Path]:
    """Return all folders ``version_<k>`` under a folder, by name and version; none inside another."""
    found = []
    for place, names, _ in os.walk(root):
        versions = [name for name in names if _NUMBER.fullmatch(name)]
        found += [Path(place, name) for name in versions]
        names[:] = [name for name in names if name not in versions and not name.startswith(".")]
    return sorted(found, key=lambda path: (path.parent, int(path.name.removeprefix("version_"))))


def run_status(folder: Path) -> str:
    """Return how a run stands, by its ``lineage.json`` and its lock.

    Returns:
        ``finished``, ``stopped`` (by a signal), ``failed`` (by an error), ``incomplete`` (``max_time`` was up),
        ``killed`` (it ended without a word), ``running``, or ``unknown`` where nothing tells.
    """
    try:
        nodes, holder = read_lineage(folder), _read_lock(folder / LOCK, attempts=1)
    except FERError:
        return "unknown"
    if holder is not None and not holder.is_gone:
        return "running"
    if nodes and nodes[-1].status != "running":
        return nodes[-1].status
    return "killed" if nodes or holder is not None else "unknown"


@dataclass(frozen=True)
class RunLock:
    """A run folder that this process writes into, and no other.

    Attributes:
        path: the lock file.
        holder: what is written in it.
        took_over: who held it before and is gone, ``None`` if nobody.
    """

    path: Path
    holder: Holder
    took_over: Holder | None = None

    def release(self) -> None:
        """Remove the lock file, if it is still ours."""
        with contextlib.suppress(OSError, ConfigError):
            if _read_lock(self.path) == self.holder:
                self.path.unlink()


def lock_run_folder(folder: Path) -> RunLock:
    """Take the lock of a run folder; one whose process is gone from this machine is taken over.

    The lock is a file that only one process can create (``O_EXCL``), which network file systems keep to as well.

    Raises:
        ConfigError: if another run holds it, or it cannot be written.
    """
    path, holder = folder / LOCK, Holder.myself()
    try:
        if _create(path, holder):
            return RunLock(path, holder)
        before = _read_lock(path)
        if before is None:  # released in between
            return lock_run_folder(folder)
        if not before.is_gone:
            raise ConfigError(
                f"another run writes into {folder}: process {before.pid} on {before.host}, since {before.since}. "
                f"Wait for it or stop it; if it is gone, delete {path}"
            )
        return _take_over(path, before, holder)
    except OSError as error:
        raise ConfigError(f"the run folder {folder} cannot be locked: {error.strerror}") from error


def _create(path: Path, holder: Holder) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(holder)))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _read_lock(path: Path, attempts: int = 20) -> Holder | None:
    """Return who holds a lock, ``None`` if the file is not there.

    Raises:
        ConfigError: if it does not say, also not a second later: its writer fills it right after creating it.
    """
    for _ in range(attempts):
        try:
            found = Holder(**json.loads(path.read_text(encoding="utf-8")))
            if isinstance(found.pid, int):
                return found
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            pass
        time.sleep(0.05)
    raise ConfigError(f"the lock {path} does not say who holds it; if no run writes there, delete it")


def _take_over(path: Path, before: Holder, holder: Holder) -> RunLock:
    """Replace the lock of a process that is gone; of several that try, one succeeds."""
    turn = path.with_name(f"{path.name}.takeover")
    if not _create(turn, holder):
        raise ConfigError(f"another run is taking over {path.parent}; if none is, delete {turn}")
    try:
        if _read_lock(path) != before:  # another was faster
            raise ConfigError(f"another run has just taken over {path.parent}")
        write_atomically(path, json.dumps(asdict(holder)))
    finally:
        turn.unlink(missing_ok=True)
    return RunLock(path, holder, before)
