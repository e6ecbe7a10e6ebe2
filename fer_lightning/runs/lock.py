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
from fer_lightning.files import write_atomically

__all__ = ["LOCK", "Holder", "RunLock", "lock_run_folder", "read_lock"]

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
        """Whether the process is known to have ended; of a process on another machine that is never known."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it runs and belongs to another user
        return bool(self.born) and _born(self.pid) not in ("", self.born)


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

    The lock is a file that only one process can create (``O_EXCL``), which network file systems keep to as well.

    Raises:
        ConfigError: if another run holds it, or it cannot be written.
    """
    path, holder = folder / LOCK, Holder.myself()
    try:
        if _create(path, holder):
            return RunLock(path, holder)
        before = read_lock(path)
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
    """Replace the lock of a process that is gone; of several that try, one succeeds."""
    turn = path.with_name(f"{path.name}.takeover")
    if not _create(turn, holder):
        raise ConfigError(f"another run is taking over {path.parent}; if none is, delete {turn}")
    try:
        if read_lock(path) != before:  # another was faster
            raise ConfigError(f"another run has just taken over {path.parent}")
        write_atomically(path, json.dumps(asdict(holder)))
    finally:
        turn.unlink(missing_ok=True)
    return RunLock(path, holder, before)
