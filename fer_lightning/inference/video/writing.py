"""Writing an H.264 video that browsers play, encoded in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.files import flush, part_beside, remove_stale_parts
from fer_lightning.inference.video.reading import av_package, reason

__all__ = ["VideoWriter"]

_AHEAD = 8  # frames that wait to be encoded
_TICKS = 90_000  # a second: times are kept to a hundredth of a millisecond


class VideoWriter:
    """Writes frames at their times into an mp4 file, which is there only when it is whole.

    Args:
        path: of the file.
        width: of the frames in pixels; an odd last column or row is repeated, as the codec wants even sizes.
        height: likewise.
        preset: of libx264: ``ultrafast`` to ``veryslow``.

    Raises:
        ConfigError: when the file cannot be written.
    """

    def __init__(self, path: Path, width: int, height: int, preset: str = "ultrafast") -> None:
        self.path, self._size = path, (width + width % 2, height + height % 2)
        self._preset = preset
        self._waiting: queue.Queue[tuple[float, NDArray[np.uint8]] | None] = queue.Queue(_AHEAD)
        self._error: BaseException | None = None
        self._keep = self._ended = False
        self._thread = threading.Thread(target=self._encode, daemon=True)
        self._thread.start()

    def add(self, time: float, picture: NDArray[np.uint8]) -> None:
        """Write a frame, RGB uint8 ``(H, W, 3)``, at a time in seconds, later than the frame before."""
        self._check()
        self._waiting.put((time, picture))

    def _check(self) -> None:
        if self._error is not None:
            raise ConfigError(f"{self.path} cannot be written ({reason(self._error)})") from self._error

    def close(self, keep: bool = True) -> None:
        """Encode what waits and put the file in its place; without ``keep``, remove it."""
        self._keep = keep
        self._waiting.put(None)
        self._thread.join()
        if keep:
            self._check()

    def _encode(self) -> None:
        try:
            remove_stale_parts(self.path.parent, self.path.name)
            with part_beside(self.path) as part:
                self._encode_to(part)
                if self._keep:
                    flush(part)
                    part.replace(self.path)
        except BaseException as error:  # raised where the next frame is added
            self._error = error
            for _ in self._frames():
                pass

    def _frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Give what waits until ``close`` was called; nothing after that."""
        while not self._ended and (item := self._waiting.get()) is not None:
            yield item
        self._ended = True

    def _encode_to(self, part: Path) -> None:
        av = av_package()
        width, height = self._size
        with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream: Any = container.add_stream("libx264", options={"preset": self._preset, "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, _TICKS)
            last = -1
            for time, picture in self._frames():
                frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
                last = max(round(time * _TICKS), last + 1)
                frame.pts, frame.time_base = last, Fraction(1, _TICKS)
                for packet in stream.encode(frame):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture in the size of the video: some files change theirs on the way."""
        width, height = self._size
        rows, columns = height - picture.shape[0], width - picture.shape[1]
        if rows in (0, 1) and columns in (0, 1):
            return np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else picture
        return np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(keep=error is None)
