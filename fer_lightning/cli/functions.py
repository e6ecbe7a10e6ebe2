"""Turn a typed function into a verb: flags, help and one-line errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentError, auto_cli

from fer_lightning.errors import ConfigError
from fer_lightning.text import folded

__all__ = ["run_function"]


def run_function(verb: str, function: Callable[..., Any], args: list[str]) -> int:
    """Parse ``args`` for the parameters of a function and call it.

    Returns:
        The function's result if it is an exit code, else 0.

    Raises:
        ConfigError: if the arguments are wrong.
    """
    try:
        result = auto_cli(
            function, args=args, prog=f"fer {verb}", as_positional=False, exit_on_error=False, allow_abbrev=False
        )
    except ArgumentError as error:
        raise ConfigError(folded(error)) from error
    return result if isinstance(result, int) else 0
