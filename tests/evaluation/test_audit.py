from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.audit import attributes_of, audit
from fer_lightning.evaluation.predictions import EvaluationResult, Predictions
from fer_lightning.metrics import wilson_interval
from tests.helpers.predictions import guessed, told

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
    found = audit(predictions, attributes_of(predictions, ["gender", "skin"]), shuffles=400, draws=200)
    gender, skin = found["attributes"]
    assert skin["gap"]["p_holm"] < 0.01 < 0.05 < gender["gap"]["p_holm"]
    assert (skin["gap"]["worst"], skin["unknown"], gender["unknown"]) == ("VI", 0, 40)
    assert skin["gap"]["p_holm"] == 2 * skin["gap"]["p"]
    by_class = {entry["class"]: entry for entry in skin["classes"]}
    assert by_class["angry"]["p_holm"] < 0.01
    assert min(by_class["happy"]["p_holm"], by_class["sad"]["p_holm"]) > 0.05
    odds = skin["equalised_odds"]
    assert (odds["score"], odds["worst"]) == ("recall of angry", "VI")
    assert odds["observed"] == by_class["angry"]["observed"] > 0.3 > odds["upper"]
    assert odds["p_holm"] < 0.01
    rest = {group["name"]: group["rest"] for group in skin["groups"]}
    assert rest["VI"]["high"] < 0
    assert rest["VI"]["p"] < 0.01
    assert rest["I"]["low"] > -0.05


def test_scores_are_those_of_the_group_alone() -> None:
    predictions = grouped()
    [attribute] = attributes_of(predictions, ["gender"])
    assert attribute.groups == ("f", "m")
    women = audit(predictions, [attribute], shuffles=100, draws=50)["attributes"][0]["groups"][0]
    rows = predictions.groups["gender"] == "f"
    assert women["images"] == rows.sum()
    assert women["accuracy"] == pytest.approx((predictions.preds == predictions.target)[rows].mean())


def test_groups_with_too_few_images_are_named_and_left_out() -> None:
    predictions = grouped()
    [age] = audit(predictions, attributes_of(predictions, ["age"]), shuffles=100, draws=50)["attributes"]
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
    with pytest.raises(
        ConfigError, match=r"no column 'skin_type' .*; did you mean 'skin'\? .*there are gender, skin, age"
    ):
        attributes_of(predictions, ["skin_type"])
    with pytest.raises(ConfigError, match="'empty' is empty in every row"):
        attributes_of(predictions, ["empty"])
    with pytest.raises(ConfigError, match="they have none: the data set knows no groups"):
        attributes_of(replace(predictions, groups={}), ["gender"])
    people = replace(predictions, groups={"subject": np.arange(1_200).astype(np.str_)})
    with pytest.raises(ConfigError, match="'subject' has 1,200 different values: these are no groups"):
        attributes_of(people, ["subject"])
    with pytest.raises(ConfigError, match="--intersect must be 1 or more, not 0"):
        attributes_of(predictions, ["gender"], 0)
    attributes = attributes_of(predictions, ["gender", "gender"])
    assert len(attributes) == 1
    with pytest.raises(ConfigError, match="--shuffles must be 100 or more, not 9"):
        audit(predictions, attributes, shuffles=9)
    for old in (replace(predictions, known=False), replace(predictions, digests=np.full(1_200, ""))):
        with pytest.raises(DataError, match="this evaluation has no"):
            audit(old, attributes)


def test_groups_are_sorted_by_the_numbers_in_their_names() -> None:
    ages = np.array(["10-19", "3-9", "0-2", "20-29", "more than 70"] * 240)
    [attribute] = attributes_of(replace(grouped(), groups={"age": ages}), ["age"])
    assert attribute.groups == ("0-2", "3-9", "10-19", "20-29", "more than 70")


def test_intervals_of_f1_and_recall_belong_to_the_group() -> None:
    predictions = grouped(biased=True)
    [skin] = audit(predictions, attributes_of(predictions, ["skin"]), shuffles=100, draws=500)["attributes"]
    for group in skin["groups"]:
        rows = predictions.groups["skin"] == group["name"]
        target, preds = predictions.target[rows], predictions.preds[rows]
        assert group["f1_macro"] == pytest.approx(f1_score(target, preds, average="macro"))
        assert group["f1_low"] < group["f1_macro"] < group["f1_high"]
        hits = [int((preds[target == label] == label).sum()) for label in range(3)]
        assert group["support"] == np.bincount(target, minlength=3).tolist()
        assert [(low, high) for low, high in zip(group["recall_low"], group["recall_high"], strict=True)] == [
            wilson_interval(hit, count) for hit, count in zip(hits, group["support"], strict=True)
        ]


def test_random_groups_raise_no_more_false_alarms_than_the_level_allows() -> None:
    rng, guesses = np.random.default_rng(5), guessed(0.6, 0, 900)
    columns = {f"random{number:02}": rng.choice(["a", "b", "c"], 900) for number in range(20)}
    predictions = replace(guesses, groups=columns)
    found = audit(predictions, attributes_of(predictions, list(columns)), shuffles=200, draws=100)
    gaps = [each["gap"] for each in found["attributes"]]
    assert sum(gap["p"] < 0.05 for gap in gaps) <= 3  # of 20: 1 is expected, 4 or more in 2 of 100 such tests
    assert not any(gap["p_holm"] < 0.05 for gap in gaps)
