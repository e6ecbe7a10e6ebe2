"""A window that shows pictures as they come, with whatever is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Show", "open_window"]

Show = Callable[[NDArray[np.uint8]], bool]
"""Shows an RGB picture uint8 ``(H, W, 3)``; false once the window was closed, by its button, q or Escape."""


def open_window(title: str) -> Show | None:
    """Open a window, by Tk or else by OpenCV; ``None`` where there is no screen or neither can open one.

    Args:
        title: of the window.
    """
    screen = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not screen:
        return None
    try:
        return _TkWindow(title).show
    except Exception:  # Tk is not installed, or its errors, which only it knows
        return None if "GUI:                           NONE" in cv2.getBuildInformation() else _OpenCVWindow(title).show


class _TkWindow:
    """A window of Tk, which most Pythons bring."""

    def __init__(self, title: str) -> None:
        import tkinter  # not all Pythons have it

        self._tk: Any = tkinter
        self._root: Any = tkinter.Tk()
        self._root.title(title)
        self._root.resizable(False, False)
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, self._close)
        self._label: Any = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()

    def _close(self, event: object = None) -> None:
        self._open = False

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """Show a picture and tell whether the window is still open."""
        if self._open:
            height, width = picture.shape[:2]
            image = self._tk.PhotoImage(data=b"P6 %d %d 255 " % (width, height) + picture.tobytes(), format="PPM")
            self._label.configure(image=image)
            self._label.image = image  # Tk itself does not hold it
            self._root.update()
        if not self._open:
            self._root.destroy()
        return self._open


class _OpenCVWindow:
    """A window of OpenCV, which its headless packages lack."""

    def __init__(self, title: str) -> None:
        self._title = title

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """Show a picture and tell whether the window is still open."""
        cv2.imshow(self._title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        closed = cv2.waitKey(1) & 0xFF in (ord("q"), 27) or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        if closed:
            cv2.destroyWindow(self._title)
        return not closed
