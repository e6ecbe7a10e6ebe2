"""What choosing the best of several models on the same test images gains without any of them being better."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from fer_lightning.runs.looks import Standing

__all__ = ["expected_largest", "looks_content", "looks_text", "selection_gain"]

_STEP = 0.01


def expected_largest(count: int) -> float:
    """Return the expected largest of so many independent standard normal numbers.

    Example:
        >>> round(expected_largest(2), 3), round(expected_largest(10), 3)
        (0.564, 1.539)
    """
    distribution, total = NormalDist(), 0.0
    for place in range(round(16 / _STEP)):  # the integral of 1 - F^k above 0 minus that of F^k below
        value = -8 + (place + 0.5) * _STEP
        power = distribution.cdf(value) ** count
        total += _STEP * (1 - power if value > 0 else -power)
    return total


def selection_gain(accuracy: float, images: int, models: int) -> float:
    """Return how much accuracy choosing the best of several equal models on the same images gains, a share.

    The models' mistakes are taken to be independent: of models that err on the same images it is less.
    """
    return expected_largest(models) * math.sqrt(accuracy * (1 - accuracy) / images) if models > 1 and images else 0.0


def looks_content(standing: Standing | None, accuracy: float | None, images: int) -> dict[str, Any] | None:
    """Return how often a split was looked at, and what that can have gained, as plain values.

    Returns:
        ``number`` of this look, ``repeats`` of it before, ``gain``: by how much choosing the best of so many equal
        models raises the accuracy, at most (see ``selection_gain``); ``None`` if no look was counted.
    """
    if standing is None:
        return None
    gain = None if accuracy is None else selection_gain(accuracy, images, standing.number)
    return {"number": standing.number, "repeats": standing.repeats, "gain": gain}


def looks_text(looks: dict[str, Any]) -> str:
    """Return in words what ``looks_content`` gives."""
    number, repeats, gain = looks["number"], looks["repeats"], looks["gain"]
    again = f", repeated {repeats} time{'s' * (repeats > 1)}" if repeats else ""
    if number < 2 or gain is None:
        return f"Look {number} at this split{again}."
    return (
        f"Look {number} at this split{again}: choosing the best of {number} equal models would gain up to "
        f"{100 * gain:.1f} points of accuracy."
    )
