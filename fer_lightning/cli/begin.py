"""Beginning a run: read its data, measure the precision, make and lock its folder, track it, make the trainer.

``FERCLI`` has parsed the command line before; nothing was read or written then.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_only

from fer_lightning.callbacks.evaluated import Evaluated
from fer_lightning.callbacks.learning_rate import LearningRate
from fer_lightning.callbacks.lineage_writer import data_changes
from fer_lightning.callbacks.predictions import PredictionWriter
from fer_lightning.callbacks.progress import OneLineBar
from fer_lightning.callbacks.provenance import stored_data
from fer_lightning.callbacks.run_config import config_text
from fer_lightning.callbacks.run_lines import RunLines
from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.cli.evaluation import changed_network, evaluation_folder, subject_of
from fer_lightning.cli.known_options import DEFAULT_ROOT
from fer_lightning.cli.launcher import watch_processes
from fer_lightning.cli.peers import Peers, check_world
from fer_lightning.cli.place import Place
from fer_lightning.cli.run_checks import check_accelerator, check_monitors
from fer_lightning.cli.tracking import RunLogger, start_tracking
from fer_lightning.cli.trainer_cli import FERCLI, as_list
from fer_lightning.models.calibration import Calibration, calibration_of
from fer_lightning.models.precision import check_precision, measure_precision
from fer_lightning.runs.changes import goes_on_in
from fer_lightning.runs.checkpoint import epochs_in, read_checkpoint, run_folder_of
from fer_lightning.runs.completion import completion, has_ended
from fer_lightning.runs.folder import claim_run_folder
from fer_lightning.signals import put_off
from fer_lightning.text import joined

__all__ = [
    "CHECKPOINT_VARIABLE",
    "FOLDER_VARIABLE",
    "PARENT_VARIABLE",
    "PRECISION_VARIABLE",
    "begin",
    "is_started_by_another",
    "rank",
]

# What the first process hands to those that Lightning's strategy starts.
FOLDER_VARIABLE = "FER_RUN_FOLDER"
"""Environment: the folder of the run."""
PRECISION_VARIABLE = "FER_PRECISION"
"""Environment: the precision that was chosen."""
CHECKPOINT_VARIABLE = "FER_CHECKPOINT"
"""Environment: the checkpoint that the run goes on from."""
PARENT_VARIABLE = "FER_FIRST_PROCESS"
"""Environment: the number of the first process."""


def is_started_by_another() -> bool:
    """Tell whether another process of the same run has started this one."""
    return os.environ.get(PARENT_VARIABLE, str(os.getpid())) != str(os.getpid())


def begin(cli: FERCLI, place: Place, watch: EndWatch, peers: Peers | None = None) -> None:
    """Read the data, choose the precision, make and lock the run folder, and make ``cli.trainer``.

    Of a complete run nothing is read or made, so that it stays as it is; a line says what goes on.

    Args:
        cli: the parsed command line.
        place: where the run writes, filled in here. After an error nothing is left there.
        watch: looks after the processes that the trainer starts.
        peers: the processes that were started together with this one.

    Raises:
        FERError: for whatever a user can mend.
        MisconfigurationException: if Lightning refuses an argument of the trainer.
    """
    config = cli.config["trainer"]
    check_precision(config["precision"])
    check_accelerator(config["accelerator"])
    if cli.verb == "fit":
        watched = {f"{section}.monitor": cli.config[section]["monitor"] for section in ("checkpoint", "model")}
        check_monitors(watched, as_list(cli.config_init["trainer"]["callbacks"]), cli.datamodule.class_names)
    try:
        why = _lead(cli, place) if peers is None or not peers.rank else _follow(cli, place, peers)
        writes = cli.verb == "fit" and not config["fast_dev_run"] and not place.ended
        if writes and rank() == 0:
            place.take_lock(watch.end)
            cli.checkpoint_io.before_renaming = place.check
            if place.claim is not None:  # soon, so that others see what is trained here
                cli.run_config.write(place.folder)
        if peers is not None and peers.rank == 0:
            word = {"folder": str(place.folder), "precision": config["precision"]}
            peers.tell({**word, "complete": place.complete, "ended": place.ended})
        if place.ended:
            cli.ended = True
            rank_zero_only(print)(place.complete)
            return
        trainer = cli.instantiate_trainer(
            default_root_dir=str(place.folder), precision=config["precision"], **_output(cli, place, why)
        )
        watch_processes(trainer.strategy, watch)
        check_world(trainer, peers)
        if trainer.world_size > 1:
            cli.datamodule.check(cli.verb, trainer.world_size)  # before other processes are started
        if writes:
            _record(cli, place)
    except BaseException:
        place.discard()
        place.unlock()
        raise


def _lead(cli: FERCLI, place: Place) -> str:
    """Choose precision and run folder, for all processes; return why this precision, if it was measured."""
    config, why = cli.config["trainer"], ""
    _look_at_data(cli)
    complete = _completion(cli)
    if complete and not cli.config["allow_changed_data"]:
        assert cli.checkpoint is not None  # what is complete has one
        folder = cli.checkpoint.parents[1]
        if has_ended(folder) or _has_more_than(config["max_epochs"], cli.checkpoint):
            place.folder, place.complete, place.ended = folder, complete, True
            return ""
    if config["precision"] is None and cli.verb == "fit":
        cli.datamodule.prepare_data()  # bad data is named before anything is measured
        cli.datamodule.check(cli.verb)
        config["precision"], why = _choose_precision(cli)
    _choose_place(cli, place)
    place.complete = complete
    os.environ[FOLDER_VARIABLE] = str(place.folder)
    if not is_started_by_another():
        os.environ[PARENT_VARIABLE] = str(os.getpid())
    return why


def _has_more_than(max_epochs: int | None, checkpoint: Path) -> bool:
    """Tell whether more epochs are done than a limit allows, with which the trainer would refuse to begin."""
    return max_epochs is not None and 0 <= max_epochs < epochs_in(read_checkpoint(checkpoint, mapped=True))


def _follow(cli: FERCLI, place: Place, peers: Peers) -> str:
    """Take the precision and the run folder that process 0 has chosen."""
    word = peers.hear()
    cli.config["trainer"]["precision"] = word["precision"]
    place.folder, place.complete, place.ended = Path(word["folder"]), word["complete"], word["ended"]
    return ""


def _look_at_data(cli: FERCLI) -> None:
    """Begin anew if the run that ``--ckpt_path auto`` has found was trained with data of another place and content."""
    if cli.auto is None or cli.checkpoint is None or cli.config["allow_changed_data"]:
        return
    moved = any(change.key == "data.root" for change in cli.lineage.changes)
    if moved and (lines := _data_changes(cli, cli.checkpoint)):
        rank_zero_only(print)(f"begins a new run: {cli.checkpoint.parents[1]} has other data: {lines[0]}")
        cli.begin_anew()


def _data_changes(cli: FERCLI, checkpoint: Path) -> list[str]:
    return data_changes(stored_data(checkpoint), cli.datamodule.describe(), ("train", "val"))


def _completion(cli: FERCLI) -> str:
    """Return why a run that is to go on in its folder has nothing left to train, empty if it has."""
    if cli.verb != "fit" or cli.checkpoint is None or cli.config["trainer"]["fast_dev_run"]:
        return ""
    folder, _ = goes_on_in(run_folder_of(cli.checkpoint), cli.lineage.changes, _root(cli))
    if folder is None:
        return ""
    return completion(read_checkpoint(cli.checkpoint, mapped=True), cli.used, cli.lineage.changes, folder)


def _choose_precision(cli: FERCLI) -> tuple[str, str]:
    if rank() != 0:
        return os.environ.get(PRECISION_VARIABLE, "32-true"), ""
    accelerator, data = cli.config["trainer"]["accelerator"], cli.datamodule
    use_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    size, channels = data.preprocessing["image_size"], data.preprocessing["channels"]
    rows = min(data.batch_size, len(data.table.rows("train")))
    images = torch.randn(rows, channels, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    cli.model.take_class_counts(data)
    choice = measure_precision(cli.model.to(device), images, cli.model.criterion)
    cli.model.to("cpu")
    os.environ[PRECISION_VARIABLE] = choice.precision
    return choice.precision, choice.reason


def _choose_place(cli: FERCLI, place: Place) -> None:
    inherited = os.environ.get(FOLDER_VARIABLE)
    if inherited and rank() != 0:
        place.folder = Path(inherited)
        return
    folder = before = None if cli.checkpoint is None else run_folder_of(cli.checkpoint)
    why = ""
    if cli.verb == "fit":
        folder, why = goes_on_in(before, cli.lineage.changes, _root(cli), _has_same_data(cli))
    elif cli.config["trainer"]["fast_dev_run"]:
        folder = None if before is None else before / cli.verb
    else:
        place.subject = subject_of(cli)
        folder = evaluation_folder(before, cli.verb, place.subject)
    if folder is None and cli.config["trainer"]["fast_dev_run"]:
        folder = Path(tempfile.gettempdir())  # nothing is written
    if folder is not None:
        place.folder = folder
        return
    with put_off():
        if cli.auto is None:
            place.claim = claim_run_folder(_root(cli), cli.config["name"])
            place.folder = place.claim.folder
        else:
            place.folder, place.claim, place.lock = cli.auto.take_folder()
    if before is not None and cli.verb == "fit":
        rank_zero_only(print)(f"goes on as a new run in {place.folder}, because {why}; {before} stays as it is")
    elif before is not None:
        rank_zero_only(print)(f"{before} cannot be written to: the evaluation is written to {place.folder}")


def _has_same_data(cli: FERCLI) -> bool:
    if cli.checkpoint is None or not cli.config["allow_changed_data"]:
        return True  # a difference will be refused
    return not _data_changes(cli, cli.checkpoint)


def _output(cli: FERCLI, place: Place, precision: str) -> dict[str, Any]:
    """Return the trainer's arguments that say what is printed, logged and written besides checkpoints."""
    given = cli.config_init["trainer"]
    callbacks, logger = as_list(given["callbacks"]), given["logger"]
    summary = given["enable_model_summary"]
    bar = given["enable_progress_bar"]
    if not any(isinstance(callback, ProgressBar) for callback in callbacks):  # else the user has chosen one
        bar = bar is not False and sys.stdout.isatty()
        callbacks += [OneLineBar()] if bar else []
    if cli.verb == "fit":
        callbacks += [RunLines(summary is not False, precision), LearningRate()]
    elif place.subject is not None:
        callbacks += [Evaluated(place.subject)]
    if cli.verb == "predict":
        logger = False
        callbacks += [_prediction_writer(cli)]
    elif logger is None or logger is True:
        configuration = config_text(cli.parser, cli.config)
        logger = RunLogger(str(place.folder), name="", version="", default_hp_metric=False, configuration=configuration)
    return {
        "callbacks": callbacks,
        "logger": logger,
        "enable_progress_bar": bar,
        "enable_model_summary": summary is True,  # RunLines says what matters
    }


def _prediction_writer(cli: FERCLI) -> PredictionWriter:
    assert cli.checkpoint is not None  # predict needs one
    calibration = calibration_of(cli.checkpoint, read_checkpoint(cli.checkpoint, mapped=True))
    changed = joined(list(changed_network(cli)))
    if calibration != Calibration():
        told = f"not calibrated: fer calibrate measured them without {changed}" if changed else "calibrated"
        rank_zero_only(print)(f"probabilities are {told}")
    calibration = Calibration() if changed else calibration
    return PredictionWriter(calibration, cli.config["set"])


def _record(cli: FERCLI, place: Place) -> None:
    """Tell the lineage where the run stands, and track it if that is asked for."""
    folder = place.folder
    cli.lineage.complete = bool(place.complete)
    cli.lineage.allow_changed_data = cli.config["allow_changed_data"]
    cli.lineage.branched = cli.checkpoint is not None and run_folder_of(cli.checkpoint) != folder
    if rank() == 0:
        wanted, name = cli.config["mlflow"], cli.config["name"]
        tracking = start_tracking(wanted, folder, _root(cli), name, cli.config["mlflow_checkpoints"])
        if tracking is not None:
            cli.lineage.mlflow = tracking.attach(cli.trainer)


def _root(cli: FERCLI) -> Path:
    return Path(cli.config["trainer"]["default_root_dir"] or DEFAULT_ROOT)


def rank() -> int:
    """Return the number of this process in its run."""
    return getattr(rank_zero_only, "rank", 0)  # Lightning sets it as an attribute of the function
