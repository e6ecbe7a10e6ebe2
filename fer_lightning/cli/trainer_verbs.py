"""Running ``fer fit``, ``validate``, ``test`` and ``predict``: from the command line to the exit code."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext

from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fer_lightning.callbacks.graceful_stop import Stopped, exit_code, stopping_at_once
from fer_lightning.cli.begin import FOLDER_VARIABLE, begun
from fer_lightning.cli.slurm import requeue_job
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.errors import FERError

__all__ = ["run_trainer_verb"]


def run_trainer_verb(verb: str, args: list[str]) -> int:
    """Run ``fer fit``, ``validate``, ``test`` or ``predict`` and return the exit code."""
    started_by_us = FOLDER_VARIABLE in os.environ
    requeue = False
    try:
        with stopping_at_once() if verb == "fit" else nullcontext(), begun(verb, args) as cli:
            try:
                signum = 0 if cli.ended else _execute(cli)
            except Stopped as stop:
                requeue = stop.signum == cli.stop.requeue_signal
                raise
    except Stopped as stop:
        signum = stop.signum
    except FERError as error:
        error.process = getattr(rank_zero_only, "rank", 0)
        raise
    if requeue and getattr(rank_zero_only, "rank", 0) == 0:
        requeue_job()  # now that the lock is released: the job may start at once, elsewhere
    # The first process speaks for those it started: Lightning takes a code of theirs for a crash and kills it.
    return 0 if started_by_us else exit_code(signum)


def _execute(cli: FERCLI) -> int:
    """Run the verb and return the number of the signal that ended it, 0 for none."""
    try:
        cli.execute()
    except SIGTERMException:
        return signal.SIGTERM
    except Stopped as stop:
        launcher = cli.trainer.strategy.launcher
        if launcher is not None and not stop.agreed:
            launcher.kill(signal.SIGKILL)  # the others wait for this process
        raise
    except SystemExit:
        if cli.trainer.state.status != TrainerStatus.INTERRUPTED:
            raise
        return signal.SIGINT
    return cli.stop.signum
