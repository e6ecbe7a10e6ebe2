"""Trying a command line of ``fer fit`` out in this process, before hours are spent on runs of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import yaml

from fer_lightning.callbacks.run_config import config_text
from fer_lightning.cli.parsing import prepare_parsing, readable_errors
from fer_lightning.cli.trainer_cli import FERCLI

__all__ = ["config_values", "rehearsed"]


def rehearsed(arguments: Sequence[str]) -> FERCLI:
    """Return the parsed and instantiated CLI of a ``fer fit``; no run is begun.

    A trainer is made only to see that Lightning accepts its arguments, on one CPU: the devices are not asked for.

    Raises:
        FERError: for whatever is wrong with them.
    """
    prepare_parsing()
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # what it says of devices is not about the runs
    try:
        with readable_errors():
            cli = FERCLI("fit", list(arguments))
            cli.instantiate_trainer(fast_dev_run=True, precision="32-true", logger=False, **_ONE_CPU)
            return cli
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_ONE_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}


def config_values(cli: FERCLI) -> dict[str, Any]:
    """Return the values of all keys of a ``rehearsed`` CLI, as in a config file."""
    values: dict[str, Any] = yaml.safe_load(config_text(cli.parser, cli.config))
    values.pop("ckpt_path", None)
    return values
