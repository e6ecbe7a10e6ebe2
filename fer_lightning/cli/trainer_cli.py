"""The verbs ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with our task, data modules and callbacks."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fer_lightning.callbacks.changed_options import ChangedOptions
from fer_lightning.callbacks.global_batch import GlobalBatch
from fer_lightning.callbacks.graceful_stop import GracefulStop, Stopped, exit_code, stopping_at_once
from fer_lightning.callbacks.guard import FiniteGuard
from fer_lightning.callbacks.lineage_writer import Lineage, data_changes
from fer_lightning.callbacks.predictions import PredictionWriter
from fer_lightning.callbacks.provenance import stored_data
from fer_lightning.callbacks.run_config import RunConfig
from fer_lightning.callbacks.step_seed import StepSeed
from fer_lightning.cli.parsing import prepare_parsing, readable, told_by_us
from fer_lightning.cli.peers import Peers, check_world, find_peers
from fer_lightning.cli.run_arguments import add_run_arguments
from fer_lightning.cli.stored_config import (
    DEFAULT_ROOT,
    as_file,
    newest_exact,
    peek,
    preprocessing_changes,
    stored_config,
)
from fer_lightning.cli.tracking import RunLogger, start_tracking
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.models.precision import check_precision, measure_precision
from fer_lightning.models.task import EmotionTask
from fer_lightning.runs.changes import changes_for, differences, goes_on_in
from fer_lightning.runs.checkpoint import BEST, RESUME, find_checkpoint, run_folder_of
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from fer_lightning.runs.folder import Claim, claim_run_folder
from fer_lightning.runs.lock import RunLock, lock_run_folder
from fer_lightning.text import folded

__all__ = ["FERCLI", "prepared", "run_trainer_verb"]


class FERCLI(LightningCLI):
    """LightningCLI for one verb: a fixed task, a data module by class, configurable callbacks.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        args: the command line behind the verb.
        peers: the processes that were started together with this one, if any.
    """

    def __init__(self, verb: str, args: list[str], peers: Peers | None = None) -> None:
        self.verb = verb
        self.peers = peers
        self.checkpoint: Path | None = None
        self.claim: Claim | None = None
        self.lock: RunLock | None = None
        self.stop = GracefulStop()
        self.lineage = Lineage()
        self.changed = ChangedOptions()
        super().__init__(
            EmotionTask,
            EmotionDataModule,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            trainer_defaults={
                "callbacks": [StepSeed(), FiniteGuard(), GlobalBatch(), self.lineage, self.changed, self.stop],
                "use_distributed_sampler": False,
            },
            seed_everything_default=0,
            parser_kwargs={
                "prog": f"fer {verb}",
                "usage": f"fer {verb} [--config FILE ...] [options]",
                "description": None,
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=args,
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what every run has: a name, a checkpoint to start from, its callbacks, the links from data to model."""
        add_run_arguments(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, with the values that a checkpoint holds below those of config files and flags.

        Raises:
            CheckpointError: if the checkpoint that is asked for is not there or damaged.
        """
        assert isinstance(args, list)
        wanted, name, root = peek(args)
        if wanted is None:
            if self.verb != "fit" and not {"-h", "--help"} & set(args) and not _prints_config(args):
                raise CheckpointError(
                    f"fer {self.verb} needs --ckpt_path: a file, a run folder, or 'best' or 'last' of a --name"
                )
            self.config = parser.parse_args(args)
            return
        self.checkpoint = find_checkpoint(wanted, Path(root), name, RESUME if self.verb == "fit" else BEST)
        try:
            stored = stored_config(self.checkpoint, self.verb)
        except CheckpointError as error:
            if wanted != "last" or self.verb != "fit":
                raise
            self.checkpoint = newest_exact(self.checkpoint, error)
            stored = stored_config(self.checkpoint, self.verb)
        before = deepcopy(stored)
        if any(re.match(r"(-c|--config|--trainer\.callbacks)\b", argument) for argument in args):
            stored.get("trainer", {}).pop("callbacks", None)  # `callbacks+:` would add the same ones twice
        with as_file(stored) as base:
            self.config = parser.parse_args(["--config", base, *args] if stored else args)
        if stored:
            self._compare(parser, before)

    def _compare(self, parser: LightningArgumentParser, stored: dict[str, Any]) -> None:
        """Find and tell how the run differs from its checkpoint."""
        used = yaml.safe_load(parser.dump(self.config, skip_none=False, skip_link_targets=True))
        self.lineage.changes = self.changed.changes = changes = changes_for(self.verb, stored, used)
        for line in differences(changes, self.verb):
            self._announce(line)
        if self.verb != "fit" and any(change.key == "data" for change in changes):  # which tells the class alone
            for line in preprocessing_changes(stored, used):
                self._announce(line)

    @rank_zero_only
    def _announce(self, text: str) -> None:
        print(text)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer in the folder of the run, with the precision that suits the network and the machine."""
        config = self.config["trainer"]
        check_precision(config["precision"])
        folder = self._follow(config) if self.peers is not None and self.peers.rank else self._lead(config)
        given = self.config_init["trainer"]
        logger = given["logger"]
        if logger is None or logger is True:
            logger = RunLogger(str(folder), name="", version="", default_hp_metric=False)
        if self.verb == "predict":
            logger = False
            kwargs["callbacks"] = [*(given["callbacks"] or []), PredictionWriter()]
        try:
            self.stop.limit(given["max_time"])
            if self.verb == "fit" and not config["fast_dev_run"] and _rank() == 0:
                self._take_lock(folder)
            if self.peers is not None and self.peers.rank == 0:
                self.peers.tell({"folder": str(folder), "precision": config["precision"]})
            trainer = super().instantiate_trainer(
                default_root_dir=str(folder),
                logger=logger,
                precision=config["precision"],
                plugins=[*_as_list(given["plugins"]), AtomicCheckpointIO(attempts=3)],
                max_time=None,
                **kwargs,
            )
            check_world(trainer, self.peers)
            if trainer.world_size > 1:
                self.datamodule.check(self.verb, trainer.world_size)  # before other processes are started
            if self.verb == "fit" and not config["fast_dev_run"]:
                self._record(trainer, folder)
            return trainer
        except BaseException:
            self.discard()
            self.unlock()
            raise

    def _record(self, trainer: Trainer, folder: Path) -> None:
        """Tell the lineage where the run stands, and track it if that is asked for."""
        self.lineage.allow_changed_data = self.config["allow_changed_data"]
        self.lineage.branched = self.checkpoint is not None and run_folder_of(self.checkpoint) != folder
        if _rank() == 0:
            wanted, name = self.config["mlflow"], self.config["name"]
            tracking = start_tracking(wanted, folder, self._root(), name, self.config["mlflow_checkpoints"])
            if tracking is not None:
                self.lineage.mlflow = tracking.attach(trainer)

    def _root(self) -> Path:
        return Path(self.config["trainer"]["default_root_dir"] or DEFAULT_ROOT)

    def _lead(self, config: Any) -> Path:
        """Choose precision and run folder, for all processes."""
        if config["precision"] is None and self.verb == "fit":
            self.datamodule.prepare_data()  # bad data is named before anything is measured
            config["precision"] = self._choose_precision(config)
        return self._run_folder(config)

    def _follow(self, config: Any) -> Path:
        """Take the precision and the run folder that process 0 has chosen."""
        assert self.peers is not None  # the caller has looked
        word = self.peers.hear()
        config["precision"] = word["precision"]
        return Path(word["folder"])

    def _take_lock(self, folder: Path) -> None:
        self.lock = lock_run_folder(folder)
        if (gone := self.lock.took_over) is not None:
            self._announce(f"took over {folder} from process {gone.pid} of this machine, which is gone")

    def unlock(self) -> None:
        """Let others write into the run folder."""
        if self.lock is not None:
            self.lock.release()

    def discard(self) -> None:
        """Remove the run folder of a run that has not begun."""
        if self.claim is not None:
            self.claim.discard()

    def _run_folder(self, config: Mapping[str, Any]) -> Path:
        inherited = os.environ.get(_FOLDER_VARIABLE)
        if inherited and _rank() != 0:
            return Path(inherited)
        folder = before = None if self.checkpoint is None else run_folder_of(self.checkpoint)
        why = ""
        if self.verb == "fit":
            folder, why = goes_on_in(before, self.lineage.changes, self._root(), self._has_same_data())
        elif before is not None:
            folder = before / self.verb
        if folder is None and config["fast_dev_run"]:
            folder = Path(tempfile.gettempdir())  # nothing is written
        elif folder is None:
            self.claim = claim_run_folder(self._root(), self.config["name"])
            folder = self.claim.folder
            if before is not None:
                self._announce(f"goes on as a new run in {folder}, because {why}; {before} stays as it is")
        os.environ[_FOLDER_VARIABLE] = str(folder)  # for the processes that the strategy starts
        return folder

    def _has_same_data(self) -> bool:
        if self.checkpoint is None or not self.config["allow_changed_data"]:
            return True  # a difference will be refused
        return not data_changes(stored_data(self.checkpoint), self.datamodule.describe(), ("train", "val"))

    def _choose_precision(self, config: Mapping[str, Any]) -> str:
        if _rank() != 0:
            return os.environ.get(_PRECISION_VARIABLE, "32-true")
        use_cuda = config["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        device = torch.device("cuda" if use_cuda else "cpu")
        size, channels = self.datamodule.preprocessing["image_size"], self.datamodule.preprocessing["channels"]
        rows = min(self.datamodule.batch_size, len(self.datamodule.table.rows("train")))
        images = torch.randn(rows, channels, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        self.model.take_class_counts(self.datamodule)
        choice = measure_precision(self.model.to(device), images, self.model.criterion)
        self.model.to("cpu")
        self._announce(f"precision {choice.precision}: {choice.reason}")
        os.environ[_PRECISION_VARIABLE] = choice.precision
        return choice.precision

    def execute(self) -> None:
        """Run the verb."""
        checkpoint = None if self.checkpoint is None else str(self.checkpoint)
        if self.verb == "fit":
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint)
        elif self.verb == "predict":
            self.trainer.predict(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, return_predictions=False)
        else:
            evaluate = self.trainer.validate if self.verb == "validate" else self.trainer.test
            evaluate(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, verbose=False)


_FOLDER_VARIABLE = "FER_RUN_FOLDER"
_PRECISION_VARIABLE = "FER_PRECISION"


def _rank() -> int:
    return getattr(rank_zero_only, "rank", 0)  # Lightning sets it as an attribute of the function


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _prints_config(args: list[str]) -> bool:
    return any(argument.startswith(("--print_config", "--model.help", "--data.help")) for argument in args)


def _made(verb: str, args: list[str], peers: Peers | None) -> FERCLI:
    try:
        return FERCLI(verb, args, peers)
    except ArgumentError as error:
        raise ConfigError(readable(str(error))) from error
    except (MisconfigurationException, TypeError, ValueError) as error:
        told = told_by_us(error)
        if told is not None:
            raise told from error
        raise ConfigError(f"{folded(error)} (FER_DEBUG=1 shows where)") from error


def _made_together(verb: str, args: list[str], peers: Peers) -> FERCLI:
    """Return the CLI if it could be made in all processes; what is wrong in any is said once."""
    try:
        cli = _made(verb, args, peers)
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
        cli.discard()
        cli.unlock()
        raise
    return cli


@contextmanager
def prepared(verb: str, args: list[str]) -> Iterator[FERCLI]:
    """Give the parsed and instantiated CLI of a verb; clear its run folder if an error leaves it empty.

    Raises:
        FERError: for whatever a user can mend.
    """
    prepare_parsing()
    peers = find_peers()
    try:
        cli = _made(verb, args, peers) if peers is None else _made_together(verb, args, peers)
        try:
            yield cli
        except (FERError, MisconfigurationException) as error:
            begun = cli.trainer.global_step > cli.lineage.first_step
            if not begun and not (isinstance(error, FERError) and error.exit_code == 1):
                cli.discard()  # a user's mistake, found before the first step: nothing stays behind
            if isinstance(error, MisconfigurationException):
                raise ConfigError(folded(error)) from error
            raise
        except Stopped:
            if cli.trainer.global_step <= cli.lineage.first_step:
                cli.discard()
            raise
        finally:
            cli.unlock()
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        os.environ.pop(_PRECISION_VARIABLE, None)


def run_trainer_verb(verb: str, args: list[str]) -> int:
    """Run ``fer fit``, ``validate``, ``test`` or ``predict`` and return the exit code.

    Raises:
        FERError: for whatever a user can mend.
    """
    started_by_us = _FOLDER_VARIABLE in os.environ
    try:
        with stopping_at_once() if verb == "fit" else nullcontext(), prepared(verb, args) as cli:
            signum = _execute(cli)
    except Stopped as stop:
        signum = stop.signum
    except FERError as error:
        error.process = _rank()
        raise
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
