"""Recognizing many pictures and videos: lines on the terminal, rows in a table, annotated copies, reports of videos."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fer_lightning.data.files.decode import decode
from fer_lightning.errors import DataError
from fer_lightning.figures import pixels_png
from fer_lightning.files import write_atomically
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.inputs import is_video
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import RowWriter, face_rows

__all__ = ["Outputs", "recognize_all"]


@dataclass(frozen=True)
class Outputs:
    """What is written, and how.

    Attributes:
        table: where rows go; ``None`` for no table.
        copies: folder of annotated copies; ``None`` for none.
        report: folder of the reports of videos; ``None`` for none.
        every: recognize every n-th frame of a video.
        window: seconds over which the majority label of a video is taken.
        skip: go on after a file that cannot be read.
    """

    table: Path | None = None
    copies: Path | None = None
    report: Path | None = None
    every: int = 1
    window: float = 1.0
    skip: bool = True


class _Sums:
    """Counts for the last line."""

    def __init__(self) -> None:
        self.files = self.faces = self.without = self.unreadable = 0

    def line(self, table: Path | None) -> str:
        words = [f"{self.files} file{'s' * (self.files != 1)}", f"{self.faces} face{'s' * (self.faces != 1)}"]
        words += [f"{self.without} without a face"] if self.without else []
        words += [f"{self.unreadable} could not be read"] if self.unreadable else []
        return ", ".join(words) + (f"; rows in {table}" if table else "")


def recognize_all(recognizer: Recognizer, files: Sequence[Path], outputs: Outputs) -> int:
    """Recognize pictures and videos and return the exit code: 1 if one of them could not be read.

    Raises:
        DataError: for a file that cannot be read, unless it is skipped.
        ConfigError: if something cannot be written; the rows before it are kept.
    """
    sums, model = _Sums(), recognizer.model
    with ExitStack() as stack:
        table = outputs.table
        if table is None:  # a video is summed up from its rows
            table = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.jsonl"
        rows = stack.enter_context(RowWriter(table, model.class_names, model.card.name))
        done = {row["file"] for row in rows.earlier()}
        waiting = [file for file in files if str(file) not in done or is_video(file)]
        if len(waiting) < len(files):
            print(f"{outputs.table} already has {len(files) - len(waiting)} of the {len(files)} files")
        bar = tqdm(waiting, unit="file", disable=None if len(waiting) > 1 else True, leave=False)
        for file in bar:
            sums.files += 1
            try:
                lines = (_video if is_video(file) else _picture)(recognizer, file, rows, outputs, sums)
            except DataError as error:
                if not outputs.skip:
                    raise
                sums.unreadable += 1
                bar.write(f"{error}", file=sys.stderr)
                rows.add(face_rows(rows.columns, (), file=str(file), model=model.card.name, scheme=model.scheme))
                continue
            for line in lines:
                bar.write(line)
    print(sums.line(outputs.table))
    return int(sums.unreadable > 0)


def _picture(recognizer: Recognizer, file: Path, rows: RowWriter, outputs: Outputs, sums: _Sums) -> list[str]:
    try:
        pixels = decode(file, channels=3)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    result = recognizer(pixels, str(file))
    sums.faces += len(result)
    sums.without += not len(result)
    model = recognizer.model
    rows.add(face_rows(rows.columns, result.faces, file=str(file), model=model.card.name, scheme=model.scheme))
    if outputs.copies is not None:
        target = outputs.copies / file.with_suffix(".png").name
        write_atomically(target, pixels_png(annotated(pixels, result.faces)))
    return str(result).splitlines()


def _video(recognizer: Recognizer, file: Path, rows: RowWriter, outputs: Outputs, sums: _Sums) -> list[str]:
    from fer_lightning.inference.video.report import write_session_report  # scipy and PyAV, which pictures do not need
    from fer_lightning.inference.video.session import Session

    copy = None if outputs.copies is None else outputs.copies / file.with_suffix(".mp4").name
    session = Session(recognizer, file, rows, copy, outputs.every).run()
    sums.faces += len(session.persons)
    sums.without += not session.persons
    found = f"{len(session.persons)} person{'s' * (len(session.persons) != 1)}"
    lines = [f"{file}: {session.frames:,} frames, {found}, {session.without:,} frames without a face"]
    if session.problem:
        lines.append(f"  the video is {session.problem}")
    if outputs.report is not None:
        folder = outputs.report / file.stem
        write_session_report(session, folder, outputs.window)
        lines.append(f"  report: {folder / 'index.html'}")
    return lines
