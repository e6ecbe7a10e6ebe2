from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.class_weights import log_prior
from fer_lightning.data.splitting.folds import assign_folds
from fer_lightning.errors import DataError
from fer_lightning.evaluation.calibration import calibrate, pooled, risk_curve, risk_threshold
from fer_lightning.evaluation.calibration_place import Wishes
from fer_lightning.evaluation.calibration_report import verdicts
from fer_lightning.evaluation.confidence import fit_scaling, log_losses, null_ece
from fer_lightning.evaluation.conformal import coverage_range, prediction_sets, set_thresholds
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.metrics import wilson_interval
from fer_lightning.models.calibration import calibration_in
from tests.evaluation.test_confidence import drawn

NAMES = ("angry", "fear", "happy", "sad", "neutral")
PRIOR = log_prior([1, 2, 3, 4, 5])


def validated(rows: int = 2_000, sharp: float = 2.5, copies: int = 1, **known: Any) -> Predictions:
    """Return validation predictions that are ``sharp`` times too sure, each image ``copies`` times."""
    probs, target = drawn(rows, sharp)
    target = np.repeat(target, copies)
    digests = np.array([f"{row // copies:016x}" for row in range(len(target))], np.str_)
    files = np.array([f"{row}.png" for row in range(len(target))], np.str_)
    values: dict[str, Any] = {"files": files, "digests": digests, "split": "val", "model": "m"} | known
    return Predictions(
        NAMES, np.arange(len(target)), target, np.repeat(probs, copies, axis=0).astype(np.float32), **values
    )


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return calibrate(validated(), PRIOR, Wishes())


def test_probabilities_are_better_on_images_that_the_fit_has_not_seen(found: dict[str, Any]) -> None:
    rows = {row["kind"]: row for row in found["kinds"]}
    assert list(rows) == ["none", "temperature", "prior", "vector", "matrix"]
    before, after = rows["none"], rows[found["chosen"]]
    assert found["chosen"] != "none"
    assert after["nll"] == min(row["nll"] for row in rows.values())
    assert after["nll"] < before["nll"] - 0.1
    assert after["brier"] < before["brier"]
    assert after["ece"] < after["ece_null"]["high"] < before["ece"]
    assert found["change"]["nll"]["value"] == pytest.approx(after["nll"] - before["nll"])
    assert found["change"]["nll"]["high"] < 0
    assert rows["temperature"]["accuracy"] == before["accuracy"]


def test_what_is_stored_is_what_was_fitted_on_all_images() -> None:
    data = validated(500)
    for kind in ("temperature", "prior", "vector", "matrix"):
        made = calibrate(data, PRIOR, Wishes(kind=kind))
        assert (made["chosen"], made["asked"]) == (kind, kind)
        stored = calibration_in(made["calibration"], 5, Path("calibration.json"))
        wanted = fit_scaling(data.probs, data.target, kind, PRIOR)(data.probs)
        given = stored.probabilities(torch.from_numpy(np.log(data.probs)) + 3.0)  # logits: a constant more is nothing
        assert given.numpy() == pytest.approx(wanted, abs=2e-5)
        least = set_thresholds(wanted, data.target, 0.9)
        assert stored.sets["0.9"] == pytest.approx(1 - least.scores, abs=1e-6)
        assert (stored.weight == ()) == (kind == "temperature")
    assert made["fit"] == {}
    assert calibrate(data, PRIOR, Wishes(kind="prior"))["fit"].keys() == {"temperature", "tau"}


def test_probabilities_that_say_nothing_are_told() -> None:
    drawing = np.random.default_rng(0)
    data = validated(200)
    made = calibrate(replace(data, probs=drawing.permuted(data.probs, axis=1)), None, Wishes(kind="temperature"))
    assert made["fit"]["temperature"] > 100
    assert verdicts(made)[0].endswith("the same for every class: train the network first.")


def test_nothing_is_done_where_nothing_helps() -> None:
    probs, target = drawn(3_000, seed=2)
    made = calibrate(replace(validated(3_000), probs=probs.astype(np.float32), target=target), None, Wishes())
    losses = {row["kind"]: row["nll"] for row in made["kinds"]}
    assert "prior" not in losses  # the training images are not known
    assert made["chosen"] == min(losses, key=lambda kind: losses[kind])
    if made["chosen"] == "none":
        assert verdicts(made)[0].startswith("No scaling")
    assert losses[made["chosen"]] == pytest.approx(log_losses(probs, target).mean(), abs=2e-3)


def test_copies_of_an_image_are_in_one_half() -> None:
    once, often = (calibrate(validated(600, copies=copies), PRIOR, Wishes()) for copies in (1, 3))
    assert (often["images"], often["distinct"]) == (1_800, 600)
    assert often["kinds"][1]["nll"] == pytest.approx(once["kinds"][1]["nll"], abs=0.01)
    width = [made["change"]["nll"]["high"] - made["change"]["nll"]["low"] for made in (once, often)]
    assert width[1] == pytest.approx(width[0], rel=0.15)  # copies tell nothing new
    assert [row["images"] for row in often["sets"]["classes"]] == [row["images"] for row in once["sets"]["classes"]]


def test_the_threshold_keeps_the_risk(found: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(300).round(2)
    right = rng.random(300) < confidence
    for risk in (0.1, 0.3, 0.49):
        threshold = risk_threshold(confidence, right, risk)
        assert threshold is not None
        assert (~right)[confidence >= threshold].mean() <= risk
        lower = np.unique(confidence[confidence < threshold])
        assert all((~right)[confidence >= each].mean() > risk for each in lower)
    coverage, risks = risk_curve(confidence, right)
    assert (coverage[-1], risks[-1]) == (1.0, (~right).mean())
    assert risk_threshold(confidence, right, 0.9) == 0.0
    assert risk_threshold(confidence, np.zeros(300, bool), 0.5) is None
    assert found["risk"]["wanted"] == pytest.approx((1 - found["kinds"][1]["accuracy"]) / 2, abs=0.02)
    assert found["risk"]["risk"]["low"] < found["risk"]["wanted"] < found["risk"]["risk"]["high"]
    assert found["calibration"]["threshold"] == found["risk"]["threshold"] > 0
    curve = found["risk"]["curves"]["after"]
    assert (curve["coverage"][0], curve["coverage"][-1]) == (20 / 2_000, 1.0)
    data = validated(400)
    surest = data.probs.max(axis=1) > 0.9
    wrong = replace(data, target=np.where(surest, data.probs.argmin(axis=1), data.target))
    never = calibrate(wrong, PRIOR, Wishes(kind="temperature", risk=0.0001))
    assert (never["calibration"]["threshold"], never["risk"]["reached"]) == (0, False)
    assert "No threshold brings the risk down to 0.0%" in verdicts(never)[1]


def test_sets_cover_each_class(found: dict[str, Any]) -> None:
    sets = found["sets"]
    for row in sets["classes"]:
        assert row["joint_low"] < row["low"] < 0.9 < row["high"] < row["joint_high"]
        assert row["joint_low"] <= row["coverage"] <= row["joint_high"]
        assert abs(row["calibrated_on"] - row["images"]) <= 1
    assert sum(sets["sizes"]) == sum(row["images"] for row in sets["classes"])
    assert set(found["calibration"]["sets"]) == {"0.8", "0.9", "0.95", "0.99"}
    assert sets["single"] == sets["sizes"][1] / sum(sets["sizes"])


def test_every_number_is_judged_on_the_half_that_was_not_fitted_on() -> None:
    """All that is told of the halves is computed again, from the halves alone."""
    data, wishes = validated(300, copies=2), Wishes("prior", 0.2, 0.85, 3)
    made, target = calibrate(data, PRIOR, wishes), data.target
    half = assign_folds(target, np.array([list(bytes.fromhex(each)) for each in data.digests], np.uint8), 2, 3)
    fits = [fit_scaling(data.probs[half == own], target[half == own], "prior", PRIOR) for own in (0, 1)]
    across = np.where((half == 0)[:, None], fits[1](data.probs), fits[0](data.probs))

    right = across.argmax(axis=1) == target
    assert sum(row["accuracy"] * row["images"] for row in made["bins"]["after"]) == pytest.approx(right.sum())
    assert sum(row["confidence"] * row["images"] for row in made["bins"]["after"]) == pytest.approx(
        across.max(axis=1).sum()
    )
    [scores] = [row for row in made["kinds"] if row["kind"] == "prior"]
    ends = np.quantile(null_ece(across, seed=3), [0.025, 0.5, 0.975])
    assert list(scores["ece_null"].values()) == ends.tolist()
    whole = fit_scaling(data.probs, target, "prior", PRIOR)
    assert made["fit"] == pytest.approx({
        "temperature": 1 / whole.weight[0, 0], "tau": float(whole.bias[0] / PRIOR[0])
    })  # fmt: skip

    wrong, answered = 0, 0
    for own in (0, 1):
        probs = fits[own](data.probs)
        threshold = risk_threshold(probs[half == own].max(axis=1), (probs.argmax(axis=1) == target)[half == own], 0.2)
        sure = (half != own) & (probs.max(axis=1) >= threshold)
        answered, wrong = answered + int(sure.sum()), wrong + int((probs.argmax(axis=1) != target)[sure].sum())
    low, high = wilson_interval(wrong, answered)
    assert made["risk"]["risk"] == {"value": wrong / answered, "low": low, "high": high}
    assert made["risk"]["answered"] == answered / 600

    first, second = (np.flatnonzero(half == own)[::2] for own in (0, 1))  # each image once: its copy follows it
    learned, scored = fits[0](data.probs[first]), fits[0](data.probs[second])
    found = set_thresholds(learned, target[first], 0.85)
    inside = prediction_sets(scored, found)
    marginal = prediction_sets(scored, set_thresholds(learned, target[first], 0.85, by_class=False))
    sets, rows, size = made["sets"], np.arange(len(second)), inside.sum(axis=1)
    assert sets["covered"] == inside[rows, target[second]].mean()
    assert sets["covered_by_one_threshold"] == marginal[rows, target[second]].mean() != sets["covered"]
    assert sets["sizes"] == [int((size == count).sum()) for count in range(6)]
    assert (sets["single"], sets["empty"]) == ((size == 1).mean(), (size == 0).mean())
    assert sets["mean_size"] == size.mean()
    for label, row in enumerate(sets["classes"]):
        own = target[second] == label
        rank, count, images = int(found.ranks[label]), int((target[first] == label).sum()), int(own.sum())
        joint = coverage_range(rank, count, images, 0.95 ** (1 / 5))
        assert (row["calibrated_on"], row["images"], row["pooled"]) == (count, images, False)
        assert (row["coverage"], row["marginal"]) == (inside[own, label].mean(), marginal[own, label].mean())
        assert (row["low"], row["high"]) == coverage_range(rank, count, images)
        assert (row["joint_low"], row["joint_high"]) == joint
        assert row["least"] == pytest.approx(1 - found.scores[label])


def test_a_risk_that_is_just_reached_is_kept() -> None:
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, True, True, False, False])
    assert risk_threshold(confidence, right, 0.25) == 0.6  # one of four
    assert risk_threshold(confidence, right, 0.4) == 0.0  # two of five: nothing need be marked


def test_a_class_without_images_is_named_and_breaks_nothing() -> None:
    data = validated(400)
    made = calibrate(replace(data, target=np.where(data.target == 4, 0, data.target)), PRIOR, Wishes())
    assert made["sets"]["classes"][4]["coverage"] is None
    assert made["sets"]["classes"][4]["pooled"]
    assert "(4 of 4)" in verdicts(made)[2] or "outside" in verdicts(made)[2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "test"}, "must not see"),
        ({"known": False}, "no true labels"),
        ({"digests": np.full(2_000, "", np.str_)}, "no digests"),
    ],
)
def test_what_cannot_be_calibrated_on_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        calibrate(replace(validated(), **changed), PRIOR, Wishes())


def test_wrong_wishes_are_refused() -> None:
    with pytest.raises(DataError, match="99 images are too few"):
        calibrate(validated(99), PRIOR, Wishes())
    with pytest.raises(DataError, match=r"risk must be between 0 and 1, such as 0.1, not 2"):
        Wishes(risk=2.0)
    with pytest.raises(DataError, match=r"coverage must be between 0 and 1, such as 0.9, not 0"):
        Wishes(coverage=0.0)
    with pytest.raises(DataError, match="which are not known"):
        calibrate(validated(), None, Wishes(kind="prior"))


def test_predictions_of_folds_are_joined() -> None:
    one, two = validated(200), replace(validated(300), model="other")
    both = pooled([one, two])
    assert len(both.target) == 500
    assert both.digests.tolist() == [*one.digests, *two.digests]
    with pytest.raises(DataError, match="the classes differ"):
        pooled([one, replace(two, class_names=("a", "b", "c", "d", "e"))])
