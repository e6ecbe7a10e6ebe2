"""What a stored calibration makes of an evaluation."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from fer_lightning.evaluation.calibrated import calibrated, cross_fitted
from fer_lightning.evaluation.calibration import calibrate
from fer_lightning.evaluation.calibration_place import Wishes
from fer_lightning.evaluation.calibration_report import answers_told
from fer_lightning.evaluation.confidence import ece_of, log_of
from fer_lightning.metrics import wilson_interval
from fer_lightning.models.calibration import Calibration
from tests.evaluation.test_calibration import PRIOR, validated


def test_other_images_are_scaled_and_judged() -> None:
    result = replace(validated(), split="test")
    found = calibrated(result, Calibration(2.5, threshold=0.6, risk=0.1))
    scaled = result.probs.astype(np.float64) ** (1 / 2.5)
    scaled /= scaled.sum(axis=1, keepdims=True)
    assert found.scores["nll"]["value"] == pytest.approx(log_loss(result.target, scaled), rel=1e-5)
    truth = np.eye(scaled.shape[1])[result.target]
    assert found.scores["brier"]["value"] == pytest.approx(((scaled - truth) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert found.scores["nll"]["low"] < found.scores["nll"]["value"] < found.scores["nll"]["high"]
    assert found.scores["ece"] == pytest.approx(ece_of(scaled, result.target), abs=1e-5)
    right = scaled.argmax(axis=1) == result.target
    assert found.scores["accuracy"] == pytest.approx(right.mean())
    sure = scaled.max(axis=1) >= 0.6
    wrong = int((~right & sure).sum())
    low, high = wilson_interval(wrong, int(sure.sum()))
    assert found.risk["answered"] == pytest.approx(sure.mean())
    assert found.risk["risk"] == {"value": wrong / sure.sum(), "low": low, "high": high}
    assert found.risk["wanted"] == 0.1
    assert found.risk["curves"]["after"]["risk"][-1] == pytest.approx(1 - right.mean())
    assert found.judged == "which took no part in the fit"
    assert "it may have been fitted" in calibrated(validated(200), Calibration(2.5)).judged


def test_an_answer_at_the_threshold_is_sure() -> None:
    result = replace(validated(200), split="test")
    logs = torch.tensor(log_of(result.probs), dtype=torch.float32)
    sure = np.sort(Calibration(2.5).probabilities(logs).numpy().max(axis=1))
    assert sure[99] < sure[100] < sure[101]
    assert calibrated(result, Calibration(2.5, threshold=float(sure[100]))).risk["answered"] == 0.5


def test_the_images_of_the_fit_are_judged_across_its_halves() -> None:
    data = validated(400)
    fitted = calibrate(data, PRIOR, Wishes("temperature", 0.1))
    found = cross_fitted(fitted)
    [_, row, *_] = fitted["kinds"]
    assert row["kind"] == "temperature"
    assert (found.scores["nll"], found.scores["brier"]) == ({"value": row["nll"]}, {"value": row["brier"]})
    assert (found.scores["ece"], found.scores["accuracy"]) == (row["ece"], row["accuracy"])
    assert found.scores["ece_perfect"] == {name: row["ece_null"][name] for name in ("low", "high")}
    assert (found.bins, found.risk) == (fitted["bins"]["after"], fitted["risk"])
    assert fitted["calibration"]["risk"] == 0.1  # so that a model folder tells what its threshold is for


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (Calibration(2.5), "No answer is marked as uncertain."),
        (Calibration(2.5, threshold=1.1), "Answers below a confidence of 1.100 are marked as uncertain."),
        (Calibration(2.5, threshold=0.6), r"Of the others, \d+% .* are wrong \(95 % interval [\d.]+% to [\d.]+%\)\."),
        (Calibration(2.5, threshold=0.6, risk=0.25), r"; wanted 25.0%\)\."),
    ],
)
def test_the_threshold_is_told(calibration: Calibration, said: str) -> None:
    found = calibrated(replace(validated(200), split="test"), calibration)
    assert re.search(said, answers_told(found.risk))
