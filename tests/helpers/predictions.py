"""Predictions of images that are known by their row alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.evaluation.predictions import PREDICTIONS, EvaluationResult, Predictions, write_predictions

__all__ = ["guessed", "told", "write_evaluation"]


def told(result: EvaluationResult, files: Sequence[str], model: str, **known: Any) -> Predictions:
    """Return predictions with what is known of the images; ``files`` are those of the samples table."""
    own = np.array([files[row] for row in result.index], np.str_)
    digests = np.array([f"{row:016x}" for row in result.index], np.str_)
    return Predictions(
        result.class_names, result.index, result.target, result.probs, own, digests, model=model, **known
    )


def guessed(skill: float, seed: int, rows: int = 300, names: Sequence[str] = ("angry", "happy", "sad")) -> Predictions:
    """Return predictions for the test images 0, 1, ..., in an order of their own; ``skill`` is the share known."""
    target = np.random.default_rng(7).integers(0, len(names), rows)
    rng = np.random.default_rng(seed)
    index = rng.permutation(rows)
    preds = np.where(rng.random(rows) < skill, target[index], rng.integers(0, len(names), rows))
    probs = np.full((rows, len(names)), 0.4 / (len(names) - 1), np.float32)
    probs[np.arange(rows), preds] = 0.6
    result = EvaluationResult(tuple(names), index, target[index], probs)
    return told(result, [f"{row}.png" for row in range(rows)], f"m{seed}", split="test")


def write_evaluation(folder: Path, predictions: Predictions, **context: Any) -> Path:
    """Write the table of an evaluation and a report that knows its split and ``context``; return the folder."""
    write_predictions(folder / PREDICTIONS, predictions)
    values = {"split": predictions.split, "class_names": predictions.class_names, "context": context}
    (folder / "report.json").write_text(json.dumps(values))
    return folder
