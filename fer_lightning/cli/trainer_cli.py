"""The verbs ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with our task, data modules and callbacks."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

import fer_lightning.data
from fer_lightning.callbacks.changed_options import ChangedOptions
from fer_lightning.callbacks.checkpoints import BestCheckpoint, ResumeCheckpoint
from fer_lightning.callbacks.global_batch import GlobalBatch
from fer_lightning.callbacks.graceful_stop import GracefulStop
from fer_lightning.callbacks.guard import FiniteGuard
from fer_lightning.callbacks.lineage_writer import Lineage
from fer_lightning.callbacks.reports import EvaluationReport
from fer_lightning.callbacks.run_config import RunConfig, config_text
from fer_lightning.callbacks.step_seed import StepSeed
from fer_lightning.callbacks.trained_images import TrainedImages
from fer_lightning.cli.auto import StartOrGoOn, with_decided
from fer_lightning.cli.config_files import values_in
from fer_lightning.cli.known_options import AUTO, DEFAULT_ROOT, LINKED, NEEDS_CHECKPOINT
from fer_lightning.cli.lightning_parts import check_parts
from fer_lightning.cli.named_configs import with_fragments
from fer_lightning.cli.stored_callbacks import names_callbacks, with_callback_options
from fer_lightning.cli.stored_config import (
    REPLACED,
    as_file,
    check_class_arguments,
    newest_exact,
    peek,
    preprocessing_changes,
    stored_config,
)
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.errors import CheckpointError
from fer_lightning.lazy import import_all
from fer_lightning.models.ensemble import ENSEMBLE, write_ensemble
from fer_lightning.models.task import EmotionTask
from fer_lightning.runs.changes import changes_for, differences
from fer_lightning.runs.checkpoint import BEST, RESUME, find_checkpoint, named_models
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from fer_lightning.runs.lock import slurm_restarts

__all__ = ["FERCLI", "Agreement", "as_list"]

import_all(fer_lightning.data)

Agreement = Callable[[Callable[[], str]], str]
"""Calls a function that returns a path, empty for none, in one process and returns its answer in all of them."""


def _examples(verb: str) -> tuple[str, ...]:
    """Return command lines for the help of a verb."""
    if verb != "fit":
        return (f"fer {verb} --ckpt_path runs/NAME/version_0",)
    return (
        "fer fit --config quickstart",
        "fer fit --data ImageFolderDataModule --data.root PATH --model.backbone resnet18",
        "fer fit --ckpt_path last --name NAME",
    )


class _Parser(LightningArgumentParser):
    """A parser whose config files may name fragments of the working directory and of the package."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._started_in = Path.cwd()  # while a file is read, its folder is the working directory

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Parse the text of a config file."""
        values = values_in(content)
        if isinstance(values, dict) and (named := with_fragments(values, Path.cwd(), self._started_in)) != values:
            content = yaml.safe_dump(named, sort_keys=False)
        parsed: Namespace = super().parse_string(content, *args, **kwargs)
        return parsed


class FERCLI(LightningCLI):
    """LightningCLI for one verb: a fixed task, a data module by class, configurable callbacks.

    Making one parses the command line and makes model, data module and callbacks. It reads no data and writes nothing;
    ``fer_lightning.cli.begin.begin`` does, and makes the trainer.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        args: the command line behind the verb.
        agree: is given the function that finds the checkpoint of ``--ckpt_path auto``; lets one process of a run decide
            for all.

    Attributes:
        checkpoint: file that the run goes on from or that is evaluated, ``None`` for none.
        members: files whose average ``checkpoint`` is; empty if it is that of one model.
        stop: the callback that ends a run at a signal.
        checkpoint_io: what writes the checkpoints.
        auto: what begins the run if ``--ckpt_path auto`` has nothing to go on with, ``None`` without ``auto``.
        lineage: the callback that writes down where the run comes from; it holds how the configuration has changed.
        ended: nothing is to be done, because the run is complete; there is no trainer then.
        used: the configuration as plain values, where it was compared with that of a checkpoint; else empty.
    """

    def __init__(self, verb: str, args: list[str], agree: Agreement = lambda find: find()) -> None:
        self.verb = verb
        self.agree = agree
        self.auto: StartOrGoOn | None = None
        self.checkpoint: Path | None = None
        self.members: list[Path] = []
        self.stop = GracefulStop()
        self.checkpoint_io = AtomicCheckpointIO(attempts=3)
        self.lineage = Lineage()
        self.changed = ChangedOptions()
        self.ended = False
        self.used: dict[str, Any] = {}
        super().__init__(
            EmotionTask,
            EmotionDataModule,
            subclass_mode_data=True,
            save_config_callback=None,  # `instantiate_trainer` adds ours
            trainer_defaults={
                "callbacks": [StepSeed(), FiniteGuard(), GlobalBatch(), self.lineage, self.changed, self.stop],
                "use_distributed_sampler": False,
            },
            seed_everything_default=0,
            parser_kwargs={
                "prog": f"fer {verb}",
                "usage": "\n       ".join([f"fer {verb} [--config FILE ...] [options]", *_examples(verb)]),
                "description": None,
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=args,
            parser_class=_Parser,
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add a name, a checkpoint to start from, tracking, the callbacks, and the links from data to model."""
        parser.add_argument(
            "--name", type=str, default="default", help="Experiment; its runs are in runs/<name>, a/b nests."
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | list[str] | None,
            default=None,
            help="Checkpoint: a file, a run folder, 'best' or 'last' of the newest run of this name; of several (A,B "
            "or a pattern) the mean probabilities; "
            "fit: 'auto' goes on with the run of this name and these settings, or begins it.",
        )
        parser.add_argument(
            "--allow_changed_data",
            type=bool,
            default=False,
            help="Let fit go on from a checkpoint that was trained with other data.",
        )
        parser.add_argument(
            "--mlflow",
            type=bool | str | None,
            default=None,
            help="Log fit to MLflow too: true for <runs>/mlflow.db, or sqlite:///FILE, or http://HOST:PORT.",
        )
        parser.add_argument(
            "--mlflow_checkpoints", type=bool, default=False, help="Send best.ckpt to MLflow when fit ends."
        )
        if self.verb == "predict":
            parser.add_argument(
                "--set", type=float | None, default=None, help="Also write the classes that hold the true one so often."
            )
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ResumeCheckpoint, "resume_checkpoint")
        parser.add_lightning_class_args(EvaluationReport, "report")
        parser.add_lightning_class_args(TrainedImages, "card")
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, with the values that a checkpoint holds below those of config files and flags.

        Raises:
            CheckpointError: if the checkpoint that is asked for is not there or damaged.
        """
        assert isinstance(args, list)
        wanted, name, root = peek(args)
        only_tells = bool({"-h", "--help"} & set(args)) or _prints_config(args)
        if self.verb != "fit" and wanted in (None, AUTO) and not only_tells:
            raise CheckpointError(NEEDS_CHECKPOINT.format(verb=self.verb))
        if wanted is None and self.verb == "fit" and slurm_restarts() and not only_tells:
            rank_zero_only(print)(f"SLURM has started this job again: as with --ckpt_path {AUTO}")
            wanted = AUTO
        if wanted in (None, AUTO):
            self.config = parser.parse_args(args)
            if wanted == AUTO and not only_tells:
                self._start_or_go_on(parser)
            return
        self.checkpoint = self._found(wanted, Path(root), name)
        try:
            stored = stored_config(self.checkpoint, self.verb)
        except CheckpointError as error:
            if wanted != "last" or self.verb != "fit":
                raise
            self.checkpoint = newest_exact(self.checkpoint, error)
            stored = stored_config(self.checkpoint, self.verb)
        check_class_arguments(args, stored)
        before = deepcopy(stored)
        if names_callbacks(args):
            stored.get("trainer", {}).pop("callbacks", None)  # `callbacks+:` would add the same ones twice
        elif stored:
            args = with_callback_options(args, stored)
        with as_file(stored) as base:
            self.config = parser.parse_args(["--config", base, *args] if stored else args)
        if stored:
            self._compare(parser, before)

    def _found(self, wanted: str | list[str], root: Path, name: str) -> Path:
        """Return the file of a checkpoint, or one that averages several, which is kept as long as the CLI."""
        named = named_models(wanted)
        if len(named) == 1:
            return find_checkpoint(named[0], root, name, RESUME if self.verb == "fit" else BEST)
        if self.verb == "fit":
            raise CheckpointError(
                f"fer fit goes on from one checkpoint, not from {len(named)}; a network learns from several by "
                f"--model.teacher '[{','.join(named)}]'"
            )
        self._ensemble = tempfile.TemporaryDirectory(prefix="fer_ensemble_")
        self.members = [find_checkpoint(each, root, name, BEST) for each in named]
        rank_zero_only(print)("averages     " + "\n             ".join(map(str, self.members)))
        return write_ensemble(self.members, Path(self._ensemble.name) / f"{ENSEMBLE}.ckpt")

    @functools.cached_property
    def run_config(self) -> RunConfig:
        """What writes the configuration, made when nothing of it changes any more."""
        return RunConfig(self.parser, self.config)

    def _plain(self, parser: LightningArgumentParser) -> dict[str, Any]:
        values: dict[str, Any] = yaml.safe_load(config_text(parser, self.config))
        return values

    def _start_or_go_on(self, parser: LightningArgumentParser) -> None:
        """Look for the run of this name that has the settings of the command, which are whole."""
        used = self._plain(parser)
        auto = self.auto = StartOrGoOn(Path(used["trainer"]["default_root_dir"] or DEFAULT_ROOT), used["name"], used)
        found = self.agree(lambda: str(auto.checkpoint() or ""))
        if not found:
            return
        self.checkpoint = Path(found)
        stored = stored_config(self.checkpoint, self.verb)
        decided = with_decided(used, stored)
        self.config["trainer"]["precision"] = decided["trainer"]["precision"]
        self.config["seed_everything"] = decided["seed_everything"]
        stored["model"] |= {name: used["model"][name] for name in REPLACED}  # the same as when the run began
        self._compare(parser, stored)

    def begin_anew(self) -> None:
        """Begin a run after all, although ``--ckpt_path auto`` has found one: its data are others."""
        assert self.auto is not None
        self.checkpoint = None
        self.config["trainer"]["precision"] = self.auto.used["trainer"]["precision"]
        self.lineage.changes = self.changed.changes = []
        self.used = {}
        self.instantiate_classes()

    def _compare(self, parser: LightningArgumentParser, stored: dict[str, Any]) -> None:
        """Find and tell how the run differs from its checkpoint."""
        self.used = used = self._plain(parser)
        self.lineage.changes = self.changed.changes = changes = changes_for(self.verb, stored, used)
        for line in differences(changes, self.verb):
            rank_zero_only(print)(line)
        if self.verb != "fit" and any(change.key == "data" for change in changes):  # which tells the class alone
            for line in preprocessing_changes(stored, used):
                rank_zero_only(print)(line)

    def instantiate_classes(self) -> None:
        """Make data module, model and callbacks; the trainer follows when the run begins.

        Raises:
            ConfigError: for a part of Lightning's that does not go with a run.
        """
        config = self.config.clone()
        if self.auto is not None and self.checkpoint is not None:
            for name, value in REPLACED.items():
                config["model"][name] = value
        self.config_dump = self._plain(self.parser)  # Lightning's own would check once more what parsing has checked
        self.config_init = self.parser.instantiate_classes(config)
        trainer = self.config_init["trainer"]
        check_parts(trainer, as_list(trainer["callbacks"]) if self.verb == "fit" else ())
        self.datamodule = self.config_init["data"]
        self.model = self.config_init["model"]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with the callbacks of the command line; ``kwargs`` replace its other arguments.

        Raises:
            MisconfigurationException: if Lightning refuses them.
        """
        given = self.config_init["trainer"]
        self.stop.limit(given["max_time"])
        plugins = [*as_list(given["plugins"]), self.checkpoint_io]
        if not kwargs.get("fast_dev_run", given["fast_dev_run"]):
            self.trainer_defaults["callbacks"].append(self.run_config)
        self.trainer = super().instantiate_trainer(plugins=plugins, max_time=None, **kwargs)
        return self.trainer

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


def as_list(value: Any) -> list[Any]:
    """Return the values of an argument that takes one, several or none, as a new list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _prints_config(args: list[str]) -> bool:
    return any(argument.startswith(("--print_config", "--model.help", "--data.help")) for argument in args)
