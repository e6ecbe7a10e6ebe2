"""Frames of a video file with their true times, upright, decoded ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.extras import need_extra
from fer_lightning.text import first_line, short_path

__all__ = ["Frame", "Source", "Video", "av_package", "reason"]

_AHEAD = 8  # frames that are decoded before they are asked for
_MISSING = 0.2  # seconds by which a video may end before the time that it claims


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        number: from 0, of all frames of the file, also those that were left out.
        time: seconds since the first frame.
        picture: RGB uint8 ``(H, W, 3)``, upright.
    """

    number: int
    time: float
    picture: NDArray[np.uint8]


class Source(Protocol):
    """Where frames come from.

    Attributes:
        width: of the pictures, in pixels.
        height: likewise.
        frames: how many there will be, 0 if nobody knows.
        every: every n-th frame is given.
        problem: what went wrong, known once all frames were given; empty if nothing did.
    """

    width: int
    height: int
    frames: int
    every: int
    problem: str

    def read(self, first: int = 0) -> Iterator[Frame]:
        """Give the frames from a number on."""


class Video:
    """A video file.

    Args:
        path: of the file.
        every: give every n-th frame.

    Attributes:
        width: of the upright pictures, in pixels.
        height: likewise.
        duration: in seconds as the file claims, ``None`` if it does not say.
        frames: as the file claims, 0 if it does not say.
        rate: mean number of frames a second, as the file claims; 0 if it does not say.
        problem: what is wrong with the file, known once all frames were given; empty if nothing is.

    Raises:
        DataError: if the file is missing, no video, or has no picture in it.
        MissingExtraError: without PyAV.
    """

    def __init__(self, path: Path, every: int = 1) -> None:
        if every < 1:
            raise ConfigError(f"every n-th frame: n must be at least 1, not {every}")
        self.path, self.every, self.problem = path, every, ""
        with self._open() as container:
            stream = container.streams.video[0]
            turned = self._rotation(container) % 180 == 90
            size = (stream.codec_context.width, stream.codec_context.height)
            self.width, self.height = size[::-1] if turned else size
            self.duration = None if container.duration is None else container.duration / 1e6
            self.frames = int(stream.frames or 0)
            self.rate = float(stream.average_rate or 0)

    def _open(self) -> Any:
        av = av_package()
        if not self.path.is_file():
            raise DataError(f"there is no video {short_path(self.path)}")
        try:
            container = av.open(str(self.path))
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise DataError(f"{short_path(self.path)}: not a video, or damaged ({reason(error)})") from error
        if not container.streams.video:
            container.close()
            raise DataError(f"{short_path(self.path)}: there is no picture in it")
        return container

    def _rotation(self, container: Any) -> int:
        """Return by how many degrees the first frame is to be turned."""
        try:
            return int(next(container.decode(video=0)).rotation)
        except StopIteration:
            raise DataError(f"{short_path(self.path)}: there is no frame in it") from None
        except (av_package().error.FFmpegError, ValueError) as error:
            raise DataError(f"{short_path(self.path)}: its first frame is damaged ({reason(error)})") from error

    def read(self, first: int = 0) -> Iterator[Frame]:
        """Give the frames; afterwards ``problem`` says whether the file was whole.

        Args:
            first: number of the first frame that is given; those before it are decoded and left out.
        """
        waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(_AHEAD)
        stopped = threading.Event()
        thread = threading.Thread(target=self._fill, args=(first, waiting, stopped), daemon=True)
        thread.start()
        try:
            while (item := waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            while thread.is_alive():  # it may wait for room in the queue
                while not waiting.empty():
                    waiting.get_nowait()
                thread.join(0.05)

    def _fill(self, first: int, waiting: queue.Queue[Frame | BaseException | None], stopped: threading.Event) -> None:
        try:
            for frame in self._decoded(first):
                if stopped.is_set():
                    return
                waiting.put(frame)
            waiting.put(None)
        except BaseException as error:
            waiting.put(error)

    def _decoded(self, first: int) -> Iterator[Frame]:
        av = av_package()
        begin, last, number = None, 0.0, -1
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for number, frame in enumerate(container.decode(video=0)):
                    begin = frame.time if begin is None else begin
                    last = self._time(frame, begin, last, number)
                    if number >= first and number % self.every == 0:
                        yield Frame(number, last, self._upright(frame))
            except (av.error.FFmpegError, ValueError) as error:
                self.problem = f"damaged after frame {number} at {last:.1f} s ({reason(error)})"
        missing = None if self.duration is None else self.duration - last - 1 / (self.rate or 25)
        if not self.problem and missing is not None and missing > _MISSING:
            self.problem = f"cut off: it ends at {last:.1f} s and claims {self.duration:.1f} s"

    def _time(self, frame: Any, begin: float | None, last: float, number: int) -> float:
        """Return the time of a frame in seconds; of one that has none, one step after the frame before."""
        if frame.time is None or begin is None:
            return last + (1 / (self.rate or 25) if number else 0.0)
        return max(float(frame.time - begin), last)

    def _upright(self, frame: Any) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(picture, k=frame.rotation // 90)) if frame.rotation % 360 else picture


def av_package() -> Any:
    """Return PyAV; raise ``MissingExtraError`` if it is not installed.

    FFmpeg says nothing by itself: at any level but ``None``, PyAV's default, its threads wait for Python's lock to log,
    and closing a file waits for the threads, with that lock.
    """
    need_extra("video", "videos need", "av")
    import av

    av.logging.set_level(None)
    return av


def reason(error: BaseException) -> str:
    """Return in a few words what FFmpeg or the system says is wrong."""
    return str(getattr(error, "strerror", None) or first_line(error))
