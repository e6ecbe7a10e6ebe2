"""``fer recognize``: use a trained model on pictures and videos.

What needs torch is imported inside of the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra

__all__ = ["recognize"]


def recognize(
    paths: tuple[str, ...] = (),
    *,
    model: str | None = None,
    camera: Annotated[str | None, "DEVICE"] = None,
    seconds: float | None = None,
    headless: bool = False,
    out: Path | None = None,
    annotate: Annotated[Path | None, "DIR"] = None,
    report: Annotated[Path | None, "DIR"] = None,
    detector: str = "auto",
    no_detect: bool = False,
    views: Literal["none", "squares", "fine"] | None = None,
    min_score: float = 0.5, min_size: float = 0.0,
    every: int = 1,
    window: float = 1.0,
    smooth: Literal["none", "majority", "exponential", "hysteresis"] = "none",
    neutral: Annotated[str, "SECONDS"] = "0",
    set: Annotated[float | None, "COVERAGE"] = None,
    on_error: Literal["skip", "raise"] = "skip",
    offline: bool = False,
) -> int:  # fmt: skip
    """Find the faces in pictures, videos or before a camera and tell what they show, which is not what a person feels.

    Args:
        paths: pictures, videos, folders and archives of them, or patterns.
        model: a run (folder, name, or best or last of the newest), a checkpoint, a model folder, the name of a released
            model (fer models list) or OWNER/NAME on the Hugging Face hub; several, A,B, are averaged; the default if
            none.
        camera: 0 or another number, or a device such as /dev/video0, instead of paths; nothing is kept unless asked.
        seconds: end the camera after this time; else by Ctrl-C.
        headless: print a line each second instead of showing the camera in a window.
        out: also write a table, .csv, .jsonl or .parquet; what already has rows in it is not done again.
        annotate: also write each picture and video into this folder, with boxes and bars.
        report: also write a page, pictures and numbers of each video into this folder.
        detector: auto, blazeface, blazeface_short, haar, the .onnx file of YuNet, or the class path of another.
        no_detect: the pictures are faces already, cut as the training images were.
        views: parts of a picture in which small faces are looked for; squares, and none in videos, if not given.
        min_score: least score of a face, in 0..1.
        min_size: least side of a face in pixels.
        every: recognize every n-th frame of a video.
        window: seconds over which the label of a video is decided by majority, and smoothed.
        smooth: the label that annotated videos show: of the frame (none), or smoothed by one of these rules.
        neutral: take the first seconds (3s) of each person as the person's neutral face, and judge the rest by it.
        set: also tell the classes that hold the true one so often (0.9); the run must have been calibrated.
        on_error: skip a file that is no picture and say so, or stop (raise).
        offline: of the hub, take only a model that was fetched before.
    """
    _check_source(paths, camera, seconds, headless)
    files, only_videos = _inputs(paths)
    from fer_lightning.inference.many import Outputs, recognize_all
    from fer_lightning.inference.recognizer import Recognizer
    from fer_lightning.inference.video.smoothing import Following

    following = Following(window, smooth, _seconds(neutral))
    outputs = Outputs(out, annotate, report, every, following, on_error == "skip").checked()
    views = views or ("none" if only_videos else "squares")  # each view takes as long as a whole frame
    finder = None if no_detect else detector
    load = partial(Recognizer.load, model, finder, views, offline, set, min_score=min_score, min_size=min_size)
    return _camera(camera, load, outputs, seconds, headless) if camera else recognize_all(load(), files, outputs)


def _inputs(paths: Sequence[str]) -> tuple[dict[Path, str], bool]:
    """Return the files that are named, and whether all are videos; no torch is needed to know."""
    from fer_lightning.inference.inputs import is_video, named_inputs

    files = named_inputs(paths)
    videos = [path for path in files if is_video(path)]
    if videos:
        need_extra("video", "videos need", "av")
    return files, len(videos) == len(files)


def _check_source(paths: Sequence[str], camera: str | None, seconds: float | None, headless: bool) -> None:
    if bool(camera) == bool(paths):
        also = "" if not camera else f", not both: --camera {camera} and {paths[0]}"
        raise ConfigError(f"fer recognize: expected pictures, videos or folders, or --camera 0{also}")
    if not camera and (headless or seconds is not None):
        raise ConfigError(
            f"fer recognize: {'--headless' if headless else '--seconds'} is of the camera: add --camera 0"
        )


def _camera(device: str, load: Callable[[], Any], outputs: Any, seconds: float | None, headless: bool) -> int:
    """Open the camera first, which takes less time than to load a model and fails more often."""
    from fer_lightning.inference.live import recognize_camera
    from fer_lightning.inference.video.camera import open_capture

    capture = open_capture(device)
    try:
        return recognize_camera(load(), capture, device, outputs, seconds, headless)
    finally:
        capture.close()


def _seconds(text: str) -> float:
    """Return seconds that are written as ``3`` or ``3s``."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"--neutral {text}: expected seconds, such as 3s")
    return value
