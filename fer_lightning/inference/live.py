"""Recognizing what a camera sees, with the outputs of a video once it has ended."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.many import Outputs
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import RowWriter
from fer_lightning.inference.video.camera import Camera, Capture
from fer_lightning.inference.video.frames import Seen
from fer_lightning.inference.video.report import NOTE, write_session_report
from fer_lightning.inference.video.session import Session
from fer_lightning.inference.video.window import Show, open_window
from fer_lightning.outputs import writing_errors
from fer_lightning.signals import exit_code, in_main_thread
from fer_lightning.text import counted

__all__ = ["recognize_camera"]

_ROUND = 1.0  # seconds between two lines


def recognize_camera(
    recognizer: Recognizer,
    capture: Capture,
    name: str,
    outputs: Outputs,
    seconds: float | None = None,
    headless: bool = False,
) -> int:
    """Recognize what a camera sees until its window is closed, the time is over, the camera ends or Ctrl-C.

    Nothing is written but what ``outputs`` ask for. Ctrl-C and SIGTERM end the session in good order: the report and
    the annotated video are written; a second one stops that too.

    Args:
        recognizer: of faces and expressions.
        capture: gives the pictures.
        name: of the camera.
        outputs: what is written. ``file`` of the rows is ``camera <name>`` and when the session began.
        seconds: after which it ends; ``None`` for never.
        headless: print a line each second instead of showing a window.

    Returns:
        0, or 128 plus the number of the signal if it was SIGTERM.

    Raises:
        ConfigError: if the camera gives no picture, or something cannot be written; the rows before are kept.
    """
    outputs.checked()
    camera, model = Camera(capture, seconds), recognizer.model
    began = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stem = f"camera_{Path(name).stem}_{began.replace('-', '').replace(':', '')}"
    copy = None if outputs.copies is None else outputs.copies / f"{stem}.mp4"
    show = None if headless else open_window(f"camera {name}")
    print(_notice(name, outputs, window=show is not None, headless=headless), file=sys.stderr)
    with ExitStack() as stack:
        table = outputs.table
        if table is None:  # the session is summed up from its rows
            table = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.jsonl"
        sets = recognizer.coverage is not None
        rows = stack.enter_context(RowWriter(table, model.class_names, model.card.name, (), sets))
        title = f"camera {name} {began}"
        live = _Live(show)
        session = Session(recognizer, camera, title, rows, copy, outputs.following, live)
        with _ending(camera) as came, writing_errors(table):
            session.run()
        print(f"{title}: {counted(session.frames, 'frame')}, {counted(len(session.persons), 'person')}")
        if session.problem:
            print(f"  {session.problem}")
        if outputs.report is not None:
            with writing_errors(outputs.report):
                write_session_report(session, outputs.report / stem)
            print(f"  report: {outputs.report / stem / 'index.html'}")
    return exit_code(signal.SIGTERM) if signal.SIGTERM in came else 0


def _notice(name: str, outputs: Outputs, window: bool, headless: bool) -> str:
    """Return what happens with the pictures, in lines."""
    kept = [f"rows of numbers in {outputs.table}"] if outputs.table is not None else []
    kept += [f"a report without pictures of persons in {outputs.report}"] if outputs.report is not None else []
    kept += [f"an annotated video in {outputs.copies}"] if outputs.copies is not None else []
    lines = [
        f"camera {name}: its pictures are looked at in memory and go nowhere else; "
        + (f"kept will be {', '.join(kept)}" if kept else "nothing is kept"),
        f"{NOTE} Let everybody whom the camera sees know. Ctrl-C{' or q in the window' * window} ends.",
    ]
    if outputs.following.neutral:
        seconds = outputs.following.neutral
        lines.append(
            f"Look neutral for the first {seconds:g} s in which you are seen: later faces are judged by these."
        )
    if not window and not headless:
        lines.append("no window can be opened here: a line each second instead, as with --headless")
    return "\n".join(lines)


@contextmanager
def _ending(camera: Camera) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM end the camera and give the list that notes it; the next one acts as ever."""
    came: list[int] = []
    if not in_main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        camera.stop()
        restore()

    for number in before:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        restore()


class _Live:
    """Shows each frame, or prints a line each second.

    Args:
        show: of the window; ``None`` without one.
    """

    def __init__(self, show: Show | None) -> None:
        self._show = show
        self._next = 0.0

    def __call__(self, seen: Seen, shown: Mapping[int, tuple[str, float]]) -> bool:
        """Show a frame and what is shown for each person; tell whether to go on."""
        if self._show is not None:
            return self._show(annotated(seen.frame.picture, seen.faces, shown=shown))
        if seen.frame.time >= self._next:
            self._next = seen.frame.time + _ROUND
            persons = [f"person {number}: {label} {value:.0%}" for number, (label, value) in sorted(shown.items())]
            print(f"{seen.frame.time:7.1f} s  {'   '.join(persons) or 'no face'}", flush=True)
        return True
