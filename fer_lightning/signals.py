"""Signals that ask a process to end, and what ends it then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "STOPPING",
    "TIME_IS_UP",
    "Stopped",
    "exit_code",
    "in_main_thread",
    "put_off",
    "signal_name",
    "stopping_at_once",
]

STOPPING = tuple(int(getattr(signal, name)) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
"""The signals that ask a run to end."""

TIME_IS_UP = 1
"""Stands for the end of ``trainer.max_time`` where else the number of a signal stands; any handled signal is larger."""


def exit_code(signum: int) -> int:
    """Return what a program ends with that was stopped: 128 + the signal's number; 0 if its time was up, or by none."""
    return 128 + signum if signum > TIME_IS_UP else 0


def signal_name(signum: int) -> str:
    """Return the name of a signal, such as ``SIGTERM``."""
    return signal.Signals(signum).name


class Stopped(SystemExit):
    """A signal has ended the run, or its time was up; the exit code is that of ``exit_code``.

    ``agreed`` tells whether all processes of the run end here together, ``requeue`` whether SLURM is to start the job
    again.
    """

    def __init__(self, signum: int, agreed: bool = True) -> None:
        super().__init__(exit_code(signum))
        self.signum = signum
        self.agreed = agreed
        self.requeue = False


def in_main_thread() -> bool:
    """Tell whether this is the main thread, the only one in which handlers can be set and are called."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let SIGTERM raise ``Stopped`` meanwhile, so that what was begun is cleared away.

    Outside the main thread nothing changes.
    """
    if not in_main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum, agreed=False)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def put_off() -> Iterator[None]:
    """Let signals wait until the end of the block, so that what it makes is known to whoever clears it away.

    Outside the main thread nothing changes.
    """
    if not in_main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: handler for number in STOPPING if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda signum, frame: came.append(signum))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for signum in came[:1]:
            handlers[signum](signum, None)
