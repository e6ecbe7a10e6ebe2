"""Running ``fer fit``, ``validate``, ``test`` and ``predict``: from the command line to the exit code."""

from __future__ import annotations

import signal
from pathlib import Path

from lightning.pytorch.trainer.states import TrainerStatus

from fer_lightning.cli.begin import is_started_by_another, rank
from fer_lightning.cli.framing import keep_framing
from fer_lightning.cli.slurm import requeue_job
from fer_lightning.cli.start import begun
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.errors import FERError
from fer_lightning.evaluation.beside import PAGE
from fer_lightning.signals import Stopped, exit_code

__all__ = ["run_trainer_verb"]


def run_trainer_verb(verb: str, args: list[str]) -> int:
    """Run ``fer fit``, ``validate``, ``test`` or ``predict`` and return the exit code."""
    of_another, agreed, requeue = is_started_by_another(), True, False
    try:
        with begun(verb, args) as cli:
            signum = 0 if cli.ended else _execute(cli)
    except Stopped as stop:
        signum, agreed, requeue = stop.signum, stop.agreed, stop.requeue
    except FERError as error:
        error.process = rank()
        raise
    if requeue:
        requeue_job()  # now that the lock is released: the job may start at once, elsewhere
    # The first process speaks for those it has started, if all stop together: it takes a code of theirs for a failure.
    return 0 if agreed and of_another else exit_code(signum)


def _name_page(cli: FERCLI) -> None:
    """Name the page of a run that has trained, in its last line."""
    page = Path(cli.trainer.default_root_dir) / PAGE
    if (
        cli.verb == "fit"
        and cli.trainer.global_rank == 0
        and not cli.config["trainer"]["fast_dev_run"]
        and page.is_file()
    ):
        print(f"page         {page}")


def _execute(cli: FERCLI) -> int:
    """Run the verb and return the number of a signal that came when it was done, 0 for none."""
    try:
        cli.execute()
        keep_framing(cli)
        _name_page(cli)
    except Stopped:
        raise
    except SystemExit:
        if cli.trainer.state.status != TrainerStatus.INTERRUPTED:
            raise
        raise Stopped(signal.SIGINT, agreed=False) from None  # the second Ctrl-C, out of which Lightning makes an exit
    return cli.stop.signum
