"""The arguments of ``fer tune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Pruner", "Sampler", "TuneOptions"]

Sampler = Literal["tpe", "random", "grid"]
"""What proposes settings."""
Pruner = Literal["median", "hyperband", "none"]
"""What ends hopeless trials early."""


@dataclass(frozen=True)
class TuneOptions:
    """The options of ``fer_lightning.commands.tune.tune``, beside those of ``fer fit``."""

    space: Path
    trials: int
    study: str | None
    storage: str | None
    metric: str
    mode: Literal["max", "min"]
    sampler: Sampler
    pruner: Pruner
    warmup: int
    seed: int
    timeout: float | None
