"""Labels and probabilities over time without the flicker of single frames. Times are seconds, in ascending order."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError

__all__ = [
    "Exponential",
    "Following",
    "Hysteresis",
    "Majority",
    "Smooth",
    "Smoother",
    "majority",
    "make_smoother",
    "windows",
]

Smooth = Literal["none", "majority", "exponential", "hysteresis"]
"""Names of the rules by which a label over time is shown; see ``make_smoother``."""

Smoother = Callable[[float, NDArray[np.floating]], tuple[int, float]]
"""Takes a time in seconds and probabilities ``(K,)``; returns the class that is shown and the number beside it."""


@dataclass(frozen=True)
class Following:
    """How faces are followed over time.

    Attributes:
        window: seconds of the majority label and of smoothing.
        smooth: what is shown as a person's label; see ``make_smoother``.
        neutral: seconds from which each person's neutral face is taken; 0 for not at all. See ``Baselines``.

    Raises:
        ConfigError: if a time is out of range.
    """

    window: float = 1.0
    smooth: Smooth = "none"
    neutral: float = 0.0

    def __post_init__(self) -> None:
        make_smoother(self.smooth, self.window)
        windows((), self.window)
        if not 0 <= self.neutral < math.inf:
            raise ConfigError(f"the time of neutral faces must not be negative, not {self.neutral:g} s")


def _check_lasting(what: str, seconds: float) -> None:
    """Raise ``ConfigError`` unless a time is above 0."""
    if not seconds > 0:
        raise ConfigError(f"a {what} must be longer than 0 seconds, not {seconds}")


def windows(times: Sequence[float], width: float = 1.0, origin: float = 0.0) -> NDArray[np.int64]:
    """Return the number of the window that each time lies in, int64 ``(N,)``: ``[origin, origin + width)`` is 0.

    >>> windows([0.0, 0.99, 1.0, 3.2]).tolist()
    [0, 0, 1, 3]

    Raises:
        ConfigError: if the width is not above 0.
    """
    _check_lasting("window", width)
    return np.floor((np.asarray(times, np.float64) - origin) / width + 1e-9).astype(np.int64)


def majority(labels: Sequence[str]) -> tuple[str, float]:
    """Return the most frequent label and its share; of equally frequent ones the one that came last.

    >>> majority(["sad", "happy", "sad"])
    ('sad', 0.6666666666666666)
    >>> majority(["sad", "happy"])
    ('happy', 0.5)
    """
    counts = Counter(labels)
    last = {label: place for place, label in enumerate(labels)}
    best = max(counts, key=lambda label: (counts[label], last[label]))
    return best, counts[best] / len(labels)


class Majority:
    """The most frequent class of the seconds that have passed.

    Args:
        width: of the window in seconds, which ends with the present frame.

    Raises:
        ConfigError: if it is not above 0.
    """

    def __init__(self, width: float = 1.0) -> None:
        _check_lasting("window", width)
        self.width = width
        self._seen: deque[tuple[float, str]] = deque()

    def update(self, time: float, probabilities: NDArray[np.floating]) -> tuple[int, float]:
        """Return the class that is shown and its share, after the probabilities ``(K,)`` of one more time."""
        self._seen.append((time, str(int(np.argmax(probabilities)))))
        while self._seen[0][0] <= time - self.width + 1e-9:
            self._seen.popleft()
        label, share = majority([label for _, label in self._seen])
        return int(label), share


class Exponential:
    """An average of probabilities that forgets: what was seen one half-life ago counts half as much.

    Args:
        half_life: in seconds.

    Raises:
        ConfigError: if it is not above 0.
    """

    def __init__(self, half_life: float = 0.3) -> None:
        _check_lasting("half-life", half_life)
        self.half_life = half_life
        self._time = 0.0
        self._mean: NDArray[np.float64] | None = None

    def update(self, time: float, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the average, float64 ``(K,)``, after the probabilities of one more time."""
        new = np.asarray(probabilities, np.float64)
        if self._mean is None:
            self._mean = new
        else:
            kept = 0.5 ** ((time - self._time) / self.half_life)
            self._mean = kept * self._mean + (1 - kept) * new
        self._time = time
        return self._mean


class Hysteresis:
    """A label that changes only if another one is better by a margin for some time.

    Args:
        margin: in probability.
        hold: seconds.

    Raises:
        ConfigError: if one of them is negative.
    """

    def __init__(self, margin: float = 0.1, hold: float = 0.2) -> None:
        if margin < 0 or hold < 0:
            raise ConfigError(f"margin and hold must not be negative, not {margin} and {hold}")
        self.margin, self.hold = margin, hold
        self._label: int | None = None
        self._rival = -1
        self._since = 0.0

    def update(self, time: float, probabilities: NDArray[np.floating]) -> int:
        """Return the class that is shown, after the probabilities ``(K,)`` of one more time."""
        best = int(np.argmax(probabilities))
        if self._label is None:
            self._label = best
        if best == self._label or probabilities[best] - probabilities[self._label] < self.margin:
            self._rival = -1
            return self._label
        if best != self._rival:
            self._rival, self._since = best, time
        if time - self._since >= self.hold - 1e-9:
            self._label, self._rival = best, -1
        return self._label


def make_smoother(kind: Smooth, window: float = 1.0) -> Smoother:
    """Return what smooths the label of one person.

    ===============  =======================================================  =============================
    kind             class that is shown                                      number beside it
    ===============  =======================================================  =============================
    ``none``         the most probable one of the frame                       its probability
    ``majority``     the most frequent one of the last ``window`` seconds     its share of these frames
    ``exponential``  that of the average with a half-life of 0.3 ``window``   its average probability
    ``hysteresis``   the one before, until another is more probable by 0.1    its probability in the frame
                     for 0.2 ``window``
    ===============  =======================================================  =============================

    Args:
        kind: one of the four.
        window: in seconds.

    Raises:
        ConfigError: if the window is not above 0.
    """
    if kind == "majority":
        return Majority(window).update
    if kind == "exponential":
        average = Exponential(0.3 * window)
        return lambda time, values: _best(average.update(time, values))
    if kind == "hysteresis":
        slow = Hysteresis(hold=0.2 * window)

        def shown(time: float, values: NDArray[np.floating]) -> tuple[int, float]:
            number = slow.update(time, values)
            return number, float(values[number])

        return shown
    return lambda time, values: _best(values)


def _best(values: NDArray[np.floating]) -> tuple[int, float]:
    number = int(np.argmax(values))
    return number, float(values[number])
