"""The lock of a run folder: ``run.lock`` says which process writes into it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.files import flush, part_beside, parts_in, write_atomically

__all__ = ["LOCK", "Holder", "RunLock", "lock_run_folder", "read_lock", "slurm_restarts"]

LOCK = "run.lock"


@dataclass(frozen=True)
class Holder:
    """The process that writes into a run folder.

    Attributes:
        host: name of its machine.
        pid: its number there.
        born: the machine's boot and when the process was started since, which a later process of the same number does
            not share. Empty where the system does not provide them.
        since: when it took the lock, local time in ISO format.
        job: SLURM's number of its job, empty where there is none.
        restarts: how often SLURM had started that job again by then.
    """

    host: str
    pid: int
    born: str
    since: str
    job: str = ""
    restarts: int = 0

    @classmethod
    def myself(cls) -> Holder:
        """Return the holder that this process is."""
        pid = os.getpid()
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return cls(socket.gethostname(), pid, _born(pid), since, os.environ.get("SLURM_JOB_ID", ""), slurm_restarts())

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended.

        Of a process on another machine that is known only if SLURM has started its job again, as this process.
        """
        if self.job and self.job == os.environ.get("SLURM_JOB_ID") and self.restarts < slurm_restarts():
            return True
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it runs and belongs to another user
        return bool(self.born) and _born(self.pid) not in ("", self.born)


def slurm_restarts() -> int:
    """Return how often SLURM has started this job again, 0 outside of SLURM."""
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(count) if count.isdecimal() else 0


def _born(pid: int) -> str:
    """Return boot and start time of a process, empty where there is no ``/proc``."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # proc(5): the second field is a name in brackets that may hold anything, the 22nd the start in clock ticks
        return f"{boot}/{Path(f'/proc/{pid}/stat').read_text(errors='replace').rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


@dataclass(frozen=True)
class RunLock:
    """A run folder that this process writes into, and no other; ``took_over`` is who held it before and is gone."""

    path: Path
    holder: Holder
    took_over: Holder | None = None

    def release(self) -> None:
        """Remove the lock file, if it is still ours."""
        with contextlib.suppress(OSError, ConfigError):
            if read_lock(self.path) == self.holder:
                self.path.unlink()


def lock_run_folder(folder: Path) -> RunLock:
    """Take the lock of a run folder; one whose process is gone from this machine is taken over.

    The lock is a file that only one process can create, by a hard link to a written one, so that a kill leaves no empty
    lock; where there are no hard links, by ``O_EXCL``. Network file systems keep to both.

    Raises:
        ConfigError: if another run holds it, or it cannot be written.
    """
    path, holder = folder / LOCK, Holder.myself()
    try:
        if _create(path, holder):
            _clear(folder)
            return RunLock(path, holder)
        before = read_lock(path)
        if before is None:  # released in between
            return lock_run_folder(folder)
        if not before.is_gone:
            raise ConfigError(
                f"another run writes into {folder}: process {before.pid} on {before.host}, since {before.since}. "
                f"Wait for it or stop it; if it is gone, delete {path}"
            )
        lock = _take_over(path, before, holder)
        _clear(folder)
        return lock
    except OSError as error:
        raise ConfigError(f"the run folder {folder} cannot be locked: {error.strerror}") from error


def _clear(folder: Path) -> None:
    """Remove what killed processes have left unfinished; nobody else writes here now."""
    for part in parts_in(folder):
        part.unlink(missing_ok=True)


def _create(path: Path, holder: Holder) -> bool:
    path.parent.stat()  # a folder that is not there is an error, and is not made
    with part_beside(path) as part:
        part.write_text(json.dumps(asdict(holder)), encoding="utf-8")
        flush(part)
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            return _create_without_link(path, holder)
    return True


def _create_without_link(path: Path, holder: Holder) -> bool:
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


def read_lock(path: Path, attempts: int = 20) -> Holder | None:
    """Return who holds a lock, ``None`` if the file is not there.

    Raises:
        ConfigError: if its content is not that of a lock, after a second of trying: a lock that was just created is
            empty for a moment.
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
    """Replace the lock of a process that is gone; of several that try, one succeeds.

    Whoever creates the file ``run.lock.takeover`` has the turn. If that process is gone as well, whoever creates the
    file that is named after it has the turn, and so on.
    """
    turns = [path.with_name(f"{path.name}.takeover")]
    while not _create(turns[-1], holder):
        other = read_lock(turns[-1])
        if other is None:  # released in between
            continue
        if not other.is_gone:
            raise ConfigError(f"another run is taking over {path.parent}; if none is, delete {turns[-1]}")
        turns.append(turns[-1].with_name(f"{turns[-1].name}.{other.pid}"))
    try:
        if read_lock(path) != before:  # another was faster
            raise ConfigError(f"another run has just taken over {path.parent}")
        write_atomically(path, json.dumps(asdict(holder)))
    finally:
        for turn in turns:
            turn.unlink(missing_ok=True)
    return RunLock(path, holder, before)
