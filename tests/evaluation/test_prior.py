from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score

from fer_lightning.class_weights import log_prior
from fer_lightning.data.splitting.folds import assign_folds
from fer_lightning.errors import DataError
from fer_lightning.evaluation.prior import TAUS, best_tau, cross_fitted, mean_f1, shifted


def drawn(rows: int, counts: list[int], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the exact posterior, float64 ``(N, K)``, and labels of points on a line whose classes have other means."""
    rng = np.random.default_rng(seed)
    shares = np.array(counts) / sum(counts)
    target = rng.choice(len(counts), rows, p=shares).astype(np.int64)
    points = target * 1.2 + rng.normal(size=rows)
    density = -0.5 * (points[:, None] - 1.2 * np.arange(len(counts))) ** 2
    return log_softmax(density + np.log(shares), axis=1), target


def names(rows: int) -> NDArray[np.uint8]:
    return np.arange(rows, dtype=np.int64).view(np.uint8).reshape(rows, -1)


@given(st.floats(-1, 1.5), st.lists(st.integers(1, 500), min_size=3, max_size=3))
@settings(deadline=None, max_examples=50)
def test_shifting_adds_to_the_logits(tau: float, counts: list[int]) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3)) * 3
    prior = log_prior(counts)
    assert shifted(log_softmax(logits, axis=1), prior, tau) == pytest.approx(
        log_softmax(logits + tau * np.log(np.array(counts) / sum(counts)), axis=1)
    )
    assert shifted(logits, prior, 0.0) == pytest.approx(log_softmax(logits, axis=1))


def test_large_logits_do_not_overflow() -> None:
    moved = shifted(np.array([[1000.0, 0.0, -1000.0]]), np.zeros(3), 1.0)
    assert moved.tolist() == [[0.0, -1000.0, -2000.0]]


def test_minus_one_takes_the_prior_out_again() -> None:
    counts = [50, 300, 650]
    posterior, _ = drawn(200, counts)
    balanced = posterior - np.log(np.array(counts) / sum(counts))
    assert shifted(posterior, log_prior(counts), -1.0) == pytest.approx(log_softmax(balanced, axis=1))


def test_a_class_without_images_does_not_break_it() -> None:
    assert np.isfinite(shifted(np.zeros((2, 3)), log_prior([0, 10, 90]), -1.0)).all()


def test_the_best_amount_depends_on_what_is_asked() -> None:
    counts = [30, 170, 800]
    posterior, target = drawn(4000, counts)
    prior = log_prior(counts)
    for_accuracy, accuracy = best_tau(posterior, target, prior, score=accuracy_score)
    for_f1, f1 = best_tau(posterior, target, prior)
    assert abs(for_accuracy) <= 0.25  # the exact posterior is best as it is
    assert for_f1 < -0.2  # macro F1 asks for more of the rare classes
    preds = (posterior + for_f1 * prior).argmax(1)
    assert f1 == pytest.approx(f1_score(target, preds, average="macro"))
    assert f1 == max(f1_score(target, (posterior + tau * prior).argmax(1), average="macro") for tau in TAUS)
    assert accuracy >= accuracy_score(target, posterior.argmax(1))


def test_equal_scores_leave_the_decision_alone() -> None:
    sure = np.log(np.array([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]]))
    tau, score = best_tau(sure, np.array([0, 1, 2]), log_prior([1, 1, 1]))
    assert (tau, score) == (0.0, 1.0)


def test_the_grid_holds_zero() -> None:
    assert 0.0 in TAUS
    assert (min(TAUS), max(TAUS)) == (-1.0, 1.5)


def test_without_rows_nothing_is_chosen() -> None:
    with pytest.raises(DataError, match="at least one row"):
        best_tau(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(3))
    with pytest.raises(DataError, match="at least one row"):
        best_tau(np.zeros((2, 3)), np.zeros(2, np.int64), np.zeros(3), grid=())


def test_each_half_is_shifted_by_what_is_best_on_the_other() -> None:
    counts = [30, 170, 800]
    posterior, target = drawn(600, counts, seed=3)
    moved, taus = cross_fitted(posterior, target, log_prior(counts), names(600))
    assert taus[0] != taus[1]  # or the test would show nothing
    matches = [np.isclose(moved, shifted(posterior, log_prior(counts), tau)).all(axis=1) for tau in taus]
    assert (matches[0] != matches[1]).all()
    assert 250 <= matches[0].sum() <= 350
    half = assign_folds(target, names(600), 2, 0)
    for place, (own, tau) in enumerate(zip(matches, taus, strict=True)):
        assert best_tau(posterior[~own], target[~own], log_prior(counts))[0] == tau
        assert own.tolist() == (half == place).tolist()


def test_cross_fitting_does_not_profit_from_its_own_choice() -> None:
    # labels that nothing predicts: chosen and scored on the same rows, some amount always looks better than 0
    rng = np.random.default_rng(0)
    gains, honest = [], []
    for _ in range(40):
        log_probs = log_softmax(rng.normal(size=(60, 3)), axis=1)
        target = rng.integers(0, 3, 60)
        prior = log_prior([10, 30, 60])
        plain = mean_f1(target, log_probs.argmax(1))
        gains.append(best_tau(log_probs, target, prior)[1] - plain)
        honest.append(mean_f1(target, cross_fitted(log_probs, target, prior, names(60))[0].argmax(1)) - plain)
    assert np.mean(gains) > 0.01
    assert np.mean(honest) < np.mean(gains) / 2


def test_copies_of_an_image_are_in_one_half() -> None:
    posterior, target = drawn(100, [20, 30, 50])
    twice, labels = np.concatenate([posterior, posterior]), np.concatenate([target, target])
    moved, taus = cross_fitted(twice, labels, log_prior([20, 30, 50]), np.concatenate([names(100), names(100)]))
    assert (moved[:100] == moved[100:]).all()
    assert len(taus) == 2


def test_macro_f1_of_predictions_that_name_absent_classes() -> None:
    target, preds = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 4, 0, 2])
    assert mean_f1(target, preds) == pytest.approx(f1_score(target, preds, average="macro", labels=[0, 1]))
    assert np.isnan(mean_f1(target[:0], preds[:0]))
