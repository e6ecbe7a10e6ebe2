from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.cli.launcher import watch_processes
from fer_lightning.errors import ConfigError


class Cluster(LightningEnvironment):
    """Processes that this one starts, or somebody else."""

    def __init__(self, external: bool) -> None:
        super().__init__()
        self.external = external

    @property
    def creates_processes_externally(self) -> bool:
        """Whether somebody else starts the processes."""
        return self.external


@pytest.mark.parametrize("external", [False, True])
def test_processes_that_this_one_starts_are_watched(external: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(
        "fer_lightning.cli.launcher._set_num_threads_if_needed", lambda num_processes: threads.append(num_processes)
    )

    def start(self: Any) -> None:
        self.procs = ["a process"]

    monkeypatch.setattr(_SubprocessScriptLauncher, "_call_children_scripts", start)
    strategy: Any = SimpleNamespace(launcher=_SubprocessScriptLauncher(Cluster(external), 4, 2))
    watch = EndWatch()
    watch_processes(strategy, watch)
    launcher = strategy._launcher
    assert isinstance(launcher, _SubprocessScriptLauncher)
    assert (launcher.num_processes, launcher.num_nodes) == (4, 2)
    assert launcher.launch(lambda *args, **more: (args, more), 1, trainer=None, b=2) == ((1,), {"b": 2})
    watched: list[Any] = list(watch.processes)
    assert watched == ([] if external else ["a process"])
    assert threads == [4]


def test_processes_that_cannot_be_watched_are_refused() -> None:
    alone: Any = SimpleNamespace(launcher=None)
    watch_processes(alone, EndWatch())
    assert vars(alone) == {"launcher": None}
    spawned: Any = SimpleNamespace()
    spawned.launcher = _MultiProcessingLauncher(spawned, start_method="spawn")
    with pytest.raises(ConfigError, match="that were made by spawn; pass --trainer.strategy ddp"):
        watch_processes(spawned, EndWatch())
