"""Ending a process that was told to end, also while it waits inside a library."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from fer_lightning.signals import STOPPING, Stopped, exit_code, in_main_thread, signal_name

__all__ = ["EndWatch"]

_UNHEARD_S = 2.0  # how long the main thread may take to begin to end: longer, and it waits inside a library
_ENDING_S = 10.0  # how long it may take to end in good order
_SAME_S = 0.5  # equal signals in so short a time are one: `timeout` sends each to the process and to its group
_POLL_S = 0.25
_CLEARING_S = 5.0  # how long clearing away may take: a file system or a server may hang as well


class EndWatch:
    """Ends this process when it is told to, whatever it is doing.

    Inside of ``with``, SIGTERM, SIGUSR1 and Ctrl-C raise ``Stopped`` in the main thread, so
    that what was begun is cleared away. Python calls handlers only between two of its own instructions: in a main
    thread that waits inside a library, half an hour for another process of the run, nothing would happen. So a thread
    hears of each signal too (by ``signal.set_wakeup_fd``). It calls ``clear`` and ends the process if the main thread
    has not begun to end after two seconds or has not ended after ten, or at once when a second signal comes.

    It also looks after the other processes of a run on this machine: the first one ends when one that it has started
    fails, and those that it has started end when it is gone.

    Outside the main thread nothing is watched.

    Attributes:
        clear: removes what this process would leave behind; called from a thread.
        graceful: whether signals are only noted for now, because the run stops at the next good moment. Then the second
            Ctrl-C ends the process within ten seconds, the third at once.
        speaks: whether to say on stderr why the process ends.
        parent: number of the process that has started this one for the same run, ``None`` for none.
        processes: the processes that this one has started for the same run.
        signum: the first signal that came, 0 for none.
        why: why the process is ended, as long as it is not known empty.
    """

    def __init__(self) -> None:
        self.clear: Callable[[], None] = lambda: None
        self.graceful: Callable[[], bool] = lambda: False
        self.speaks = True
        self.parent: int | None = None
        self.processes: list[subprocess.Popen[bytes]] = []
        self.signum = 0
        self._last = (0, 0.0)  # the last signal and when it came
        self._presses = 0  # of Ctrl-C, while signals are only noted
        self._asked: float | None = None  # when the main thread was asked to end
        self._raised = False  # whether it has begun to
        self._deadline: float | None = None  # when there is nothing more to wait for
        self._code, self.why = 1, ""
        self._handlers: dict[int, Any] = {}
        self._told: tuple[socket.socket, socket.socket] | None = None  # where the thread reads, and the system writes
        self._over = False
        self._wakeup = -1  # where signals were told before
        self._own = os.getpid()
        self._thread = threading.Thread(target=self._run, name="fer-end-watch", daemon=True)

    def __enter__(self) -> EndWatch:
        if not in_main_thread():
            return self
        self._told = socket.socketpair()
        self._told[1].setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._told[1].fileno(), warn_on_full_buffer=False)
        _keep_forks_out()
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored on purpose stays so
                self._handlers[number] = signal.signal(number, self._raise)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._told is None:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup)
        self._over = True  # closing alone would not end the thread while processes of loaders have the socket too
        with suppress(BlockingIOError):
            self._told[1].send(b"\0")
        self._thread.join()
        for end in self._told:
            end.close()

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._own:  # a loader's process, which has nothing to clear away
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not self._raised:  # a second signal is the thread's: the main thread is already clearing away
            self._raised, self.signum = True, self.signum or signum
            raise Stopped(signum, agreed=False)

    def _run(self) -> None:
        assert self._told is not None  # made before the thread was started
        told = self._told[0]
        while True:
            ready, _, _ = select.select([told], [], [], _POLL_S)
            came = told.recv(64) if ready else b""
            if self._over:
                return
            now = time.monotonic()
            for signum in came:
                self.hear(signum, now)
            self._look_around(now)
            if self.is_over(now):
                self._end()

    def hear(self, signum: int, now: float) -> None:
        """Take note of a signal that came ``now``, in seconds."""
        before, self._last = self._last, (signum, now)
        if signum not in STOPPING or (before[0] == signum and now - before[1] < _SAME_S):
            return
        self.signum = self.signum or signum
        if self.graceful():
            self._presses += signum == signal.SIGINT
            if self._presses > 1:
                self._expect_end(now + (_ENDING_S if self._presses == 2 else 0.0), signum, "stopped at once by SIGINT")
        elif self._asked is None:
            self._asked, self._code, self.why = now, exit_code(signum), f"stopped by {signal_name(signum)}"
        else:
            self._expect_end(now, signum, f"stopped at once by {signal_name(signum)}")

    def is_over(self, now: float) -> bool:
        """Tell whether the process must not go on any longer than ``now``, in seconds."""
        if self._asked is not None and now >= self._asked + (_ENDING_S if self._raised else _UNHEARD_S):
            return True
        return self._deadline is not None and now >= self._deadline

    def _expect_end(self, when: float, signum: int, why: str) -> None:
        """Give the process until then; ``signum`` is 0 for another reason than a signal."""
        if self._deadline is None and self._asked is None:
            self._code, self.why = exit_code(signum) or 1, why
        self._deadline = when if self._deadline is None else min(when, self._deadline)

    def _look_around(self, now: float) -> None:
        if self.parent is not None and os.getppid() != self.parent:
            self._expect_end(now, 0, "")
        for rank, process in enumerate(self.processes, 1):
            code = process.poll()
            if not code:
                continue
            signum = -code if code < 0 else code - 128
            if signum in STOPPING:
                why, patience = f"process {rank} was stopped by {signal_name(signum)}", _UNHEARD_S
            else:
                signum, why, patience = 0, f"process {rank} has ended with exit code {code}", _ENDING_S
            self._expect_end(now + (_ENDING_S if self._raised else patience), signum, why)

    def end(self, why: str) -> None:
        """End this process at once, from any thread, with exit code 1."""
        self._code, self.why = 1, why
        self._end()

    def _end(self) -> None:
        for process in self.processes:
            process.kill()
        for worker in multiprocessing.active_children():  # of loaders
            worker.kill()
        clearing = threading.Thread(target=self._clear, name="fer-clearing", daemon=True)
        clearing.start()
        clearing.join(_CLEARING_S)
        if self.speaks:
            os.write(2, f"\nfer: {self.why}\n".encode())  # not print: the main thread may hold its buffer
        os._exit(self._code)

    def _clear(self) -> None:
        with suppress(Exception):
            self.clear()


_keeps_out = False


def _keep_forks_out() -> None:
    """See that forked processes, such as those of loaders, do not tell their signals to the thread of this one."""
    global _keeps_out
    if not _keeps_out and hasattr(os, "register_at_fork"):
        _keeps_out = True
        os.register_at_fork(after_in_child=_tell_nobody)


def _tell_nobody() -> None:
    signal.set_wakeup_fd(-1)
