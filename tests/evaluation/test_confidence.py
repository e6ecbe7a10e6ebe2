from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from fer_lightning.data.table.samples import content_digests
from fer_lightning.errors import DataError
from fer_lightning.evaluation.confidence import (
    brier_scores,
    cross_fitted_scaling,
    ece_of,
    fit_scaling,
    log_losses,
    null_ece,
)


def drawn(rows: int = 2_000, sharp: float = 1.0, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities and labels drawn from them; ``sharp`` times too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 5))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (true.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    stated = np.exp(sharp * logits)
    return stated / stated.sum(axis=1, keepdims=True), target


def test_scores_are_those_of_the_books() -> None:
    probs, target = drawn(500)
    assert log_losses(probs, target).mean() == pytest.approx(log_loss(target, probs))
    assert brier_scores(np.array([[0.7, 0.3], [0.5, 0.5]]), np.array([0, 1])).tolist() == pytest.approx([0.18, 0.5])


@pytest.mark.parametrize("sharp", [2.5, 0.4])
def test_the_temperature_is_the_best_one(sharp: float) -> None:
    probs, target = drawn(sharp=sharp)
    found = fit_scaling(probs, target)

    def loss(temperature: float) -> float:
        powered = probs ** (1 / temperature)
        return float(log_loss(target, powered / powered.sum(axis=1, keepdims=True)))

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}).x
    assert 1 / found.weight == pytest.approx(np.full(5, best), rel=1e-4)
    assert best == pytest.approx(sharp, rel=0.1)
    assert (found.bias == 0).all()
    scaled = found(probs)
    assert (scaled.argmax(axis=1) == probs.argmax(axis=1)).all()
    assert scaled.sum(axis=1) == pytest.approx(np.ones(len(probs)))
    assert ece_of(scaled, target) < ece_of(probs, target) / 2


@pytest.mark.parametrize("kind", ["bias", "vector"])
def test_a_shift_of_the_prior_is_found(kind: str) -> None:
    probs, target = drawn(20_000)
    shift = np.array([0.0, 1.0, 0.0, -1.0, 0.5])
    moved = probs * np.exp(shift)
    moved /= moved.sum(axis=1, keepdims=True)
    found = fit_scaling(moved, target, kind)
    assert found.bias - found.bias.mean() == pytest.approx(shift.mean() - shift, abs=0.12 if kind == "bias" else 0.2)
    assert found.weight == pytest.approx(np.ones(5), abs=0.08)
    assert log_losses(found(moved), target).mean() < log_losses(moved, target).mean()


def test_halves_are_scaled_by_one_another() -> None:
    probs, target = drawn(400, sharp=3.0)
    groups = content_digests(np.arange(400, dtype=np.uint8).reshape(400, 1, 1, 1).repeat(2, axis=2))
    scaled = cross_fitted_scaling(probs, target, groups)
    whole = fit_scaling(probs, target)(probs)
    assert log_losses(whole, target).mean() < log_losses(scaled, target).mean() < log_losses(probs, target).mean()


def test_a_perfect_model_has_an_error_too() -> None:
    probs, target = drawn(1_000)
    null = null_ece(probs, draws=300)
    assert (np.diff(null) >= 0).all()
    assert null[7] <= ece_of(probs, target) <= null[-7]
    blurred = null_ece(np.tile(probs, (10, 1)), draws=100)
    assert np.median(blurred) < np.median(null) / 2


def test_what_cannot_be_fitted_is_refused() -> None:
    probs, target = drawn(10)
    with pytest.raises(DataError, match="calibration needs images"):
        fit_scaling(probs[:0], target[:0])
    with pytest.raises(DataError, match="unknown calibration 'platt'"):
        fit_scaling(probs, target, "platt")
