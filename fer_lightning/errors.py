"""Errors that users meet: one base class, one clear line, one exit code.

A message says what was expected, what was got and what to do. ``fer`` prints it without a traceback and ends with
``exit_code``; tracebacks are left for bugs.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "FERError",
    "LabelError",
    "MissingExtraError",
    "NonFiniteError",
    "StorageError",
]


class FERError(Exception):
    """Base of all errors that this package raises on purpose.

    Attributes:
        exit_code: what the ``fer`` program exits with (1 failure; 2 usage, config or data).
        everywhere: every process of a run raises it at the same point, so that only the first one reports it.
        process: rank of the process that raised it.
    """

    exit_code: int = 1
    everywhere: bool = False
    process: int = 0


class ConfigError(FERError):
    """An argument or a config value is missing, wrong or contradicts another."""

    exit_code = 2


class DataError(FERError):
    """A data set is missing, malformed or lacks what was asked of it. The message names file and row."""

    exit_code = 2


class LabelError(DataError):
    """A label or class name is not part of the scheme in use."""


class CheckpointError(FERError):
    """A checkpoint is missing, damaged, or does not fit the run that asks for it."""

    exit_code = 2


class StorageError(CheckpointError):
    """A checkpoint cannot be written, for example to a full disk. The previous file is left whole."""

    exit_code = 1


class MissingExtraError(FERError):
    """An optional package is not installed. The message gives the ``pip install`` line."""

    exit_code = 2


class NonFiniteError(FERError):
    """A loss or a logit is NaN or infinite."""

    everywhere = True
