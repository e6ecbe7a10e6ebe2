"""A study: proposes settings, trains each in a child process, and can be killed and shared at any moment."""

from __future__ import annotations

import itertools
import logging
import math
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from fer_lightning.cli.stored_config import peek
from fer_lightning.errors import ConfigError, FERError
from fer_lightning.runs.lock import Holder, lock_run_folder
from fer_lightning.runs.records import History, Run
from fer_lightning.signals import stopping_at_once
from fer_lightning.studies.child_runs import ChildResult, fit_in_child
from fer_lightning.studies.tune.config import Base, check_metric, check_space, read_base
from fer_lightning.studies.tune.options import TuneOptions
from fer_lightning.studies.tune.results import Results, counted, rows_of, trial_line
from fer_lightning.studies.tune.search_space import SearchSpace, Value, as_flags, load_space
from fer_lightning.studies.tune.storage import identify, open_storage
from fer_lightning.text import folded

__all__ = ["Verdict", "has_turn", "is_abandoned", "run_search", "trial_verdict"]

OWNER, RUN, MESSAGE, SECONDS, SURPLUS = "owner", "run", "message", "seconds", "surplus"
"""What a trial's user attributes say: the process that trains it, its run folder, why it failed, how long it took, and
whether it is one more than was asked for."""

PRECISION = "precision"
"""The study's user attribute that says which precision its trials have on which machine, where none is asked for."""
OWNERLESS_SECONDS = 60.0
"""A trial is given its owner right after it is created; one that still has none by then was left by a dead process."""
FAILURES = 3
"""The study stops if its first trials, this many, all failed: other settings would not help."""


@dataclass(frozen=True)
class Verdict:
    """Result of a trial: its best value (``None`` if it has none) and why it failed, else an empty message."""

    state: TrialState
    value: float | None
    message: str


def trial_verdict(result: ChildResult, metric: str, mode: str) -> Verdict:
    """Judge a trial by how its run ended."""
    values = [row[metric] for row in result.history if math.isfinite(row.get(metric, math.nan))]
    best = (max(values) if mode == "max" else min(values)) if values else None
    if result.stopped:
        return Verdict(TrialState.PRUNED, best, "")
    if result.exit_code != 0:
        return Verdict(TrialState.FAIL, best, result.message or f"ended with exit code {result.exit_code}")
    if best is None:
        logged = ", ".join(sorted({name for row in result.history for name in row if name.startswith("val_")}))
        return Verdict(TrialState.FAIL, None, f"no finite {metric} in any epoch; there is: {logged or 'nothing'}")
    return Verdict(TrialState.COMPLETE, best, "")


def has_turn(number: int, trials: Sequence[FrozenTrial], total: int) -> bool:
    """Tell whether a trial is among the ``total`` that are asked for.

    Processes that share a study may each begin a trial at the same moment, so that there are more than ``total``.
    Storages number trials without gaps, so that all processes agree on which ones are surplus.
    """
    return sum(trial.number < number for trial in counted(trials)) < total


def is_abandoned(trial: FrozenTrial, now: datetime) -> bool:
    """Tell whether a trial is marked as running and its process is known to be gone from this machine."""
    if trial.state != TrialState.RUNNING:
        return False
    owner = trial.user_attrs.get(OWNER)
    if owner is None:
        begun = trial.datetime_start
        return begun is None or (now - begun).total_seconds() > OWNERLESS_SECONDS
    return Holder(**owner).is_gone


def run_search(options: TuneOptions, of_fit: Sequence[str]) -> int:
    """Run or resume a study; see ``fer_lightning.commands.tune.tune``."""
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(logging.ERROR)
    space = load_space(options.space)
    if options.sampler == "grid":
        _grid(space)
    _, name, root = peek(list(of_fit))
    study_name = options.study or f"{name}_tune"
    folder = Path(root) / study_name
    with stopping_at_once():
        base = read_base(of_fit)
        check_metric(options.metric, base)
        check_space(of_fit, space, options.space)
        with _storage_errors(options.storage):
            storage = open_storage(options.storage or str(folder / "study.log"))
            study = optuna.create_study(
                study_name=study_name,
                storage=storage,
                sampler=optuna.samplers.RandomSampler(options.seed),
                pruner=_pruner(options, base.epochs),
                direction="maximize" if options.mode == "max" else "minimize",
                load_if_exists=True,
            )
            identify(study, base.values, space, options.metric, options.mode)
            return _StudyRun(study, space, base, options, list(of_fit), folder).run()


@contextmanager
def _storage_errors(where: str | None) -> Iterator[None]:
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        reason = folded(error.__cause__ or error, 300)
        raise FERError(f"the storage {where or 'of the study'} does not answer: {reason}") from error


def _pruner(options: TuneOptions, epochs: int) -> optuna.pruners.BasePruner:
    if options.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max(1, options.warmup), epochs or "auto", 3)
    if options.pruner == "median":
        # steps are epochs from 0: the first that may be the last is the one after the warm-up
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=options.warmup)
    return optuna.pruners.NopPruner()


def _grid(space: SearchSpace) -> list[dict[str, Value]]:
    values = itertools.product(*(parameter.grid() for parameter in space.values()))
    return [dict(zip(space, one, strict=True)) for one in values]


class _StudyRun:
    """The trials of a study that this process trains."""

    def __init__(
        self, study: optuna.Study, space: SearchSpace, base: Base, options: TuneOptions, of_fit: list[str], folder: Path
    ) -> None:
        self.study = study
        self.space = space
        self.base = base
        self.options = options
        self.of_fit = of_fit
        self.folder = folder
        self.grid = _grid(space) if options.sampler == "grid" else []
        self.total = min(options.trials, len(self.grid)) if self.grid else options.trials
        self.results = Results(study, space, of_fit, options, folder)
        self.began = time.monotonic()
        length = self.total * base.epochs if base.epochs else None
        self.bar = tqdm(total=length, unit="epoch", disable=None, leave=False, dynamic_ncols=True)

    def run(self) -> int:
        """Train trials until there are enough, and return the exit code."""
        rows = rows_of(self.study)
        open_ones = sum(row.state == "running" for row in rows)
        begun = f", {len(rows) - open_ones} of them done" if rows else ""
        print(f"study {self.study.study_name}: {self.total} trials{begun}; results in {self.folder}")
        try:
            while (trial := self._next()) is not None:
                self._train(trial)
        except SystemExit as stop:
            self.bar.close()
            print("interrupted; the same command goes on with the study")
            return stop.code if isinstance(stop.code, int) else 1
        finally:
            self.bar.close()
            self.results.write(last=True)
        return self._conclude()

    def _conclude(self) -> int:
        rows = rows_of(self.study)
        elsewhere = [row.number for row in rows if row.state == "running"]
        if elsewhere:
            print(f"trials that other processes still train: {', '.join(map(str, elsewhere))}")
        elif not any(row.state == "complete" for row in rows):
            raise FERError(f"none of the {len(rows)} trials came to its end: see {self.folder / 'trials.csv'}")
        print(self.results.table())
        return 0

    def _next(self) -> Trial | None:
        """Return the next trial to train: one that a dead process left, or a new one; ``None`` if there is none."""
        late = self.options.timeout is not None and time.monotonic() - self.began > self.options.timeout
        trial = None if late else self._take_over() or self._draw()
        if trial is None:
            return None
        self.study.sampler = self._sampler(trial.number)
        return Trial(self.study, trial._trial_id)  # made anew: the sampler is asked when a trial is made

    def _take_over(self) -> Trial | None:
        if not any(is_abandoned(trial, datetime.now()) for trial in self._trials()):
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_run_folder(self.folder)  # only one of several processes takes it over
        except ConfigError:
            return None  # another process does; look again before the next trial
        try:
            for frozen in self._trials():
                if is_abandoned(frozen, datetime.now()):
                    trial = Trial(self.study, frozen._trial_id)
                    trial.set_user_attr(OWNER, asdict(Holder.myself()))
                    tqdm.write(f"trial {frozen.number}: goes on; the process that began it is gone")
                    return trial
        finally:
            lock.release()
        return None

    def _draw(self) -> Trial | None:
        if len(counted(self._trials())) >= self.total:
            return None
        trial = self.study.ask()
        trial.set_user_attr(OWNER, asdict(Holder.myself()))
        if has_turn(trial.number, self._trials(), self.total):
            return trial
        trial.set_user_attr(SURPLUS, True)
        self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return a sampler seeded by the trial: an interrupted study proposes what an uninterrupted one would have."""
        seed = int(np.random.SeedSequence([self.options.seed, number]).generate_state(1)[0])
        if self.grid:
            return optuna.samplers.PartialFixedSampler(
                self.grid[self._place(number)], optuna.samplers.RandomSampler(seed)
            )
        if self.options.sampler == "random":
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _train(self, trial: Trial) -> None:
        """Train one trial and tell the study what came out."""
        values = {key: parameter.suggest(trial) for key, parameter in self.space.items()}
        name = f"trial_{trial.number:04d}"
        trial.set_user_attr(RUN, str(self.folder / name))
        monitor = [f"--checkpoint.monitor={self.options.metric}", f"--checkpoint.mode={self.options.mode}"]
        follower = _Follower(trial, self.options.metric, self.base.epochs, self.bar, self._place(trial.number))
        began = time.monotonic()
        try:
            result = fit_in_child(
                [*self.of_fit, *self._precision(), *as_flags(values), *monitor],
                root=self.folder,
                name=name,
                log=self.folder / name / "log.txt",
                follow=follower,
            )
        finally:
            trial.set_user_attr(SECONDS, trial.user_attrs.get(SECONDS, 0.0) + time.monotonic() - began)
        follower.report(result.history)
        self._keep_precision(result.folder)
        self._tell(trial, result)

    def _precision(self) -> list[str]:
        """Return the precision that the first trial on this machine has measured to be fastest.

        Measured anew it might come out otherwise for the next one, and trials would differ in more than their settings.
        """
        known = self.study.user_attrs.get(PRECISION, {}).get(socket.gethostname())
        return [f"--trainer.precision={known}"] if known and self.base.values["trainer"]["precision"] is None else []

    def _keep_precision(self, folder: Path) -> None:
        if not self._precision() and (config := Run(folder).config):
            chosen = config["trainer"]["precision"]
            known = self.study.user_attrs.get(PRECISION, {})
            self.study.set_user_attr(PRECISION, {**known, socket.gethostname(): chosen})

    def _place(self, number: int) -> int:
        return sum(trial.number < number for trial in counted(self._trials()))

    def _tell(self, trial: Trial, result: ChildResult) -> None:
        outcome = trial_verdict(result, self.options.metric, self.options.mode)
        if outcome.message:
            trial.set_user_attr(MESSAGE, outcome.message)
        trial.set_user_attr(RUN, str(result.folder))
        self.study.tell(trial, outcome.value if outcome.state == TrialState.COMPLETE else None, outcome.state)
        rows = rows_of(self.study)
        row = next(row for row in rows if row.number == trial.number)
        tqdm.write(trial_line(row, self.options.metric, self.space))
        self.results.write()
        done = [row for row in rows if row.state != "running"]
        if len(done) >= FAILURES and all(row.state == "failed" for row in done):
            kind = ConfigError if result.exit_code == 2 else FERError
            raise kind(f"all of the first {len(done)} trials failed, the last: {outcome.message} (see {row.run})")


class _Follower:
    """Reports the epochs of a trial to its study, and asks whether it may go on."""

    def __init__(self, trial: Trial, metric: str, epochs: int, bar: Any, place: int) -> None:
        self.trial = trial
        self.metric = metric
        self.epochs = epochs
        self.bar = bar
        self.place = place
        frozen = next(one for one in trial.study.get_trials(deepcopy=False) if one.number == trial.number)
        self.reported = set(frozen.intermediate_values)

    def report(self, history: History) -> None:
        """Report the epochs that are new."""
        for row in history:
            epoch, value = int(row["epoch"]), row.get(self.metric)
            if value is not None and epoch not in self.reported:
                self.trial.report(value, epoch)
                self.reported.add(epoch)

    def __call__(self, history: History) -> bool:
        """Report, move the bar, and tell whether the trial may go on."""
        self.report(history)
        self.bar.n = self.place * self.epochs + len(history)
        value = history[-1].get(self.metric, math.nan)
        self.bar.set_description(f"trial {self.trial.number}, {self.metric} {value:.4f}")
        is_last = bool(self.epochs) and len(history) >= self.epochs  # nothing is saved by pruning it
        return is_last or not self.trial.should_prune()
