"""Which evaluation a command line asks for, and the folder that its report goes into."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from fer_lightning.callbacks.evaluated import Subject
from fer_lightning.callbacks.provenance import code_state
from fer_lightning.cli.known_options import DEFAULT_ROOT
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.errors import DataError
from fer_lightning.runs.looks import look_at
from fer_lightning.runs.records import REPORT, Run
from fer_lightning.runs.trained_on import read_trained_on
from fer_lightning.types import Preprocessing

__all__ = ["changed_network", "evaluation_folder", "subject_of"]

_FLOAT32 = ("32-true", "32", 32, None)
_SPLITS = {"validate": "val", "test": "test", "predict": "test"}
_LIMITS = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}


def subject_of(cli: FERCLI) -> Subject:
    """Return what ``fer validate``, ``test`` or ``predict`` looks at; the data is read.

    Raises:
        DataError: if the data is not there, damaged, or lacks the split.
    """
    assert cli.checkpoint is not None  # an evaluation has one
    cli.datamodule.prepare_data()
    cli.datamodule.check(cli.verb)
    table, split = cli.datamodule.table, _SPLITS[cli.verb]
    root = Path(cli.config["trainer"]["default_root_dir"] or DEFAULT_ROOT)
    shown = split, table.fingerprint(split), len(table.rows(split))
    root, look = look_at(cli.checkpoint, cli.verb, shown, root, _settings(cli), code_state()["commit"] or "")
    named = json.dumps(look.key)
    key = hashlib.sha256(named.encode()).hexdigest()[:8]
    return Subject(look, key, root, read_trained_on(cli.checkpoint), tuple(map(str, cli.members)))


def evaluation_folder(run: Path | None, verb: str, subject: Subject) -> Path | None:
    """Return where in a run folder an evaluation is written, ``None`` if there is no run, or it cannot be written to.

    ``<verb>`` holds the first one; another one, of other weights, another split or other settings, is in
    ``<verb>-<id>``. The same evaluation replaces its own files only.
    """
    if run is None or not os.access(run, os.W_OK):
        return None
    first = run / verb
    if not (first / REPORT).exists():
        return run / f"{verb}-{subject.id}" if first.is_file() else first
    try:
        known = Run(run).report(verb)["context"]["evaluation"] == subject.id
    except (DataError, KeyError, TypeError):  # of an older version, or damaged: not to be overwritten
        known = False
    return first if known else run / f"{verb}-{subject.id}"


def changed_network(cli: FERCLI) -> dict[str, str]:
    """Return what a command line has changed of the network and its input against the checkpoint, by option."""
    prepared = {f"data.{name}" for name in Preprocessing.__annotations__}
    return {
        change.key: str(change.after)
        for change in cli.lineage.changes
        if (change.key.startswith("model.") and not change.harmless) or change.key in prepared
    }


def _settings(cli: FERCLI) -> dict[str, str]:
    """Return what an evaluation has changed of what decides its answers, by option."""
    changed, trainer = changed_network(cli), cli.config["trainer"]
    if trainer["precision"] not in _FLOAT32:
        changed["trainer.precision"] = str(trainer["precision"])
    limit = _LIMITS[cli.verb]
    if str(trainer[limit]) not in ("None", "1.0"):  # 1 is a single batch
        changed[f"trainer.{limit}"] = str(trainer[limit])
    return dict(sorted(changed.items()))
