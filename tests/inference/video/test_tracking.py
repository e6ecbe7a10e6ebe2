from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.inference.video.tracking import Tracker


def box(x: float, y: float, side: float = 40) -> list[float]:
    return [x - side / 2, y - side / 2, side, side]


def test_two_people_who_cross_keep_their_numbers() -> None:
    tracker = Tracker()
    for step in range(61):
        time = step / 10
        left, right = box(50 + 10 * step, 100), box(650 - 10 * step, 140)
        order = [left, right] if step % 2 else [right, left]
        numbers = tracker.update(time, np.array(order))
        assert numbers == ([1, 0] if step % 2 else [0, 1])


def test_a_gap_is_bridged_and_a_long_one_is_not() -> None:
    tracker = Tracker(max_age=1.5)
    assert tracker.update(0.0, np.array([box(100, 100)])) == [0]
    assert tracker.update(0.1, np.zeros((0, 4))) == []
    assert tracker.update(1.5, np.array([box(101, 100)])) == [0]
    assert tracker.update(3.1, np.array([box(101, 100)])) == [1]


def test_who_moves_is_expected_further_on() -> None:
    tracker = Tracker()
    for step in range(10):
        tracker.update(step / 10, np.array([box(100 + 20 * step, 100)]))
    assert tracker.update(1.3, np.array([box(100 + 20 * 13, 100)])) == [0]  # three frames were missed
    standing = Tracker()
    standing.update(0.0, np.array([box(100, 100)]))
    assert standing.update(0.1, np.array([box(145, 100)])) == [1]  # more than a side away


def test_a_velocity_is_learned_slowly_and_believed_for_half_a_second() -> None:
    tracker = Tracker()
    for step in range(2):
        tracker.update(step / 10, np.array([box(100 + 10 * step, 100 - 5 * step)]))
    (track,) = tracker._tracks
    assert track.velocity == pytest.approx((1 - np.exp(-0.1 / 0.25)) * np.array([100, -50]))
    for x, number in ((380, 0), (480, 1)):  # where it would be after half a second, and after the whole
        tracker = Tracker()
        for step in range(10):
            tracker.update(step / 10, np.array([box(100 + 20 * step, 100)]))
        again = Tracker()
        again.load_state_dict(tracker.state_dict())
        for each in (tracker, again):
            assert each.update(1.9, np.array([box(x, 100)])) == [number]
            assert each.update(2.0, np.array([box(x, 100), box(900, 100)])) == [number, number + 1]
    standing = Tracker()
    standing.update(0.0, np.array([box(100, 100)]))
    assert standing.update(1.6, np.array([box(100, 100)])) == [1]


def test_distances_are_in_sides_of_the_face_itself() -> None:
    tracker = Tracker()
    tracker.update(0.0, np.array([box(100, 100, 20), box(400, 200, 200)]))
    assert tracker.update(0.1, np.array([box(130, 100, 20), box(500, 200, 200)])) == [2, 1]
    high = Tracker()
    high.update(0.0, np.array([[100, 100, 30, 60]]))
    assert high.update(0.1, np.array([[120, 100, 30, 60]])) == [0]


def test_a_face_of_another_size_is_somebody_else() -> None:
    tracker = Tracker()
    tracker.update(0.0, np.array([box(100, 100, 30)]))
    assert tracker.update(0.1, np.array([box(100, 100, 90)])) == [1]
    assert Tracker(gate=2.0).update(0.0, np.array([box(1, 1)])) == [0]


def test_pairs_are_made_together_and_not_one_after_the_other() -> None:
    """The nearest pair first would leave the other two too far from each other."""
    tracker = Tracker()
    tracker.update(0.0, np.array([box(100, 100), box(130, 100)]))
    assert tracker.update(0.1, np.array([box(112, 100), box(80, 100)])) == [1, 0]


def test_a_state_goes_on() -> None:
    rng = np.random.default_rng(0)
    frames = [np.array([box(100 + 8 * k, 100), box(400 - 8 * k, 120)]) + rng.normal(0, 2, (2, 4)) for k in range(40)]
    whole, first, second = Tracker(), Tracker(), Tracker()
    wanted = [whole.update(k / 10, frame) for k, frame in enumerate(frames)]
    for k in range(20):
        first.update(k / 10, frames[k])
    second.load_state_dict(first.state_dict())
    assert [second.update(k / 10, frames[k]) for k in range(20, 40)] == wanted[20:]


@pytest.mark.parametrize("every", [1, 3, 5])
def test_who_is_apart_again_has_the_number_of_before(every: int) -> None:
    """Two people on smooth paths that cross, 3 % jitter, 5 % misses: four times 40 s at 30 frames a second."""
    switches = 0
    for seed in range(4):
        rng, tracker, last = np.random.default_rng(seed), Tracker(), {0: 0, 1: 1}
        speed, phase = rng.uniform(0.05, 0.15, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
        for step in range(0, 1200, every):
            time = step / 30
            middle = np.array([640, 360]) + np.array([500, 250]) * np.sin(2 * np.pi * speed * time + phase)
            seen = [person for person in range(2) if not step or rng.random() > 0.05]
            boxes = np.array([box(middle[person][0], middle[person][1], 100) for person in seen]).reshape(-1, 4)
            numbers = tracker.update(time, boxes + rng.normal(0, 3, boxes.shape))
            if np.linalg.norm(middle[0] - middle[1]) > 100:
                for person, number in zip(seen, numbers, strict=True):
                    switches += last[person] != number
                    last[person] = number
    assert switches <= 4
