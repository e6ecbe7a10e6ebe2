"""How Lightning reads and writes checkpoint files: each is whole or not there, and damage is found out."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fer_lightning.errors import StorageError
from fer_lightning.files import replacing
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.text import first_line

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a file beside the destination, flushes it, checks it and renames it.

    Whatever happens in between (a kill, a full disk), the previous file stays whole.

    Args:
        attempts: at how many steps in a row writing has to fail before that is an error. Before, a failure is only
            printed, and the run goes on to its next checkpoint: there may be room by then.

    Attributes:
        wrote: whether the last checkpoint was written.
        before_renaming: called when a checkpoint is complete beside its place, and may end the process.
    """

    def __init__(self, attempts: int = 1) -> None:
        self.attempts = attempts
        self.wrote = True
        self.before_renaming: Callable[[], None] = lambda: None
        self._failed_at: set[Any] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            StorageError: if it could not be written, as often as ``attempts`` says; the previous file at ``path`` is
                untouched.
        """
        self.wrote = False
        try:
            _write(checkpoint, Path(path), self.before_renaming)
        except StorageError as error:
            self._failed_at.add(checkpoint.get("global_step"))  # one step may write several files
            failures = len(self._failed_at)
            if failures >= self.attempts:
                raise StorageError(f"{error} ({failures} times in a row)" if failures > 1 else str(error)) from error
            print(f"fer: {error}; trying again at the next one ({failures} of {self.attempts})", file=sys.stderr)
            return
        self.wrote = True
        self._failed_at.clear()

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = lambda storage, loc: storage, weights_only: Any = True
    ) -> dict[str, Any]:
        """Read a checkpoint whose checksums are right, without running code from it.

        Raises:
            CheckpointError: if it is missing, damaged, or holds more than plain data and tensors.
        """
        return read_checkpoint(Path(path), map_location=map_location)


def _write(checkpoint: dict[str, Any], target: Path, before_renaming: Callable[[], None]) -> None:
    try:
        with replacing(target) as part:
            with part.open("xb") as file:
                torch.save(checkpoint, file)
            if not zipfile.is_zipfile(part):
                raise OSError("the file is incomplete")
            before_renaming()
    except (OSError, RuntimeError) as error:  # a full disk inside torch.save is a RuntimeError
        if isinstance(error, OSError) and error.filename is not None:  # of a call that names a file: it was not written
            raise StorageError(f"cannot write checkpoint {target}: {error.strerror}") from error
        raise StorageError(_failure(error, checkpoint, target)) from error


def _failure(error: Exception, checkpoint: dict[str, Any], target: Path) -> str:
    """Return why a checkpoint could not be written, how much room it needs and how much there is."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.strerror):
        cause = cause.__context__  # torch's error says only that the file is short; the system's behind it says why
    reason = first_line(error) if cause is None else cause.strerror
    need = sum(tensor.untyped_storage().nbytes() for tensor in _tensors(checkpoint))
    try:
        have = f"{shutil.disk_usage(target.parent).free / 1e6:.1f} MB"
    except OSError:
        have = "an unknown size"
    kept = "the previous one is kept" if target.exists() else "there is no previous one"
    return f"cannot write checkpoint {target} (disk full?): {reason}; need {need / 1e6:.1f} MB, have {have}; {kept}"


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
