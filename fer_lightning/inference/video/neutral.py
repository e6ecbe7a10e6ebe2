"""The neutral face of a person, by which this person's expressions are judged. It is kept in memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError

__all__ = ["NEUTRAL", "Baselines", "least_shift"]

NEUTRAL = "neutral"
"""The class of a face at rest."""
MARGIN = float(np.log(2.0))
"""At rest, neutral is at least twice as probable as any other class."""
_LEAST = 1e-6  # the probabilities in a table are rounded: none counts as less


def least_shift(mean: NDArray[np.floating], neutral: int) -> NDArray[np.float64]:
    """Return what has to be added to log-probabilities so that neutral is predicted at a person's mean ones.

    Of class c it is ``-max(0, mean[c] - mean[neutral] + log 2)``: a class that is at most half as probable as neutral
    while the person rests stays as it is, the others are lowered as far as necessary. Nothing is raised: an
    expression that a neutral face hardly shows does not become more probable by it.

    Args:
        mean: mean log-probabilities of the person's neutral seconds, ``(K,)``.
        neutral: number of the class.
    """
    shift: NDArray[np.float64] = -np.maximum(0.0, np.asarray(mean, np.float64) - mean[neutral] + MARGIN)
    shift[neutral] = 0.0
    return shift


class Baselines:
    """The neutral face of each person: the mean of the first seconds in which the person was seen.

    During these seconds probabilities stay as they are. From then on the log-probabilities are shifted as
    ``least_shift`` says and normalised again. A person who was away and has a new number is new here too.

    Args:
        class_names: of the model, in label order.
        seconds: how long each person is looked at.

    Raises:
        ConfigError: if the model has no neutral class, or the time is not above 0.
    """

    def __init__(self, class_names: Sequence[str], seconds: float) -> None:
        if NEUTRAL not in class_names:
            raise ConfigError(f"--neutral needs a model with the class neutral; this one has {', '.join(class_names)}")
        if not seconds > 0:
            raise ConfigError(f"the time of neutral faces must be above 0 seconds, not {seconds:g}")
        self.seconds = seconds
        self._neutral = list(class_names).index(NEUTRAL)
        self._since: dict[int, float] = {}
        self._sums: dict[int, tuple[Any, int]] = {}
        self._shifts: dict[int, NDArray[np.float64]] = {}

    def applied(self, person: int, time: float, probabilities: Sequence[float]) -> NDArray[np.float64]:
        """Return the probabilities of a person at a time, float64 ``(K,)``, judged by the person's neutral face.

        Args:
            person: number of the person.
            time: in seconds; never less than that of the call before.
            probabilities: of the model, ``(K,)``.
        """
        values = np.asarray(probabilities, np.float64)
        if self.note(person, time, values):
            return values
        if person not in self._shifts:
            total, count = self._sums.pop(person)
            self._shifts[person] = least_shift(total / count, self._neutral)
        moved: NDArray[np.float64] = values * np.exp(self._shifts[person])
        moved /= moved.sum()
        return moved

    def note(self, person: int, time: float, probabilities: Sequence[float] | NDArray[np.float64]) -> bool:
        """Take up probabilities of the model if they are from a person's first seconds, and tell whether they are."""
        if time - self._since.setdefault(person, time) >= self.seconds:
            return False
        total, count = self._sums.get(person, (0.0, 0))
        self._sums[person] = (total + np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST)), count + 1)
        return True
