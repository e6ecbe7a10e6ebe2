from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fer_lightning.evaluation.spread import Key, difference, spread

numbers = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


def seeds(values: list[float]) -> dict[Key, float | None]:
    return {(0, seed): value for seed, value in enumerate(values)}


@given(numbers)
@settings(deadline=None)
def test_mean_deviation_and_interval_are_those_of_scipy(values: list[float]) -> None:
    found = spread(seeds(values))
    assert found.runs == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if np.std(values) > 1e-9:
        ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx(ends)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=2, max_size=12))
@settings(deadline=None)
def test_paired_differences_are_those_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    one, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = difference(seeds(one), seeds(other))
    assert found.mean == pytest.approx(np.mean(np.subtract(one, other)), abs=1e-12)
    assert (found.above, found.below) == (sum(a > b for a, b in pairs), sum(a < b for a, b in pairs))
    if np.std(np.subtract(one, other)) > 1e-6:
        expected = stats.ttest_rel(one, other)
        assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
        ends = expected.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_one_run_has_no_deviation_and_no_interval() -> None:
    found = spread({(0, 3): 0.5})
    assert (found.runs, found.mean) == (1, 0.5)
    assert (found.std, found.low, found.high, found.p) == (None, None, None, None)
    nothing = spread({})
    assert (nothing.runs, nothing.mean, nothing.std) == (0, None, None)


def test_folds_carry_the_correction_of_nadeau_and_bengio() -> None:
    values = [0.61, 0.64, 0.59, 0.66, 0.62]
    found = spread({(fold, 0): value for fold, value in enumerate(values)}, folds=5)
    # the formula of the paper: J = 5 folds, n_test / n_train = (1/5) / (4/5)
    error = math.sqrt((1 / 5 + 1 / 4) * np.var(values, ddof=1))
    half = stats.t.ppf(0.975, 4) * error
    assert found.mean is not None
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(found.mean / error, 4))
    naive = spread(seeds(values))
    assert naive.low is not None
    assert found.low is not None
    assert found.low < naive.low


def test_seeds_of_a_fold_do_not_count_as_folds() -> None:
    by_fold = {0: 0.6, 1: 0.7, 2: 0.65}
    single = spread({(fold, 0): value for fold, value in by_fold.items()}, folds=3)
    many = spread({(fold, seed): value for fold, value in by_fold.items() for seed in range(10)}, folds=3)
    assert many.runs == 30
    assert (many.low, many.high) == pytest.approx((single.low, single.high))
    one_fold = spread({(0, seed): 0.6 + seed / 100 for seed in range(4)}, folds=3)
    assert one_fold.std is not None
    assert one_fold.low is None  # of one fold nothing is known about others


def test_runs_without_the_number_do_not_count() -> None:
    values: dict[Key, float | None] = {(0, 0): 0.5, (0, 1): None, (0, 2): math.nan, (0, 3): 0.7}
    found = spread(values)
    assert found.runs == 2
    assert found.mean == pytest.approx(0.6)
    paired = difference(values, {(0, 0): 0.25, (0, 1): 0.3, (0, 9): 0.1})
    assert (paired.runs, paired.mean, paired.std) == (1, 0.25, None)


def test_equal_runs_have_no_interval_and_no_p_value() -> None:
    found = difference(seeds([0.5, 0.6, 0.7]), seeds([0.5, 0.6, 0.7]))
    assert (found.mean, found.std) == (0, 0)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_the_corrected_test_errs_as_often_as_it_says() -> None:
    # Two arms that do not differ, on folds that share images: independent noise in each fold, and a common part that
    # overlapping training sets bring. The plain test is wrong too often, the corrected one is not.
    rng = np.random.default_rng(0)
    folds, correlation, trials = 5, 1 / 5, 4000  # the paper assumes n_test / (n_test + n_train)
    plain = corrected = 0
    for _ in range(trials):
        common, own = rng.normal(), rng.normal(size=folds)
        drawn = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
        values: dict[Key, float | None] = {(fold, 0): value for fold, value in enumerate(drawn.tolist())}
        naive, careful = spread(values).p, spread(values, folds).p
        assert naive is not None
        assert careful is not None
        plain += naive < 0.05
        corrected += careful < 0.05
    assert plain / trials > 0.09
    assert corrected / trials < 0.06


def test_a_fold_counts_once_however_many_seeds_it_has() -> None:
    values = {(0, 0): 0.5, (0, 1): 0.7, (0, 2): 0.6, (1, 0): 0.8, (2, 0): 0.7}
    found = spread(values, folds=3)
    assert found.mean == pytest.approx((0.6 + 0.8 + 0.7) / 3)
    assert found.std == pytest.approx(np.std(list(values.values()), ddof=1))  # of the runs
    error = math.sqrt((1 / 3 + 1 / 2) * np.var([0.6, 0.8, 0.7], ddof=1))
    half = stats.t.ppf(0.975, 2) * error
    assert (found.low, found.high) == pytest.approx((0.7 - half, 0.7 + half))
