"""How many images of an evaluation the model was trained or chosen on, and its scores without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.metrics import accuracy, confusion_matrix, macro_f1
from fer_lightning.runs.trained_on import TrainedOn, text_numbers

__all__ = ["OLDER", "seen_images", "seen_rows", "seen_text"]

OLDER = "it was saved by an older version"
"""What is said where a model has no digests."""


def seen_rows(result: Predictions, record: TrainedOn | None) -> NDArray[np.bool_] | None:
    """Return which images the model has seen, bool ``(N,)``: of a validation split, those that it was trained on.

    ``None`` if nothing is known.
    """
    if record is None or not (len(record.train) or len(record.val)) or (result.digests == "").any():
        return None
    trained, chosen = record.roles(text_numbers(result.digests.tolist()))
    return trained if result.split == "val" else trained | chosen


def seen_images(result: Predictions, record: TrainedOn | None) -> dict[str, Any]:
    """Return which images a model has seen before, and its scores without them.

    Args:
        result: the predictions, with targets and digests.
        record: of the model; ``None`` if it says nothing.

    Returns:
        Plain values. ``train``: images that the model was trained on; ``val``: further ones by which it was chosen;
        both ``None`` if nothing is known. ``unknown``: where more images may come from, a text each. ``without``:
        ``n``, ``accuracy`` and ``f1_macro`` of the other images (of a validation split: of those that it was not
        trained on), the scores ``None`` where there is none; ``None`` if nothing is known.
    """
    seen = seen_rows(result, record)
    if record is None or seen is None:
        unknown = [OLDER] if record is None else list(record.unknown)
        return {"train": None, "val": None, "unknown": unknown, "without": None}
    trained, chosen = record.roles(text_numbers(result.digests.tolist()))
    left = ~seen
    scores: dict[str, Any] = {"n": int(left.sum()), "accuracy": None, "f1_macro": None}
    if left.any():
        target, preds = (torch.from_numpy(labels[left]) for labels in (result.target, result.preds))
        matrix = confusion_matrix(target, preds, len(result.class_names))
        scores |= {"accuracy": float(accuracy(matrix)), "f1_macro": float(macro_f1(matrix))}
    return {
        "train": int(trained.sum()),
        "val": int(chosen.sum()),
        "unknown": list(record.unknown),
        "without": {name: None if value is not None and np.isnan(value) else value for name, value in scores.items()},
    }


def seen_text(seen: dict[str, Any], images: int) -> list[str]:
    """Return the lines that say in words what ``seen_images`` has found of so many images."""
    if seen["without"] is None:
        return [f"Whether the model was trained on any of them is not known: {'; '.join(seen['unknown'])}."]
    trained, chosen, without = seen["train"], seen["val"], seen["without"]
    line = f"The model was trained on {_of(trained, images)} of them"
    if chosen:
        line += f"; its best epoch was chosen on {_of(chosen, images)} {'more' if trained else 'of them'}"
    lines = [f"{line}."]
    if trained + chosen and without["n"] not in (0, images):
        scores = ", ".join(f"{title} {without[name]:.4f}" for name, title in _TITLES.items())
        lines.append(f"On the other {without['n']:,}: {scores}.")
    if seen["unknown"]:
        lines.append(f"Further images that it was trained on are not known: {'; '.join(seen['unknown'])}.")
    return lines


_TITLES = {"accuracy": "accuracy", "f1_macro": "macro F1"}


def _of(count: int, images: int) -> str:
    return "none" if not count else "all" if count == images else f"{count:,}"
