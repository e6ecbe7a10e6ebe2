"""Weights of the classes from their counts: pure functions that losses and samplers share.

A weight says how much one sample of a class counts. Weights are normalised so that those of the classes that have
samples sum to the number of these classes: their mean is 1, and a loss keeps its scale. A class without samples weighs
0 wherever its weight would follow from its count; nothing is ever divided by zero.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.emotions import canonical
from fer_lightning.errors import ConfigError, DataError, LabelError

__all__ = [
    "METHODS",
    "class_factors",
    "class_weights",
    "effective_number",
    "inverse_frequency",
    "log_prior",
    "no_weighting",
    "square_root",
]


def no_weighting(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1 for each class, with or without samples, as if no weights were given; float64 ``(K,)``."""
    return np.ones(len(counts))


def inverse_frequency(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights proportional to ``1 / n``, float64 ``(K,)``: all samples of a class together weigh the same.

    Example:
        >>> inverse_frequency(np.array([10, 30, 0])).tolist()  # those of the two classes with samples sum to 2
        [1.5, 0.5, 0.0]

    Args:
        counts: int64 ``(K,)``: samples of each class.
    """
    return _normalised(_reciprocal(counts.astype(np.float64)), counts)


def square_root(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights proportional to ``1 / sqrt(n)``, float64 ``(K,)``: half way to inverse frequency.

    Example:
        >>> square_root(np.array([100, 900])).tolist()
        [1.5, 0.5]

    Args:
        counts: int64 ``(K,)``: samples of each class.
    """
    return _normalised(_reciprocal(np.sqrt(counts)), counts)


def effective_number(counts: NDArray[np.int64], beta: float = 0.999) -> NDArray[np.float64]:
    """Return weights proportional to ``(1 - beta) / (1 - beta^n)``, float64 ``(K,)``.

    The class-balanced weights of Cui et al. 2019 (arXiv:1901.05555): each further sample of a class adds less than the
    one before. ``beta`` 0 weighs all classes alike; towards 1 the weights become those of inverse frequency.

    Example:
        >>> effective_number(np.array([10, 1000]), beta=0.999).round(3).tolist()
        [1.969, 0.031]

    Args:
        counts: int64 ``(K,)``: samples of each class.
        beta: from 0 to below 1.

    Raises:
        ConfigError: if ``beta`` is outside that range.
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"class weights: beta must be at least 0 and below 1, not {beta:g}")
    return _normalised(_reciprocal((1.0 - beta**counts) / (1.0 - beta)), counts)


_WITHOUT_BETA: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
    "none": no_weighting,
    "inverse": inverse_frequency,
    "square_root": square_root,
}
METHODS: tuple[str, ...] = (*_WITHOUT_BETA, "effective_number")
"""What ``class_weights`` accepts as ``method``."""


def class_weights(
    counts: Mapping[str, int],
    method: str = "inverse",
    *,
    beta: float = 0.999,
    cap: float | None = None,
    multipliers: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the weight of each class, by name, in the order of ``counts``.

    The method's weights are capped, then multiplied, then normalised: the weights of the classes that have samples sum
    to the number of these classes.

    Example:
        >>> class_weights({"happy": 900, "disgust": 100})
        {'happy': 0.2, 'disgust': 1.8}
        >>> class_weights({"happy": 900, "disgust": 100}, cap=4)  # at most 4 times the smallest
        {'happy': 0.4, 'disgust': 1.6}
        >>> class_weights({"happy": 900, "disgust": 100}, "none", multipliers={"disgust": 3})
        {'happy': 0.5, 'disgust': 1.5}

    Args:
        counts: number of training samples by class name, in label order.
        method: ``none``, ``inverse`` (frequency), ``square_root`` or ``effective_number``.
        beta: of the effective number.
        cap: the most that the largest weight may be relative to the smallest, at least 1; larger ones are lowered to
            it. It bounds what the method gives, not what ``multipliers`` ask for by name.
        multipliers: factor by class name, in any known form (``anger`` is ``angry``), for example
            ``{disgust: 3, fear: 2}``; 1 for the classes not named.

    Raises:
        ConfigError: for an unknown method or class name, a number outside its range, or if no weight is left.
    """
    if method not in METHODS:
        raise ConfigError(f"class weights: unknown method '{method}', expected one of {', '.join(METHODS)}")
    samples = np.array(list(counts.values()), np.int64)
    if not samples.any() or samples.min() < 0:
        raise ConfigError(f"class weights: the counts must be 0 or more and not all 0, not {dict(counts)}")
    weights = effective_number(samples, beta) if method == "effective_number" else _WITHOUT_BETA[method](samples)
    if cap is not None:
        weights = _capped(weights, samples, cap)
    factors = class_factors(list(counts), multipliers)
    if not (factors[samples > 0] > 0).any():
        raise ConfigError(f"class multipliers: every class that has samples is multiplied by 0 ({dict(counts)})")
    return dict(zip(counts, _normalised(weights * factors, samples).tolist(), strict=True))


def class_factors(class_names: Sequence[str], multipliers: Mapping[str, float] | None) -> NDArray[np.float64]:
    """Return the factor of each class, float64 ``(K,)``, from factors by name; 1 for the classes not named.

    Args:
        class_names: the position is the label.
        multipliers: factor by name. A name is first looked for as it is, so that custom classes work, then as a
            synonym of an expression.

    Raises:
        ConfigError: for a name that is none of the classes, a class named twice, or a factor that is negative or not
            finite.
    """
    factors = np.ones(len(class_names))
    named: dict[str, str] = {}
    for name, factor in ({} if multipliers is None else multipliers).items():
        found = _class_called(name, class_names)
        if found in named:
            raise ConfigError(f"class multipliers: '{named[found]}' and '{name}' are the same class; name it once")
        if not (math.isfinite(factor) and factor >= 0):
            raise ConfigError(
                f"class multipliers: the factor of '{name}' must be a number of at least 0, not {factor:g}"
            )
        named[found] = name
        factors[class_names.index(found)] = factor
    return factors


def log_prior(counts: Sequence[int]) -> NDArray[np.float64]:
    """Return the logarithm of each class's share of all samples, float64 ``(K,)``.

    A class without samples counts as one: its logarithm would be minus infinity.

    Example:
        >>> log_prior([10, 30, 60]).round(3).tolist()
        [-2.303, -1.204, -0.511]

    Args:
        counts: samples of each class, ``(K,)``.

    Raises:
        DataError: if there is no sample at all.
    """
    numbers = np.maximum(np.asarray(counts, np.float64), 1.0)
    if not any(counts):
        raise DataError("prior: the training part holds no image")
    shares: NDArray[np.float64] = np.log(numbers / numbers.sum())
    return shares


def _class_called(name: str, class_names: Sequence[str]) -> str:
    if name in class_names:
        return name
    try:
        found = canonical(name)
    except LabelError:
        found = ""
    if found in class_names:
        return found
    close = difflib.get_close_matches(name, class_names, n=1)
    proposal = f"; did you mean '{close[0]}'?" if close else ""
    raise ConfigError(f"class multipliers: '{name}' is none of the classes {', '.join(class_names)}{proposal}")


def _reciprocal(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return 1 / value, and 0 for 0."""
    found: NDArray[np.float64] = np.divide(1.0, values, out=np.zeros(len(values)), where=values > 0)
    return found


def _normalised(weights: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scale weights so that those of the classes with samples sum to the number of these classes."""
    present = counts > 0
    total = weights[present].sum()
    return weights * (np.count_nonzero(present) / total) if total > 0 else weights


def _capped(weights: NDArray[np.float64], counts: NDArray[np.int64], cap: float) -> NDArray[np.float64]:
    if not (math.isfinite(cap) and cap >= 1):
        raise ConfigError(f"class weights: the cap must be a number of at least 1, not {cap:g}")
    capped: NDArray[np.float64] = np.minimum(weights, weights[counts > 0].min() * cap)
    return capped
