"""Our verbs beside Lightning's: the only list of them. Nothing heavy is imported until a verb runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

__all__ = ["COMMANDS", "Command"]


@dataclass(frozen=True)
class Command:
    """A verb of ``fer``.

    Attributes:
        module: where its function is.
        function: a typed function, whose parameters become flags.
        help: one line for ``fer --help``.
        raw: the function takes the command line as it is, to pass a part of it on.
    """

    module: str
    function: str
    help: str
    raw: bool = False

    def run(self, args: Sequence[str]) -> int:
        """Parse the arguments of the verb, call its function and return the exit code."""
        function = getattr(import_module(self.module), self.function)
        if self.raw:
            return int(function(list(args)))
        from fer_lightning.cli.functions import run_function  # here, because it imports jsonargparse

        return run_function(self.function, function, list(args))


COMMANDS: dict[str, Command] = {
    "bench": Command("fer_lightning.commands.bench", "bench", "measure the time of training or of reading", raw=True),
    "crossval": Command("fer_lightning.commands.crossval", "crossval", "compare arms over folds and seeds", raw=True),
    "data": Command("fer_lightning.commands.data", "data", "inspect, dedupe, convert or balance a data set", raw=True),
    "doctor": Command("fer_lightning.commands.doctor", "doctor", "name what is wrong with an installation"),
    "runs": Command("fer_lightning.commands.runs", "runs", "list runs, show one, and where it comes from", raw=True),
    "tune": Command("fer_lightning.commands.tune", "tune", "search settings, each trial a run of its own", raw=True),
}
