"""One start of a run: signals are watched, its processes agree, and whatever ends it is cleared away behind it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lightning.fabric.utilities.exceptions import MisconfigurationException

from fer_lightning.callbacks.checkpoints import first_callback
from fer_lightning.cli.begin import (
    CHECKPOINT_VARIABLE,
    FOLDER_VARIABLE,
    PARENT_VARIABLE,
    PRECISION_VARIABLE,
    begin,
    is_started_by_another,
    rank,
)
from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.cli.option_order import classes_first
from fer_lightning.cli.parsing import prepare_parsing, readable_errors
from fer_lightning.cli.peers import Peers, find_peers
from fer_lightning.cli.place import Place
from fer_lightning.cli.slurm import requeue_job, requeue_signal
from fer_lightning.cli.tracking import RunTracking
from fer_lightning.cli.trainer_cli import FERCLI, as_list
from fer_lightning.cli.translation import of_lightning
from fer_lightning.errors import ConfigError, FERError, MissingExtraError
from fer_lightning.signals import Stopped, signal_name
from fer_lightning.text import folded

__all__ = ["begun"]


class _Start:
    """One start of a run: what is known of it while it begins, and how it is cleared away."""

    def __init__(self, verb: str, args: list[str]) -> None:
        self.verb = verb
        self.args = args
        self.cli: FERCLI | None = None
        self.place = Place()
        self.watch = EndWatch()
        self.watch.clear = self.close_at_once
        self.watch.graceful = lambda: self.cli is not None and self.cli.stop.installed
        self.watch.speaks = rank() == 0
        if is_started_by_another():
            self.watch.parent = int(os.environ[PARENT_VARIABLE])

    def begin(self, peers: Peers | None) -> FERCLI:
        def agree(find: Callable[[], str]) -> str:
            if peers is not None and peers.rank:
                return str(peers.hear("checkpoint")["path"])
            if peers is None and rank() and CHECKPOINT_VARIABLE in os.environ:  # started by process 0
                return os.environ[CHECKPOINT_VARIABLE]
            path = os.environ[CHECKPOINT_VARIABLE] = find()
            if peers is not None:
                peers.tell({"path": path}, "checkpoint")
            return path

        with readable_errors():
            self.cli = FERCLI(self.verb, self.args, agree)
            begin(self.cli, self.place, self.watch, peers)
        return self.cli

    def begin_together(self, peers: Peers) -> FERCLI:
        """Begin the run if all processes can begin it; what is wrong in any of them is said once."""
        try:
            cli = self.begin(peers)
        except FERError as error:
            peers.settle(error)
            raise
        except Exception as error:
            with suppress(SystemExit):
                peers.settle(error)
            raise  # a bug: its traceback is wanted
        try:
            peers.settle()
        except BaseException:
            self.clear()
            raise
        return cli

    @property
    def has_trained(self) -> bool:
        """Whether a step was done since this start."""
        trainer = getattr(self.cli, "trainer", None)
        return self.cli is not None and trainer is not None and trainer.global_step > self.cli.lineage.first_step

    def clear(self) -> None:
        """Leave nothing behind of a run that has not trained, and let others write into its folder."""
        if not self.has_trained:
            self.place.discard()
        self.place.unlock()

    def close_at_once(self) -> None:
        """Do what must not be left undone when the process is ended while its main thread waits or works."""
        trainer = getattr(self.cli, "trainer", None)
        if self.cli is not None and trainer is not None and not self.place.is_lost:
            end: BaseException = FERError(self.watch.why)
            self.cli.lineage.close(trainer, Stopped(self.watch.signum) if self.watch.signum else end)
            self.close_tracking()
        self.clear()
        if self.requeues(self.watch.signum):
            requeue_job()

    def close_tracking(self) -> None:
        """Let MLflow know that the run has ended, unless that is done."""
        trainer = getattr(self.cli, "trainer", None)
        tracking = None if trainer is None else first_callback(trainer, RunTracking)
        if tracking is not None:
            tracking.close("stopped" if self.watch.signum else "failed")

    def requeues(self, signum: int) -> bool:
        """Tell whether this process is to let SLURM start the job again after a signal; 0 stands for none."""
        if not signum or rank():
            return False
        if self.cli is not None and self.cli.stop.requeue_signal is not None:  # Lightning's requeueing was taken over
            return signum == self.cli.stop.requeue_signal
        given = {} if self.cli is None else self.cli.config_init["trainer"]
        return signum == requeue_signal(getattr(self.cli, "trainer", None), as_list(given.get("plugins")))

    def stopped(self, stop: Stopped) -> None:
        """Clear away after a signal, and say so if the callback that stops runs has not."""
        stop.requeue = self.requeues(stop.signum)
        if not self.has_trained:
            self.place.discard()
        if stop.agreed:
            return
        for process in self.watch.processes:
            process.kill()  # it may wait for this one
        if rank() == 0:
            when = " before the first step" if self.verb == "fit" and not self.has_trained else ""
            print(f"fer: stopped by {signal_name(stop.signum)}{when}", file=sys.stderr)

    def failed(self, error: Exception) -> None:
        """Clear away after an error, and raise what is to be told of it if that is another one."""
        if self.watch.signum and not self.has_trained:  # a process that the signal has reached first is missed
            stop = Stopped(self.watch.signum, agreed=False)
            self.stopped(stop)
            raise stop from error
        said = of_lightning(error)
        by_lightning = isinstance(error, MisconfigurationException) or bool(said)
        of_user = by_lightning or (isinstance(error, FERError) and error.exit_code != 1)
        if (of_user or not self.watch.graceful()) and not self.has_trained:
            self.place.discard()
        if by_lightning:
            raise ConfigError(said or folded(error)) from error
        if isinstance(error, ModuleNotFoundError) and not self.has_trained:  # of a part that needs a package of its own
            raise MissingExtraError(folded(error)) from error


@contextmanager
def begun(verb: str, args: list[str]) -> Iterator[FERCLI]:
    """Parse a command line and begin its run; give the CLI, whose trainer is ready.

    After any error before training, and a user's mistake or a signal before the first step is done, the run folder is
    removed, if it was made for this run. The lock is released in any case. Meanwhile signals raise ``Stopped``, as
    ``EndWatch`` says.
    """
    prepare_parsing()
    start = _Start(verb, classes_first(args))
    with start.watch:
        try:
            peers = find_peers()
            yield start.begin(None) if peers is None else start.begin_together(peers)
        except Stopped as stop:
            start.stopped(stop)
            raise
        except Exception as error:
            start.failed(error)
            raise
        finally:
            start.close_tracking()
            start.place.unlock()
            for name in (FOLDER_VARIABLE, PRECISION_VARIABLE, CHECKPOINT_VARIABLE, PARENT_VARIABLE):
                os.environ.pop(name, None)
