"""What is known of a trained model, for its card: its training, where it comes from, and its evaluations."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.errors import DataError, FERError
from fer_lightning.evaluation.audit import attributes_of, audit
from fer_lightning.evaluation.predictions import PREDICTIONS, read_predictions
from fer_lightning.files import file_digest
from fer_lightning.inference.loading import checkpoint_of, load_model
from fer_lightning.inference.model import Model, TorchBackend
from fer_lightning.models.calibration import CALIBRATION
from fer_lightning.runs.changes import flat
from fer_lightning.runs.checkpoint import (
    BEST,
    CHECKPOINTS,
    CONFIG_KEY,
    LINEAGE_KEY,
    read_checkpoint,
    run_folder_of,
    weights_digest,
)
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.lineage import Node
from fer_lightning.runs.records import Run

__all__ = ["GROUPS", "evaluations_of", "model_with_facts", "training_facts"]

GROUPS = ("gender", "sex", "skin_type", "race", "ethnicity", "age_group")
"""Columns of a data set that say which group of people somebody belongs to."""

_SCORES = ("split", "n", "accuracy", "accuracy_ci95", "balanced_accuracy", "f1_macro", "f1_weighted", "ece")
_FURTHER = ("per_class", "confusion_matrix", "seen", "looks")
_OFF: tuple[Any, ...] = (None, False, [], {}, "", "none")
_PATHS = ("data.root", "data.keep", "data.cache_dir", "data.soft_label_file", "model.weights", "model.teacher")
_OF_A_TEACHER = ("model.teacher_weight", "model.temperature")
_OF_THE_MACHINE = (
    *("data.num_workers", "data.eval_batch_size", "data.on_error"),
    *("model.channels_last", "model.compile"),
)
_TERMS = re.compile(r"^Licence:\n((?:    .*\n)+)", re.MULTILINE)


def model_with_facts(
    source: str, root: Path = Path("runs"), groups: Sequence[str] | None = None, **known: Any
) -> Model:
    """Load a model, with all that is known of its evaluations in its card.

    Args:
        source: see ``load_model``.
        root: the folder of all runs, in which evaluations of these weights are looked for.
        groups: columns with groups of people, by which its scores are told apart; those of ``GROUPS`` that the
            evaluations have, if not given.
        known: values of the card that are known better: ``name``, ``licence``.

    Raises:
        CheckpointError: if there is no such model or it is damaged.
        ConfigError: if its network cannot be built here, or a group column is not there.
        DataError: if an evaluation of it is damaged.
    """
    model = load_model(source, root)
    checkpoint, training = checkpoint_of(source, root), dict(model.card.training)
    if checkpoint is not None and checkpoint.suffix == ".ckpt":
        training |= training_facts(checkpoint)
    training["terms"] = training.get("terms") or _terms(str(training.get("data", "")))
    metrics = {**model.card.metrics, **evaluations_of(model, Path(source).expanduser(), root, groups)}
    metrics = dict(sorted(metrics.items(), key=lambda each: each[1].get("split", each[0]) != "test"))  # tests first
    given = {name: value for name, value in known.items() if value}
    model.card = replace(model.card, training=training, metrics=metrics, **given)
    return model


def training_facts(path: Path) -> dict[str, Any]:
    """Return what is known of the training that wrote a checkpoint, as plain values.

    Returns:
        ``data`` (class path), ``seed``, ``configuration`` by key, ``checkpoint, sha256``,
        ``calibrated`` (sentences of ``calibration.json``) and, from the lineage, ``code, sources, monitor, started,
        seconds, environment, device, parents``.
    """
    content, run = read_checkpoint(path, mapped=True), run_folder_of(path.absolute())
    config, node = content.get(CONFIG_KEY, {}), content.get(LINEAGE_KEY, {}).get("node")
    data = str(config.get("data", {}).get("class_path", ""))
    facts: dict[str, Any] = {"data": data, "seed": config.get("seed_everything")}
    facts["configuration"] = dict(_configuration(config))
    facts |= {"checkpoint": path.name, "sha256": file_digest(path, "sha256")}
    facts["calibrated"] = [] if run is None else _calibrated(run, content.get("global_step"))
    try:
        nodes = [] if run is None else Run(run).lineage
    except FERError:
        nodes = []
    if not nodes:
        return {**facts, "code": {}}
    own = next((each for each in nodes if each.id == node), nodes[-1])
    return {**facts, **_of_lineage(own, nodes)}


def _calibrated(run: Path, step: int | None) -> list[str]:
    """Return what the calibration of a run says of the checkpoint of a step, in sentences; none if it says nothing."""
    try:
        found = json.loads((run / CALIBRATION).read_text(encoding="utf-8"))
        return [str(verdict) for verdict in found.get("verdicts", [])] if found.get("step") == step else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{run / CALIBRATION} is damaged: {error}: run fer calibrate again") from error


def _of_lineage(own: Node, nodes: Sequence[Node]) -> dict[str, Any]:
    here = {"hostname"}  # says more of its owner than of the model
    return {
        "code": dict(own.code),
        "sources": list(own.data.get("sources", [])),
        "monitor": dict(own.monitor),
        "started": nodes[0].started,
        "seconds": round(sum(node.wall_s for node in nodes)),
        "environment": {name: value for name, value in own.environment.items() if name not in here},
        "device": dict(own.device),
        "parents": [
            {
                "checkpoint": "/".join(Path(node.parent.checkpoint).parts[-4:]).lstrip("/"),
                "sha256": node.parent.sha256,
                "weights_only": node.parent.weights_only,
            }
            for node in nodes
            if node.parent is not None
        ],
    }


def _configuration(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values that decide what is learned, without paths, which say where somebody keeps files."""
    trainer = ("trainer.max_epochs", "trainer.precision", "trainer.accumulate_grad_batches")
    unused = (*_PATHS, *_OF_THE_MACHINE, *(() if config.get("model", {}).get("teacher") else _OF_A_TEACHER))
    for key, value in flat(config):
        wanted = key in trainer or key.startswith(("model.", "data.", "trainer.callbacks", "trainer.gradient_clip"))
        off = any(type(value) is type(one) and value == one for one in _OFF)  # 0 is a value, and equal to False
        if wanted and not off and key not in unused:
            yield key, value


def _terms(class_path: str) -> str:
    """Return the terms of a data set, as its module states them; empty if it does not."""
    module, _, name = class_path.rpartition(".")
    if not module.startswith("fer_lightning."):
        return ""
    try:
        place = inspect.getmodule(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError):
        return ""
    found = _TERMS.search(f"{sys.modules[place.__name__].__doc__}\n" if place is not None else "")
    return "" if found is None else " ".join(found[1].split())


def evaluations_of(
    model: Model, source: Path, root: Path, groups: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the evaluations of a model's weights: those of its run, and those of other places in the folder of runs.

    Returns:
        By name (``test``, ``val``, ``test-0a1b2c3d``) plain values of the report, with ``settings``, ``fingerprint``,
        ``precision`` and ``groups``.
    """
    if not isinstance(model.backend, TorchBackend):
        return {}
    digest = weights_digest(model.backend.network.state_dict())
    own = _run_of(source)
    found: dict[str, dict[str, Any]] = {}
    for folder, name, report in _reports(own, root):
        context = report.get("context", {})
        of_training = own == folder and name == "val" and "weights" not in context
        older = own == folder and name == "test" and "weights" not in context
        if not (of_training or older or context.get("weights") == digest):
            continue
        if (of_training or older) and not _is_of_best(source, folder, folder / name):
            continue
        try:
            values = _values(report, folder / name, groups)
        except DataError:
            if folder == own:
                raise
            continue  # what is wrong with another run is no reason to say nothing of this one
        key = report["split"] if not values["settings"] else f"{report['split']}-{context['evaluation']}"
        if key not in found or found[key]["fingerprint"] == values["fingerprint"]:
            found[key] = values  # a later one is of fer validate, in float32
        else:
            found[f"{report['split']}-{context.get('evaluation', folder.name)}"] = values
    return found


def _reports(own: Path | None, root: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    folders = [] if own is None else [own]
    folders += [each for each in run_folders(root) if own is None or each.resolve() != own.resolve()]
    for folder in folders:
        for name, report in Run(folder).evaluations.items():
            if isinstance(report.get("split"), str) and isinstance(report.get("per_class"), dict):
                yield folder, name, report


def _run_of(source: Path) -> Path | None:
    """Return the run folder that a path is, or lies in."""
    for folder in (source, source.parent, source.parent.parent):
        if folder.is_dir() and (folder / CHECKPOINTS).is_dir():
            return folder
    return None


def _is_of_best(source: Path, run: Path, place: Path) -> bool:
    """Tell whether a report that does not know its weights is of the best checkpoint, which is the one asked for."""
    best = run / CHECKPOINTS / BEST
    is_best = source.is_dir() or source.name == BEST
    report = place / "report.json"
    return is_best and (place.name == "val" or report.stat().st_mtime >= best.stat().st_mtime)


def _values(report: Mapping[str, Any], place: Path, groups: Sequence[str] | None) -> dict[str, Any]:
    context = report.get("context", {})
    prints = context.get("data", {}).get("fingerprints", {})
    sure = report.get("uncertainty") or {}
    values = {name: report.get(name) for name in (*_SCORES, *_FURTHER)}
    for score in ("accuracy", "f1_macro"):
        if isinstance(sure.get(score), dict):
            values[f"{score}_ci95"] = [sure[score]["low"], sure[score]["high"]]
    return {
        **values,
        "settings": dict(context.get("settings", {})),
        "precision": context.get("precision"),
        "fingerprint": prints.get(report["split"], ""),
        "data": context.get("data", {}).get("datamodule", ""),
        "groups": _groups(place, groups),
    }


def _groups(place: Path, wanted: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return scores by groups of people, of the columns of an evaluation's predictions; none where it has none."""
    if not (place / PREDICTIONS).is_file():
        return []
    predictions = read_predictions(place)
    if wanted is None:
        columns = {name: predictions.groups[name] for name in GROUPS if name in predictions.groups}
        wanted = [name for name, column in columns.items() if len({*np.char.strip(column).tolist()} - {""}) > 1]
    if not wanted or (predictions.digests == "").any():
        return []
    return [
        {
            "name": each["name"],
            "groups": [{key: group[key] for key in _OF_A_GROUP} for group in each["groups"]],
            "gap": each["gap"],
        }
        for each in audit(predictions, attributes_of(predictions, wanted))["attributes"]
    ]


_OF_A_GROUP = ("name", "images", "accuracy", "accuracy_low", "accuracy_high", "f1_macro", "too_few")
