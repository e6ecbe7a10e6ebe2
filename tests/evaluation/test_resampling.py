from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from fer_lightning.errors import DataError
from fer_lightning.evaluation.resampling import (
    clusters_of,
    interval,
    matrix_scores,
    resampled_matrices,
    resampled_means,
)
from fer_lightning.metrics import confusion_matrix


def predictions(rows: int = 400, classes: int = 4, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, rows)
    return target, np.where(rng.random(rows) < 0.7, target, rng.integers(0, classes, rows))


def test_scores_are_those_of_scikit_learn() -> None:
    target, preds = predictions()
    import torch

    matrix = confusion_matrix(torch.tensor(target), torch.tensor(preds), 5).numpy()  # a class that is not there
    scores = matrix_scores(matrix)
    assert scores["accuracy"] == pytest.approx(accuracy_score(target, preds))
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, preds))
    assert scores["f1_macro"] == pytest.approx(f1_score(target, preds, average="macro"))
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert scores[name][:4] == pytest.approx(score(target, preds, average=None))
        assert np.isnan(scores[name][4])


def test_each_resample_has_whole_clusters() -> None:
    target, preds = predictions(60)
    clusters = np.repeat(np.arange(20), 3)
    matrices = resampled_matrices(target, preds, clusters, 4, draws=50)
    assert matrices.shape == (50, 1, 4, 4)
    assert (matrices.sum(axis=(1, 2, 3)) == 60).all()
    alone = resampled_matrices(np.zeros(9, np.int64), np.zeros(9, np.int64), np.array([0] * 8 + [1]), 2, draws=200)
    assert set(alone[:, 0, 0, 0].tolist()) == {2, 9, 16}


def test_the_interval_is_that_of_resampling_rows() -> None:
    target, preds = predictions(500, seed=1)
    fast = matrix_scores(resampled_matrices(target, preds, np.arange(500), 4)[:, 0])["f1_macro"]
    rng, slow = np.random.default_rng(3), []
    for _ in range(400):
        rows = rng.integers(0, 500, 500)
        slow.append(f1_score(target[rows], preds[rows], average="macro"))
    assert fast.std() == pytest.approx(np.std(slow), rel=0.1)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.008)


def test_several_models_share_the_draws() -> None:
    target, preds = predictions(200)
    both = resampled_matrices(target, np.stack([preds, preds]), np.arange(200), 4, draws=100)
    assert (both[:, 0] == both[:, 1]).all()
    assert (both[0] != both[1]).any()


def test_means_are_resampled_by_cluster() -> None:
    values = np.random.default_rng(0).normal(size=(300, 2))
    clusters = np.repeat(np.arange(100), 3)
    means = resampled_means(values, clusters, draws=2_000)
    sums = values.reshape(100, 3, 2).mean(axis=1)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.01)
    assert means.std(axis=0) == pytest.approx(sums.std(axis=0) / 10, rel=0.06)


def test_equal_digests_are_one_cluster() -> None:
    assert clusters_of(np.array(["b", "a", "b", "c"])).tolist() == [1, 0, 1, 2]


def test_ends_of_an_interval() -> None:
    found = interval(0.5, np.append(np.linspace(0, 1, 1001), np.nan))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.025, 0.975))
    assert np.isnan(interval(0.5, np.full(3, np.nan)).low)
    with pytest.raises(DataError, match="no rows"):
        resampled_matrices(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), 2)
