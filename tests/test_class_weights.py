from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from fer_lightning.class_weights import (
    METHODS,
    class_factors,
    class_weights,
    effective_number,
    inverse_frequency,
    log_prior,
    no_weighting,
    square_root,
)
from fer_lightning.errors import ConfigError, DataError

FER2013 = {"angry": 3995, "disgust": 436, "fear": 4097, "happy": 7215, "sad": 4830, "surprise": 3171, "neutral": 4965}


def array(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_inverse_frequency_of_fer2013() -> None:
    weights = class_weights(FER2013)
    assert list(weights) == list(FER2013)
    published = [0.4800, 4.3982, 0.4681, 0.2658, 0.3970, 0.6047, 0.3862]
    assert list(weights.values()) == pytest.approx(published, abs=5e-5)
    assert sum(weights.values()) == pytest.approx(7)


def test_inverse_frequency_is_scikit_learns_balanced_up_to_scale() -> None:
    labels = np.repeat(np.arange(7), list(FER2013.values()))
    theirs = compute_class_weight("balanced", classes=np.arange(7), y=labels)
    ours = inverse_frequency(array(*FER2013.values()))
    assert (ours / theirs).tolist() == pytest.approx([ours[0] / theirs[0]] * 7)


def test_square_root_by_hand() -> None:
    # 1/2, 1/3, 1/6 sum to 1
    assert square_root(array(4, 9, 36)).tolist() == pytest.approx([1.5, 1.0, 0.5])


def test_effective_number_by_hand() -> None:
    # beta = 1/2: effective numbers 1, 3/2, 7/4; reciprocals 1, 2/3, 4/7 sum to 47/21
    expected = [63 / 47, 42 / 47, 36 / 47]
    assert effective_number(array(1, 2, 3), beta=0.5).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("beta", "like"), [(0.0, no_weighting), (1 - 1e-9, inverse_frequency)])
def test_effective_number_lies_between_none_and_inverse(beta: float, like: object) -> None:
    counts = array(*FER2013.values())
    assert callable(like)
    assert effective_number(counts, beta).tolist() == pytest.approx(like(counts).tolist(), rel=1e-4)


def test_default_beta_is_the_papers() -> None:
    raw = [0.001 / (1 - 0.999**n) for n in FER2013.values()]
    expected = [7 * weight / sum(raw) for weight in raw]
    assert list(class_weights(FER2013, "effective_number").values()) == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_present_classes_sum_to_their_number(method: str) -> None:
    weights = class_weights({"a": 10, "b": 0, "c": 90}, method)
    assert all(map(math.isfinite, weights.values()))
    assert weights["a"] + weights["c"] == pytest.approx(2)
    assert weights["b"] == (1 if method == "none" else 0)


def test_cap_bounds_the_ratio_and_keeps_the_sum() -> None:
    weights = class_weights({"a": 1, "b": 50, "c": 100, "d": 0}, cap=4)
    # 1/100 is the smallest: 1 is lowered to 4/100, 2/100 stays
    assert list(weights.values()) == pytest.approx([12 / 7, 6 / 7, 3 / 7, 0])


def test_cap_above_the_ratio_changes_nothing() -> None:
    assert class_weights(FER2013, cap=17) == class_weights(FER2013)


def test_multipliers_apply_after_the_cap() -> None:
    weights = class_weights({"a": 1, "b": 100}, cap=2, multipliers={"a": 3})
    assert weights["a"] / weights["b"] == pytest.approx(6)
    assert sum(weights.values()) == pytest.approx(2)


def test_multipliers_by_any_known_name() -> None:
    weights = class_weights(FER2013, "none", multipliers={"Disgusted": 3, " fear": 2})
    assert list(weights.values()) == pytest.approx([0.7, 2.1, 1.4, 0.7, 0.7, 0.7, 0.7])


def test_a_custom_class_is_found_by_its_plain_name() -> None:
    assert class_factors(["Joy", "happy"], {"Joy": 2}).tolist() == [2, 1]
    assert class_factors(["Joy", "happy"], {"joy": 2}).tolist() == [1, 2]


def test_a_multiplier_of_zero_silences_a_class() -> None:
    assert class_weights({"a": 1, "b": 1, "c": 1}, multipliers={"b": 0}) == {"a": 1.5, "b": 0, "c": 1.5}


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"disgsut": 3}, "'disgsut' is none of the classes angry, .*did you mean 'disgust'"),
        ({"contempt": 3}, "'contempt' is none of the classes"),
        ({"fear": -1}, "'fear' must be a number of at least 0, not -1"),
        ({"fear": math.nan}, "'fear' .* not nan"),
        ({"fear": math.inf}, "'fear' .* not inf"),
        ({"angry": 2, "anger": 3}, "'angry' and 'anger' are the same class"),
        (dict.fromkeys(FER2013, 0), "every class that has samples is multiplied by 0"),
    ],
)
def test_wrong_multipliers_are_refused(multipliers: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_weights(FER2013, multipliers=multipliers)


@pytest.mark.parametrize("cap", [0.5, -1, math.nan, math.inf])
def test_wrong_caps_are_refused(cap: float) -> None:
    with pytest.raises(ConfigError, match="cap must be a number of at least 1"):
        class_weights(FER2013, cap=cap)


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_wrong_betas_are_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta must be at least 0 and below 1"):
        class_weights(FER2013, "effective_number", beta=beta)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown method 'sqrt', expected one of none, inverse, square_root, eff"):
        class_weights(FER2013, "sqrt")


@pytest.mark.parametrize("counts", [{}, {"a": 0, "b": 0}, {"a": 3, "b": -1}])
def test_counts_without_samples_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="counts must be 0 or more and not all 0"):
        class_weights(counts)


def test_a_class_without_samples_counts_as_one_in_the_prior() -> None:
    assert log_prior([0, 10, 90]) == pytest.approx(np.log([1 / 101, 10 / 101, 90 / 101]))
    with pytest.raises(DataError, match="holds no image"):
        log_prior([0, 0])


def test_classes_without_samples_do_not_count_among_those_that_are_multiplied() -> None:
    with pytest.raises(ConfigError, match="every class that has samples is multiplied by 0"):
        class_weights({"a": 3, "b": 0}, multipliers={"a": 0})


def test_a_cap_of_one_weighs_all_alike_whatever_their_counts() -> None:
    assert class_weights({"a": 1, "b": 50, "c": 0}, cap=1) == {"a": 1, "b": 1, "c": 0}
    assert class_weights({"a": 1, "b": 1}, cap=2) == {"a": 1, "b": 1}


@pytest.mark.parametrize("weigh", [inverse_frequency, square_root, effective_number])
def test_nothing_is_divided_by_zero(weigh: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> None:
    assert weigh(array(0, 0)).tolist() == [0, 0]
