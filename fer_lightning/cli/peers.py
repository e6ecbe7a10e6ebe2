"""The processes of one run, where torchrun or a cluster's scheduler has started them all.

Lightning's own launcher starts the others after the first process has chosen run folder and precision, and hands both
on. Processes that are started together need a way to tell each other, also about errors, each of which is printed once.
There is no process group yet; they use the store at ``MASTER_ADDR`` and ``MASTER_PORT``, which the group uses later.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from torch.distributed import DistError, PrefixStore, TCPStore  # type: ignore[attr-defined]  # torch exports without saying

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.text import first_line

__all__ = ["Peers", "check_world", "find_peers", "first_problem"]

_PATIENCE_S = 1800.0  # what torch.distributed allows for founding a process group
_ATTEMPT_S = 20.0  # Ctrl-C and SIGTERM are only heard between attempts
_POLL_S = 0.05
_GRACE_S = 2.0  # torchrun ends all processes when the first one ends, also the one that has something to say
_meetings = itertools.count()


def find_peers() -> Peers | None:
    """Return the processes that were started together with this one, ``None`` if it is alone or starts them itself.

    Raises:
        ConfigError: if the cluster's variables contradict each other.
    """
    # Lightning's order: torchrun may run inside a SLURM job
    kinds: tuple[type[ClusterEnvironment], ...]
    kinds = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    kind = next((kind for kind in kinds if kind.detect()), None)
    if kind is None:
        return None
    try:
        environment = kind()
        rank, world = environment.global_rank(), environment.world_size()
        address, port = environment.main_address, environment.main_port
    except (RuntimeError, KeyError, ValueError) as error:
        raise ConfigError(f"{_NAMES[kind]} did not say how many processes there are: {error}") from error
    return Peers(rank, world, address, port, _NAMES[kind]) if world > 1 else None


_NAMES: dict[type[ClusterEnvironment], str] = {
    TorchElasticEnvironment: "torchrun",
    SLURMEnvironment: "SLURM",
    LSFEnvironment: "LSF",
    MPIEnvironment: "MPI",
}


def first_problem(statuses: list[dict[str, Any]]) -> tuple[int, str]:
    """Return exit code and message of the first process that cannot begin, ``(0, "")`` if all can.

    A status, in the order of processes, has ``host``, ``error`` (empty if it can begin) and ``code``.
    """
    for rank, status in enumerate(statuses):
        if status["error"]:
            where = f"process {rank} of {len(statuses)}, on {status['host']}: " if rank else ""
            return int(status["code"]), f"{where}{status['error']}"
    return 0, ""


class Peers:
    """The processes of a run, seen from one of them; process 0 is at ``address`` and ``port``.

    ``launcher`` is what started them, for messages.
    """

    def __init__(self, rank: int, world: int, address: str, port: int, launcher: str) -> None:
        self.rank = rank
        self.world = world
        self.launcher = launcher
        # A restart by torchrun finds the store of the attempt before it, a second run in one program that of the first.
        prefix = f"fer/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_meetings)}"
        self._server = _connect(rank, world, address, port)
        self._store = PrefixStore(prefix, self._server)

    def tell(self, word: Mapping[str, Any], topic: str = "word") -> None:
        """Send what process 0 has chosen to the others, once for each topic."""
        self._store.set(topic, json.dumps(dict(word)))

    def hear(self, topic: str = "word") -> dict[str, Any]:
        """Wait for what process 0 has chosen; raise ``SystemExit`` if it failed: it prints its error itself."""
        # both may come between two looks, and process 0 speaks before it reports
        if self._wait(topic, "status/0") == "status/0" and not self._store.check([topic]):
            self.settle()
        word: dict[str, Any] = json.loads(self._store.get(topic))
        return word

    def settle(self, error: Exception | None = None) -> None:
        """Report whether this process can begin, and wait until all have reported; process 0 prints what is wrong.

        Args:
            error: what is wrong here, ``None`` for nothing.

        Raises:
            ConfigError: on process 0, if another one cannot begin.
            SystemExit: on the others, with the exit code, if any cannot begin.
        """
        code = error.exit_code if isinstance(error, FERError) else 1
        text = "" if error is None else str(error) or repr(error)
        status = {"host": socket.gethostname(), "error": text, "code": code}
        self._store.set(f"status/{self.rank}", json.dumps(status))
        if self.rank:
            self._follow()
        elif (found := self._judge())[0] and error is None:
            refused = ConfigError(found[1])
            refused.exit_code = found[0]
            raise refused

    def _judge(self) -> tuple[int, str]:
        names = [f"status/{rank}" for rank in range(self.world)]
        # if something is wrong here the others need not be waited for: they may be reading a large data set
        for name in names if not json.loads(self._store.get(names[0]))["error"] else names[:1]:
            self._wait(name)
        arrived = [json.loads(self._store.get(name)) for name in names if self._store.check([name])]
        found = first_problem(arrived)
        self._store.set("verdict", str(found[0]))
        if found[0]:
            self._linger()
        return found

    def _linger(self) -> None:
        """Keep the store, which may be in this process, until the others have read the verdict."""
        until = time.monotonic() + 2 * _GRACE_S
        while self._store.add("heard", 0) < self.world - 1 and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _follow(self) -> None:
        self._wait("verdict")
        code = int(self._store.get("verdict"))
        if code:
            self._store.add("heard", 1)
            time.sleep(_GRACE_S)
            raise SystemExit(code)

    def _wait(self, *names: str) -> str:
        """Wait for one of several keys and return it; signals are handled meanwhile."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            try:
                found = next((name for name in names if self._store.check([name])), None)
            except DistError as error:
                raise ConfigError(f"process 0 of {self.world} has gone: {first_line(error)}") from error
            if found is not None:
                return found
            time.sleep(_POLL_S)
        raise ConfigError(
            f"process {self.rank} of {self.world} waited {_PATIENCE_S / 60:.0f} minutes for the others, which "
            f"{self.launcher} was to start too"
        )


def _connect(rank: int, world: int, address: str, port: int) -> TCPStore:
    """Create the store (process 0) or connect to it."""
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun keeps it
    # `multi_tenant`: when the process group is founded on this port, it is this same store that serves it.
    options: dict[str, Any] = {"is_master": rank == 0 and not kept, "wait_for_workers": False, "multi_tenant": True}
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return TCPStore(address, port, world, timeout=timedelta(seconds=_ATTEMPT_S), **options)
        except DistError as error:
            if options["is_master"]:
                raise ConfigError(
                    f"the processes cannot meet at {address}:{port}: {first_line(error)}. Set MASTER_PORT to a free "
                    "port, the same for all"
                ) from error
            if time.monotonic() > until:
                raise ConfigError(f"process {rank} of {world}: nobody answers at {address}:{port}") from error


def check_world(trainer: Trainer, peers: Peers | None) -> None:
    """Raise ``ConfigError`` unless the trainer takes all processes that there are."""
    nodes = trainer.num_nodes
    if peers is None:
        starts_its_own = not trainer._accelerator_connector.cluster_environment.creates_processes_externally
        if nodes > 1 and starts_its_own:
            raise ConfigError(
                f"trainer.num_nodes is {nodes}, but nothing says which machine this is: start with torchrun or srun"
            )
    elif trainer.world_size != peers.world:
        raise ConfigError(
            f"{peers.launcher} started {peers.world} processes, but the trainer takes {trainer.world_size} "
            f"(devices {trainer.num_devices} x num_nodes {nodes}): pass --trainer.strategy ddp and --trainer.devices "
            f"and --trainer.num_nodes whose product is {peers.world}"
        )
