"""From the frames of a video to the rows of its table: detection, tracking and classification of each frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.recognizer import Face, Recognizer
from fer_lightning.inference.rows import Row, rounded
from fer_lightning.inference.video.reading import Frame, Video
from fer_lightning.inference.video.tracking import Tracker

__all__ = ["Seen", "seen_frames"]


@dataclass(frozen=True)
class Seen:
    """A frame and the faces in it, numbered by person."""

    frame: Frame
    faces: tuple[Face, ...]


def seen_frames(
    recognizer: Recognizer, video: Video, before: Iterable[Row] = (), tracker: Tracker | None = None
) -> Iterator[Seen]:
    """Give the frames of a video with the faces in them.

    Boxes and times are rounded to the digits of the table before anything depends on them, so that a run which is taken
    up again gives the same rows.

    Args:
        recognizer: of faces and expressions.
        video: whose frames ``video.first`` and later are recognized.
        before: rows of the table that earlier frames have, in order.
        tracker: of the persons; ``None`` for a new one.
    """
    tracker = Tracker() if tracker is None else tracker
    _replay(tracker, before)
    for frame in video:
        found = recognizer.find(frame.picture)
        exact = Faces(_rounded(found.boxes), found.scores, found.eyes)
        time = rounded(frame.time)
        numbers = tracker.update(time, exact.boxes)
        yield Seen(Frame(frame.number, time, frame.picture), recognizer.classified(frame.picture, exact, numbers))


def _rounded(values: Any) -> Any:
    return np.vectorize(rounded, otypes=[np.float32])(values) if len(values) else values


def _replay(tracker: Tracker, rows: Iterable[Row]) -> None:
    """Bring a tracker where it was after the frames of some rows."""
    for _, entries in groupby(rows, key=lambda row: row["frame"]):
        found = list(entries)
        boxes = [[row[side] for side in "xywh"] for row in found if row["label"] is not None]
        tracker.update(float(found[0]["time_s"]), np.array(boxes, np.float32).reshape(-1, 4))
