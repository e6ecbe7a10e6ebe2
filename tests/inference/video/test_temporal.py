from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.inference.video.smoothing import (
    Exponential,
    Hysteresis,
    Majority,
    Smooth,
    majority,
    make_smoother,
    windows,
)
from fer_lightning.inference.video.temporal import deltas, dwell_times, person_summary, transitions


def test_windows_of_a_second_begin_at_whole_seconds() -> None:
    assert windows([0.0, 0.1 * 10, 2 / 3, 1.999999999], 1.0).tolist() == [0, 1, 0, 2]
    assert windows([0.5, 0.75], 0.25).tolist() == [2, 3]
    assert windows([1.0, 1.6, 2.1], 0.5, origin=1.0).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="longer than 0 seconds"):
        windows([0.0], 0.0)


def test_the_majority_of_a_window_and_its_share() -> None:
    assert majority(["a", "b", "b", "a", "b"]) == ("b", 0.6)
    assert majority(["a", "b", "a", "b"]) == ("b", 0.5)
    assert majority(["b", "a", "b", "a"]) == ("a", 0.5)


def test_what_was_seen_a_half_life_ago_counts_half() -> None:
    average = Exponential(half_life=2.0)
    average.update(0.0, np.array([1.0, 0.0]))
    assert average.update(2.0, np.array([0.0, 1.0])).tolist() == [0.5, 0.5]
    assert average.update(6.0, np.array([0.0, 1.0])).tolist() == [0.125, 0.875]
    with pytest.raises(ConfigError, match="half-life"):
        Exponential(0.0)


def test_a_label_changes_only_when_another_is_better_for_a_while() -> None:
    shown = Hysteresis(margin=0.2, hold=0.3)
    steps = [
        (0.0, 0.9),
        (0.1, 0.2),
        (0.2, 0.2),
        (0.3, 0.9),
        (0.4, 0.2),
        (0.5, 0.45),
        (0.6, 0.2),
        (0.8, 0.2),
        (0.9, 0.2),
    ]
    assert [shown.update(time, np.array([share, 1 - share])) for time, share in steps] == [0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_a_rival_waits_from_its_own_beginning_and_must_lead_by_the_margin() -> None:
    shown = Hysteresis(margin=0.25, hold=0.3)
    steps = [(0.0, 0), (0.1, 1), (0.25, 2), (0.45, 2), (0.55, 2)]
    assert [shown.update(time, np.eye(3)[best]) for time, best in steps] == [0, 0, 0, 0, 2]
    close = Hysteresis(margin=0.25, hold=0.0)
    assert [close.update(0.1 * place, np.array(each)) for place, each in enumerate([(1, 0), (0.375, 0.625)])] == [0, 1]
    for options in ({"margin": -0.1}, {"hold": -0.1}):
        with pytest.raises(ConfigError, match="must not be negative"):
            Hysteresis(**options)
    plain, average = Hysteresis(), Exponential()
    assert (plain.margin, plain.hold, average.half_life, Majority().width) == (0.1, 0.2, 0.3, 1.0)


def test_changes_from_frame_to_frame() -> None:
    assert np.allclose(deltas(np.array([[0.2, 0.8], [0.5, 0.5], [0.4, 0.6]])), [[0.3, -0.3], [-0.1, 0.1]])
    assert transitions(["a", "b", "b", "a", "b"], ["a", "b"]).tolist() == [[0, 2], [1, 0]]


def test_stretches_end_where_the_face_was_gone() -> None:
    times = [0.0, 0.1, 0.2, 5.0, 5.1]
    assert dwell_times(times, ["a"] * 5) == [
        ("a", 0.0, pytest.approx(0.3)),  # type: ignore[comparison-overlap]
        ("a", 5.0, pytest.approx(0.2)),
    ]
    times = [0.0, 0.1, 0.2, 1.0, 2.5, 2.6]  # a second and a half is no gap
    assert dwell_times(times, ["a"] * 6) == [("a", 0.0, pytest.approx(2.7))]  # type: ignore[comparison-overlap]


def test_a_person_is_summed_up() -> None:
    times = np.arange(0, 6, 0.25).tolist()
    sure = np.array([[0.9, 0.1] if time < 2 or time >= 4 else [0.2, 0.8] for time in times])
    sure[1] = [0.4, 0.6]  # one frame in the first second
    found = person_summary(times, sure, ["happy", "sad"])
    assert [(each["start_s"], each["label"], each["share"]) for each in found["windows"]] == [
        (0.0, "happy", 0.75),
        (1.0, "happy", 1.0),
        (2.0, "sad", 1.0),
        (3.0, "sad", 1.0),
        (4.0, "happy", 1.0),
        (5.0, "happy", 1.0),
    ]
    assert found["transitions"] == [[0, 1], [1, 0]]
    assert found["dwell_s"] == {
        "happy": {"mean": 2.0, "longest": 2.0, "stretches": 2},
        "sad": {"mean": 2.0, "longest": 2.0, "stretches": 1},
    }
    assert (found["frames"], found["dominant"], found["share"]["happy"]) == (24, "happy", round(15 / 24, 4))
    assert found["mean_change"]["happy"] == round((0.5 + 0.5 + 0.7 + 0.7) / 5.75, 4)


def test_a_person_who_comes_and_goes_is_summed_up_in_windows_of_half_a_second() -> None:
    times = [1.0, 1.6, *np.linspace(2.0, 2.4, 20), 3.2]
    labels = [0, 0, *[1] * 20, 0]
    found = person_summary(times, np.array([[0.8, 0.2], [0.3, 0.7]])[labels], ["happy", "sad"], 0.5)
    assert [(each["start_s"], each["label"]) for each in found["windows"]] == [
        (1.0, "happy"),
        (1.5, "happy"),
        (2.0, "sad"),
        (3.0, "happy"),
    ]
    assert found["dwell_s"] == {
        "happy": {"mean": 0.75, "longest": 1.0, "stretches": 2},
        "sad": {"mean": 0.5, "longest": 0.5, "stretches": 1},
    }
    assert (found["dominant"], found["first_s"], found["last_s"], found["frames"]) == ("sad", 1.0, 3.2, 23)


def test_each_rule_shows_its_label_and_number() -> None:
    times = np.arange(0, 3, 0.1).round(3)
    sure = np.array([[0.9, 0.1] if time < 1.5 else [0.3, 0.7] for time in times])
    sure[5] = [0.2, 0.8]  # a flicker of one frame

    def labels(kind: Smooth) -> list[tuple[int, float]]:
        smoother = make_smoother(kind, 1.0)
        return [smoother(time, values) for time, values in zip(times.tolist(), sure, strict=True)]

    plain, slow, average, held = (labels(kind) for kind in get_args(Smooth))
    assert [number for number, _ in plain] == [0] * 5 + [1] + [0] * 9 + [1] * 15
    assert [number for number, _ in slow] == [0] * 19 + [1] * 11
    assert slow[14] == (0, 0.9)  # the flicker is still among the last ten frames
    assert slow[15][1] == 0.9
    assert [number for number, _ in held] == [0] * 17 + [1] * 13
    assert held[-1] == (1, 0.7)
    assert held[5] == (0, 0.2)  # what is shown has this probability in the frame
    slower = make_smoother("hysteresis", 2.0)
    assert [slower(time, values)[0] for time, values in zip(times.tolist(), sure, strict=True)] == [0] * 19 + [1] * 11
    assert [number for number, _ in average].index(1) == 19  # it falls below a half
    assert average[-1][1] == pytest.approx(0.7, abs=0.03)
    with pytest.raises(ConfigError, match="window"):
        make_smoother("majority", 0.0)
