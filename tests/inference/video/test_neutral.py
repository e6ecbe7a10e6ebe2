from __future__ import annotations

import numpy as np
import pytest

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.inference.video.neutral import Baselines, least_shift

NEUTRAL = SEVEN.index("neutral")
SAD = SEVEN.index("sad")
ANGRY = SEVEN.index("angry")


def shares(**values: float) -> list[float]:
    """Return probabilities in which the other classes share what is left."""
    found = np.full(7, (1 - sum(values.values())) / (7 - len(values)))
    for name, value in values.items():
        found[SEVEN.index(name)] = value
    return [float(value) for value in found]


def test_the_shift_is_the_least_that_makes_neutral_twice_as_probable() -> None:
    mean = np.log(shares(sad=0.6, neutral=0.25))
    shift = least_shift(mean, NEUTRAL)
    assert shift[SAD] == pytest.approx(np.log(0.25 / 2) - np.log(0.6))
    assert np.flatnonzero(shift).tolist() == [SAD]
    moved = np.exp(mean + shift)
    assert moved[NEUTRAL] / moved[SAD] == pytest.approx(2)


def test_a_face_that_looks_sad_at_rest_is_neutral_afterwards() -> None:
    baselines, resting, sad = Baselines(SEVEN.class_names, 3), shares(sad=0.6, neutral=0.3), shares(sad=0.9)
    rng = np.random.default_rng(0)
    for step in range(30):
        noisy = np.array(resting) * rng.uniform(0.8, 1.25, 7)
        values = (noisy / noisy.sum()).tolist()
        assert baselines.applied(0, step / 10, values).tolist() == values  # so far nothing is known
    after = baselines.applied(0, 3.0, resting)
    assert after.argmax() == NEUTRAL
    assert after.sum() == pytest.approx(1)
    assert baselines.applied(0, 3.1, sad).argmax() == SAD
    assert baselines.applied(0, 3.2, shares(angry=0.6)).argmax() == ANGRY
    assert baselines.applied(1, 3.3, resting) == pytest.approx(resting)  # each person has a face of their own


def test_the_mean_is_of_all_frames_of_the_first_seconds_and_an_impossible_class_counts_a_little() -> None:
    baselines = Baselines(SEVEN.class_names, 0.3)
    seen = [shares(sad=0.9, neutral=0.001), shares(sad=0.6, neutral=0.1), shares(sad=0.5, neutral=0.0)]
    for step, values in enumerate(seen):
        baselines.applied(0, step / 10, values)
    now = np.array(shares(sad=0.7, neutral=0.2, happy=0.04))
    moved = now.copy()
    for number in range(7):
        if number != NEUTRAL:
            rest = np.log(np.maximum([values[number] for values in seen], 1e-6)).mean()
            moved[number] *= np.exp(-max(0.0, rest - np.log([0.001, 0.1, 1e-6]).mean() + np.log(2)))
    assert baselines.applied(0, 0.3, now.tolist()) == pytest.approx(moved / moved.sum())


def test_who_looks_neutral_at_rest_stays_as_they_are() -> None:
    baselines, resting = Baselines(SEVEN.class_names, 1), shares(neutral=0.8)
    baselines.applied(0, 0.0, resting)
    assert baselines.applied(0, 1.0, shares(happy=0.5)) == pytest.approx(shares(happy=0.5))


def test_a_model_without_neutral_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a model with the class neutral; this one has happy, sad"):
        Baselines(["happy", "sad"], 3)
    with pytest.raises(ConfigError, match="above 0 seconds"):
        Baselines(SEVEN.class_names, -1)
