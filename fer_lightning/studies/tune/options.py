"""What ``fer tune`` is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Options", "Pruner", "Sampler"]

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]


@dataclass(frozen=True)
class Options:
    """What ``fer tune`` is told beside the options of ``fer fit``.

    Attributes:
        space: file of the search space.
        trials: how many the study shall have, those of before and of other processes included.
        study: its name, ``None`` for that of the config with ``_tune``.
        storage: a file or an Optuna URL, ``None`` for ``study.log`` in the study's folder.
        metric: logged validation metric to improve.
        mode: ``max`` or ``min``.
        sampler: what proposes settings.
        pruner: what ends hopeless trials early.
        warmup: epochs before a trial may be pruned.
        seed: of the sampler.
        timeout: seconds after which no trial is begun, ``None`` for no limit.
    """

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
