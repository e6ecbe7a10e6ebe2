"""A video of drawn faces that change their expression on a schedule, cross each other and are gone for a while."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.sets.sketch.sketch import draw_face
from fer_lightning.emotions import SEVEN

RATE = 10  # frames a second
MINUTE = 60 * RATE
HOLD_S = 6  # seconds that an expression stays
WIDTH, HEIGHT, SIDE = 640, 360, 150
SHORT_GAP_S = (27.0, 28.0)  # of each minute, in which nobody is seen
LONG_GAP_S = (50.0, 54.0)  # of the last of the minutes
EASY = 0.2  # difficulty of the drawings


@dataclass(frozen=True)
class Minutes:
    """What is to be seen in some minutes that come again and again.

    Attributes:
        count: of minutes that differ.
        seed: of persons and schedules.
    """

    count: int = 3
    seed: int = 0

    def expression(self, person: int, time: float) -> str:
        """Return what a person shows at a time in seconds; the second one changes half an interval later."""
        step = int((time + HOLD_S / 2 * person) // HOLD_S) % (self.count * 60 // HOLD_S)
        draws = np.random.default_rng([self.seed, person]).integers(1, 7, self.count * 60 // HOLD_S)
        draws[0] = 1
        return SEVEN.class_names[int(np.cumsum(draws)[step] % 7)]  # never the same twice in a row

    def seen(self, time: float) -> bool:
        """Tell whether anybody is seen."""
        minute, second = divmod(time, 60)
        gone = SHORT_GAP_S[0] <= second < SHORT_GAP_S[1]
        last = int(minute) % self.count == self.count - 1
        return not (gone or (last and LONG_GAP_S[0] <= second < LONG_GAP_S[1]))

    def middle(self, person: int, time: float) -> tuple[float, float]:
        """Return where a person's face is: both walk to and fro and meet twice in twenty seconds."""
        across = math.cos(2 * math.pi * time / 20) * (1 if person else -1)
        return WIDTH / 2 + across * (WIDTH / 2 - SIDE * 0.6), HEIGHT / 2 + (62 if person else -62)


def scene(minutes: Minutes, time: float, faces: dict[tuple[int, str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the picture at a time, uint8 ``(H, W, 3)``."""
    ramp = np.linspace(90, 150, WIDTH, dtype=np.float32)[None, :, None] + np.linspace(0, 30, HEIGHT)[:, None, None]
    picture = np.repeat(ramp, 3, axis=2).astype(np.uint8)
    for person in (0, 1) if minutes.seen(time) else ():
        x, y = minutes.middle(person, time)
        side = round(SIDE * (1 + 0.08 * math.sin(time / 3 + person)))
        face = cv2.resize(faces[person, minutes.expression(person, time)], (side, side), interpolation=cv2.INTER_AREA)
        left, top = round(x - side / 2), round(y - side / 2)
        upper, before = max(top, 0), max(left, 0)
        part = picture[upper : top + side, before : left + side]
        mask = np.zeros((side, side), np.uint8)
        cv2.ellipse(mask, (side // 2, side // 2), (round(side * 0.47), round(side * 0.5)), 0, 0, 360, 255, cv2.FILLED)
        inside = mask[upper - top :, before - left :][: part.shape[0], : part.shape[1]] > 0
        part[inside] = face[upper - top :, before - left :][: part.shape[0], : part.shape[1]][inside]
    return picture


def persons(minutes: Minutes) -> dict[tuple[int, str], NDArray[np.uint8]]:
    """Return two persons, each with every expression, uint8 ``(256, 256, 3)``."""
    return {
        (person, name): np.ascontiguousarray(
            draw_face(name, np.random.default_rng([minutes.seed, 7, person]), 256, 3, EASY)[0].transpose(1, 2, 0)
        )
        for person in (0, 1)
        for name in SEVEN.class_names
    }


def write_clip(path: Path, minutes: Minutes, total: int) -> Path:
    """Write a clip of ``total`` minutes: each different one is encoded once."""
    faces = persons(minutes)
    parts = []
    for number in range(minutes.count):
        part = path.with_name(f"minute_{number}.mp4")
        with av.open(str(part), "w") as out:
            stream = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "20", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", MINUTE
            for frame in range(MINUTE):
                picture = scene(minutes, number * 60 + frame / RATE, faces)
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    out.mux(packet)
            for packet in stream.encode(None):
                out.mux(packet)
        parts.append(part)
    with av.open(str(path), "w") as out:
        target = None
        for number in range(total):
            with av.open(str(parts[number % minutes.count])) as source:
                stream = source.streams.video[0]
                target = out.add_stream_from_template(stream) if target is None else target
                shift = int(number * 60 / (stream.time_base or Fraction(1)))
                for packet in source.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = target
                        out.mux(packet)
    for part in parts:
        part.unlink()
    return path
