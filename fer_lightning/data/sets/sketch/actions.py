"""What a drawn face does: action units of the Facial Action Coding System, sampled per expression.

Units and their numbers are those of Ekman, Friesen and Hager (2002), *Facial Action Coding System*. An activation is a
number for either half of the face, because real faces are never quite symmetric.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

__all__ = ["ACTION_UNITS", "PROTOTYPES", "UPPER_UNITS", "Actions", "Dice", "sample_actions"]

T = TypeVar("T")

ACTION_UNITS: dict[int, str] = {
    1: "inner brow raised",
    2: "outer brow raised",
    4: "brows lowered and drawn together",
    5: "upper lid raised",
    6: "cheek raised",
    7: "lids tightened",
    9: "nose wrinkled",
    10: "upper lip raised",
    12: "lip corners pulled up",
    15: "lip corners pulled down",
    16: "lower lip lowered",
    17: "chin raised",
    20: "lips stretched",
    23: "lips tightened",
    24: "lips pressed together",
    25: "lips parted",
    26: "jaw dropped",
    64: "eyes lowered",
}
"""Movements of the face that are drawn, by their number in the Facial Action Coding System."""

UPPER_UNITS = (1, 2, 4, 5, 6, 7, 64)
"""Those that move brows and eyes; the others move nose, mouth and chin."""

PROTOTYPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "angry": ((4, 5, 7, 23), (4, 5, 7, 24), (4, 5, 7, 17, 24), (4, 5, 7, 10, 23, 25)),
    "disgust": ((9, 15, 17), (9, 15, 16), (9, 10, 17), (10, 15, 17), (9, 10, 16, 25)),
    "fear": ((1, 2, 4, 5, 20, 26), (1, 2, 4, 5, 20, 25), (1, 2, 4, 5, 7, 20, 26)),
    "happy": ((6, 12), (6, 12, 25), (6, 12, 25), (6, 12, 25, 26)),
    "sad": ((1, 4, 15), (1, 4, 15, 17), (1, 4, 15, 64), (1, 4, 15, 17, 64)),
    "surprise": ((1, 2, 5, 26), (1, 2, 5, 25, 26), (1, 2, 5, 26)),
    "neutral": ((),),
}
"""Combinations that show an expression, after the EMFACS predictions (Friesen and Ekman 1983) and table 10-2 of the
FACS Investigator's Guide (2002), with variants of ours that part the lips, raise the chin or lower the eyes. A repeated
entry is drawn more often."""

_NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "angry": ("disgust", "sad", "neutral"),
    "disgust": ("angry", "sad"),
    "fear": ("surprise", "sad"),
    "happy": ("surprise", "neutral"),
    "sad": ("disgust", "fear", "neutral"),
    "surprise": ("fear", "happy"),
    "neutral": ("sad", "angry", "happy"),
}
"""What an expression is often mixed with, or taken for."""
_CORE: dict[str, tuple[int, ...]] = {
    "angry": (4,),
    "disgust": (9, 10),
    "fear": (1, 4, 20),
    "happy": (12,),
    "sad": (1, 15),
    "surprise": (2, 26),
    "neutral": (),
}
"""Units without which a face would not show the expression at all."""
_MIXED = 0.35
"""Share of the faces that also show a trace of a neighbouring expression, at difficulty 1."""
_TRACE = 0.4
"""Largest activation of such a trace."""
_MISSING = 0.12
"""Share of an expression's other units that stay away, at difficulty 1: few faces show a whole prototype."""
_STRAY = 0.16
"""Largest activation of a unit that does not belong to the expression."""
_ASYMMETRY = 0.12
"""Largest share by which one half of the face moves less than the other."""


@dataclass(frozen=True)
class Actions:
    """Activations in 0..1 of each unit in ``ACTION_UNITS``.

    Attributes:
        halves: of the left and the right half of the picture.
        mean: over both halves.
    """

    halves: tuple[Mapping[int, float], Mapping[int, float]]
    mean: Mapping[int, float]

    @classmethod
    def symmetric(cls, activations: Mapping[int, float]) -> Actions:
        """Return activations that are equal in both halves; units that are not named rest."""
        both = {unit: activations.get(unit, 0.0) for unit in ACTION_UNITS}
        return cls((both, both), both)

    def resting(self, units: Collection[int]) -> Actions:
        """Return the same activations, but for some units, which rest."""

        def stilled(activations: Mapping[int, float]) -> dict[int, float]:
            return {unit: 0.0 if unit in units else level for unit, level in activations.items()}

        left, right = self.halves
        return Actions((stilled(left), stilled(right)), stilled(self.mean))


class Dice:
    """Uniform random numbers, fetched in blocks: a call per number would cost more than the drawing."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._numbers: list[float] = []

    def between(self, low: float, high: float) -> float:
        """Return a number in ``low <= x < high``."""
        if not self._numbers:
            self._numbers = self._rng.random(64).tolist()
        return low + (high - low) * self._numbers.pop()

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return self.between(0.0, 1.0) < probability

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices, all equally likely."""
        return choices[int(self.between(0.0, len(choices)))]


def sample_actions(expression: str, dice: Dice, difficulty: float = 1.0) -> Actions:
    """Return the activations of one face that shows an expression, a key of ``PROTOTYPES``.

    Difficulty 0 gives full activations and nothing else; 1 gives 0.5..1, traces of a neighbouring expression and stray
    movements; up to 2.
    """
    weakest = max(0.2, 1.0 - 0.5 * difficulty)
    shown = dice.pick(PROTOTYPES[expression])
    core = _CORE[expression]
    trace: tuple[int, ...] = ()
    if dice.chance(_MIXED * difficulty):
        trace = dice.pick(PROTOTYPES[dice.pick(_NEIGHBOURS[expression])])
    left: dict[int, float] = {}
    right: dict[int, float] = {}
    middle: dict[int, float] = {}
    for unit in ACTION_UNITS:
        level = dice.between(0.0, _STRAY * difficulty)
        if unit in trace:
            level = max(level, dice.between(0.1, _TRACE))
        if unit in shown and (unit in core or not dice.chance(_MISSING * difficulty)):
            level = dice.between(weakest, 1.0)
        asymmetry = difficulty * dice.between(-_ASYMMETRY, _ASYMMETRY)
        left[unit] = level * (1.0 - max(0.0, asymmetry))
        right[unit] = level * (1.0 + min(0.0, asymmetry))
        middle[unit] = 0.5 * (left[unit] + right[unit])
    return Actions((left, right), middle)
