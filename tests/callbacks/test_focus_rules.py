"""The rules of class focus, on plain numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_lightning.callbacks.focus_rules import (
    CEILINGS,
    RegretRule,
    RegretState,
    bottom_k_draws,
    bounded,
    ceilings_of,
    natural_draws,
    static_draws,
)
from fer_lightning.emotions import SEVEN

FER2013 = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965])
SURE = np.ones(3)


def matrix_of(recalls: list[float], support: int = 1000) -> NDArray[np.int64]:
    """Return a confusion matrix with these recalls, mistakes spread evenly over the other classes."""
    count = len(recalls)
    matrix = np.zeros((count, count), np.int64)
    for label, recall in enumerate(recalls):
        matrix[label] = round(support * (1 - recall) / (count - 1))
        matrix[label, label] = round(support * recall)
    return matrix


def run(rule: RegretRule, recalls: list[list[float]], train: float = math.nan) -> tuple[RegretState, tuple[str, ...]]:
    """Return what the rule remembers and says after epochs of these recalls."""
    state, reasons = RegretState.start(len(recalls[0])), tuple[str, ...]()
    for epoch in recalls:
        state, reasons = rule.update(state, matrix_of(epoch), np.full(len(epoch), train), np.ones(len(epoch)))
    return state, reasons


@given(
    st.lists(st.integers(0, 500), min_size=2, max_size=8).filter(any),
    st.lists(st.floats(0, 1e6), min_size=8, max_size=8),
    st.floats(1, 10),
)
def test_bounded_draws_keep_the_length_and_the_bound(counts: list[int], shares: list[float], repeats: float) -> None:
    rows = np.array(counts)
    draws = bounded(np.array(shares[: len(rows)]), rows, repeats)
    assert draws.sum() == rows.sum()
    assert (draws <= np.floor(rows * repeats)).all()
    assert (draws >= 0).all()


def test_what_a_class_may_not_have_goes_to_the_others_in_proportion() -> None:
    draws = bounded(np.array([1.0, 1.0, 2.0]), np.array([10, 400, 590]), 4)
    assert draws.tolist() == [40, 320, 640]


def test_natural_draws_take_each_image_once() -> None:
    plan = natural_draws(FER2013)
    assert plan.draws.tolist() == FER2013.tolist()
    assert not plan.focused.any()


def test_static_draws_follow_the_power() -> None:
    assert static_draws(FER2013, 1.0, 4).draws.tolist() == FER2013.tolist()
    root = static_draws(FER2013, 0.5, 4).draws
    shares = np.sqrt(FER2013) / np.sqrt(FER2013).sum() * FER2013.sum()
    assert np.abs(root - shares).max() < 1
    level = static_draws(FER2013, 0.0, 100).draws
    assert level.max() - level.min() <= 1
    assert static_draws(FER2013, 0.0, 4).draws[1] == 4 * 436
    assert static_draws(np.array([0, 5, 5]), 0.0, 4).draws.tolist() == [0, 5, 5]


def test_the_classes_of_lowest_f1_weigh_more() -> None:
    f1 = np.array([0.5, math.nan, 0.3, 0.8, 0.4, 0.7, 0.6])
    plan = bottom_k_draws(f1, FER2013, 2, 3.0, 4)
    assert np.flatnonzero(plan.focused).tolist() == [2, 4]
    ratio = plan.draws / FER2013
    assert ratio[2] / ratio[3] == pytest.approx(3, rel=1e-3)
    assert ratio[4] / ratio[0] == pytest.approx(3, rel=1e-3)
    assert plan.draws.sum() == FER2013.sum()
    assert plan.reasons[2] == "F1 0.300, the lowest"
    assert plan.reasons[4] == "F1 0.400, lowest but 1"
    assert plan.reasons[0] == ""


def test_a_tie_takes_the_first_class() -> None:
    assert np.flatnonzero(bottom_k_draws(np.full(7, 0.5), FER2013, 2, 3.0, 4).focused).tolist() == [0, 1]


def test_few_images_are_shrunken_towards_macro_f1() -> None:
    rule = RegretRule()
    matrix = np.array([[800, 200, 0], [200, 800, 0], [2, 1, 1]])
    f1 = rule.shrunken(matrix)
    plain = np.array([1600 / 2002, 1600 / 2001, 2 / 5])
    macro = plain.mean()
    assert f1[0] == pytest.approx((1600 + 20 * macro) / 2022)  # a = 10
    assert f1[2] == pytest.approx((2 + 20 * macro) / 25)
    assert abs(f1[2] - macro) < 0.3 * abs(plain[2] - macro)
    assert np.isnan(rule.shrunken(np.array([[5, 0], [0, 0]]))).tolist() == [False, True]


def test_weights_grow_with_regret_slowly_and_within_bounds() -> None:
    rule = RegretRule()
    state, _ = run(rule, [[0.2, 0.8, 0.9]])
    assert np.abs(state.log_weights).max() <= math.log(1.25) + 1e-12
    state, reasons = run(rule, [[0.2, 0.8, 0.9]] * 5)
    assert math.exp(state.log_weights[0]) == pytest.approx(2.5)  # the most
    assert math.exp(state.log_weights[2]) == pytest.approx(1 / 1.5)  # the least
    assert "weight 2.50" in reasons[0]


def test_a_class_at_its_ceiling_has_no_regret() -> None:
    matrix = matrix_of([0.7, 0.8, 0.9])
    reached = RegretRule(shrink=0).shrunken(matrix)
    state, _ = RegretRule(shrink=0).update(RegretState.start(3), matrix, np.full(3, math.nan), reached)
    assert np.abs(state.log_weights).max() < 1e-12


def test_nothing_is_repeated_that_training_knows_by_heart() -> None:
    open_gate, _ = run(RegretRule(), [[0.3, 0.8, 0.8]] * 3)
    shut, reasons = run(RegretRule(), [[0.3, 0.8, 0.8]] * 3, train=0.95)
    assert open_gate.log_weights[0] > 0.5
    assert shut.log_weights[0] == pytest.approx(0)
    assert "held back" in reasons[0]


def test_a_class_that_gains_nothing_is_released_and_tried_again() -> None:
    rule = RegretRule(patience=3, smooth=0.0)
    state, weights = RegretState.start(3), []
    for _ in range(14):
        state, reasons = rule.update(state, matrix_of([0.3, 0.8, 0.8]), np.full(3, math.nan), SURE)
        weights.append((math.exp(state.log_weights[0]), "released" in reasons[0]))
    assert not any(released for _, released in weights[:3])
    assert weights[3][1]  # 1 that counts as a gain from nothing, then 3 without
    assert weights[3][0] < weights[2][0]
    later = [released for _, released in weights[4:]]
    assert not all(later)  # and once more in focus
    assert any(later[3:])  # and released again


def test_a_gain_keeps_a_class_in_focus() -> None:
    rule = RegretRule(patience=3, smooth=0.0)
    state = RegretState.start(3)
    for epoch in range(10):
        state, reasons = rule.update(state, matrix_of([0.2 + 0.02 * epoch, 0.8, 0.8]), np.full(3, math.nan), SURE)
        assert "released" not in reasons[0]
    assert state.log_weights[0] > 0.5


def test_chance_in_one_epoch_moves_little() -> None:
    calm, _ = run(RegretRule(), [[0.7, 0.7, 0.7]] * 10)
    shaken, _ = run(RegretRule(), [[0.7, 0.7, 0.7]] * 10 + [[0.5, 0.7, 0.7]])
    assert abs(calm.log_weights[0]) < 1e-9
    assert 0 < shaken.log_weights[0] < 0.15


def test_an_unseen_class_keeps_its_weight() -> None:
    matrix = matrix_of([0.3, 0.8, 0.8])
    matrix[2] = 0
    state, reasons = RegretRule().update(RegretState.start(3), matrix, np.full(3, math.nan), SURE)
    assert state.log_weights[2] == 0
    assert reasons[2] == "no image in the focus part"


@pytest.mark.parametrize(
    ("progress", "strength"), [(0.0, 0.0), (0.24, 0.0), (0.25, 1.0), (0.85, 1.0), (0.925, 0.5), (0.97, 0.2)]
)
def test_draws_are_natural_first_and_go_back_at_the_end(progress: float, strength: float) -> None:
    assert RegretRule().strength(progress) == pytest.approx(strength)


def test_the_plan_mixes_as_the_rule_says() -> None:
    rule = RegretRule()
    weights = np.log(np.array([1.0, 2.5, 1.5, 1 / 1.5, 1.2, 1.0, 1.0]))
    zeros = np.zeros(7)
    state = RegretState(5, zeros, zeros, weights, zeros, np.zeros(7, np.int64))
    plan = rule.plan(state, FER2013, 0.5, [""] * 7)
    base = FER2013**0.75 * np.exp(weights)
    shares = 0.8 * base / base.sum() + 0.2 * FER2013 / FER2013.sum()
    assert np.abs(plan.draws - shares * FER2013.sum()).max() < 1
    assert plan.draws.sum() == FER2013.sum()
    assert plan.focused.tolist() == [False, True, True, False, True, False, False]
    assert rule.plan(state, FER2013, 0.1, [""] * 7).draws.tolist() == FER2013.tolist()


def test_state_goes_through_plain_values() -> None:
    state, _ = run(RegretRule(), [[0.2, 0.8, 0.9], [0.3, 0.8, 0.9]])
    again = RegretState.restored(state.plain())
    for name, value in vars(state).items():
        assert np.array_equal(getattr(again, name), value)
    plain: Any = state.plain()
    assert isinstance(plain["updates"], int)
    assert all(isinstance(number, float) for number in plain["f1"])


def test_ceilings_are_of_the_seven_or_one_for_all() -> None:
    assert ceilings_of(SEVEN.class_names).tolist() == [CEILINGS[name] for name in SEVEN.class_names]
    assert ceilings_of(("happy", "sad")).tolist() == [0.94, 0.73]
    assert ceilings_of(("cat", "happy")).tolist() == [1.0, 1.0]
    assert ceilings_of(("cat", "happy"), {"cat": 0.5}).tolist() == [0.5, 1.0]


def updated(rule: RegretRule, matrix: NDArray[np.int64], ceilings: NDArray[np.float64], **state: Any) -> RegretState:
    """Return what a rule remembers after one epoch from a state of given parts."""
    zeros = np.zeros(len(ceilings))
    parts = {"updates": 0, "stale": np.zeros(len(ceilings), np.int64)}
    parts |= {name: zeros for name in ("f1", "train_f1", "log_weights", "best")}
    before = RegretState(**{**parts, **state})
    return rule.update(before, matrix, np.full(len(ceilings), math.nan), ceilings)[0]


def test_regret_is_a_share_of_what_a_class_can_reach() -> None:
    rule = RegretRule(shrink=0, smooth=0.0, step=100.0)
    matrix, ceilings = matrix_of([0.4, 0.6, 0.8]), np.array([0.5, 0.9, 1.0])
    regret = 1 - rule.shrunken(matrix) / ceilings
    found = updated(rule, matrix, ceilings).log_weights
    wanted = np.clip(4 * (regret - regret.mean()), -math.log(1.5), math.log(2.5))
    assert found == pytest.approx(wanted)
    assert len(set(np.round(np.abs(wanted), 6))) == 3  # none at a bound twice


def test_the_gate_closes_between_its_two_leads() -> None:
    rule = RegretRule(shrink=0, smooth=0.0, step=100.0)
    matrix = matrix_of([0.3, 0.8, 0.8])
    f1 = rule.shrunken(matrix)
    regret = float((1 - f1)[0] - (1 - f1).mean())
    for lead, gate in ((0.1, 1.0), (0.15, 0.75), (0.2, 0.5), (0.3, 0.0), (0.4, 0.0), (-0.2, 1.0)):
        train = f1 + np.array([lead, 0, 0])
        state, _ = rule.update(RegretState.start(3), matrix, train, np.ones(3))
        assert math.exp(state.log_weights[0]) == pytest.approx(min(math.exp(4 * gate * regret), 2.5))


def test_an_unseen_class_keeps_its_average_of_earlier_epochs() -> None:
    matrix = matrix_of([0.3, 0.8, 0.8])
    matrix[2] = 0
    earlier = np.array([0.2, 0.4, 0.3])
    state = updated(RegretRule(), matrix, SURE, updates=3, f1=earlier, train_f1=earlier)
    assert state.f1[2] == 0.3
    assert state.f1[0] == pytest.approx(0.8 * 0.2 + 0.2 * RegretRule().shrunken(matrix)[0])


def test_averages_are_corrected_for_their_start_at_zero() -> None:
    rule = RegretRule(shrink=0)
    matrix = matrix_of([0.5, 0.8, 0.9])
    states = [run(rule, [[0.5, 0.8, 0.9]] * epochs)[0] for epochs in (1, 2, 5)]
    for state, epochs in zip(states, (1, 2, 5), strict=True):
        assert state.f1 / (1 - 0.8**epochs) == pytest.approx(rule.shrunken(matrix))


@pytest.mark.parametrize("patience", [2, 3, 6])
def test_a_released_class_rests_as_long_as_it_was_waited_for(patience: int) -> None:
    rule = RegretRule(patience=patience, smooth=0.0)
    state, released = RegretState.start(3), []
    for _ in range(3 * patience + 2):
        state, reasons = rule.update(state, matrix_of([0.3, 0.8, 0.8]), np.full(3, math.nan), SURE)
        released.append("released" in reasons[0])
    assert released[: 2 * patience + 1] == [*[False] * patience, *[True] * patience, False]


def test_a_gain_is_more_than_the_least_one() -> None:
    rule, state = RegretRule(gain=0.25), replace(RegretState.start(2), best=np.array([0.25, 0.25]))
    best, stale = rule._patience(state, np.array([0.5, 0.5625]), np.ones(2))
    assert (best.tolist(), stale.tolist()) == ([0.25, 0.5625], [1, 0])


def test_what_is_not_known_of_training_counts_as_the_average() -> None:
    matrix, nothing = np.array([[6, 4], [4, 6]]), np.full(2, math.nan)
    state, _ = RegretRule().update(RegretState.start(2), matrix, nothing, np.ones(2))
    assert state.train_f1 == pytest.approx(0.2 * state.f1)
    after, reasons = RegretRule().update(state, matrix, np.array([math.nan, 1.0]), np.ones(2))
    assert after.train_f1 == pytest.approx(0.8 * state.train_f1 + 0.2 * np.array([after.f1[0], 1.0]))
    assert not any("held back" in reason for reason in reasons)


def test_less_than_the_least_gain_is_none() -> None:
    zeros = np.zeros(2)
    state = RegretState(5, zeros, zeros, zeros, np.array([0.3, 0.3]), np.array([1, 1]))
    best, stale = RegretRule(gain=0.002)._patience(state, np.array([0.3019, 0.3021]), np.ones(2))
    assert best.tolist() == [0.3, 0.3021]
    assert stale.tolist() == [2, 0]


def test_a_resting_class_may_still_lose_weight() -> None:
    matrix = matrix_of([0.9, 0.3, 0.6])
    resting = updated(RegretRule(smooth=0.0), matrix, SURE, stale=np.array([-3, -3, 0]))
    assert resting.log_weights[0] == pytest.approx(-math.log(1.25))  # as far as one step goes
    assert resting.log_weights[1] == 0
    assert resting.stale.tolist()[:2] == [-2, -2]


def test_the_numbers_of_the_rule_have_not_changed() -> None:
    rng = np.random.default_rng(0)
    rule, state = RegretRule(), RegretState.start(7)
    for _ in range(12):
        matrix = rng.integers(1, 30, (7, 7)) + np.diag(rng.integers(20, 200, 7))
        state, reasons = rule.update(state, matrix, rng.uniform(0.5, 1, 7), ceilings_of(SEVEN.class_names))
    assert state.log_weights.tolist() == pytest.approx(
        [0.0036157, 0.0, -0.1845678, 0.1103322, -0.0117292, 0.0715234, -0.0757716], abs=1e-6
    )
    assert rule.plan(state, FER2013, 0.9, reasons).draws.tolist() == [4087, 624, 3788, 7219, 4778, 3480, 4733]


def test_only_classes_that_are_drawn_more_often_are_in_focus() -> None:
    assert not static_draws(FER2013, 1.0, 4).focused.any()
    assert set(static_draws(FER2013, 1.0, 4).reasons) == {""}
    root = static_draws(FER2013, 0.5, 4)
    assert root.focused.tolist() == (root.draws > FER2013).tolist() == [True, True, True, False, False, True, False]
    assert root.reasons == ("n^0.5", "n^0.5", "n^0.5", "", "", "n^0.5", "")
    plan = bottom_k_draws(np.array([0.1, 0.6, 0.5]), np.array([0, 6, 6]), 1, 3.0, 4)  # of the first there is nothing
    assert (plan.focused.tolist(), plan.draws.tolist()) == ([False, False, True], [0, 3, 9])


def test_a_run_without_release_keeps_its_draws_to_the_end() -> None:
    assert [RegretRule(release=0.0).strength(progress) for progress in (0.25, 0.99, 1.0)] == [1.0, 1.0, 1.0]


def test_a_class_without_images_has_no_say_in_the_means() -> None:
    matrix = np.array([[50, 50, 0], [40, 60, 0], [0, 0, 0]])
    f1 = np.array([100 / 190, 120 / 210])
    found = RegretRule().shrunken(matrix)
    assert found[:2] == pytest.approx((np.array([100, 120]) + 20 * f1.mean()) / np.array([210, 230]))
    regret = 1 - found[:2]
    state = updated(RegretRule(smooth=0.0, step=100.0), matrix, SURE)
    assert state.log_weights[:2] == pytest.approx(4 * (regret - regret.mean()))


def test_weights_do_not_move_before_they_may() -> None:
    nothing = np.full(3, math.nan)
    state, reasons = RegretRule().update(RegretState.start(3), matrix_of([0.3, 0.8, 0.8]), nothing, SURE, steer=False)
    assert state.log_weights.tolist() == [0, 0, 0]
    assert state.f1.min() > 0
    assert all("weight 1.00" in reason for reason in reasons)


def test_towards_the_end_draws_go_back_in_proportion_which_is_said() -> None:
    zeros, weights = np.zeros(7), np.log(np.array([1.0, 2.5, 1.5, 1 / 1.5, 1.2, 1.0, 1.0]))
    state = RegretState(5, zeros, zeros, weights, zeros, np.zeros(7, np.int64))
    whole = RegretRule().plan(state, FER2013, 0.5, ["why"] * 7)
    assert set(whole.reasons) == {"why"}
    for progress, strength, share in ((0.925, 0.5, "50%"), (0.97, 0.2, "20%")):
        plan = RegretRule().plan(state, FER2013, progress, ["why"] * 7)
        assert np.abs(plan.draws - (FER2013 + strength * (whole.draws - FER2013))).max() <= 1
        assert set(plan.reasons) == {f"why; {share} of the focus, the run ends"}
    assert RegretRule().plan(state, FER2013, 1.0, ["why"] * 7).draws.tolist() == FER2013.tolist()


def test_the_reason_tells_regret_mean_and_weight() -> None:
    rule, matrix = RegretRule(smooth=0.0), matrix_of([0.3, 0.8, 0.8])
    regret = 1 - rule.shrunken(matrix)
    _, reasons = rule.update(RegretState.start(3), matrix, np.full(3, math.nan), SURE)
    assert reasons[0] == f"regret {regret[0]:.3f}, mean {regret.mean():.3f}: weight 1.25"
    assert reasons[1].startswith(f"regret {regret[1]:.3f}, mean {regret.mean():.3f}: weight 0.8")
