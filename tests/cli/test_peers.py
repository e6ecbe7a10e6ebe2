from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fer_lightning.cli import peers
from fer_lightning.cli.peers import Peers, find_peers, first_problem
from fer_lightning.errors import CheckpointError, ConfigError
from tests.helpers.processes import free_port, slurm

FINE = {"host": "a", "error": "", "code": 1}


def test_the_first_process_with_an_error_is_the_one_that_is_told() -> None:
    wrong = {"host": "b", "error": "no such file", "code": 2}
    assert first_problem([FINE, FINE]) == (0, "")
    assert first_problem([wrong, wrong]) == (2, "no such file")
    assert first_problem([FINE, wrong, {**wrong, "error": "later"}]) == (2, "process 1 of 3, on b: no such file")


@pytest.fixture
def started_together(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Give a function that lets threads be processes 0, 1, ... and returns what each came to."""
    monkeypatch.setattr(peers, "_meetings", itertools.repeat(0))
    monkeypatch.setattr(peers, "_GRACE_S", 0.1)

    def run(*works: Callable[[Peers], Any]) -> list[Any]:
        port, kept = free_port(), list[Peers]()
        results: list[Any] = [None] * len(works)

        def work(rank: int) -> None:
            try:
                peer = Peers(rank, len(works), "127.0.0.1", port, "torchrun")
                kept.append(peer)  # process 0 keeps the store for the others
                results[rank] = works[rank](peer)
            except (Exception, SystemExit) as error:
                results[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(works))]
        for thread in reversed(threads):  # process 0, which keeps the store, comes last
            thread.start()
        for thread in threads:
            thread.join(60)
        return results

    return run


def lead(peer: Peers) -> str:
    peer.tell({"folder": "runs/a"})
    peer.settle()
    return "began"


def follow(peer: Peers) -> Any:
    word = peer.hear()
    peer.settle()
    return word["folder"]


def test_what_the_first_chooses_is_known_to_all(started_together: Callable[..., list[Any]]) -> None:
    assert started_together(lead, follow, follow) == ["began", "runs/a", "runs/a"]


def test_an_error_of_all_is_left_to_the_first(started_together: Callable[..., list[Any]]) -> None:
    def fail(peer: Peers) -> None:
        error = CheckpointError("damaged")
        peer.settle(error)
        raise error

    first, *others = started_together(fail, fail, follow)
    assert isinstance(first, CheckpointError)
    assert [type(other) for other in others] == [SystemExit, SystemExit]
    assert [other.code for other in others] == [2, 2]


def test_an_error_of_one_alone_is_told_by_the_first(started_together: Callable[..., list[Any]]) -> None:
    def fail(peer: Peers) -> None:
        peer.hear()
        peer.settle(ConfigError("this machine lacks the data"))

    first, second, third = started_together(lead, follow, fail)
    assert isinstance(first, ConfigError)
    assert str(first) == f"process 2 of 3, on {socket.gethostname()}: this machine lacks the data"
    assert first.exit_code == second.code == third.code == 2


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*MASTER_PORT"):
            Peers(0, 2, "127.0.0.1", port, "SLURM")


def test_a_process_that_is_alone_has_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*slurm(0, 1), "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert find_peers() is None
    for name, value in slurm(0, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert find_peers() is None


def test_variables_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm(0, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(ConfigError, match="SLURM did not say how many processes there are.*ntasks-per-node"):
        find_peers()
