from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fer_lightning.cli import peers
from fer_lightning.cli.peers import Peers, check_world, find_peers, first_problem
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


def test_a_word_that_comes_while_it_is_waited_for_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = object.__new__(Peers)
    there = {"status/0": False, "word": False}

    class Store:
        def check(self, names: list[str]) -> bool:
            found = there[names[0]]
            there.update(dict.fromkeys(there, True))  # both come after the first look
            return found

        def get(self, name: str) -> str:
            return '{"folder": "runs/a"}'

    peer._store = Store()  # type: ignore[assignment]  # all that is asked for
    monkeypatch.setattr(peer, "settle", lambda: pytest.fail("process 0 has not failed"))
    assert peer.hear() == {"folder": "runs/a"}


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


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what peers were made with; no store is made."""
    made: dict[str, Any] = {}
    names = ("rank", "world", "address", "port", "launcher")
    monkeypatch.setattr(peers, "Peers", lambda *given: made.update(zip(names, given, strict=True)))
    for name, value in slurm(1, 7).items():
        monkeypatch.setenv(name, value)
    return made


def test_two_tasks_of_slurm_are_found(found: dict[str, Any]) -> None:
    find_peers()
    assert (found["rank"], found["world"], found["launcher"]) == (1, 2, "SLURM")


def test_torchrun_goes_before_the_job_that_it_runs_in(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"TORCHELASTIC_RUN_ID": "a", "RANK": "2", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    find_peers()
    assert found == {"rank": 2, "world": 4, "address": "127.0.0.1", "port": 1, "launcher": "torchrun"}


def trainer(world: int, nodes: int, externally: bool = False) -> Any:
    """Return what is asked of a trainer."""
    environment = SimpleNamespace(creates_processes_externally=externally)
    connector = SimpleNamespace(cluster_environment=environment)
    return SimpleNamespace(
        world_size=world, num_nodes=nodes, num_devices=world // nodes, _accelerator_connector=connector
    )


def test_the_trainer_takes_all_processes_that_there_are() -> None:
    two: Any = SimpleNamespace(world=2, launcher="torchrun")
    check_world(trainer(2, 1), two)
    check_world(trainer(2, 1), None)
    check_world(trainer(4, 2, externally=True), None)
    with pytest.raises(ConfigError, match="trainer.num_nodes is 2, but nothing says which machine this is"):
        check_world(trainer(4, 2), None)
    for world in (1, 4):
        told = rf"torchrun started 2 processes, but the trainer takes {world} \(devices {world} x num_nodes 1\)"
        with pytest.raises(ConfigError, match=told):
            check_world(trainer(world, 1), two)


def test_a_bug_of_one_alone_is_told_by_the_first(started_together: Callable[..., list[Any]]) -> None:
    def fail(peer: Peers) -> None:
        peer.settle(RuntimeError())

    first, second = started_together(lead, fail)
    assert str(first) == f"process 1 of 2, on {socket.gethostname()}: RuntimeError()"
    assert (first.exit_code, second.code) == (1, 1)


def test_variables_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm(0, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(ConfigError, match="SLURM did not say how many processes there are.*ntasks-per-node"):
        find_peers()


def test_a_rank_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"TORCHELASTIC_RUN_ID": "a", "RANK": "x", "WORLD_SIZE": "4", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun did not say how many processes there are: .*'x'"):
        find_peers()


@pytest.mark.parametrize(
    ("rank", "agent", "master"), [(0, None, True), (1, None, False), (0, "True", False), (0, "False", True)]
)
def test_each_meeting_has_words_of_its_own_in_the_store_of_the_first(
    rank: int, agent: str | None, master: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes: list[str] = []
    made: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(peers, "_meetings", itertools.count(5))
    monkeypatch.setattr(peers, "PrefixStore", lambda prefix, store: prefixes.append(prefix))
    monkeypatch.setattr(peers, "TCPStore", lambda *args, **options: made.append((args, options)))
    for name, value in (("TORCHELASTIC_RESTART_COUNT", None), ("TORCHELASTIC_USE_AGENT_STORE", agent)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    Peers(rank, 3, "node", 29500, "torchrun")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    Peers(rank, 3, "node", 29500, "torchrun")
    assert prefixes == ["fer/0/5", "fer/2/6"]
    args, options = made[0]
    assert args == ("node", 29500, 3)
    assert (options["is_master"], options["wait_for_workers"], options["multi_tenant"]) == (master, False, True)


class Told:
    """Stands for a store, which knows some words."""

    def __init__(self, words: dict[str, str]) -> None:
        self.words = words
        self.heard = 0

    def check(self, names: list[str]) -> bool:
        return all(name in self.words for name in names)

    def get(self, name: str) -> str:
        return self.words[name]

    def set(self, name: str, word: str) -> None:
        self.words[name] = word

    def add(self, name: str, more: int) -> int:
        self.heard += more
        return self.heard


def first_of(
    world: int, monkeypatch: pytest.MonkeyPatch, hears: int = 0, **words: str
) -> tuple[Peers, Told, list[float]]:
    """Return process 0, its store, and a clock by which another process hears the verdict at each look."""
    peer, store, clock = (
        object.__new__(Peers),
        Told({f"status/{name[1:]}": word for name, word in words.items()}),
        [0.0],
    )
    peer.rank, peer.world, peer.launcher, peer._store = 0, world, "SLURM", store  # type: ignore[assignment]

    def sleep(seconds: float) -> None:
        clock.append(clock[-1] + seconds)
        store.heard = min(hears, store.heard + 1)

    monkeypatch.setattr(peers, "time", SimpleNamespace(monotonic=lambda: clock[-1], sleep=sleep))
    return peer, store, clock


WRONG = '{"host": "b", "error": "no data", "code": 2}'
RIGHT = '{"host": "a", "error": "", "code": 1}'


def test_an_error_of_the_first_process_does_not_wait_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, store, clock = first_of(3, monkeypatch, hears=2, s0=WRONG, s2=RIGHT)
    assert peer._judge() == (2, "no data")
    assert store.words["verdict"] == "2"
    assert store.heard == 2
    assert len(clock) == 3  # looked until both others have heard


def test_the_store_is_kept_for_four_seconds_for_those_who_never_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, _, clock = first_of(3, monkeypatch, hears=1, s0=RIGHT, s1=RIGHT, s2=WRONG)
    assert peer._judge() == (2, "process 2 of 3, on b: no data")
    assert 4.0 <= clock[-1] < 4.2
    peer, store, clock = first_of(2, monkeypatch, s0=RIGHT, s1=RIGHT)
    assert peer._judge() == (0, "")
    assert (store.words["verdict"], len(clock)) == ("0", 1)


def test_who_waits_for_half_an_hour_is_told_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, _, clock = first_of(2, monkeypatch, s0=RIGHT)
    with pytest.raises(ConfigError, match="process 0 of 2 waited 30 minutes for the others, which SLURM was to start"):
        peer._wait("status/1")
    assert clock[-1] >= 1800
