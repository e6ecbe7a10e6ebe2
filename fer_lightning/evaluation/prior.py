"""Correction of the decision for the class frequencies of the training data, chosen after training.

Post-hoc logit adjustment (Menon et al. 2021, arXiv:2007.07314, section 4.1): decide by ``z + tau log pi``, where ``z``
are logits or log-probabilities and ``pi`` the shares of the training images. Losses and samplers for rare classes shift
the decision towards them, each by a different amount; a comparison of such arms is fair only if ``tau`` is chosen for
every one of them in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.splitting.folds import assign_folds
from fer_lightning.errors import DataError
from fer_lightning.metrics import confusion_matrix, macro_f1

__all__ = ["TAUS", "best_tau", "cross_fitted", "mean_f1", "shifted"]

TAUS: tuple[float, ...] = tuple(step / 20 for step in range(-20, 31))
"""Values of ``tau`` that are tried: -1 (equally frequent classes) to 1.5, in steps of 0.05; 0 changes nothing."""

Score = Callable[[NDArray[np.int64], NDArray[np.int64]], float]
"""Maps targets and predictions, int64 ``(N,)`` each, to a number; more is better."""


def shifted(log_probs: NDArray[np.float64], prior: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    """Return log-probabilities after adding ``tau`` times the log prior, float64 ``(N, K)``, normalised again.

    Example:
        >>> even, prior = np.log([[0.5, 0.5]]), np.log([0.9, 0.1])
        >>> np.exp(shifted(even, prior, tau=1.0)).round(3).tolist()
        [[0.9, 0.1]]

    Both are float64, ``(N, K)`` and, from ``log_prior``, ``(K,)``; logits do as well.
    """
    moved = log_probs + tau * prior
    moved = moved - moved.max(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
    return normalised


def mean_f1(target: NDArray[np.int64], preds: NDArray[np.int64]) -> float:
    """Return the macro F1 of predictions, NaN without samples."""
    classes = int(max(target.max(initial=0), preds.max(initial=0))) + 1
    return float(macro_f1(confusion_matrix(torch.tensor(target), torch.tensor(preds), classes)))


def best_tau(
    log_probs: NDArray[np.float64],
    target: NDArray[np.int64],
    prior: NDArray[np.float64],
    grid: Sequence[float] = TAUS,
    score: Score = mean_f1,
) -> tuple[float, float]:
    """Return the value of ``tau`` with the best score, and that score; of equally good values the one nearest to 0.

    The score is that of the rows on which ``tau`` was chosen, so that it is optimistic.

    ``log_probs`` are float64 ``(N, K)``, ``target`` is int64 ``(N,)``, and ``prior``, from ``log_prior``, float64
    ``(K,)``. The values of ``grid`` are tried, ``score`` is maximised.

    Raises:
        DataError: if there is no row or no value.
    """
    if not len(target) or not len(grid):
        raise DataError("prior: tau needs at least one row to be chosen on, and one value to choose from")
    scores = {tau: score(target, (log_probs + tau * prior).argmax(axis=1)) for tau in grid}
    tau = max(scores, key=lambda tau: (round(scores[tau], 12), -abs(tau)))
    return tau, scores[tau]


def cross_fitted(
    log_probs: NDArray[np.float64],
    target: NDArray[np.int64],
    prior: NDArray[np.float64],
    groups: NDArray[np.uint8],
    grid: Sequence[float] = TAUS,
    score: Score = mean_f1,
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Divide the rows into two halves and shift each by the ``tau`` that is best on the other half.

    Rows with equal values in ``groups``, uint8 ``(N, D)``, such as identical images, are in one half; the other
    arguments are those of ``best_tau``. Returned are the shifted log-probabilities, float64 ``(N, K)``, and the
    ``tau`` of the first and of the second half.

    Raises:
        DataError: if the rows cannot be divided.
    """
    half = assign_folds(target, groups, 2, 0)
    moved, taus = np.empty_like(log_probs), []
    for place in (0, 1):
        own, other = half == place, half != place
        tau, _ = best_tau(log_probs[other], target[other], prior, grid, score)
        moved[own] = shifted(log_probs[own], prior, tau)
        taus.append(tau)
    return moved, (taus[0], taus[1])
