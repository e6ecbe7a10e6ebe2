"""What travels between the rooms: batches, the preprocessing contract and prediction rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from typing_extensions import NotRequired, TypedDict

__all__ = ["Batch", "Interpolation", "Preprocessing", "prediction_columns"]

Interpolation = Literal["area", "bilinear"]
"""A rule of resizing; see ``preprocessing``."""


class Batch(TypedDict):
    """A batch of samples, as a dataset gives it and as a task receives it."""

    image: Tensor
    """uint8 ``(N, C, H, W)`` in 0..255 from the dataset; float32, normalised, once it is on the device."""
    label: Tensor
    """int64 ``(N,)``."""
    index: Tensor
    """int64 ``(N,)``: row in the samples table; groups are looked up through it."""
    key: NotRequired[Tensor]
    """int64 ``(N,)``: random key of each draw, a function of (seed, epoch, position); in training batches only."""
    soft_label: NotRequired[Tensor]
    """float32 ``(N, K)``, rows sum to 1: the targets of training in place of ``label``."""
    votes: NotRequired[Tensor]
    """float32 ``(N, K)``, rows sum to 1: what others say of the sample, for an auxiliary head; in training only."""
    weight: NotRequired[Tensor]
    """float32 ``(N,)``: what each sample counts in the loss; in training only, where groups are weighed."""


class Preprocessing(TypedDict):
    """What turns a face crop into the input of a network.

    Plain values only: it is stored in checkpoints and model folders.
    """

    image_size: int
    """Side of the square input, in pixels."""
    channels: int
    """1 (gray) or 3 (RGB)."""
    mean: list[float]
    """Per channel, of values in 0..1."""
    std: list[float]
    """Per channel, of values in 0..1."""
    interpolation: Interpolation
    """How images of another size are resized: ``area``, or ``bilinear`` in checkpoints of older versions."""


def prediction_columns(class_names: Sequence[str], sets: bool = False) -> list[str]:
    """Return the fixed columns of every table of predictions, in order.

    Args:
        class_names: canonical names in label order; each gives one column ``p_<name>``.
        sets: with a column ``set`` at the end: the classes of a prediction set with ``|`` between, the most probable
            first.
    """
    head = ["file", "frame", "time_s", "face_id", "x", "y", "w", "h", "det_score", "label", "confidence", "uncertain"]
    return [*head, *(f"p_{name}" for name in class_names), "model", "scheme", *(["set"] if sets else [])]
