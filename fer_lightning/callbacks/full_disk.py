"""Files that a run can do without: if the disk is full, a warning is printed and training goes on without them."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["RunLogger", "grouped", "warn_if_full"]


@contextmanager
def warn_if_full(what: str) -> Iterator[None]:
    """Print a warning, with the name ``what`` of the file, instead of raising if it cannot be written."""
    try:
        yield
    except OSError as error:
        print(f"fer: {what} could not be written: {error.strerror or error}", file=sys.stderr)


class RunLogger(TensorBoardLogger):
    """TensorBoard's event files, without the ``hparams.yaml`` beside them: the run's ``config.yaml`` says it all.

    Metrics stand in groups: ``val_acc`` is ``val/acc`` there, ``val_f1_angry`` is ``val/f1/angry``; the configuration,
    in YAML, is shown as a text. What cannot be written is left out. A new event file is begun as soon as one can be.
    """

    def __init__(self, *args: Any, configuration: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration = configuration
        self._warned = False
        _without_traceback()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics, before the first ones the configuration."""
        with self._if_there_is_room():
            if text := self.configuration:
                self.configuration = ""
                indented = "\n".join(f"    {line}" for line in text.splitlines())  # a block of code in Markdown
                self.experiment.add_text("configuration", indented)
            super().log_metrics({grouped(name): value for name, value in metrics.items()}, step)

    def save(self) -> None:
        """Flush the event file."""
        with self._if_there_is_room():
            self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Close the event file."""
        with self._if_there_is_room():
            super().finalize(status)

    @contextmanager
    def _if_there_is_room(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # Lightning wraps whatever the writer raises in a ValueError
            reason = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(reason, OSError):
                raise
            self._experiment = None  # its thread has ended; the next write begins another file
            if not self._warned:
                print(f"fer: TensorBoard's events could not be written: {reason.strerror}", file=sys.stderr)
            self._warned = True


def grouped(name: str) -> str:
    """Return the name of a logged metric with slashes between its parts.

    Example:
        >>> [grouped(name) for name in ("val_acc", "val_f1_angry", "val_f1_macro", "train_loss_step", "lr")]
        ['val/acc', 'val/f1/angry', 'val/f1/macro', 'train/loss_step', 'lr']
    """
    name = re.sub(r"^(train|val|test|focus)_", r"\1/", name)
    return re.sub(r"/(precision|recall|f1)_", r"/\1/", name)


def _without_traceback() -> None:
    """Print no traceback when a thread that writes event files ends by an error: the next write raises it anyway."""
    before = threading.excepthook
    if getattr(before, "leaves_out_events", False):
        return

    def hook(ended: Any) -> None:
        if not (type(ended.thread).__name__ == "_AsyncWriterThread" and isinstance(ended.exc_value, OSError)):
            before(ended)

    hook.leaves_out_events = True  # type: ignore[attr-defined]
    threading.excepthook = hook
