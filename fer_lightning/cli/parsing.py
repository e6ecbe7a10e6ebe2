"""What every parser of classes needs: which imports a config may ask for, fewer messages, errors in one line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import ArgumentError, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException

from fer_lightning.cli.known_options import importable, plugins
from fer_lightning.cli.translation import of_lightning, readable
from fer_lightning.errors import ConfigError, FERError, MissingExtraError
from fer_lightning.text import folded

__all__ = ["prepare_parsing", "readable_errors"]


def prepare_parsing() -> None:
    """Do what must be done once before a command line with classes in it is parsed."""
    quiet()
    allow_imports()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def allow_imports() -> None:
    """Let configs import from known packages, plug-ins and the working directory, and from nowhere else."""
    allowed = list(importable(Path.cwd()))
    for plugin in plugins():
        plugin.load()
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed)


def quiet() -> None:
    """Leave out warnings and messages that users can do nothing about."""
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*does not have many workers.*",
        r"Checkpoint directory .* exists and is not empty.*",
        r".*smaller than the logging interval.*",
        r".*`training_step` returned `None`.*",
        r"Found \d+ module\(s\) in eval mode.*",
        r"Be aware that when using `ckpt_path`, callbacks used to create.*",  # evaluation does not train
        r"The dirpath has changed from.*",  # evaluation writes into a folder of its own
        r"It is recommended to use `self\.log\('(train|val|test|focus)_.*sync_dist=True.*",  # computed of all processes
    ):
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_matters)


def _matters(record: logging.LogRecord) -> bool:
    """Tell whether a line of Lightning's says what our own lines do not."""
    message = record.getMessage()
    return not any(text in message for text in _NOISE)


_NOISE = (
    "Tip:",
    "Seed set to",
    "Using bfloat16 Automatic Mixed Precision",
    "Using 16bit Automatic Mixed Precision",
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "Loading `train_dataloader` to estimate",
    "Found current_model_state in the checkpoint",
    "Restoring states from the checkpoint path",
    "Restored all states from the checkpoint",
    "`Trainer.fit` stopped: `max_epochs=",
)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what the parser, Lightning or a constructor raises into one line.

    Raises:
        FERError: the error of ours, if the other was raised because of one; else a ``ConfigError``.
    """
    try:
        yield
    except ModuleNotFoundError as error:  # of a part that needs a package of its own
        raise MissingExtraError(folded(error)) from error
    except (ArgumentError, MisconfigurationException, TypeError, ValueError) as error:
        for cause in _causes(error):
            if isinstance(cause, FERError):
                # if it was raised (has a traceback), drop the parser's wrapper; else keep that as the cause
                raise cause from (None if cause.__traceback__ else error)
            if isinstance(cause, ModuleNotFoundError):
                raise MissingExtraError(folded(cause)) from error
        if isinstance(error, ArgumentError):
            raise ConfigError(readable(str(error))) from error
        said = of_lightning(error) or f"{readable(str(error))} (FER_DEBUG=1 shows where)"
        raise ConfigError(said) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised because of, the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
