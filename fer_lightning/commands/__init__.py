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
        module: where its functions are.
        help: one line for ``fer --help``.
        functions: the function of the verb, or one for each sub-verb.
    """

    module: str
    help: str
    functions: tuple[str, ...]

    def run(self, args: Sequence[str]) -> int:
        """Parse the arguments of the verb, call its function and return the exit code."""
        from fer_lightning.commands.parsing import run_function  # here, because it imports jsonargparse

        module = import_module(self.module)
        name = self.module.rsplit(".", 1)[-1]
        return run_function(name, [getattr(module, function) for function in self.functions], list(args))


COMMANDS: dict[str, Command] = {
    "bench": Command("fer_lightning.commands.bench", "measure where the time of training goes", ("train",)),
    "doctor": Command("fer_lightning.commands.doctor", "name what is wrong with an installation", ("doctor",)),
}
