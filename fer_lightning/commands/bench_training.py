"""``fer bench train``: times of the network alone, the data alone, and the whole trainer."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from fer_lightning.callbacks.run_lines import RunLines
from fer_lightning.cli.start import begun
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.models.precision import wait_for
from fer_lightning.models.task import EmotionTask
from fer_lightning.text import table_lines
from fer_lightning.types import Batch

__all__ = ["time_training"]


def time_training(of_fit: list[str], steps: int, rounds: int, against_loop: bool) -> str:
    """Time training: the network alone, the data alone, and the whole trainer.

    ``pure`` repeats one batch: forward, backward, optimizer step. ``data`` fetches, moves and augments batches and does
    nothing with them. ``full`` is the trainer with everything that the config asks for, ``loop`` a bare PyTorch loop
    over batches of the same loader. They take turns, so that a change in the speed of the machine affects all of them.
    The arguments are those of ``fer_lightning.commands.bench.train``; what is returned is a table.
    """
    with tempfile.TemporaryDirectory(prefix="fer_bench_") as folder:
        quiet_flags = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        length = ["--trainer.max_epochs=-1", f"--trainer.max_steps={steps * rounds * 10}"]
        no_validation = ["--trainer.num_sanity_val_steps=0", "--trainer.limit_val_batches=0"]
        root = f"--trainer.default_root_dir={folder}"
        with begun("fit", [*of_fit, *quiet_flags, *length, *no_validation, root]) as cli:
            measured = _Bench(cli, steps)
            timings = measured.run(rounds, against_loop)
    return _summary(timings, measured)


@dataclass
class _Timings:
    """Seconds a step, one number for each turn."""

    pure: list[float] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)


class _TurnTaker(Callback):
    """Runs inside ``fit`` and pauses it every ``steps`` batches to time the other kinds."""

    def __init__(self, steps: int, rounds: int, others: Callable[[Trainer, Batch], None]) -> None:
        self.steps = steps
        self.rounds = rounds
        self.others = others
        self.full: list[float] = []
        self._began = 0.0
        self._done = -2  # steps since the turn began; the first ones warm up

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step; after ``steps`` of them, note the time and run the other kinds."""
        self._done += 1
        if self._done == self.steps:
            wait_for(pl_module.device)
            self.full.append((time.perf_counter() - self._began) / self.steps)
            self.others(trainer, batch)
            if len(self.full) == self.rounds:
                trainer.should_stop = True
            self._done = -1  # one step to warm up
        if self._done == 0:
            wait_for(pl_module.device)
            self._began = time.perf_counter()


class _Bench:
    """Times the four kinds on one task, data module and trainer."""

    def __init__(self, cli: FERCLI, steps: int) -> None:
        self.trainer = cli.trainer
        self.task: EmotionTask = cli.model
        self.data: EmotionDataModule = cli.datamodule
        self.steps = steps
        self.timings = _Timings()
        self.against_loop = False
        self._batches: Iterator[Batch] = iter(())

    def run(self, rounds: int, against_loop: bool) -> _Timings:
        """Take the turns and return the times."""
        self.against_loop = against_loop
        turns = _TurnTaker(self.steps, rounds, self._take_turns)
        callbacks = [each for each in vars(self.trainer)["callbacks"] if not isinstance(each, RunLines)]
        vars(self.trainer)["callbacks"] = [*callbacks, turns]  # it would print a line for each of these epochs
        self.trainer.fit(self.task, datamodule=self.data)
        self.timings.full = turns.full
        return self.timings

    def _take_turns(self, trainer: Trainer, batch: Batch) -> None:
        optimizer = trainer.optimizers[0]
        autocast = trainer.precision_plugin.forward_context
        self.timings.pure.append(self._time(lambda: self._step(batch, optimizer, autocast)))
        self.timings.data.append(self._time(self._fetch))
        if self.against_loop:
            self.timings.loop.append(self._time(lambda: self._step(self._fetch(), optimizer, autocast)))

    def _time(self, action: Callable[[], Any]) -> float:
        action()
        wait_for(self.task.device)
        began = time.perf_counter()
        for _ in range(self.steps):
            action()
        wait_for(self.task.device)
        return (time.perf_counter() - began) / self.steps

    def _step(self, batch: Batch, optimizer: Optimizer, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        with autocast():
            loss = self.task.criterion(self.task(batch["image"]).float(), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _fetch(self) -> Batch:
        batch = next(self._batches, None)
        if batch is None:
            loader = self.data.train_dataloader()
            self._batches = itertools.chain.from_iterable(itertools.repeat(loader))
            batch = next(self._batches)
        moved = {name: value.to(self.task.device, non_blocking=True) for name, value in batch.items()}  # type: ignore[attr-defined]  # all values are tensors
        return self.data.on_after_batch_transfer(moved, 0)  # type: ignore[arg-type]  # a Batch, moved


def _summary(timings: _Timings, bench: _Bench) -> str:
    size = bench.data.batch_size
    names = {
        "pure": "network only, one batch repeated",
        "data": "data only: fetch, move, augment",
        "full": "the whole trainer",
        "loop": "bare PyTorch loop, same batches",
    }
    lines = [
        f"{bench.task.device}, precision {bench.trainer.precision}, batch {size}, {torch.get_num_threads()} threads, "
        f"{len(timings.full)} turns of {bench.steps} steps, median (smallest to largest)",
    ]
    rows: list[tuple[str, ...]] = [("", "ms/step", "spread", "images/s")]
    medians: dict[str, float] = {}
    for name, text in names.items():
        values = getattr(timings, name)
        if values:
            medians[name] = statistics.median(values)
            spread = f"{min(values) * 1e3:.1f} to {max(values) * 1e3:.1f}"
            rows.append((name, f"{medians[name] * 1e3:.1f}", spread, f"{size / medians[name]:,.0f}", text))
    lines += table_lines(rows, left=(0, 4), narrowest=9)
    lines.append(f"data/pure speed {_ratio(timings.pure, timings.data)}")
    lines.append(f"full/pure speed {_ratio(timings.pure, timings.full)}")
    if timings.loop:
        lines.append(f"full/loop speed {_ratio(timings.loop, timings.full)}")
    return "\n".join(lines)


def _ratio(reference: list[float], measured: list[float]) -> str:
    ratios = [ours / theirs for ours, theirs in zip(reference, measured, strict=True)]
    return f"{statistics.median(ratios):.3f} (turns: {min(ratios):.3f} to {max(ratios):.3f})"
