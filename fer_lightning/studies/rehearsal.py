"""Trying a command line of ``fer fit`` out in this process, before hours are spent on runs of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from fer_lightning.cli.trainer_cli import FERCLI, prepared

__all__ = ["config_values", "rehearsed"]

# Nothing is written, no data is read for the choice of a precision, and no device is asked for.
_REHEARSAL = ("--trainer.fast_dev_run=true", "--trainer.precision=32-true", "--trainer.accelerator=cpu")
_ONE_DEVICE = ("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto", "--trainer.logger=false")


@contextmanager
def rehearsed(arguments: Sequence[str]) -> Iterator[FERCLI]:
    """Give the parsed and instantiated CLI of a ``fer fit`` that will write nothing.

    Args:
        arguments: of ``fer fit``.

    Raises:
        FERError: for whatever is wrong with them.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # what it says of devices is not about the runs
    try:
        with prepared("fit", [*arguments, *_REHEARSAL, *_ONE_DEVICE]) as cli:
            yield cli
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def config_values(cli: FERCLI, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the values of all keys, as in a config file, without those of the rehearsal.

    Args:
        cli: from :func:`rehearsed`.
        arguments: the same ones.
    """
    parsed = cli.parser.parse_args(list(arguments))
    values: dict[str, Any] = yaml.safe_load(cli.parser.dump(parsed, skip_none=False, skip_link_targets=True))
    values.pop("ckpt_path", None)
    return values
