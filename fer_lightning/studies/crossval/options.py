"""The arguments of ``fer crossval``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Arm", "CrossvalOptions"]


@dataclass(frozen=True)
class Arm:
    """One of the configurations that are compared, put together from files in order."""

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class CrossvalOptions:
    """The arguments of ``fer_lightning.commands.crossval.crossval``; ``flags`` are those of ``fer fit``."""

    arms: tuple[Arm, ...]
    folds: int | None
    seeds: tuple[int, ...]
    name: str
    test: bool
    configs: tuple[str, ...]
    flags: tuple[str, ...]

    def arguments(self, arm: Arm) -> list[str]:
        """Return the arguments of ``fer fit`` for an arm."""
        return [*(f"--config={file}" for file in (*self.configs, *arm.files)), *self.flags]
