"""A video from its file to its table, its annotated copy and its report; an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import Row, RowWriter, face_rows
from fer_lightning.inference.video.frames import seen_frames
from fer_lightning.inference.video.reading import Video
from fer_lightning.inference.video.writing import VideoWriter

__all__ = ["Person", "Session"]


class Person:
    """What was seen of one person, in little memory: 44 bytes a frame."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._probabilities: list[NDArray[np.float32]] = []

    def add(self, time: float, probabilities: NDArray[np.float32]) -> None:
        """Note the probabilities, float32 ``(K,)``, of one frame."""
        self._times.append(time)
        self._probabilities.append(probabilities)

    @property
    def times(self) -> NDArray[np.float64]:
        """Of the frames, float64 ``(N,)``, in seconds."""
        return np.array(self._times)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Float32 ``(N, K)``."""
        return np.array(self._probabilities)


class Session:
    """Recognizes one video.

    Args:
        recognizer: of faces and expressions.
        path: of the video.
        rows: the table that rows go to.
        copy: where an annotated mp4 goes, ``None`` for none. It is written anew by each start, from the first frame.
        every: every n-th frame.

    Attributes:
        persons: what was seen of each, by number, once :meth:`run` has ended.
        frames: how many were recognized, with those of earlier starts.
        without: frames without a face.
        problem: what is wrong with the file; empty if nothing is.
    """

    def __init__(
        self, recognizer: Recognizer, path: Path, rows: RowWriter, copy: Path | None = None, every: int = 1
    ) -> None:
        self.recognizer, self.path, self.rows, self.copy, self.every = recognizer, path, rows, copy, every
        self.persons: dict[int, Person] = {}
        self.frames = self.without = 0
        self.problem = ""

    def run(self) -> Session:
        """Recognize the frames that have no rows yet.

        Raises:
            DataError: if the video is missing or damaged from its first frame on.
            ConfigError: if a file cannot be written; the rows before are kept.
        """
        model, last = self.recognizer.model, -1
        for row in self._earlier():
            last = self._count(row, last)
        video = Video(self.path, self.every, first=0 if last < 0 else last + self.every)
        common = {"file": str(self.path), "model": model.card.name, "scheme": model.scheme}
        total = max(video.frames - video.first, 0) // self.every or None
        with ExitStack() as stack:
            writer = None
            if self.copy is not None:
                writer = stack.enter_context(VideoWriter(self.copy, video.width, video.height))
            seen = seen_frames(self.recognizer, video, self._earlier())
            for frame, faces in tqdm(((s.frame, s.faces) for s in seen), total=total, unit="frame", disable=None):
                lines = face_rows(self.rows.columns, faces, frame=frame.number, time_s=frame.time, **common)
                self.rows.add(lines)
                for line in lines:
                    last = self._count(line, last)
                if writer is not None:
                    writer.add(frame.time, annotated(frame.picture, faces))
        self.problem = video.problem
        return self

    def _earlier(self) -> Iterator[Row]:
        """Give the rows that earlier starts have written of this video."""
        return (row for row in self.rows.earlier() if row["file"] == str(self.path))

    def _count(self, row: Row, last: int) -> int:
        """Take a row into the sums and return the number of its frame."""
        number = int(row["frame"])
        self.frames += number != last
        if row["label"] is None:
            self.without += 1
            return number
        values = np.array([row[f"p_{name}"] for name in self.recognizer.model.class_names], np.float32)
        self.persons.setdefault(int(row["face_id"]), Person()).add(float(row["time_s"]), values)
        return number
