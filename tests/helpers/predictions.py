"""Predictions of images that are known by their row alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_lightning.evaluation.predictions import EvaluationResult, Predictions

__all__ = ["told"]


def told(result: EvaluationResult, files: Sequence[str], model: str, **known: Any) -> Predictions:
    """Return predictions with what is known of the images; ``files`` are those of the samples table."""
    own = np.array([files[row] for row in result.index], np.str_)
    digests = np.array([f"{row:016x}" for row in result.index], np.str_)
    return Predictions(
        result.class_names, result.index, result.target, result.probs, own, digests, model=model, **known
    )
