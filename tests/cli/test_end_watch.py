from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch exports without saying

from fer_lightning.cli import end_watch
from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.signals import STOPPING, Stopped, put_off
from tests.helpers.processes import free_port

TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("came", "ends_at"),
    [
        ([(TERM, 0.0)], 2.0),  # the main thread has not begun to end
        ([(TERM, 0.0), (TERM, 0.1)], 2.0),  # one signal, sent to the process and to its group
        ([(TERM, 0.0), (TERM, 1.0)], 1.0),
        ([(INT, 0.0), (TERM, 0.1)], 0.1),
        ([(signal.SIGCHLD, 0.0)], None),
    ],
)
def test_a_process_that_does_not_listen_is_ended(came: list[tuple[int, float]], ends_at: float | None) -> None:
    watch = EndWatch()
    for signum, when in came:
        watch.hear(signum, when)
    assert watch.is_over(100.0) is (ends_at is not None)
    if ends_at is not None:
        assert (watch.is_over(ends_at - 0.01), watch.is_over(ends_at)) == (False, True)


@pytest.mark.parametrize(
    ("came", "ends_at"),
    [
        ([(TERM, 0.0), (TERM, 1.0), (TERM, 2.0)], None),  # it stops after the batch, as long as that takes
        ([(INT, 0.0)], None),
        ([(INT, 0.0), (INT, 1.0)], 11.0),
        ([(TERM, 0.0), (INT, 1.0), (INT, 2.0)], 12.0),
        ([(INT, 0.0), (INT, 1.0), (INT, 2.0)], 2.0),
    ],
)
def test_in_training_only_ctrl_c_is_not_waited_for(came: list[tuple[int, float]], ends_at: float | None) -> None:
    watch = EndWatch()
    watch.graceful = lambda: True
    for signum, when in came:
        watch.hear(signum, when)
    assert watch.is_over(100.0) is (ends_at is not None)
    if ends_at is not None:
        assert (watch.is_over(ends_at - 0.01), watch.is_over(ends_at)) == (False, True)


@pytest.mark.parametrize("signum", STOPPING)
def test_a_main_thread_that_listens_ends_in_good_order(signum: int) -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    cleared: list[int] = []
    watch = EndWatch()
    watch.clear = lambda: cleared.append(1)

    def work() -> None:
        with watch:
            try:
                signal.raise_signal(signum)
            finally:
                signal.raise_signal(signum)  # while it clears away: not raised again
                cleared.append(0)

    with pytest.raises(Stopped) as stopped:
        work()
    assert (stopped.value.signum, stopped.value.agreed, watch.signum) == (signum, False, signum)
    assert cleared == [0]
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_a_signal_waits_until_what_is_made_is_known() -> None:
    made: list[str] = []

    def make() -> None:
        with EndWatch():
            with put_off():
                signal.raise_signal(TERM)
                made.append("folder")
            made.append("not reached")

    with pytest.raises(Stopped):
        make()
    assert made == ["folder"]


@pytest.fixture
def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Give a function that lets a forked process wait in a library, watched, and returns its end and its words."""
    monkeypatch.setattr(end_watch, "_UNHEARD_S", 0.2)
    monkeypatch.setattr(end_watch, "_ENDING_S", 0.3)
    monkeypatch.setattr(end_watch, "_POLL_S", 0.05)
    port = free_port()

    def wait(watch: EndWatch) -> None:
        watch.clear = (tmp_path / "folder").rmdir
        with watch:
            (tmp_path / "ready").touch()
            TCPStore("127.0.0.1", port, 2, is_master=False, timeout=timedelta(seconds=60))  # nobody is there

    def run(watch: EndWatch, do: Callable[[int], None]) -> tuple[int, str]:
        (tmp_path / "folder").mkdir()
        child = os.fork()
        if child == 0:
            os.dup2(os.open(tmp_path / "said", os.O_CREAT | os.O_WRONLY), 2)
            watch._own = os.getpid()
            try:
                wait(watch)
            finally:
                os._exit(77)
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        do(child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert not (tmp_path / "folder").exists()
        return code, (tmp_path / "said").read_text()

    return run


@pytest.mark.parametrize(("signum", "code"), [(TERM, 143), (INT, 130)])
def test_a_main_thread_that_waits_in_a_library_is_ended_and_cleared_away(
    ending: Callable[..., tuple[int, str]], signum: int, code: int
) -> None:
    found, said = ending(EndWatch(), lambda pid: os.kill(pid, signum))
    assert found == code
    assert said.endswith(f"\nfer: stopped by {signal.Signals(signum).name}\n")


def test_it_ends_when_the_process_that_has_started_it_is_gone(ending: Callable[..., tuple[int, str]]) -> None:
    watch = EndWatch()
    watch.parent, watch.speaks = 1, False  # not the process that forks
    assert ending(watch, lambda pid: None) == (1, "")


@pytest.mark.parametrize(
    ("work", "code", "told"),
    [
        ("raise SystemExit(2)", 1, "process 1 has ended with exit code 2"),
        ("raise SystemExit(143)", 143, "process 1 was stopped by SIGTERM"),
        ("import os; os.kill(os.getpid(), 9)", 1, "process 1 has ended with exit code -9"),
    ],
)
def test_it_ends_when_a_process_that_it_has_started_fails(
    ending: Callable[..., tuple[int, str]], work: str, code: int, told: str
) -> None:
    watch = EndWatch()
    process = subprocess.Popen([sys.executable, "-S", "-c", work])
    process.wait()  # so that the forked process knows its end, too
    watch.processes = [process]
    assert ending(watch, lambda pid: None) == (code, f"\nfer: {told}\n")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_hangs_while_it_clears_away_is_not_waited_for_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end_watch._CLEARING_S == 5  # as docs/resume.md says
    monkeypatch.setattr(end_watch, "_CLEARING_S", 0.2)
    own = os.fork()
    if own == 0:
        watch = EndWatch()
        watch.speaks = False
        watch.processes = [subprocess.Popen(["sleep", "60"])]
        loader = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        loader.start()
        (tmp_path / "started").write_text(f"{watch.processes[0].pid} {loader.pid}")
        watch.clear = lambda: time.sleep(60)
        watch.end("")
        os._exit(77)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(own, 0)[1]) == 1
    assert time.monotonic() - began < 30
    started = [int(pid) for pid in (tmp_path / "started").read_text().split()]
    until = time.monotonic() + 10
    while any(map(alive, started)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, started))


class Ended:
    """Stands for a process that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code


@pytest.mark.parametrize(
    ("code", "begins_to_end", "ends_at"),
    [(-TERM, False, 2.0), (143, False, 2.0), (1, False, 10.0), (-TERM, True, 10.0), (0, False, None)],
)
def test_how_long_the_end_of_another_process_is_waited_for(
    code: int, begins_to_end: bool, ends_at: float | None
) -> None:
    watch = EndWatch()
    watch.processes = [Ended(code)]  # type: ignore[list-item]
    watch._raised = begins_to_end
    watch._look_around(0.0)
    assert watch.is_over(100.0) is (ends_at is not None)
    if ends_at is not None:
        assert (watch.is_over(ends_at - 0.01), watch.is_over(ends_at)) == (False, True)


def test_the_first_signal_is_the_one_that_is_told() -> None:
    watch = EndWatch()
    watch.hear(TERM, 0.0)
    watch.hear(INT, 1.0)
    assert watch.signum == TERM
    assert (watch.why, watch._code) == ("stopped by SIGTERM", 143)
    with pytest.raises(Stopped):
        watch._raise(INT, None)
    assert watch.signum == TERM


def test_a_signal_to_a_process_of_a_loader_is_its_own() -> None:
    with EndWatch() as watch:
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), TERM)
                time.sleep(60)
            finally:
                os._exit(77)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -TERM
        time.sleep(0.1)  # for the thread to hear
    assert watch.signum == 0


def test_signals_are_told_as_before_and_those_that_were_ignored_stay_so() -> None:
    ends = socket.socketpair()
    ends[1].setblocking(False)
    wakeup = signal.set_wakeup_fd(ends[1].fileno())
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with EndWatch():
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
            assert signal.getsignal(TERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGUSR1, before)
        assert signal.set_wakeup_fd(wakeup) == ends[1].fileno()
        for end in ends:
            end.close()


def test_it_ends_although_a_process_of_a_loader_lives_on() -> None:
    asleep = threading.Event()
    with EndWatch():
        child = os.fork()
        if child == 0:
            asleep.wait(60)
            os._exit(0)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0) == (child, signal.SIGKILL)  # it was alive until now, and the watch had ended


def test_outside_the_main_thread_nothing_is_watched() -> None:
    seen: list[object] = []
    before = signal.getsignal(TERM)

    def work() -> None:
        with EndWatch():
            seen.append(signal.getsignal(TERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_main_thread_that_has_begun_to_end_has_ten_seconds_for_it() -> None:
    watch = EndWatch()
    watch.hear(TERM, 0.0)
    watch._raised = True
    assert (watch.is_over(2.0), watch.is_over(9.99), watch.is_over(10.0)) == (False, False, True)
