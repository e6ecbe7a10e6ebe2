from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.audit import attributes_of, audit
from fer_lightning.evaluation.predictions import EvaluationResult, Predictions
from tests.helpers.predictions import told

NAMES = ("angry", "happy", "sad")


def grouped(rows: int = 1_200, biased: bool = False) -> Predictions:
    """Return predictions of people; those of one skin type are wronged in one class if biased."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, rows)
    gender, skin = rng.choice(["f", "m"], rows), rng.choice(["I", "III", "VI"], rows)
    right = rng.random(rows) < 0.75
    if biased:
        right &= ~((skin == "VI") & (target == 0) & (rng.random(rows) < 0.8))
    preds = np.where(right, target, (target + 1) % 3)
    probs = np.full((rows, 3), 0.2, np.float32)
    probs[np.arange(rows), preds] = 0.6
    gender[:40] = ""
    age = np.where(np.arange(rows) < 6, "senior", "adult")
    groups = {"gender": gender, "skin": skin, "age": age, "empty": np.full(rows, "")}
    result = EvaluationResult(NAMES, np.arange(rows), target, probs)
    return told(result, [str(row) for row in range(rows)], "m", split="test", groups=groups)


def test_a_planted_bias_is_found_where_it_is() -> None:
    predictions = grouped(biased=True)
    found = audit(predictions, attributes_of(predictions, ["gender", "skin"]), draws=400)
    gender, skin = found["attributes"]
    assert skin["gap"]["p_holm"] < 0.01 < 0.05 < gender["gap"]["p_holm"]
    assert (skin["gap"]["worst"], skin["unknown"], gender["unknown"]) == ("VI", 0, 40)
    assert skin["gap"]["p_holm"] == 2 * skin["gap"]["p"]
    by_class = {entry["class"]: entry for entry in skin["classes"]}
    assert by_class["angry"]["p_holm"] < 0.01
    assert min(by_class["happy"]["p_holm"], by_class["sad"]["p_holm"]) > 0.05
    assert skin["equalised_odds"] > 0.3
    assert skin["equalised_odds"] >= by_class["angry"]["gap"] - 1e-9


def test_scores_are_those_of_the_group_alone() -> None:
    predictions = grouped()
    [attribute] = attributes_of(predictions, ["gender"])
    assert attribute.groups == ("f", "m")
    women = audit(predictions, [attribute], draws=50)["attributes"][0]["groups"][0]
    rows = predictions.groups["gender"] == "f"
    assert women["images"] == rows.sum()
    assert women["accuracy"] == pytest.approx((predictions.preds == predictions.target)[rows].mean())


def test_groups_with_too_few_images_are_named_and_left_out() -> None:
    predictions = grouped()
    [age] = audit(predictions, attributes_of(predictions, ["age"]), draws=50)["attributes"]
    assert age["left_out"] == ["senior"]
    assert age["gap"] is None
    assert [group["too_few"] for group in age["groups"]] == ["", "accuracy"]


def test_columns_are_intersected() -> None:
    predictions = grouped()
    both = attributes_of(predictions, ["gender", "skin"], intersect=2)
    assert [attribute.name for attribute in both] == ["gender", "skin", "gender x skin"]
    assert both[2].groups == ("f, I", "f, III", "f, VI", "m, I", "m, III", "m, VI")
    assert (both[2].member[:40] == -1).all()
    row = 41
    assert (
        both[2].groups[both[2].member[row]] == f"{predictions.groups['gender'][row]}, {predictions.groups['skin'][row]}"
    )


def test_columns_that_say_nothing_are_refused() -> None:
    predictions = grouped()
    with pytest.raises(ConfigError, match=r"no column 'skin_type' .*known: gender, skin, age, empty"):
        attributes_of(predictions, ["skin_type"])
    with pytest.raises(ConfigError, match="'empty' is empty in every row"):
        attributes_of(predictions, ["empty"])
    with pytest.raises(ConfigError, match="known: none: the data set has no such columns"):
        attributes_of(replace(predictions, groups={}), ["gender"])
