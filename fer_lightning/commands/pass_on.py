"""Options of ``fer fit`` that verbs pass on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fer_lightning.cli.early_check import check_command_line
from fer_lightning.cli.verbs import Rest
from fer_lightning.errors import ConfigError

__all__ = ["OfFit", "refuse_flags"]


def _check(verb: str, own: Mapping[str, Any], of_fit: Sequence[str]) -> None:
    check_command_line(verb, of_fit, complete=verb != "crossval")  # whose arms bring more


_ABOUT = "Options that are not listed are those of fer fit (fer fit --help)."
OfFit = Annotated[list[str], Rest("options of fer fit", _ABOUT, check=_check)]
"""Arguments that are passed on to ``fer fit``."""


def refuse_flags(verb: str, of_fit: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` for the first flag that a verb sets itself, with the reason."""
    for flag in of_fit:
        key = flag.partition("=")[0].removeprefix("--")
        if flag.startswith("--") and key in reasons:
            raise ConfigError(f"fer {verb} takes no --{key}: {reasons[key]}")
