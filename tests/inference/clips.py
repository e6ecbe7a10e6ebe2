"""Small videos in which white squares move, as the detector of the tests finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.inference.video.writing import VideoWriter
from tests.inference.helpers import scene

EVEN = [number / 10 for number in range(20)]
"""Two seconds at ten frames a second."""


def clip(path: Path, times: Sequence[float] = EVEN, width: int = 160, height: int = 120) -> Path:
    """Write a clip in which a white square moves to the right and a second one comes after half of it."""
    with VideoWriter(path, width, height) as writer:
        for number, time in enumerate(times):
            squares = [(10 + 2 * number, 20, 30)] + ([(20, 80, 24)] if number >= len(times) // 2 else [])
            writer.add(time, scene(*squares, width=width, height=height))
    return path
