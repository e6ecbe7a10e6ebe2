"""Runs in child processes: each is an ordinary ``fer fit``, and a crash ends only that one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fer_lightning.errors import ConfigError
from fer_lightning.runs.checkpoint import CHECKPOINTS, RESUME
from fer_lightning.runs.folder import newest_run
from fer_lightning.runs.lock import LOCK
from fer_lightning.runs.records import History, Run

__all__ = ["ChildResult", "fit_in_child"]

FIT = (sys.executable, "-m", "fer_lightning", "fit")
POLL_SECONDS = 0.25
GROUP_SECONDS = 2.0
"""Wait this long for our own signal before concluding that the child stopped by itself: a signal to a whole job may
reach the child first."""
ORPHAN_SECONDS = 120.0
"""How long a run whose parent is gone may take to write its checkpoint and end."""
STOP_SECONDS = 900.0
"""How long a run may take to end after SIGTERM: it finishes its batch or validation first."""


@dataclass(frozen=True)
class ChildResult:
    """How a run in a child process ended.

    Attributes:
        folder: the run folder; the folder above it if the child ended before it had one.
        exit_code: of ``fer fit``; 128 + n if signal n ended it.
        history: rows of ``metrics.csv``.
        stopped: ``follow`` had it stopped before it was done.
        message: the last line that it printed if it failed, else empty.
    """

    folder: Path
    exit_code: int
    history: History
    stopped: bool
    message: str


def fit_in_child(
    arguments: Sequence[str],
    *,
    root: Path,
    name: str,
    log: Path,
    follow: Callable[[History], bool] | None = None,
    resume: bool = True,
) -> ChildResult:
    """Train in a child process, or go on where an earlier run of this name ended.

    SIGTERM and Ctrl-C are passed on to the child, which leaves its exact checkpoint. If this process is killed, the
    system tells the child to stop in the same way (Linux; elsewhere it trains to its end, and a second start of it
    is refused meanwhile).

    Args:
        arguments: of ``fer fit``, without name and root folder.
        root: the folder of all runs.
        name: of the run, which is in ``<root>/<name>``.
        log: file that what the child prints is appended to.
        follow: is given all rows of ``metrics.csv`` whenever a new one is there, also those of before if the run goes
            on; returning false stops the child gently, with an exact checkpoint.
        resume: return the newest run of this name if it is finished, go on with it if it is not. Otherwise, and where
            there is nothing to go on from, a new run is started.

    Returns:
        How it ended.

    Raises:
        ConfigError: if another process writes into the run.
        SystemExit: if SIGTERM or Ctrl-C came, once the child has ended; the code is 128 + the signal's number.
    """
    command = [*FIT, "--trainer.enable_progress_bar=false", *arguments]
    command += [f"--name={name}", f"--trainer.default_root_dir={root}"]
    before, goes_on = newest_run(root, name), False
    if resume and before is not None:
        if _settled(before) == "finished":
            return ChildResult(before, 0, Run(before).history, stopped=False, message="")
        goes_on = (before / CHECKPOINTS / RESUME).is_file()
        command += [f"--ckpt_path={before}"] if goes_on else []

    def folder() -> Path | None:
        newest = newest_run(root, name)
        return newest if goes_on or newest != before else None

    returncode, stopped_by_us, begin = _run(command, log, folder, follow)
    code = returncode if returncode >= 0 else 128 - returncode
    stopped = stopped_by_us and code == 128 + signal.SIGTERM
    message = "" if code == 0 or stopped else _last_words(log, begin, returncode)
    found = folder()
    return ChildResult(found or root / name, code, Run(found).history if found else [], stopped, message)


def _run(
    command: list[str], log: Path, folder: Callable[[], Path | None], follow: Callable[[History], bool] | None
) -> tuple[int, bool, int]:
    """Run a child to its end.

    Returns:
        Its return code, whether ``follow`` had it stopped, and where in the log its output begins, bytes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, _passing_on() as relay:
        begin = output.tell()
        process = _start(command, output)
        relay.use(process)
        try:
            stopped_by_us = _watch(process, folder, follow)
        except BaseException:
            _end(process)
            raise
        if not stopped_by_us and _is_stop(process.returncode) and not relay.signum:
            time.sleep(GROUP_SECONDS)
    if relay.signum:
        raise SystemExit(128 + relay.signum)
    return process.returncode, stopped_by_us, begin


def _settled(folder: Path) -> str:
    """Return the status of a run; wait for one that is just ending because its parent is gone."""
    until = time.monotonic() + ORPHAN_SECONDS
    while (status := Run(folder).status) == "running":
        if time.monotonic() > until:
            raise ConfigError(
                f"another process writes into {folder} ({folder / LOCK} says which): wait for it or stop it"
            )
        time.sleep(POLL_SECONDS)
    return status


def _start(command: Sequence[str], output: Any) -> subprocess.Popen[bytes]:
    """Start a child that stops when this process is gone.

    In a session of its own, because a terminal sends Ctrl-C to all processes of one: the child would get it twice, from
    the terminal and from us, and end at once.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},  # the last line of the log is the last that was said
        start_new_session=True,
        preexec_fn=_bound_to(os.getpid()) if _LIBC is not None else None,
    )


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when the thread that started it ends


def _bound_to(parent: int) -> Callable[[], None]:
    def bind() -> None:
        assert _LIBC is not None
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(128 + signal.SIGTERM)

    return bind


class _Relay:
    """A signal handler that forwards signals to a child."""

    def __init__(self) -> None:
        self.signum = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and not self.signum:  # not print: its buffer may be in use at this very moment
            os.write(2, b"\nfer: the run stops after this batch; Ctrl-C again to stop at once\n")
        self.signum = self.signum or signum
        if self.process is not None:
            self.process.send_signal(signum)

    def use(self, process: subprocess.Popen[bytes]) -> None:
        """Forward signals to this child, also the one that came before it was started."""
        self.process = process
        if self.signum:
            process.send_signal(self.signum)


@contextmanager
def _passing_on() -> Iterator[_Relay]:
    """Forward SIGTERM and SIGINT to a child inside the block. Outside the main thread nothing changes."""
    relay, previous = _Relay(), {}
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(signum) is not signal.SIG_IGN:  # ignored on purpose stays so
                previous[signum] = signal.signal(signum, relay)
    try:
        yield relay
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)


def _watch(
    process: subprocess.Popen[bytes], folder: Callable[[], Path | None], follow: Callable[[History], bool] | None
) -> bool:
    """Wait for a child, handing new rows to ``follow``; return whether that had it stopped."""
    rows, stopped_by_us, ended = 0, False, False
    while not ended:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
        ended = process.poll() is not None  # the rows of its last moment are read once more
        found = folder() if follow is not None and not stopped_by_us else None
        history = Run(found).history if found is not None else []
        if follow is None or len(history) <= rows:
            continue
        rows = len(history)
        if not follow(history) and not ended:
            stopped_by_us = True
            _end(process)
    return stopped_by_us


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to a child and wait until it has ended; kill it if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_stop(returncode: int) -> bool:
    """Tell whether a child ended by a signal that means to stop, gently or not."""
    signals = (signal.SIGTERM, signal.SIGINT)
    return returncode in [*(128 + signum for signum in signals), *(-signum for signum in signals)]


def _last_words(log: Path, begin: int, returncode: int) -> str:
    """Return the line that says why a child failed."""
    if returncode < 0 and not _is_stop(returncode):
        name = signal.Signals(-returncode).name
        return f"ended by {name}{', perhaps for want of memory' if name == 'SIGKILL' else ''}"
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    if _is_stop(returncode):
        return "stopped by a signal from outside"
    ours = [line for line in lines if line.startswith(_OURS)]
    if ours:
        return ours[-1].removeprefix(_OURS)
    return lines[-1] if lines else f"ended with exit code {returncode} without a message"


_OURS = "fer: error: "
