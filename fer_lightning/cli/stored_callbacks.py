"""Options of callbacks that a resumed run has from its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fer_lightning.errors import ConfigError

__all__ = ["names_callbacks", "with_callback_options"]

_NAMING = re.compile(r"(-c|--config|--trainer\.callbacks\+?)(=|$)")
_OPTION = re.compile(r"--trainer\.callbacks\.([\w.]+)")


def names_callbacks(args: Sequence[str]) -> bool:
    """Tell whether a command line may name callbacks of its own, which then replace those of the checkpoint."""
    return any(_NAMING.match(argument) for argument in args)


def with_callback_options(args: Sequence[str], stored: dict[str, Any]) -> list[str]:
    """Set ``--trainer.callbacks.OPTION VALUE`` in the callback of the checkpoint that has it.

    The parser would look for the option in a callback on the command line, and there is none.

    Args:
        args: a command line that names no callbacks.
        stored: the configuration of the checkpoint, changed in place.

    Returns:
        The other arguments.

    Raises:
        ConfigError: unless exactly one callback has the option.
    """
    rest: list[str] = []
    given = iter(args)
    for argument in given:
        flag, equals, value = argument.partition("=")
        match = _OPTION.fullmatch(flag)
        if match is None:
            rest.append(argument)
            continue
        *path, name = match[1].split(".")
        target = _callback_with((*path, name)[0], stored)
        for part in path:
            target = target.setdefault(part, {})
        target[name] = yaml.safe_load(value if equals else next(given, ""))
    return rest


def _callback_with(option: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the only callback that has an option."""
    callbacks = stored.get("trainer", {}).get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    found = [one for one in callbacks if option in (one.get("init_args") or {})]
    if len(found) == 1:
        options: dict[str, Any] = found[0]["init_args"]
        return options
    names = ", ".join(one["class_path"].rpartition(".")[2] for one in found or callbacks)
    has = f"several callbacks of this run have it: {names}" if found else f"the callbacks of this run are: {names}"
    raise ConfigError(
        f"--trainer.callbacks.{option} is an option of which callback? {has if callbacks else 'this run has none'}; "
        f"write --trainer.callbacks+=CLASS before it. Callbacks on the command line replace those of the run: name all"
    )
