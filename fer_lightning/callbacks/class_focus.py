"""Adaptive class focus: classes that are recognised worse are drawn more often."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.callbacks.checkpoints import is_rehearsal
from fer_lightning.callbacks.focus_rules import (
    FocusPlan,
    RegretRule,
    RegretState,
    bottom_k_draws,
    ceilings_of,
    natural_draws,
    static_draws,
)
from fer_lightning.callbacks.reports import datamodule_of
from fer_lightning.data.table.samples import FOCUS
from fer_lightning.errors import ConfigError
from fer_lightning.files import csv_text, write_atomically
from fer_lightning.metrics import class_scores, confusion_matrix

__all__ = ["ClassFocus"]

Mode = Literal["static", "bottom_k", "regret"]

_PER_CLASS = ("draws", "weight", "focus_f1", "reason")


class ClassFocus(Callback):
    """Draws the classes that are recognised worst more often; an epoch keeps its length.

    Modes:
        - ``static``: always ``n^power`` draws of a class, so the rare ones more often than they stand in the data.
        - ``bottom_k``: after each epoch, the images of the ``k`` classes of lowest F1 weigh ``weight`` times the others
          in the next one. A preset for comparison: it reacts to noise, and changes the class prior that
          the network learns.
        - ``regret``: a class is drawn more often the further its F1 is below what its labels allow; its weight changes
          slowly, has bounds, and does not grow where the training F1 is far above. Each image is drawn once at the
          beginning of the run and again towards its end (``RegretRule`` has the numbers).

    A class that is drawn more often is also predicted more often: ``--model.prior_correction true`` corrects for that.

    F1 comes from the focus part, training images that ``--data.focus_fraction 0.1`` sets apart, at the last validation
    of an epoch. The test split is never used. State is the same on all processes and is in checkpoints, so that a
    resumed run draws the same as an uninterrupted one.

    Written: ``class_focus.csv``, a row for each epoch: what it drew and why, and the F1 after it. Logged to TensorBoard
    under ``focus/``.

    Args:
        mode: ``static``, ``bottom_k`` or ``regret``.
        source: ``focus``, or ``val``: the validation split, which then decides both what is drawn and which
            checkpoint is kept; its scores are too optimistic.
        k: number of classes in focus, of ``bottom_k``.
        weight: how many times as much they weigh, of ``bottom_k``; 3 to 5 are usual.
        power: of ``static``; 0.5 is the square root, 0 draws all classes alike.
        max_repeats: times that an image may be drawn in an epoch.
        warmup: share of the run in which each image is drawn once, of ``regret``.
        release: share of the run, at its end, in which draws go back to that, of ``regret``.
        gamma: how fast weights grow with regret, of ``regret``.
        ceilings: F1 that a class can reach, by name, of ``regret``; ``null`` for the seven of FER2013, and 1 for
            classes of other sets.

    Raises:
        ConfigError: for a value that makes no sense.
    """

    def __init__(
        self,
        mode: Mode = "regret",
        source: Literal["focus", "val"] = "focus",
        k: int = 2,
        weight: float = 3.0,
        power: float = 0.5,
        max_repeats: float = 4.0,
        warmup: float = 0.25,
        release: float = 0.15,
        gamma: float = 4.0,
        ceilings: dict[str, float] | None = None,
    ) -> None:
        if mode not in ("static", "bottom_k", "regret"):
            raise ConfigError(f"ClassFocus: mode must be static, bottom_k or regret, not '{mode}'")
        if source not in ("focus", "val"):
            raise ConfigError(f"ClassFocus: source must be focus or val, not '{source}': test data is never used")
        if k < 1:
            raise ConfigError(f"ClassFocus: k must be at least 1, not {k}")
        for name, value, low, high in (
            ("weight", weight, 1.0, 100.0),
            ("power", power, 0.0, 1.0),
            ("max_repeats", max_repeats, 1.0, 1000.0),
            ("warmup", warmup, 0.0, 1.0),
            ("release", release, 0.0, 1.0),
            ("gamma", gamma, 0.0, 1000.0),
            *((f"ceilings of {name}", value, 0.01, 1.0) for name, value in (ceilings or {}).items()),
        ):
            if not low <= value <= high:
                raise ConfigError(f"ClassFocus: {name} must be from {low:g} to {high:g}, not {value:g}")
        self.mode = mode
        self.source = source
        self.k = k
        self.weight = weight
        self.power = power
        self.max_repeats = max_repeats
        self.ceilings = ceilings
        self.rule = RegretRule(gamma=gamma, max_repeats=max_repeats, warmup=warmup, release=release)
        self.plan: FocusPlan | None = None
        self.history: list[dict[str, Any]] = []
        self._state: RegretState | None = None
        self._names: tuple[str, ...] = ()
        self._counts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._matrix: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the data fit the mode, and choose the draws of the first epoch.

        Raises:
            ConfigError: if they do not, or another option already chooses the draws.
        """
        if stage != "fit":
            return
        data = datamodule_of(trainer)
        self._names = tuple(data.class_names)
        unknown = sorted(set(self.ceilings or {}) - set(self._names))
        if unknown:
            raise ConfigError(f"ClassFocus: ceilings of '{unknown[0]}', but the classes are {', '.join(self._names)}")
        if self.mode == "bottom_k" and self.k >= len(self._names):
            raise ConfigError(f"ClassFocus: k {self.k} of {len(self._names)} classes puts all of them in focus")
        if self.mode != "static" and self.source == "focus" and not len(data.table.rows(FOCUS)):
            raise ConfigError(
                "ClassFocus needs a part of the training images to go by: --data.focus_fraction 0.1 sets one apart "
                "(or source: val, which then chooses both what is trained and what is kept)"
            )
        if data.resamples:
            raise ConfigError("ClassFocus chooses what is drawn: leave data.balance and data.class_multipliers out")
        if self.mode == "regret" and (trainer.max_epochs is None or trainer.max_epochs < 1):
            raise ConfigError("ClassFocus: mode regret must know the length of the run: set trainer.max_epochs")
        self._counts = np.array(list(data.class_counts.values()), np.int64)
        first = natural_draws(self._counts)
        self._state = RegretState.start(len(self._names))
        if self.mode == "static":
            first = static_draws(self._counts, self.power, self.max_repeats)
        elif self.mode == "regret":
            first = self.rule.plan(self._state, self._counts, 0.0, [""] * len(self._names))
        self.history = []
        self._follow(trainer, first)

    def _follow(self, trainer: Trainer, plan: FocusPlan) -> None:
        self.plan = plan
        datamodule_of(trainer).set_draws(dict(zip(self._names, plan.draws.tolist(), strict=True)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the plan of the checkpoint, if the run goes on from one."""
        assert self.plan is not None  # since setup
        self._follow(trainer, self.plan)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch to the confusion matrix."""
        if trainer.state.fn != "fit" or dataloader_idx != (1 if self.source == "focus" else 0):
            return
        counted = confusion_matrix(outputs["label"], outputs["logits"].argmax(1), len(self._names))
        self._matrix = counted if self._matrix is None else self._matrix + counted

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plan the next epoch, at the last validation of this one."""
        matrix, self._matrix = self._matrix, None
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if matrix is None:
            matrix = torch.zeros((len(self._names),) * 2, dtype=torch.int64, device=pl_module.device)
        counted = trainer.strategy.reduce(matrix, reduce_op="sum") if trainer.world_size > 1 else matrix
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the epoch goes on, with the draws that it began with
        assert isinstance(counted, Tensor)
        self.decide(trainer, counted.cpu().numpy(), self._train_f1(trainer))

    def _train_f1(self, trainer: Trainer) -> NDArray[np.float64]:
        logged = trainer.callback_metrics
        return np.array([float(logged.get(f"train_f1_{name}", np.nan)) for name in self._names])

    def decide(self, trainer: Trainer, matrix: NDArray[np.int64], train_f1: NDArray[np.float64]) -> None:
        """Note how this epoch went, and plan the next one.

        Args:
            trainer: of the run.
            matrix: int64 ``(K, K)`` on the focus part, rows true, columns predicted.
            train_f1: F1 of each class in training, ``(K,)``.
        """
        assert self._state is not None  # since setup
        f1 = class_scores(torch.from_numpy(matrix)).f1.numpy()
        self._note(trainer.current_epoch, f1)
        if self.mode == "static":
            return
        if self.mode == "bottom_k":
            plan = bottom_k_draws(f1, self._counts, self.k, self.weight, self.max_repeats)
        else:
            progress = (trainer.current_epoch + 1) / int(trainer.max_epochs or 1)
            ceilings = ceilings_of(self._names, self.ceilings)
            steer = progress >= self.rule.warmup
            self._state, reasons = self.rule.update(self._state, matrix, train_f1, ceilings, steer)
            plan = self.rule.plan(self._state, self._counts, min(progress, 1.0), reasons)
        self._follow(trainer, plan)
        chosen = [
            f"{self._names[i]} x{plan.draws[i] / max(1, self._counts[i]):.2f}" for i in np.flatnonzero(plan.focused)
        ]
        if chosen and _epoch_follows(trainer):
            rank_zero_info(f"class focus of epoch {trainer.current_epoch + 1}: {', '.join(chosen)}")

    def _note(self, epoch: int, f1: NDArray[np.float64] | None) -> None:
        """Add the row of an epoch: what it drew, why, and how well the classes are recognised after it."""
        assert self.plan is not None  # since setup
        row: dict[str, Any] = {"epoch": epoch, "mode": self.mode}
        row["focused"] = "+".join(self._names[label] for label in np.flatnonzero(self.plan.focused))
        for label, name in enumerate(self._names):
            count, draws = int(self._counts[label]), int(self.plan.draws[label])
            row[f"draws_{name}"] = draws
            row[f"weight_{name}"] = round(draws / count, 6) if count else 0.0
            row[f"focus_f1_{name}"] = None if f1 is None or np.isnan(f1[label]) else round(float(f1[label]), 6)
            row[f"reason_{name}"] = self.plan.reasons[label]
        self.history = [*(past for past in self.history if past["epoch"] < epoch), row]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table and the curves."""
        epoch = trainer.current_epoch
        if not self.history or self.history[-1]["epoch"] != epoch:
            self._note(epoch, None)  # nothing was validated after this epoch
        if not trainer.is_global_zero or is_rehearsal(trainer):
            return
        write_atomically(Path(trainer.default_root_dir) / "class_focus.csv", _csv(self.history, self._names))
        row = self.history[-1]
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name in self._names:
                    logger.experiment.add_scalar(f"focus/weight_{name}", row[f"weight_{name}"], trainer.global_step)
                    logger.experiment.add_scalar(f"focus/draws_{name}", row[f"draws_{name}"], trainer.global_step)
                    if row[f"focus_f1_{name}"] is not None:
                        logger.experiment.add_scalar(f"focus/f1_{name}", row[f"focus_f1_{name}"], trainer.global_step)
                why = [f"- {name}: {row[f'reason_{name}']}" for name in self._names if row[f"reason_{name}"]]
                if why:
                    logger.experiment.add_text("focus/reasons", "\n".join(why), trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return plan, averages and the rows so far."""
        assert self.plan is not None  # since setup
        draws, focused = self.plan.draws.tolist(), self.plan.focused.tolist()
        plan = {"draws": draws, "focused": focused, "reasons": list(self.plan.reasons)}
        state = None if self._state is None else self._state.plain()
        return {"mode": self.mode, "plan": plan, "state": state, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; from one of another mode, only the rows are kept."""
        self.history = state_dict["history"]
        if state_dict["mode"] != self.mode or self.mode == "static":
            return
        draws, focused, reasons = (state_dict["plan"][name] for name in ("draws", "focused", "reasons"))
        self.plan = FocusPlan(np.array(draws, np.int64), np.array(focused, bool), tuple(reasons))
        if state_dict["state"] is not None:
            self._state = RegretState.restored(state_dict["state"])


def _epoch_follows(trainer: Trainer) -> bool:
    return trainer.max_epochs is None or trainer.max_epochs < 0 or trainer.current_epoch + 1 < trainer.max_epochs


def _csv(history: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    columns = ["epoch", "mode", "focused", *(f"{kind}_{name}" for kind in _PER_CLASS for name in names)]
    return csv_text(columns, [[row.get(column, "") for column in columns] for row in history])
