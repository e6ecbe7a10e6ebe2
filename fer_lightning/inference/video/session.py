"""A video or camera from its frames to its table, its annotated copy and its report; an interrupted video goes on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.errors import ConfigError
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.recognizer import Face, Recognizer
from fer_lightning.inference.rows import Row, RowWriter, face_rows, faces_of, rounded
from fer_lightning.inference.video.frames import Seen, seen_frames
from fer_lightning.inference.video.neutral import Baselines
from fer_lightning.inference.video.reading import Source
from fer_lightning.inference.video.smoothing import Following, Smoother, make_smoother
from fer_lightning.inference.video.writing import VideoWriter

__all__ = ["Person", "Session", "Watch"]

Watch = Callable[[Seen, dict[int, tuple[str, float]]], bool]
"""Is called with each new frame and the label and number that are shown for each person; false ends the session."""


class Person:
    """What was seen of one person, in little memory: 44 bytes a frame of seven classes."""

    def __init__(self) -> None:
        self._frames, self._times, self._probabilities = array("q"), array("d"), array("f")

    def add(self, frame: int, time: float, probabilities: NDArray[np.float32]) -> None:
        """Note the time in seconds and the probabilities, float32 ``(K,)``, of one frame."""
        self._frames.append(frame)
        self._times.append(time)
        self._probabilities.extend(probabilities.tolist())

    @property
    def frames(self) -> NDArray[np.int64]:
        """Numbers of the frames, int64 ``(N,)``."""
        return np.array(self._frames)

    @property
    def times(self) -> NDArray[np.float64]:
        """Of the frames, float64 ``(N,)``, in seconds."""
        return np.array(self._times)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Float32 ``(N, K)``."""
        return np.array(self._probabilities, np.float32).reshape(len(self._times), -1)


class Session:
    """Recognizes one video, or what a camera sees.

    Args:
        recognizer: of faces and expressions.
        source: of frames.
        name: stands in the column ``file``.
        rows: the table that rows go to.
        copy: where an annotated mp4 goes, ``None`` for none. Each start writes it anew: the faces of frames that have
            rows already are drawn from these.
        following: how persons are followed.
        watch: sees each new frame.

    Attributes:
        persons: what was seen of each, by number, once ``run`` has ended.
        frames: how many were recognized, with those of earlier starts.
        without: frames without a face.
        problem: what is wrong with the source; empty if nothing is.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        source: Source,
        name: str,
        rows: RowWriter,
        copy: Path | None = None,
        following: Following | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.recognizer, self.source, self.name, self.rows, self.copy = recognizer, source, name, rows, copy
        self.following = Following() if following is None else following
        self.watch = watch
        self.persons: dict[int, Person] = {}
        self.frames = self.without = 0
        self.problem = ""
        self._smoothers: dict[int, Smoother] = {}

    def run(self) -> Session:
        """Recognize the frames that have no rows yet.

        Raises:
            DataError: if a video is damaged from its first frame on.
            ConfigError: if a file cannot be written (the rows before are kept), or earlier rows are of other frames.
        """
        last, source = -1, self.source
        for row in self.rows.earlier(self.name):
            if row["frame"] not in (last, 0 if last < 0 else last + source.every):
                raise ConfigError(
                    f"{self.rows.path} has rows of other frames of {self.name}: give the same --every, or another --out"
                )
            last = self._count(row, last)
        first = 0 if last < 0 else last + source.every
        if source.frames and first >= source.frames and (self.copy is None or self.copy.is_file()):
            return self  # an earlier start has done everything
        begin = first if self.copy is None else 0
        total = max(source.frames - begin, 0) // source.every or None
        with ExitStack() as stack:
            writer = None
            if self.copy is not None:
                writer = stack.enter_context(VideoWriter(self.copy, source.width, source.height))
            bar = tqdm(self._seen(begin), total=total, unit="frame", disable=None, leave=False)
            for seen in stack.enter_context(bar):
                if seen.new:
                    last = self._write(seen, last)
                if writer is None and self.watch is None:
                    continue
                shown = self._shown(seen.frame.time, seen.faces)
                if writer is not None:
                    writer.add(seen.frame.time, annotated(seen.frame.picture, seen.faces, shown=shown))
                if self.watch is not None and not self.watch(seen, shown):
                    break
        self.problem = source.problem
        return self

    def _seen(self, begin: int) -> Iterator[Seen]:
        names, seconds = self.recognizer.model.class_names, self.following.neutral
        baselines = Baselines(names, seconds) if seconds else None
        return seen_frames(self.recognizer, self.source.read(begin), self.rows.earlier(self.name), baselines)

    def _write(self, seen: Seen, last: int) -> int:
        """Write the rows of a new frame, take them into the sums and return its number."""
        model, frame = self.recognizer.model, seen.frame
        lines = face_rows(
            self.rows.columns,
            seen.faces,
            file=self.name,
            frame=frame.number,
            time_s=frame.time,
            model=model.card.name,
            scheme=model.scheme,
        )
        self.rows.add(lines)
        for line in lines:
            last = self._count(line, last)
        return last

    def _shown(self, time: float, faces: tuple[Face, ...]) -> dict[int, tuple[str, float]]:
        """Return the label that is shown for each person and the number beside it."""
        shown = {}
        for face in faces:
            if face.number not in self._smoothers:
                self._smoothers[face.number] = make_smoother(self.following.smooth, self.following.window)
            number, value = self._smoothers[face.number](time, np.array(list(face.probabilities.values())))
            shown[face.number] = (self.recognizer.model.class_names[number], value)
        return shown

    def _count(self, row: Row, last: int) -> int:
        """Take a row into the sums and return the number of its frame."""
        number = int(row["frame"])
        self.frames += number != last
        if row["label"] is None:
            self.without += 1
            return number
        (face,) = faces_of([row])
        values = np.array([rounded(share) for share in face.probabilities.values()], np.float32)
        self.persons.setdefault(face.number, Person()).add(number, float(row["time_s"]), values)
        return number
