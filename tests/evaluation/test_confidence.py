from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss

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
    assert found.weight == pytest.approx(np.eye(5) / best, rel=1e-4)
    assert best == pytest.approx(sharp, rel=0.1)
    assert (found.bias == 0).all()
    scaled = found(probs)
    assert (scaled.argmax(axis=1) == probs.argmax(axis=1)).all()
    assert scaled.sum(axis=1) == pytest.approx(np.ones(len(probs)))
    assert ece_of(scaled, target) < ece_of(probs, target) / 2


@pytest.mark.parametrize("sharp", [2.5, 0.4])
def test_the_temperature_is_that_of_scikit_learn(sharp: float) -> None:
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn")
    frozen = pytest.importorskip("sklearn.frozen")
    if "temperature" not in str(calibration.CalibratedClassifierCV._parameter_constraints["method"][0]):
        pytest.skip("temperature scaling came with scikit-learn 1.8")
    probs, target = drawn(sharp=sharp)
    whole = calibration.CalibratedClassifierCV(frozen.FrozenEstimator(Stated()), method="temperature").fit(
        probs, target
    )
    assert fit_scaling(probs, target)(probs) == pytest.approx(whole.predict_proba(probs), abs=1e-4)


class Stated(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose probabilities are what it is given."""

    classes_ = np.arange(5)

    def fit(self, probs: NDArray[np.float64], target: NDArray[np.int64]) -> Stated:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, probs: NDArray[np.float64]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = probs.argmax(axis=1)
        return labels

    def predict_proba(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        return probs


@pytest.mark.parametrize("kind", ["prior", "vector"])
def test_a_shift_of_the_prior_is_found(kind: str) -> None:
    probs, target = drawn(20_000)
    prior = np.log([0.1, 0.3, 0.1, 0.1, 0.4])
    moved = probs * np.exp(-0.7 * prior)
    moved /= moved.sum(axis=1, keepdims=True)
    found = fit_scaling(moved, target, kind, prior)
    away = found.bias - found.bias.mean()
    assert away == pytest.approx(0.7 * (prior - prior.mean()), abs=0.06 if kind == "prior" else 0.2)
    assert found.weight == pytest.approx(np.eye(5), abs=0.08)
    assert log_losses(found(moved), target).mean() < log_losses(moved, target).mean()


def test_what_is_mixed_up_is_untangled_by_a_matrix_alone() -> None:
    probs, target = drawn(20_000)
    weight = np.eye(5)
    weight[0, 1] = 0.5
    mixed = np.exp(np.log(probs) @ np.linalg.inv(weight))
    mixed /= mixed.sum(axis=1, keepdims=True)
    losses = {kind: log_losses(fit_scaling(mixed, target, kind)(mixed), target).mean() for kind in ("vector", "matrix")}
    best = log_losses(probs, target).mean()
    assert losses["matrix"] == pytest.approx(best, abs=0.002)
    assert losses["vector"] > best + 0.01


def test_halves_are_scaled_by_one_another() -> None:
    probs, target = drawn(400, sharp=3.0)
    half = np.arange(400) % 2
    scaled, (even, odd) = cross_fitted_scaling(probs, target, half)
    assert np.array_equal(scaled[half == 0], odd(probs[half == 0]))
    assert np.array_equal(scaled[half == 1], fit_scaling(probs[half == 0], target[half == 0])(probs[half == 1]))
    assert np.array_equal(even(probs), fit_scaling(probs[half == 0], target[half == 0])(probs))
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
    with pytest.raises(DataError, match="which are not known"):
        fit_scaling(probs, target, "prior")
