"""A comparison of arms: checks them, runs what is lacking, each run in a process of its own, and reports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.cli.stored_config import peek
from fer_lightning.errors import ConfigError, DataError, FERError
from fer_lightning.evaluation.spread import Key
from fer_lightning.files import json_text, write_atomically
from fer_lightning.runs.changes import what_differs
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS
from fer_lightning.runs.folder import newest_run, run_folders
from fer_lightning.runs.records import Run
from fer_lightning.studies.child_runs import fit_in_child
from fer_lightning.studies.crossval.arms import arm_settings
from fer_lightning.studies.crossval.comparison import check_alike, compare
from fer_lightning.studies.crossval.options import Arm, CrossvalOptions
from fer_lightning.studies.crossval.page import terminal_table
from fer_lightning.studies.crossval.report import write_comparison
from fer_lightning.studies.crossval.run_result import TRAINED, RunResult, read_run
from fer_lightning.studies.rehearsal import config_values, rehearsed

__all__ = ["Facts", "check_facts", "run_comparison"]

STUDY = "study.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Facts:
    """What is known of an arm before its first run: configuration and data, of the first fold where there are folds.

    Attributes:
        values: of every key of its configuration.
        class_names: in label order.
        fingerprints: of its splits.
        counts: images of each split.
        digests: uint8 ``(rows of the samples table, D)``: content hashes.
    """

    values: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprints: dict[str, str]
    counts: dict[str, int]
    digests: NDArray[np.uint8]


@dataclass
class _Progress:
    """The finished and missing runs of a study, and the first result of each fold, which others are compared with."""

    done: list[RunResult] = field(default_factory=list)
    missing: list[tuple[str, int, int]] = field(default_factory=list)
    first: dict[int, RunResult] = field(default_factory=dict)


def run_comparison(options: CrossvalOptions) -> int:
    """Run what a comparison lacks, and write the report; return 0 if all runs are finished, 1 if some failed.

    Raises:
        FERError: for whatever a user can mend.
        SystemExit: if a signal came; finished runs stay, the interrupted one is resumed by the next call.
    """
    folder = Path(peek([*(f"--config={file}" for file in options.configs), *options.flags])[2]) / options.name
    facts = {arm.name: _look_at(arm, options) for arm in options.arms}
    check_facts(facts, options.test)
    _check_study(folder, facts)
    print(f"{_plan(options)}; results will be in {folder}", flush=True)
    progress = _Progress()
    try:
        _run_all(options, folder, facts, progress)
    except SystemExit:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    arms = [arm.name for arm in options.arms]
    settings = arm_settings({arm: facts[arm].values for arm in arms})
    comparison = compare(options.name, arms, progress.done, options.folds, progress.missing, settings)
    paths = write_comparison(comparison, folder)
    print(f"\n{terminal_table(comparison)}\nreport       {paths['page']}")
    return 1 if progress.missing else 0


def _plan(options: CrossvalOptions) -> str:
    parts = [f"{len(options.arms)} arms"] if len(options.arms) > 1 else []
    parts += [] if options.folds is None else [f"{options.folds} folds"]
    parts.append(f"{len(options.seeds)} seeds" if len(options.seeds) > 1 else "1 seed")
    total = len(options.arms) * (options.folds or 1) * len(options.seeds)
    return f"{' x '.join(parts)}: {total} run{'s' if total > 1 else ''}"


def _look_at(arm: Arm, options: CrossvalOptions) -> Facts:
    """Parse and instantiate an arm and read its data."""
    arguments = [*options.arguments(arm), *_fold_flags(options.folds, 0)]
    try:
        cli = rehearsed(arguments)
        data = cli.datamodule
        data.setup("fit")
        if options.test:
            data.setup("test")
        cli.model.take_class_counts(data)
        described, names = data.describe(), tuple(data.class_names)
        return Facts(config_values(cli), names, described["fingerprints"], described["counts"], data.table.digests)
    except FERError as error:
        raise type(error)(f"arm '{arm.name}': {error}") from error


def _fold_flags(folds: int | None, fold: int) -> list[str]:
    return [] if folds is None else [f"--data.folds={folds}", f"--data.fold={fold}"]


def check_facts(facts: dict[str, Facts], test: bool) -> None:
    """Check before the first run that all arms can be compared with the first one, on test images too if ``test``.

    Raises:
        DataError: if they have other classes or are evaluated on other images.
        ConfigError: if two arms would learn the same.
    """
    for (first, one), (second, other) in combinations(facts.items(), 2):
        if one.fingerprints == other.fingerprints and not what_differs(one.values, other.values):
            raise ConfigError(
                f"arms '{first}' and '{second}' would give the same: nothing differs that training depends on. A file "
                "of an arm changes the keys that it names and keeps the others: name the value itself, such as "
                "label_smoothing: 0.0"
            )
    scores: dict[str, Any] = {split: {} for split in (("val", "test") if test else ("val",))}
    results = [
        RunResult(name, (0, 0), Path(), scores, {}, found.class_names, found.fingerprints, found.counts)
        for name, found in facts.items()
    ]
    for result in results[1:]:
        check_alike(result, results[0])


def _check_study(folder: Path, facts: dict[str, Facts]) -> None:
    """Write the configuration of each arm to ``study.json``; refuse an arm that stands there otherwise."""
    path, stored = folder / STUDY, {}
    if path.is_file():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))["arms"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is damaged ({error}); choose another --name, or move {folder} away") from error
    for name, found in facts.items():
        before = stored.get(name)
        if before is None:
            continue
        changes = what_differs(before["values"], found.values)
        changes += [
            f"the {split} images"
            for split in ("train", "val", "test")
            if before["fingerprints"].get(split) != found.fingerprints.get(split)
        ]
        if changes:
            shown = ", ".join(changes[:3]) + (" ..." if len(changes) > 3 else "")
            raise ConfigError(
                f"{folder} holds runs of arm '{name}' with other settings ({shown}): choose another --name, or give "
                "the arm another name"
            )
    arms = {name: {"values": found.values, "fingerprints": found.fingerprints} for name, found in facts.items()}
    write_atomically(path, json_text({"schema": _SCHEMA, "arms": {**stored, **arms}}))


def _run_all(options: CrossvalOptions, folder: Path, facts: dict[str, Facts], progress: _Progress) -> None:
    """Run all arms with one fold and seed before the next, so that a study that stops early can be compared."""
    keys = [(fold, seed) for fold in range(options.folds or 1) for seed in options.seeds]
    total = len(keys) * len(options.arms)
    for number, (key, arm) in enumerate(((key, arm) for key in keys for arm in options.arms), start=1):
        fold = "" if options.folds is None else f" fold {key[0]}"
        label = f"[{number}/{total}] {arm.name}{fold} seed {key[1]}"
        result = _run(options, folder, arm, key, facts[arm.name], label)
        if result is None:
            progress.missing.append((arm.name, *key))
            continue
        check_alike(result, progress.first.setdefault(key[0], result))
        progress.done.append(result)
        split = "test" if "test" in result.scores else "val"
        scores = result.scores[split][TRAINED]
        shown = [
            f"{title} {100 * value:.2f}"
            for title, name in (("macro F1", "f1_macro"), ("accuracy", "accuracy"))
            if (value := scores[name]) is not None
        ]
        print(f"{label}: {split} {', '.join(shown)} %", flush=True)
    if not progress.done:
        raise DataError(f"{folder}: every run failed; what they said is in fit.log beside each of them")


def _run(options: CrossvalOptions, folder: Path, arm: Arm, key: Key, facts: Facts, label: str) -> RunResult | None:
    """Return one run, which is trained and tested if it is not finished; ``None`` if it failed."""
    name = f"seed{key[1]}" if options.folds is None else f"fold{key[0]}_seed{key[1]}"
    root = folder / arm.name
    log = root / name / "fit.log"
    run = newest_run(root, name)
    if run is None or Run(run).status != "finished":
        print(f"{label} ...", flush=True)
    flags = [*_fold_flags(options.folds, key[0]), f"--seed_everything={key[1]}", *_pinned(root, facts)]
    ended = fit_in_child([*options.arguments(arm), *flags], root=root, name=name, log=log)
    code, message = ended.exit_code, ended.message
    if code == 0 and options.test:
        code, message = _test(ended.folder, facts, root / name / "test.log")
    if code:
        if code == 2:
            raise ConfigError(f"{label}: {message}")
        print(f"{label}: failed ({message}); see {log}", file=sys.stderr, flush=True)
        return None
    return read_run(arm.name, key, ended.folder, facts.digests)


def _pinned(root: Path, facts: Facts) -> list[str]:
    """Return the flag by which later runs of an arm take the precision that its first run measured to be fastest."""
    if facts.values["trainer"].get("precision") is not None:
        return []
    for folder in run_folders(root):
        with suppress(FERError, KeyError, TypeError):  # not evaluated yet, or damaged: the next one may tell
            return [f"--trainer.precision={Run(folder).report('val')['context']['precision']}"]
    return []


def _test(folder: Path, facts: Facts, log: Path) -> tuple[int, str]:
    """Evaluate the best checkpoint of a run on the test split unless that is done; return exit code and error."""
    if Run(folder).evaluation("test", folder / CHECKPOINTS / BEST) is not None:
        return 0, ""
    command: Sequence[str] = [
        *(sys.executable, "-m", "fer_lightning", "test", f"--ckpt_path={folder}", "--trainer.devices=1"),
        f"--trainer.accelerator={facts.values['trainer'].get('accelerator', 'auto')}",
        f"--report.pictures={str(facts.values['report']['pictures']).lower()}",
        "--trainer.enable_progress_bar=false",
    ]
    with log.open("wb") as output:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode
    if code == 0:
        return 0, ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return code, f"the test ended with {code}: {lines[-1].strip() if lines else 'no word'}, see {log}"
