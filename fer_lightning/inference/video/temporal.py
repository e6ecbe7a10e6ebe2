"""What a face shows over time, in numbers: changes, transitions, dwell times, the label of each second."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.inference.video.smoothing import majority, windows

__all__ = ["deltas", "dwell_times", "person_summary", "transitions"]


def deltas(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how probabilities ``(N, K)`` change from each frame to the next, float64 ``(N - 1, K)``."""
    return np.diff(np.asarray(probabilities, np.float64), axis=0)


def transitions(labels: Sequence[str], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return how often each label follows each other one, int64 ``(K, K)``: row before, column after.

    A label that stays is no transition: the diagonal is 0.

    >>> transitions(["sad", "sad", "happy", "sad"], ["happy", "sad"]).tolist()
    [[0, 1], [1, 0]]
    """
    number = {name: place for place, name in enumerate(class_names)}
    counts = np.zeros((len(class_names),) * 2, np.int64)
    for before, after in pairwise(labels):
        if before != after:
            counts[number[before], number[after]] += 1
    return counts


def dwell_times(
    times: Sequence[float], labels: Sequence[str], longest_gap: float = 1.5
) -> list[tuple[str, float, float]]:
    """Return label, start and duration in seconds of each stretch in which a label stays.

    A frame lasts until the next one, the last one as long as the frame before; a gap of more than ``longest_gap``
    seconds ends a stretch.

    >>> dwell_times([0.0, 0.5, 1.0, 1.5], ["sad", "sad", "happy", "happy"])
    [('sad', 0.0, 1.0), ('happy', 1.0, 1.0)]
    """
    steps = np.diff(np.asarray(times, np.float64))
    usual = float(np.median(steps)) if len(steps) else 0.0
    found: list[tuple[str, float, float]] = []
    for place, (time, label) in enumerate(zip(times, labels, strict=True)):
        lasting = float(steps[place]) if place < len(steps) and steps[place] <= longest_gap else usual
        if found and found[-1][0] == label and time - (found[-1][1] + found[-1][2]) < 1e-6:
            found[-1] = (label, found[-1][1], round(found[-1][2] + lasting, 6))
        else:
            found.append((label, float(time), round(lasting, 6)))
    return found


def person_summary(
    times: Sequence[float], probabilities: NDArray[np.floating], class_names: Sequence[str], window: float = 1.0
) -> dict[str, Any]:
    """Return what one person's face shows in a video, as plain values.

    Args:
        times: of the frames, ``(N,)``, in seconds.
        probabilities: float ``(N, K)``.
        class_names: in label order, ``(K,)``.
        window: seconds over which the majority is taken.

    Returns:
        ``frames, first_s, last_s``; ``share`` of each class among the frames; ``dominant`` class; ``windows``: of each,
        ``start_s, label, share``; ``transitions`` of the windows' labels, ``(K, K)``; ``dwell_s``: of each class, mean
        and longest stretch of the windows' labels and how many; ``mean_change``: mean absolute change of each
        probability a second.
    """
    values = np.asarray(probabilities, np.float64)
    labels = [class_names[number] for number in values.argmax(axis=1)]
    numbers = windows(times, window)
    shown: list[dict[str, Any]] = []
    begins = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    for begin, end in zip(begins, [*begins[1:], len(labels)], strict=True):
        label, share = majority(labels[begin:end])
        shown.append({"start_s": round(int(numbers[begin]) * window, 6), "label": label, "share": round(share, 4)})
    starts, smooth = [each["start_s"] for each in shown], [str(each["label"]) for each in shown]
    stretches = dwell_times(starts, smooth, longest_gap=1.5 * window)
    lasting = {name: [length for label, _, length in stretches if label == name] for name in class_names}
    steps = np.clip(np.diff(np.asarray(times, np.float64)), 1e-6, None)
    change = np.abs(deltas(values)).sum(axis=0) / steps.sum() if len(steps) else np.zeros(len(class_names))
    return {
        "frames": len(labels),
        "first_s": round(float(times[0]), 6),
        "last_s": round(float(times[-1]), 6),
        "share": {name: round(labels.count(name) / len(labels), 4) for name in class_names},
        "dominant": majority(labels)[0],
        "windows": shown,
        "transitions": transitions(smooth, class_names).tolist(),
        "dwell_s": {
            name: {"mean": round(float(np.mean(found)), 4), "longest": max(found), "stretches": len(found)}
            for name, found in lasting.items()
            if found
        },
        "mean_change": {name: round(float(value), 4) for name, value in zip(class_names, change, strict=True)},
    }
