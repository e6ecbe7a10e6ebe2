"""Frames of a camera as they come: those that come while the one before is looked at are left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.inference.video.reading import Frame

__all__ = ["Camera", "Capture", "open_capture"]

_LOOK = 0.1  # seconds after which somebody who waits for a picture looks whether the session has ended


class Capture(Protocol):
    """What a camera is asked for."""

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next picture and return it, RGB uint8 ``(H, W, 3)``; ``None`` if there will be none."""

    def close(self) -> None:
        """Let the camera go."""


def open_capture(device: str) -> Capture:
    """Open a camera.

    Args:
        device: number of a camera, from 0; the path of a device such as ``/dev/video0``; or a video file, which is
            played at its own speed as if it were a camera.

    Raises:
        ConfigError: if there is no such camera, or another program has it.
    """
    with _quiet():
        capture = cv2.VideoCapture(int(device) if device.isdecimal() else device)
        opened = capture.isOpened()
    if opened:
        return _OpenCVCapture(capture, plays=Path(device).is_file())
    capture.release()
    there = sorted(str(path) for path in Path("/dev").glob("video*"))
    found = f"devices: {', '.join(there)}" if there else "no device /dev/video* is there"
    raise ConfigError(
        f"there is no camera {device} that can be opened ({found}); "
        "is it plugged in and free, and are you allowed to use it?"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV from writing to the terminal what we say ourselves."""
    log = cv2.utils.logging
    before = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(before)


class _OpenCVCapture:
    """A camera that OpenCV reads.

    Args:
        capture: opened.
        plays: it is a file: wait between the pictures as long as its frame rate says.
    """

    def __init__(self, capture: cv2.VideoCapture, plays: bool) -> None:
        self._capture = capture
        rate = capture.get(cv2.CAP_PROP_FPS) if plays else 0.0
        self._step = 1 / rate if rate > 0 else 0.0
        self._due: float | None = None  # when the next picture of a file is to come

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next picture."""
        if self._step:
            now = time.monotonic()
            due = now if self._due is None else self._due
            time.sleep(max(due - now, 0.0))
            self._due = due + self._step
        good, picture = self._capture.read()
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8) if good else None

    def close(self) -> None:
        """Let the camera go."""
        self._capture.release()


class Camera:
    """A source of frames that does not wait: of the pictures of a camera, always the newest is given.

    Args:
        capture: gives the pictures.
        seconds: after which it ends; ``None`` for never.
        clock: seconds of a clock that never goes back.

    Attributes:
        width: of the pictures, in pixels.
        height: likewise.
        frames: 0: nobody knows how many there will be.
        every: 1.
        problem: says so if the camera gave no more pictures.

    Raises:
        ConfigError: if the camera gives no picture.
    """

    def __init__(
        self, capture: Capture, seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if seconds is not None and not seconds > 0:
            raise ConfigError(f"--seconds must be above 0, not {seconds:g}")
        self._capture, self._seconds, self._clock = capture, seconds, clock
        self.frames, self.every, self.problem = 0, 1, ""
        picture = capture.read()
        if picture is None:
            capture.close()
            raise ConfigError("the camera gives no picture: another program may have it")
        self._begin = clock()
        self._newest: Frame | None = Frame(0, 0.0, picture)
        self._last = self._newest
        self.height, self.width = picture.shape[:2]
        self._ended = self._stopped = False
        self._news = threading.Condition()

    def stop(self) -> None:
        """Give no more frames; may be called from a signal handler."""
        self._stopped = True

    def read(self, first: int = 0) -> Iterator[Frame]:
        """Give the newest frame each time, until the camera or the time ends or ``stop`` is called.

        Args:
            first: no frame has a lower number.
        """
        thread = threading.Thread(target=self._fill, daemon=True)
        thread.start()
        try:
            while (frame := self._next()) is not None:
                if self._seconds is not None and frame.time > self._seconds:
                    return
                if frame.number >= first:
                    yield frame
        finally:
            self._stopped = True
            thread.join(2.0)  # a camera that hangs must not keep the program
            self._capture.close()

    def _next(self) -> Frame | None:
        """Wait for a frame that was not given yet; ``None`` at the end."""
        with self._news:
            while self._newest is None and not self._ended and not self._stopped:
                self._news.wait(_LOOK)
                if self._seconds is not None and self._clock() - self._begin > self._seconds:
                    return None
            frame, self._newest = self._newest, None
            return None if self._stopped else frame

    def _fill(self) -> None:
        picture: NDArray[np.uint8] | None
        while not self._stopped:
            try:
                picture = self._capture.read()
            except Exception:  # a driver that fails is a camera that gives no more pictures
                picture = None
            with self._news:
                if picture is None:
                    self._ended = True
                    self.problem = f"the camera gave no more pictures after {self._last.time:.1f} s"
                else:
                    self._newest = self._last = Frame(self._last.number + 1, self._clock() - self._begin, picture)
                self._news.notify()
            if picture is None:
                return
