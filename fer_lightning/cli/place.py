"""Where a run writes: its folder, and the lock that keeps other runs out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from fer_lightning.callbacks.evaluated import Subject
from fer_lightning.errors import ConfigError
from fer_lightning.runs.folder import Claim
from fer_lightning.runs.lock import LOCK, RunLock, lock_run_folder
from fer_lightning.signals import put_off

__all__ = ["Place"]


@dataclass
class Place:
    """Where a run writes; empty until that is chosen.

    Attributes:
        folder: the run folder, or that of an evaluation inside of it.
        claim: the folder as one that was made for this run, ``None`` if it was there before or is another process's.
        lock: of the folder, ``None`` in processes and verbs that take none.
        complete: why nothing is left to train, and what goes on; empty if there is something left.
        ended: nothing is to be done at all: a complete run whose reports are written, too.
        subject: what is evaluated, ``None`` in a training and in other processes than the first.
    """

    folder: Path = Path()
    claim: Claim | None = None
    lock: RunLock | None = None
    complete: str = ""
    ended: bool = False
    subject: Subject | None = None

    def take_lock(self, when_lost: Callable[[str], None]) -> None:
        """Keep other runs out of the folder; raise ``ConfigError`` if one writes into it.

        ``when_lost`` is called with the reason, from any thread, if a process of another machine takes the lock over
        because this one has given no sign of life for minutes.
        """
        if self.lock is None:
            try:
                with put_off():
                    self.lock = lock_run_folder(self.folder)
            except ConfigError:
                if (self.folder / LOCK).exists():
                    self.claim = None  # another process was faster: the folder is not ours to remove
                raise
        self.lock.when_lost = lambda other: when_lost(
            f"{self.folder} was taken over by {other}, because nothing was heard of this process for minutes; "
            "it ends without writing anything more there"
        )
        if (gone := self.lock.took_over) is not None:
            where = "of this machine" if gone.is_here else f"on {gone.host}"
            rank_zero_only(print)(f"took over {self.folder} from process {gone.pid} {where}, which is gone")

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the folder over."""
        return self.lock is not None and self.lock.lost_to is not None

    def check(self) -> None:
        """End this process, by ``when_lost``, if another one has taken the folder over."""
        if self.lock is not None:
            self.lock.check()

    def unlock(self) -> None:
        """Let others write into the folder."""
        if self.lock is not None:
            self.lock.release()

    def discard(self) -> None:
        """Remove the folder of a run that has not begun, if it was made for it and nobody has taken it over."""
        if self.claim is not None and not self.is_lost:
            self.claim.discard()
