"""What EMA, mixup and erasing cost of a training step, on this machine: ``python -m tests.measure_recipes [NETWORK]``.

Turns of steps without and with them alternate in one process, so that a machine that gets slower or faster meets both;
``--cpu_time`` counts the time of the processor instead of that of the clock, for a machine that others use meanwhile
(with OMP_NUM_THREADS=1: threads that wait for each other count too).
The steps are those of training: batches of the loader, augmentation, forward and backward pass in bfloat16, AdamW.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from fer_lightning.callbacks.ema import EMA
from fer_lightning.data.batches.augment import BatchAugment
from fer_lightning.data.batches.mixing import BatchMix
from fer_lightning.models.task import EmotionTask
from fer_lightning.types import Batch
from tests.helpers.data import StripesDataModule

PARTS = ("erasing", "mixup", "ema")


class Steps:
    """Training steps of one network, with any of the recipes."""

    def __init__(self, network: str, batch_size: int, channels: int) -> None:
        self.data = StripesDataModule(train=20 * batch_size, batch_size=batch_size, image_size=48, channels=channels)
        names = list(self.data.class_names)
        self.task = EmotionTask(
            network, class_names=names, num_classes=len(names), preprocessing=self.data.preprocessing
        )
        self.task.repeated = True  # nothing to log to
        self.optimizer = torch.optim.AdamW(self.task.parameters())
        self.ema = EMA(0.998)
        self.ema.setup(None, self.task, "fit")  # type: ignore[arg-type]  # needs no trainer
        self._batches: Iterator[Batch] = iter(())

    def batch(self) -> Batch:
        found = next(self._batches, None)
        if found is None:
            self._batches = iter(self.data.train_dataloader())
            found = next(self._batches)
        return found

    def step(self, recipes: frozenset[str]) -> None:
        self.data.steps.augment = BatchAugment(erasing=0.3 if "erasing" in recipes else 0.0)
        self.data.steps.mix = BatchMix(0.2) if "mixup" in recipes else None
        batch = self.data.on_after_batch_transfer(self.batch(), 0)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.task.training_step(batch, 0)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
        self.optimizer.step()
        if "ema" in recipes:
            average = self.ema._average_model
            assert average is not None
            average.update_parameters(self.task)


def turn(action: Callable[[], None], steps: int, clock: Callable[[], float]) -> float:
    """Return the seconds of a step."""
    began = clock()
    for _ in range(steps):
        action()
    return (clock() - began) / steps


def measure(network: str, batch_size: int, channels: int, rounds: int, steps: int, clock: Callable[[], float]) -> str:
    """Return a table of medians over the rounds, and of the costs in each round."""
    work = Steps(network, batch_size, channels)
    kinds = [frozenset[str](), *(frozenset({part}) for part in PARTS), frozenset(PARTS)]
    times: dict[frozenset[str], list[float]] = {kind: [] for kind in kinds}
    for kind in kinds:
        turn(lambda kind=kind: work.step(kind), 1, clock)  # type: ignore[misc]  # a default binds it
    for number in range(rounds):
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            times[kind].append(turn(lambda kind=kind: work.step(kind), steps, clock))  # type: ignore[misc]  # likewise
    lines = [f"{network}, batch {batch_size}, {torch.get_num_threads()} threads, {rounds} rounds of {steps} steps"]
    for kind in kinds:
        costs = [after / before - 1 for after, before in zip(times[kind], times[kinds[0]], strict=True)]
        name = "+".join(sorted(kind)) or "plain"
        lines.append(f"{name:20}{statistics.median(times[kind]) * 1e3:9.1f} ms {statistics.median(costs):+8.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="fer_a")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cpu_time", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu_time else time.perf_counter
    print(measure(given.network, given.batch_size, given.channels, given.rounds, given.steps, clock))
