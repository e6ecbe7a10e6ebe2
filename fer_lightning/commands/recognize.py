"""``fer recognize``: use a trained model on pictures and videos.

What needs torch is imported inside of the functions.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.errors import ConfigError

__all__ = ["recognize"]


def recognize(
    paths: tuple[str, ...],
    *,
    model: str | None = None,
    out: Path | None = None,
    annotate: Annotated[Path | None, "DIR"] = None,
    report: Annotated[Path | None, "DIR"] = None,
    detector: str = "auto",
    no_detect: bool = False,
    views: Literal["none", "squares", "fine"] | None = None,
    min_score: float = 0.5,
    min_size: float = 0.0,
    every: int = 1,
    window: float = 1.0,
    smooth: Literal["none", "majority", "exponential", "hysteresis"] = "none",
    neutral: Annotated[str, "SECONDS"] = "0",
    on_error: Literal["skip", "raise"] = "skip",
) -> int:
    """Find the faces in pictures and videos and tell their expressions.

    An expression is what a face shows, not what a person feels.

    Args:
        paths: pictures, videos, folders and archives of them, or patterns.
        model: a model folder, a run folder, a checkpoint, best or last of the newest run, the name of a released model
            (fer models list) or OWNER/NAME on the Hugging Face hub; the released default, if not given.
        out: also write a table, .csv, .jsonl or .parquet; what already has rows in it is not done again.
        annotate: also write each picture and video into this folder, with boxes and bars.
        report: also write a page, pictures and numbers of each video into this folder.
        detector: auto, blazeface, blazeface_short, haar, or the class path of another.
        no_detect: the pictures are faces already, cut as the training images were.
        views: look for small faces also in parts of the picture: none, squares, or smaller ones too (fine); squares in
            pictures and none in videos, if not given.
        min_score: least score of a face, in 0..1.
        min_size: least side of a face in pixels.
        every: recognize every n-th frame of a video.
        window: seconds over which the label of a video is decided by majority, and smoothed.
        smooth: the label that annotated videos show: of the frame (none), or smoothed by one of these rules.
        neutral: take the first seconds (3s) of each person as the person's neutral face, and judge the rest by it.
        on_error: what becomes of a file that is no picture: skip it and say so, or stop.
    """
    from fer_lightning.inference.inputs import is_video, named_inputs
    from fer_lightning.inference.many import Outputs, recognize_all
    from fer_lightning.inference.recognizer import Recognizer
    from fer_lightning.inference.video.smoothing import Following

    outputs = Outputs(out, annotate, report, every, Following(window, smooth, _seconds(neutral)), on_error == "skip")
    outputs.check()
    files = named_inputs(paths)
    options = {"min_score": min_score, "min_size": min_size}
    if views is None:  # a video has many frames, and each view takes as long as a whole one
        views = "none" if all(map(is_video, files)) else "squares"
    recognizer = Recognizer.load(model, None if no_detect else detector, views, **options)
    return recognize_all(recognizer, files, outputs)


def _seconds(text: str) -> float:
    """Return seconds that are written as ``3`` or ``3s``."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"--neutral {text}: expected seconds, such as 3s")
    return value
