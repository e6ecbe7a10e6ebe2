"""What a study runs: its base configuration, tried out in this process before any time is spent on a trial."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.models.epoch_scores import score_names
from fer_lightning.studies.rehearsal import config_values, rehearsed
from fer_lightning.studies.tune.search_space import SearchSpace, Value, as_flags, combinations

__all__ = ["Base", "best_config", "check_metric", "check_space", "read_base"]

_EPOCHS = 1000  # Lightning's default where neither max_epochs nor max_steps is given


@dataclass(frozen=True)
class Base:
    """The configuration that all trials share, and the names of the metrics that a validation logs."""

    values: dict[str, Any]
    metrics: tuple[str, ...]

    @property
    def epochs(self) -> int:
        """Largest number of epochs of a trial; 0 if only steps or time limit it."""
        trainer = self.values["trainer"]
        epochs: int | None = trainer["max_epochs"]
        if epochs is None:
            return _EPOCHS if trainer["max_steps"] == -1 else 0
        return max(epochs, 0)


def read_base(of_fit: Sequence[str]) -> Base:
    """Parse and instantiate the base configuration; raise ``FERError`` for what is wrong with it."""
    cli = rehearsed(of_fit)
    names = score_names(cli.datamodule.class_names)
    return Base(config_values(cli), ("val_loss", *(f"val_{name}" for name in names)))


def check_space(of_fit: Sequence[str], space: SearchSpace, file: Path) -> None:
    """Try both ends of every range and every choice; raise ``ConfigError`` for one that does not work."""
    for values in combinations(space):
        try:
            rehearsed([*of_fit, *as_flags(values)])
        except FERError as error:
            for key, value in values.items():
                _blame(of_fit, key, value, file)
            raise ConfigError(f"{file}: {_short(values)} do not work together: {error}") from error


def _blame(of_fit: Sequence[str], key: str, value: Value, file: Path) -> None:
    try:
        rehearsed([*of_fit, *as_flags({key: value})])
    except FERError as error:
        raise ConfigError(f"{file}: '{key}' cannot be {value}: {error}") from error


def _short(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def check_metric(metric: str, base: Base) -> None:
    """Raise ``ConfigError`` for a metric that looks misspelt."""
    close = difflib.get_close_matches(metric, base.metrics, n=1)
    if metric not in base.metrics and close:  # others may be logged by callbacks
        raise ConfigError(f"--metric '{metric}' is not logged; did you mean '{close[0]}'?")


def best_config(of_fit: Sequence[str], values: Mapping[str, Value], name: str, metric: str, mode: str) -> str:
    """Return a config file for ``fer fit`` that has the values of base and trial; the run is called ``name``."""
    arguments = [*of_fit, *as_flags(values), f"--name={name}"]
    arguments += [f"--checkpoint.monitor={metric}", f"--checkpoint.mode={mode}"]
    return yaml.safe_dump(config_values(rehearsed(arguments)), sort_keys=False)
