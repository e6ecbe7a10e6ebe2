"""From the frames of a video to the faces in them: detection, tracking and classification of each frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fer_lightning.inference.recognizer import Face, Recognizer
from fer_lightning.inference.rows import Row, faces_of, rounded
from fer_lightning.inference.video.neutral import Baselines
from fer_lightning.inference.video.reading import Frame
from fer_lightning.inference.video.tracking import Tracker

__all__ = ["Seen", "seen_frames"]


@dataclass(frozen=True)
class Seen:
    """A frame and the faces in it, numbered by person.

    Attributes:
        frame: of the video.
        faces: in it.
        new: whether they were found now; else an earlier start has written their rows.
    """

    frame: Frame
    faces: tuple[Face, ...]
    new: bool = True


def seen_frames(
    recognizer: Recognizer,
    frames: Iterable[Frame],
    before: Iterable[Row] = (),
    baselines: Baselines | None = None,
) -> Iterator[Seen]:
    """Give frames with the faces in them.

    Boxes, times and what a neutral face is made of are rounded to the digits of the table before anything depends on
    them, so that a run which is taken up again gives the same rows.

    Args:
        recognizer: of faces and expressions.
        frames: in order. Where they begin before ``before`` ends, the faces come from the rows.
        before: rows that earlier starts have written of the video, in order.
        baselines: the neutral faces of persons; ``None`` if nobody asked for them.
    """
    follower = _Follower(recognizer, baselines)
    known = ((int(number), list(rows)) for number, rows in groupby(before, key=lambda row: row["frame"]))
    upcoming = next(known, None)
    for frame in frames:
        while upcoming is not None and upcoming[0] < frame.number:
            follower.replay(upcoming[1])
            upcoming = next(known, None)
        if upcoming is not None and upcoming[0] == frame.number:
            follower.replay(upcoming[1])
            yield Seen(replace(frame, time=float(upcoming[1][0]["time_s"])), faces_of(upcoming[1]), new=False)
            upcoming = next(known, None)
        else:
            yield follower.look(frame)


class _Follower:
    """Knows the persons of a video.

    Args:
        recognizer: of faces and expressions.
        baselines: as in ``seen_frames``.
    """

    def __init__(self, recognizer: Recognizer, baselines: Baselines | None) -> None:
        self.recognizer, self.baselines, self.tracker = recognizer, baselines, Tracker()

    def look(self, frame: Frame) -> Seen:
        """Return the faces in a frame."""
        found = self.recognizer.find(frame.picture)
        exact = replace(found, boxes=_rounded(found.boxes))
        time = rounded(frame.time, "time_s")
        numbers = self.tracker.update(time, exact.boxes)
        faces = self.recognizer.classified(frame.picture, exact, numbers)
        if self.baselines is not None:
            faces = tuple(self._judged(face, time, self.baselines) for face in faces)
        return Seen(replace(frame, time=time), faces)

    def replay(self, rows: list[Row]) -> None:
        """Take the faces of a frame from its rows."""
        faces, time = faces_of(rows), float(rows[0]["time_s"])
        self.tracker.update(time, np.array([face.box for face in faces], np.float32).reshape(-1, 4))
        if self.baselines is not None:
            for face in faces:
                self.baselines.note(face.number, time, list(face.probabilities.values()))

    def _judged(self, face: Face, time: float, baselines: Baselines) -> Face:
        values = baselines.applied(face.number, time, [rounded(share) for share in face.probabilities.values()])
        shares = dict(zip(face.probabilities, values.tolist(), strict=True))
        return self.recognizer.judged(replace(face, probabilities=shares))


def _rounded(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array([rounded(value) for value in boxes.ravel().tolist()], np.float32).reshape(boxes.shape)
