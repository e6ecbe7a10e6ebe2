"""The lock of a run folder: ``run.lock`` says which process writes into it.

On its own machine the system tells whether that process lives. On another one only the time of the file tells: the
owner refreshes it every half a minute, and is taken for gone when it has not for three minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.files import flush, part_beside, parts_in, write_atomically

__all__ = [
    "LOCK",
    "Holder",
    "RunLock",
    "living_holder",
    "lock_run_folder",
    "read_lock",
    "refuse_if_held",
    "slurm_restarts",
]

LOCK = "run.lock"
"""Name of the file that says who writes into the folder of a run."""

_BEAT_S = 30.0
_MISSED = 6  # so many refreshes may be late: network file systems show a file's old time for up to a minute


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
        beat_s: seconds between two refreshes of its lock, 0 for never: it was taken by an earlier version.
    """

    host: str
    pid: int
    born: str
    since: str
    job: str = ""
    restarts: int = 0
    beat_s: float = 0.0

    @classmethod
    def myself(cls) -> Holder:
        """Return the holder that this process is."""
        pid = os.getpid()
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        job = os.environ.get("SLURM_JOB_ID", "")
        return cls(socket.gethostname(), pid, _born(pid), since, job, slurm_restarts(), _BEAT_S)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def patience_s(self) -> float:
        """Seconds without a refresh after which a process of another machine is taken for gone; 0 for never."""
        return _MISSED * self.beat_s

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended, without a look at its lock.

        Of a process on another machine that is known only if SLURM has started its job again, as this process.
        """
        if self.job and self.job == os.environ.get("SLURM_JOB_ID") and self.restarts < slurm_restarts():
            return True
        if not self.is_here:
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


class RunLock:
    """A run folder that this process writes into, and no other.

    A thread of its own refreshes the lock, so that a file system that hangs holds up nothing else. A process that was
    suspended for minutes, or cut off from the file system, may find that one of another machine has taken the lock
    over. It must write no more into the folder then.

    Attributes:
        path: the lock file.
        holder: this process.
        took_over: who held it before and is gone, ``None`` for nobody.
        when_lost: called with the new holder, from any thread, once this process finds that it has lost the lock.
    """

    def __init__(self, path: Path, holder: Holder, took_over: Holder | None = None) -> None:
        self.path = path
        self.holder = holder
        self.took_over = took_over
        self.when_lost: Callable[[Holder], None] = lambda other: None
        self._released = threading.Event()
        threading.Thread(target=self._keep, name="fer-run-lock", daemon=True).start()

    def _keep(self) -> None:
        while not self._released.wait(self.holder.beat_s):
            with contextlib.suppress(OSError):  # the file system may be there again at the next time
                if self.check():
                    os.utime(self.path)

    @property
    def lost_to(self) -> Holder | None:
        """Who has taken the lock over from this process, ``None`` if nobody has, as far as can be read."""
        try:
            found = read_lock(self.path, attempts=1)
        except (OSError, ConfigError):
            return None
        return None if found == self.holder else found

    def check(self) -> bool:
        """Tell whether the folder is still this process's; call ``when_lost`` if it is not."""
        other = self.lost_to
        if other is not None and not self._released.is_set():
            self._released.set()
            self.when_lost(other)
        return other is None

    def release(self) -> None:
        """Remove the lock file, if it is still ours."""
        self._released.set()
        with contextlib.suppress(OSError, ConfigError):
            if read_lock(self.path) == self.holder:
                self.path.unlink()


def lock_run_folder(folder: Path) -> RunLock:
    """Take the lock of a run folder; one whose process is gone is taken over.

    The lock is a file that only one process can create, by a hard link to a written one, so that a kill leaves no empty
    lock; where there are no hard links, by ``O_EXCL``. Network file systems keep to both.

    Raises:
        ConfigError: if another run holds it, or it cannot be written.
    """
    path, holder = folder / LOCK, Holder.myself()
    try:
        took_over = None
        while not _create(path, holder):
            took_over = read_lock(path)
            if took_over is None:  # released in between
                continue
            _refuse_if_alive(path, took_over)
            if read_lock(path) == took_over:
                _take_over(path, took_over, holder)
                break
            took_over = None  # it was released meanwhile, or another process has it
        _clear(folder)
        return RunLock(path, holder, took_over)
    except OSError as error:
        raise ConfigError(f"the run folder {folder} cannot be locked: {error.strerror}") from error


def living_holder(path: Path, attempts: int = 20) -> Holder | None:
    """Return who holds a lock, ``None`` if nobody does: it is not there, or its process is gone.

    Raises:
        ConfigError: if its content is not that of a lock; see ``read_lock``.
    """
    holder = read_lock(path, attempts)
    return None if holder is None or _has_gone(path, holder) else holder


def refuse_if_held(folder: Path) -> None:
    """Raise ``ConfigError`` if a process writes into a run folder; what one that is gone has left stays there."""
    path, before = folder / LOCK, None
    while (holder := read_lock(path)) not in (None, before):
        _refuse_if_alive(path, holder)
        before = holder


def _refuse_if_alive(path: Path, holder: Holder) -> None:
    """Raise ``ConfigError`` unless the process that holds a lock is gone, after waiting for a sign of it.

    One that was killed on another machine a moment ago leaves a lock like that of one that lives.
    """
    if _has_gone(path, holder):
        return
    told = f"another run writes into {path.parent}: {holder}"
    if holder.is_here or not holder.beat_s:
        raise ConfigError(f"{told}. Wait for it or stop it; if it is gone, delete {path}")
    print(f"waits up to {holder.patience_s:.0f} s for a sign of {holder}, which holds {path}", flush=True)
    if _shows_life(path, holder):
        raise ConfigError(
            f"{told}, which has refreshed its lock just now. Stop it there, or wait for its end; "
            f"{holder.patience_s:.0f} s after that machine is gone the same command goes on"
        )


def _has_gone(path: Path, holder: Holder) -> bool:
    """Tell whether the process that holds a lock is gone, as far as that can be told at once."""
    if holder.is_gone:
        return True
    if holder.is_here or not holder.beat_s:
        return False
    try:
        return _age(path) > holder.patience_s
    except OSError:  # the folder cannot be written, or the lock is released in this moment
        return False


def _age(path: Path) -> float:
    """Return how many seconds ago a file was changed, by the clock of its file system: those of machines differ."""
    changed = path.stat().st_mtime
    with part_beside(path) as probe:
        probe.touch()
        os.utime(probe)
        return probe.stat().st_mtime - changed


def _shows_life(path: Path, holder: Holder) -> bool:
    """Wait until a lock is refreshed, or for as long as one may stay without that; tell whether it was.

    Not if it is released or passes on to another process.
    """
    until = time.monotonic() + holder.patience_s
    with contextlib.suppress(FileNotFoundError):
        before = path.stat().st_mtime_ns
        while time.monotonic() < until and not _has_gone(path, holder):
            time.sleep(holder.beat_s / 30)
            if read_lock(path) != holder:  # opening a file makes network file systems ask for its time anew
                break
            if path.stat().st_mtime_ns != before:
                return True
    return False


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


def _take_over(path: Path, before: Holder, holder: Holder) -> None:
    """Replace the lock of a process that is gone; of several that try, one succeeds.

    Whoever creates the file ``run.lock.takeover`` has the turn. If that process is gone as well, whoever creates the
    file that is named after it has the turn, and so on.
    """
    turns = [path.with_name(f"{path.name}.takeover")]
    while not _create(turns[-1], holder):
        other = read_lock(turns[-1])
        if other is None:  # released in between
            continue
        if not _has_gone(turns[-1], other):
            raise ConfigError(f"another run is taking over {path.parent}; if none is, delete {turns[-1]}")
        turns.append(turns[-1].with_name(f"{turns[-1].name}.{other.pid}"))
    try:
        if read_lock(path) != before:  # another was faster
            raise ConfigError(f"another run has just taken over {path.parent}")
        write_atomically(path, json.dumps(asdict(holder)))
    finally:
        for turn in turns:
            turn.unlink(missing_ok=True)
