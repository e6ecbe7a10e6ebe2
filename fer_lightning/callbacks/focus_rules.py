"""Which classes an epoch should draw more often: rules of plain numbers, without a trainer.

All rules return the draws of each class and say why. An epoch keeps its length. ``counts`` are the training images of
each class, int64 ``(K,)``; ``max_repeats`` is how often an image may be drawn in an epoch, at least 1. Three rules:

- ``static_draws``: always the same, proportional to ``n^power``.
- ``bottom_k_draws``: the classes of lowest F1 are drawn several times as often; what many reports do.
- ``RegretRule``: bounded, smoothed, and measured against what the labels allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.balance import largest_remainder

__all__ = [
    "CEILINGS",
    "FocusPlan",
    "RegretRule",
    "bottom_k_draws",
    "bounded",
    "ceilings_of",
    "natural_draws",
    "static_draws",
]

CEILINGS = {
    "angry": 0.81, "disgust": 0.90, "fear": 0.80, "happy": 0.94, "sad": 0.73, "surprise": 0.87, "neutral": 0.83,
}  # fmt: skip
"""How well two labels of one photograph in FER2013 agree, as F1: higher scores cannot be expected from such labels."""


@dataclass(frozen=True)
class FocusPlan:
    """What an epoch draws, and why.

    Attributes:
        draws: int64 ``(K,)``: draws of each class; they sum to the number of training images.
        focused: bool ``(K,)``: classes that are drawn more often on purpose.
        reasons: of each class, ``""`` where there is nothing to say.
    """

    draws: NDArray[np.int64]
    focused: NDArray[np.bool_]
    reasons: tuple[str, ...]


def bounded(shares: NDArray[np.float64], counts: NDArray[np.int64], max_repeats: float) -> NDArray[np.int64]:
    """Return draws in proportion to shares, of no class more than ``max_repeats`` times its images.

    Draws beyond that limit go to the other classes, in proportion to their shares.
    Shares are float64 ``(K,)``, 0 or more; draws int64 ``(K,)``, with the sum of ``counts``.
    """
    total = int(counts.sum())
    most = np.floor(counts * max_repeats).astype(np.int64)
    draws = np.zeros(len(counts), np.int64)
    free = (shares > 0) & (counts > 0)
    while True:
        left = total - int(draws.sum())
        if not free.any():
            break
        wanted = np.zeros(len(counts), np.int64)
        wanted[free] = largest_remainder(shares[free], left)
        full = free & (wanted > most)
        if not full.any():
            return draws + wanted
        draws[full] = most[full]
        free &= ~full
    room = np.where(counts > 0, most - draws, 0)  # only classes of share 0 have room left
    return draws + largest_remainder(room.astype(np.float64), left) if left else draws


def natural_draws(counts: NDArray[np.int64], reason: str = "") -> FocusPlan:
    """Return the plan that draws each image once."""
    return FocusPlan(counts.copy(), np.zeros(len(counts), bool), (reason,) * len(counts))


def static_draws(counts: NDArray[np.int64], power: float, max_repeats: float) -> FocusPlan:
    """Return draws proportional to ``n^power``, 0 to 1: 1 draws each image once, 0 all classes alike."""
    shares = np.where(counts > 0, np.power(np.maximum(counts, 1), power, dtype=np.float64), 0.0)
    draws = bounded(shares, counts, max_repeats)
    return FocusPlan(draws, draws > counts, tuple(f"n^{power:g}" if more else "" for more in draws > counts))


def bottom_k_draws(
    f1: NDArray[np.float64], counts: NDArray[np.int64], k: int, weight: float, max_repeats: float
) -> FocusPlan:
    """Return draws in which the images of the ``k`` classes of lowest F1 weigh ``weight`` times the others.

    F1 is float64 ``(K,)``, NaN where not known: such a class is not chosen; of equal F1 the first ones are.
    """
    known = np.flatnonzero(~np.isnan(f1) & (counts > 0))
    chosen = known[np.argsort(f1[known], kind="stable")[:k]]
    focused = np.zeros(len(counts), bool)
    focused[chosen] = True
    draws = bounded(np.where(focused, weight, 1.0) * counts, counts, max_repeats)
    place = {int(label): rank + 1 for rank, label in enumerate(chosen)}
    reasons = tuple(
        f"F1 {f1[label]:.3f}, lowest but {place[label] - 1}" if place.get(label, 1) > 1
        else f"F1 {f1[label]:.3f}, the lowest" if label in place
        else ""
        for label in range(len(counts))
    )  # fmt: skip
    return FocusPlan(draws, focused, reasons)


def ceilings_of(class_names: Sequence[str], given: Mapping[str, float] | None = None) -> NDArray[np.float64]:
    """Return the F1 that each class can reach, float64 ``(K,)``: 1 for all unless all are known.

    Args:
        class_names: the classes in label order.
        given: by name, instead of ``CEILINGS``.
    """
    known = CEILINGS if given is None else given
    if given is None and not set(class_names) <= set(known):
        return np.ones(len(class_names))
    return np.array([known.get(name, 1.0) for name in class_names])


@dataclass(frozen=True)
class RegretState:
    """State of ``RegretRule`` between epochs, ``(K,)`` each; the averages are not yet corrected for their bias.

    Attributes:
        updates: number of epochs seen.
        f1: average of the shrunken F1 on the focus part.
        train_f1: average of the F1 in training.
        log_weights: logarithm of each class's weight.
        best: best averaged F1 since the class is focused, 0 while it is not.
        stale: epochs without a gain since the class is focused; below 0 after a release: the epochs until it may be
            focused again.
    """

    updates: int
    f1: NDArray[np.float64]
    train_f1: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    best: NDArray[np.float64]
    stale: NDArray[np.int64]

    @classmethod
    def start(cls, num_classes: int) -> RegretState:
        """Return the state before the first epoch."""
        zeros = np.zeros(num_classes)
        return cls(0, zeros, zeros, zeros, zeros, np.zeros(num_classes, np.int64))

    def plain(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> RegretState:
        """Return the state that ``plain`` gave."""
        f1, train_f1, log_weights, best = (
            np.array(values[name], np.float64) for name in ("f1", "train_f1", "log_weights", "best")
        )
        return cls(int(values["updates"]), f1, train_f1, log_weights, best, np.array(values["stale"], np.int64))


@dataclass(frozen=True)
class RegretRule:
    """Draws a class more often while that still helps, up to what its labels allow.

    A class's regret is the part of its ceiling that its F1 lacks. F1 is shrunken towards the macro F1, so that few
    images do not decide, and averaged over epochs, so that chance does not. Where the training F1 of a class
    is far above that on the focus part, repetition does not help: its gate closes and its weight does not grow. Weights
    change slowly and within bounds. A class that gained nothing for ``patience`` epochs is not focused for as many.

    Attributes:
        shrink: images of macro F1 that are added to each class's counts.
        smooth: share of the old value in an average.
        gamma: how fast weights grow with regret above the mean.
        gate_from: lead of the training F1 at which the gate begins to close.
        gate_width: further lead at which it is shut.
        least: smallest weight of a class is 1 / least.
        most: largest weight of a class.
        step: factor by which a weight changes at most in an epoch.
        patience: epochs without gain after which a class is released.
        gain: F1 that counts as one.
        power: base of the draws is ``n^power``.
        natural: share of the draws that stays natural.
        max_repeats: times that an image may be drawn in an epoch.
        warmup: share of the run, at its start, in which each image is drawn once.
        release: share of the run, at its end, in which draws go back to that.
    """

    shrink: float = 10.0
    smooth: float = 0.8
    gamma: float = 4.0
    gate_from: float = 0.10
    gate_width: float = 0.20
    least: float = 1.5
    most: float = 2.5
    step: float = 1.25
    patience: int = 6
    gain: float = 0.002
    power: float = 0.75
    natural: float = 0.2
    max_repeats: float = 4.0
    warmup: float = 0.25
    release: float = 0.15

    def strength(self, progress: float) -> float:
        """Return how far an epoch goes from natural draws to the rule's, 0..1, by the share of the run before it."""
        if progress < self.warmup:
            return 0.0
        return 1.0 if self.release == 0 else min(1.0, (1.0 - progress) / self.release)

    def shrunken(self, matrix: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return F1 of each class, shrunken towards macro F1, ``(K,)``; NaN for a class without samples.

        The matrix is int64 ``(K, K)``, rows true, columns predicted.
        """
        hits, support = matrix.diagonal().astype(np.float64), matrix.sum(1)
        total = support + matrix.sum(0)  # 2 tp + fp + fn
        present = support > 0
        macro = float((2 * hits[present] / total[present]).mean()) if present.any() else 0.0
        shrunken: NDArray[np.float64] = (2 * hits + 2 * self.shrink * macro) / (total + 2 * self.shrink)
        return np.where(present, shrunken, math.nan)

    def update(
        self,
        state: RegretState,
        matrix: NDArray[np.int64],
        train_f1: NDArray[np.float64],
        ceilings: NDArray[np.float64],
        steer: bool = True,
    ) -> tuple[RegretState, tuple[str, ...]]:
        """Return the state after an epoch, and what was decided of each class.

        Args:
            state: before it.
            matrix: int64 ``(K, K)`` on the focus part, rows true, columns predicted.
            train_f1: F1 of each class in training, ``(K,)``; NaN where not known, which leaves the gate open.
            ceilings: F1 that each class can reach, ``(K,)``.
            steer: whether weights may move already.
        """
        f1 = self.shrunken(matrix)
        seen = ~np.isnan(f1)
        updates = state.updates + 1
        kept = 1.0 - self.smooth**updates  # Kingma and Ba 2015: corrects the bias of a start at 0
        average = np.where(seen, self.smooth * state.f1 + (1 - self.smooth) * np.nan_to_num(f1), state.f1)
        known = np.where(np.isnan(train_f1), average, train_f1)  # no lead
        train = self.smooth * state.train_f1 + (1 - self.smooth) * known
        current, lead = average / kept, (train - average) / kept
        regret = np.clip(1 - current / ceilings, 0, 1)
        mean = float(regret[seen].mean()) if seen.any() else 0.0
        gate = 1 - np.clip((lead - self.gate_from) / self.gate_width, 0, 1)
        target = np.clip(self.gamma * gate * (regret - mean), -math.log(self.least), math.log(self.most))
        target = np.where(seen & steer, target, 0.0)
        best, stale = self._patience(state, current, target)
        resting = stale < 0
        target = np.where(resting, np.minimum(target, 0.0), target)
        limit = math.log(self.step)
        weights = state.log_weights + np.clip(target - state.log_weights, -limit, limit)
        reasons = tuple(
            _reason(regret[label], mean, gate[label], bool(resting[label]), bool(seen[label]), float(weights[label]))
            for label in range(len(f1))
        )
        return RegretState(updates, average, train, weights, best, stale), reasons

    def _patience(
        self, state: RegretState, current: NDArray[np.float64], target: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return best F1 and updates without gain of the classes in focus; negative while a class rests."""
        best, stale = state.best.copy(), state.stale.copy()
        for label in range(len(current)):
            if stale[label] < 0:
                stale[label] += 1
                best[label] = 0.0
            elif target[label] <= 0:
                best[label], stale[label] = 0.0, 0
            elif current[label] > best[label] + self.gain:
                best[label], stale[label] = current[label], 0
            else:
                stale[label] += 1
                if stale[label] >= self.patience:
                    best[label], stale[label] = 0.0, -self.patience
        return best, stale

    def plan(self, state: RegretState, counts: NDArray[np.int64], progress: float, reasons: Sequence[str]) -> FocusPlan:
        """Return the draws of an epoch by the state and the reasons that ``update`` gave for the one before it.

        ``progress`` is the share of the run that lies before the epoch, 0..1.
        """
        strength = self.strength(progress)
        if strength == 0:
            return natural_draws(counts, "natural: the run begins")
        base = np.where(counts > 0, np.power(np.maximum(counts, 1), self.power, dtype=np.float64), 0.0)
        weighted = base * np.exp(state.log_weights)
        natural = counts / counts.sum()
        chosen = (1 - self.natural) * weighted / weighted.sum() + self.natural * natural
        draws = bounded(natural + strength * (chosen - natural), counts, self.max_repeats)
        ending = "" if strength == 1 else f"; {strength:.0%} of the focus, the run ends"
        return FocusPlan(draws, state.log_weights > 0, tuple(f"{reason}{ending}" for reason in reasons))


def _reason(regret: float, mean: float, gate: float, resting: bool, seen: bool, weight: float) -> str:
    if not seen:
        return "no image in the focus part"
    where = f"regret {regret:.3f}, mean {mean:.3f}"
    if resting:
        return f"{where}: released, no gain"
    if gate < 1 and regret > mean:
        return f"{where}: held back, training runs ahead (gate {gate:.2f})"
    return f"{where}: weight {math.exp(weight):.2f}"
