"""Which face in a frame is which face of the frames before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["Tracker"]

_MEMORY = 0.25  # seconds after which a velocity counts a third: single steps are mostly the detector's jitter
_HORIZON = 0.5  # seconds for which a velocity is believed
_FORBIDDEN = 1e3  # cost of a pair that cannot be


@dataclass
class _Track:
    """One person.

    Attributes:
        number: id of the person.
        box: last seen: left, top, width, height in pixels.
        time: when, in seconds.
        velocity: of the middle, pixels a second: x, y.
    """

    number: int
    box: NDArray[np.float64]
    time: float
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    @property
    def middle(self) -> NDArray[np.float64]:
        middle: NDArray[np.float64] = self.box[:2] + self.box[2:] / 2
        return middle

    def expected(self, time: float) -> NDArray[np.float64]:
        """Return where the middle should be at a time."""
        return self.middle + self.velocity * min(time - self.time, _HORIZON)

    def see(self, box: NDArray[np.float64], time: float) -> None:
        """Note where the person is now."""
        passed = max(time - self.time, 1e-6)
        moved = (box[:2] + box[2:] / 2 - self.middle) / passed
        kept = math.exp(-passed / _MEMORY)
        self.velocity = kept * self.velocity + (1 - kept) * moved
        self.box, self.time = box, time


class Tracker:
    """Gives the faces of consecutive frames stable numbers.

    Faces and persons are paired so that the sum of costs is least (the Hungarian method). The cost of a pair is the
    distance between the face and where the person is expected, in sides of the face, plus the logarithm of the ratio of
    their sizes. Overlap of boxes, which many trackers go by, fails as soon as frames are skipped.

    Args:
        gate: pairs that cost more are never made.
        max_age: seconds after which a person who is not seen any more is forgotten; a face that comes later is new.
    """

    def __init__(self, gate: float = 1.0, max_age: float = 1.5) -> None:
        self.gate, self.max_age = gate, max_age
        self._tracks: list[_Track] = []
        self._next = 0

    def update(self, time: float, boxes: NDArray[np.floating]) -> list[int]:
        """Return the number of the person of each face in the next frame.

        Args:
            time: of the frame, in seconds; never less than that of the frame before.
            boxes: ``(F, 4)``: left, top, width, height in pixels.
        """
        self._tracks = [track for track in self._tracks if time - track.time <= self.max_age]
        faces = np.asarray(boxes, np.float64).reshape(-1, 4)
        numbers = [-1] * len(faces)
        for which, face in self._pairs(time, faces):
            self._tracks[which].see(faces[face], time)
            numbers[face] = self._tracks[which].number
        for face, number in enumerate(numbers):
            if number < 0:
                numbers[face] = self._next
                self._tracks.append(_Track(self._next, faces[face], time))
                self._next += 1
        return numbers

    def _pairs(self, time: float, faces: NDArray[np.float64]) -> Iterable[tuple[int, int]]:
        """Return (track, face) of those that belong together."""
        if not self._tracks or not len(faces):
            return []
        expected = np.array([track.expected(time) for track in self._tracks])
        sizes = np.array([track.box[2:] for track in self._tracks])
        middles, sides = faces[:, :2] + faces[:, 2:] / 2, faces[:, 2:]
        distance = np.linalg.norm(expected[:, None] - middles[None], axis=2)
        side = (sizes.mean(axis=1)[:, None] + sides.mean(axis=1)[None]) / 2
        cost = distance / side + np.abs(np.log(sizes[:, None, 0] / sides[None, :, 0]))
        rows, columns = linear_sum_assignment(np.where(cost > self.gate, _FORBIDDEN, cost))
        return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] <= self.gate]

    def state_dict(self) -> dict[str, object]:
        """Return what an interrupted run needs to go on, as plain values."""
        tracks = [[t.number, t.box.tolist(), t.time, t.velocity.tolist()] for t in self._tracks]
        return {"next": self._next, "tracks": tracks}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a state of ``state_dict``."""
        tracks = state["tracks"]
        assert isinstance(tracks, list)
        self._tracks = [_Track(int(n), np.array(b), float(t), np.array(v)) for n, b, t, v in tracks]
        self._next = int(str(state["next"]))
