"""Starting the other processes of a run on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.strategies.strategy import Strategy

from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.errors import ConfigError
from fer_lightning.signals import put_off

__all__ = ["watch_processes"]


class _WatchedLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, but for what happens when a process that it has started fails: that is the watch's.

    Lightning's own thread for that ends the first process with SIGKILL, which leaves its run folder and lock behind.
    """

    def __init__(self, plain: _SubprocessScriptLauncher, watch: EndWatch) -> None:
        super().__init__(plain.cluster_environment, plain.num_processes, plain.num_nodes)
        self.watch = watch

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes, unless torchrun or a scheduler does, and call a function in this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            with put_off():
                self._call_children_scripts()
                self.watch.processes = self.procs
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


def watch_processes(strategy: Strategy, watch: EndWatch) -> None:
    """Let a watch look after the processes that a strategy starts.

    Raises:
        ConfigError: if it starts them in a way that they cannot be looked after, such as ``ddp_spawn``.
    """
    launcher = strategy.launcher
    if launcher is None:
        return
    if not isinstance(launcher, _SubprocessScriptLauncher):
        how = getattr(launcher, "_start_method", type(launcher).__name__)
        raise ConfigError(f"a run cannot be stopped in processes that were made by {how}; pass --trainer.strategy ddp")
    strategy._launcher = _WatchedLauncher(launcher, watch)
