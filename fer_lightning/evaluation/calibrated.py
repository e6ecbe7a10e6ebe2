"""What the stored calibration of a model makes of an evaluation: scores before and after, what its threshold decides.

An evaluation itself tells what the network says. This is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fer_lightning.evaluation.calibration import risk_points
from fer_lightning.evaluation.confidence import log_of
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.uncertainty import believability, distinct_images
from fer_lightning.metrics import wilson_interval
from fer_lightning.models.calibration import Calibration

__all__ = ["Calibrated", "calibrated", "cross_fitted"]


@dataclass(frozen=True)
class Calibrated:
    """An evaluation after its calibration.

    Attributes:
        scores: ``nll`` and ``brier`` (each ``value``; ``low, high`` where known), ``ece``, ``ece_perfect`` (``low,
            high`` of a perfect model), ``accuracy``.
        bins: of ``reliability_bins``.
        risk: of answering from the threshold on, as ``risk`` of ``calibrate``; ``wanted`` is ``None`` where nobody
            has kept it.
        judged: which images this is judged on, as the end of a sentence.
    """

    scores: Mapping[str, Any]
    bins: list[dict[str, float]]
    risk: Mapping[str, Any]
    judged: str


def calibrated(result: Predictions, calibration: Calibration, seed: int = 0) -> Calibrated:
    """Return what a calibration makes of predictions that it was not fitted on.

    Args:
        result: what the network says, with targets, at least one.
        calibration: of the network.
        seed: of the draws.
    """
    logs = torch.tensor(log_of(result.probs), dtype=torch.float32)
    after = replace(result, probs=calibration.probabilities(logs).numpy())
    right, sure = after.preds == after.target, after.confidence >= calibration.threshold
    wrong, answered = int((~right)[sure].sum()), int(sure.sum())
    low, high = wilson_interval(wrong, answered)
    believed = believability(after, distinct_images(after), seed)
    scores = {name: believed[name] for name in ("nll", "brier", "ece", "ece_perfect")}
    before = risk_points(result.confidence, result.preds == result.target)
    risk = {
        "wanted": calibration.risk or None,
        "reached": calibration.threshold > 0,
        "threshold": calibration.threshold,
        "answered": answered / len(right),
        "risk": {"value": wrong / answered, "low": low, "high": high} if answered else None,
        "curves": {"before": before, "after": risk_points(after.confidence, right)},
    }
    judged = "which took no part in the fit"
    if calibration.origin:
        judged = f"with what was fitted on the folds of {calibration.origin}"
    elif result.split == "val":  # a model folder does not know which images it was calibrated on
        judged = "on which it may have been fitted: then all this is a little too good"
    return Calibrated({**scores, "accuracy": float(right.mean())}, believed["bins"], risk, judged)


def cross_fitted(found: Mapping[str, Any]) -> Calibrated:
    """Return the same of the images that a calibration was fitted on, each half scored with the fit of the other half.

    Args:
        found: content of ``calibration.json``.
    """
    row = next(row for row in found["kinds"] if row["kind"] == found["chosen"])
    scores = {
        **{name: {"value": row[name]} for name in ("nll", "brier")},
        **{name: row[name] for name in ("ece", "accuracy")},
        "ece_perfect": {name: row["ece_null"][name] for name in ("low", "high")},
    }
    judged = "each half with what was fitted on the other"
    return Calibrated(scores, list(found["bins"]["after"]), dict(found["risk"]), judged)
