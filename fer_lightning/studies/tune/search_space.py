"""Search spaces: which flags of ``fer fit`` a study varies, read from YAML.

A key is a flag, dotted or nested, and its value says where to look::

    model.optimizer.init_args.lr: {low: 1e-4, high: 1e-2, log: true}
    data.batch_size: {choices: [32, 64, 128]}
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import BaseTrial

from fer_lightning.cli.early_check import check_command_line
from fer_lightning.errors import ConfigError, FERError
from fer_lightning.text import folded

__all__ = ["Parameter", "SearchSpace", "as_flags", "check_flags", "combinations", "load_space", "tidy"]

Value = None | bool | int | float | str
"""What a parameter can be; a list or mapping among the choices is one as JSON text."""

RANGE = ("low", "high", "step", "log")
OURS = ("config", "name", "ckpt_path", "trainer.default_root_dir", "checkpoint.monitor", "checkpoint.mode")
"""Flags that a study sets itself."""


@dataclass(frozen=True)
class Parameter:
    """Where to look for the value of one flag: in a range, or among choices.

    Attributes:
        key: the flag, without dashes.
        low: smallest value of a range; an integer if all values are.
        high: largest value of it.
        step: distance of values, counted from ``low``; ``None`` for all numbers between.
        log: draw evenly from the logarithms.
        choices: the values of one that is no range, else empty.
    """

    key: str
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()

    def suggest(self, trial: BaseTrial) -> Value:
        """Let a trial choose a value; the same one if it has chosen before."""
        if self.choices:
            chosen: Value = trial.suggest_categorical(self.key, self.choices)
            return chosen
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = int(self.step) if self.step is not None else 1
            return trial.suggest_int(self.key, self.low, self.high, step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def probes(self) -> tuple[Value, ...]:
        """Return the values that a check of the space must try: all choices, or both ends of the range."""
        return self.choices or (self.low, self.high)

    def grid(self) -> tuple[Value, ...]:
        """Return all values in order; raise ``ConfigError`` if they cannot be counted."""
        if self.choices:
            return self.choices
        step = self.step
        if step is None:
            if self.log or not (isinstance(self.low, int) and isinstance(self.high, int)):
                raise ConfigError(
                    f"--sampler grid needs a step or choices for '{self.key}': a range has no end of values"
                )
            step = 1
        count = round((self.high - self.low) / step) + 1
        if isinstance(self.low, int) and isinstance(step, int):
            return tuple(self.low + i * step for i in range(count))
        return tuple(float(Decimal(str(self.low)) + i * Decimal(str(step))) for i in range(count))

    def described(self) -> dict[str, Any]:
        """Return it as it stands in a file."""
        if self.choices:
            return {"choices": list(self.choices)}
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **step, **({"log": True} if self.log else {})}


SearchSpace = dict[str, Parameter]
"""Parameters by key, in the order of the file."""


def load_space(path: Path) -> SearchSpace:
    """Read a search space.

    Raises:
        ConfigError: if the file is missing, no YAML, or a value in it says nothing that can be searched.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the search space {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the search space {path} is no YAML: {folded(error)}") from error
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"the search space {path} must have flags of fer fit as keys, such as data.batch_size")
    space: SearchSpace = {}
    for key, value in _leaves(values):
        where = f"{path}: '{key}'"
        if key in space:
            raise ConfigError(f"{where} is there twice")
        if key.partition(".")[0] in ("config", "ckpt_path", "name") or key in OURS:
            raise ConfigError(f"{where} cannot be searched: fer tune sets it itself")
        space[key] = _choices(key, value, where) if "choices" in value else _range(key, value, where)
    return space


def _leaves(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}".removeprefix("--")
        if isinstance(value, Mapping) and value and not {"low", "high", "choices"} & set(value):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value if isinstance(value, Mapping) else {"": value}


def _choices(key: str, value: Mapping[str, Any], where: str) -> Parameter:
    _only(value, ("choices",), where)
    given = value["choices"]
    if not isinstance(given, list) or len(given) < 2:
        raise ConfigError(f"{where} needs a list of at least two choices, not {given}")
    choices = tuple(json.dumps(one) if isinstance(one, (dict, list)) else _number(one) for one in given)
    if len({(type(one), one) for one in choices}) < len(choices):
        raise ConfigError(f"{where} has a choice twice: {given}")
    return Parameter(key, choices=choices)


def _range(key: str, value: Mapping[str, Any], where: str) -> Parameter:
    if "" in value:
        given = value[""]
        hint = f"{{choices: {given}}}" if isinstance(given, list) else "{low: ..., high: ...} or {choices: [...]}"
        raise ConfigError(f"{where} must be {hint}, not {given}")
    _only(value, RANGE, where)
    numbers = {name: _number(value[name]) for name in ("low", "high", "step") if value.get(name) is not None}
    for name in ("low", "high"):
        if name not in numbers:
            raise ConfigError(f"{where} lacks '{name}'")
    for name, one in numbers.items():
        if isinstance(one, bool) or not isinstance(one, (int, float)) or not math.isfinite(one):
            raise ConfigError(f"{where}: {name} must be a number, not {value[name]}")
    low, high, step, log = numbers["low"], numbers["high"], numbers.get("step"), value.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{where}: log must be true or false, not {log}")
    if not low < high:
        raise ConfigError(f"{where}: low must be less than high, not {low} and {high}")
    if log and step is not None:
        raise ConfigError(f"{where} has both log and step: choose one")
    if log and low <= 0:
        raise ConfigError(f"{where}: low must be greater than 0 on a logarithmic scale, not {low}")
    if step is not None and (step <= 0 or (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)) != 0):
        raise ConfigError(f"{where}: from {low} one does not come to {high} in steps of {step}")
    if not all(isinstance(one, int) for one in numbers.values()):
        low, high, step = float(low), float(high), None if step is None else float(step)
    return Parameter(key, low, high, step, log)


def _only(value: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in value:
        if name not in known:
            close = difflib.get_close_matches(str(name), (*RANGE, "choices"), n=1)
            hint = f"; did you mean '{close[0]}'?" if close and close[0] in known else ""
            raise ConfigError(f"{where}: '{name}' cannot stand beside {', '.join(known)}{hint}")


def _number(value: Any) -> Any:
    """Return a number for text such as ``1e-4``, which YAML 1.1 takes for a word because it has no dot."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def as_flags(values: Mapping[str, Value]) -> list[str]:
    """Return values as flags of ``fer fit``; a class comes before its arguments."""
    return [f"--{key}={_text(values[key])}" for key in sorted(values, key=lambda key: key.count("."))]


def combinations(space: SearchSpace) -> Iterator[dict[str, Value]]:
    """Yield every probe of every parameter at least once, in as few combinations as possible."""
    probes = [parameter.probes() for parameter in space.values()]
    missing = object()
    for row in zip_longest(*probes, fillvalue=missing):
        yield {key: probes[i][0] if row[i] is missing else row[i] for i, key in enumerate(space)}  # type: ignore[misc]  # a value, as it is not missing


def check_flags(of_fit: Sequence[str], space: SearchSpace, file: Path) -> None:
    """Refuse flags of a search space that are certainly wrong, before torch is imported.

    Args:
        of_fit: the options that all trials share.
        space: what is searched.
        file: where the space was read, for messages.

    Raises:
        ConfigError: with the key, what is wrong with it, and the nearest that would be right.
    """
    for values in combinations(space):
        try:
            check_command_line("tune", [*of_fit, *as_flags(values)])
        except FERError as error:
            key = next((key for key in values if f"--{key}" in str(error)), None)
            what = "" if key is None else f"'{key}' cannot be {values[key]}: "
            raise ConfigError(f"{file}: {what}{error}") from error


def tidy(value: Value) -> Value:
    """Return a value as trials get it: without the digits that counting in steps leaves (0.30000000000000004)."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(tidy(value))
