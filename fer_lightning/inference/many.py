"""Recognizing many pictures and videos: lines on the terminal, rows in a table, annotated copies, reports of videos."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from fer_lightning.data.files.decode import decode
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.figures import pixels_png
from fer_lightning.files import write_atomically
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.inputs import is_video
from fer_lightning.inference.recognizer import Face, Recognizer, Result
from fer_lightning.inference.rows import RowWriter, check_form, face_rows, faces_of
from fer_lightning.inference.video.smoothing import Following
from fer_lightning.outputs import folder_to_write, place_to_write, writing_errors
from fer_lightning.text import counted

__all__ = ["Outputs", "output_names", "recognize_all"]


@dataclass(frozen=True)
class Outputs:
    """What is written, and how.

    Attributes:
        table: where rows go; ``None`` for no table.
        copies: folder of annotated copies; ``None`` for none.
        report: folder of the reports of videos; ``None`` for none.
        every: recognize every n-th frame of a video.
        following: how faces are followed over time.
        skip: go on after a file that cannot be read.
    """

    table: Path | None = None
    copies: Path | None = None
    report: Path | None = None
    every: int = 1
    following: Following = field(default_factory=Following)
    skip: bool = True

    def checked(self) -> Outputs:
        """Return this, having found out before anything is recognized that everything can be written.

        Raises:
            ConfigError: if not.
        """
        if self.every < 1:
            raise ConfigError(f"every n-th frame: n must be at least 1, not {self.every}")
        if self.table is not None:
            check_form(self.table)
            place_to_write(self.table)
        for folder in (self.copies, self.report):
            if folder is not None:
                folder_to_write(folder)
        return self


class _Sums:
    """Counts for the last line."""

    def __init__(self) -> None:
        self.files = self.faces = self.without = self.unreadable = self.damaged = 0

    def line(self, table: Path | None) -> str:
        words = [counted(self.files, "file"), counted(self.faces, "face")]
        words += [f"{self.without:,} without a face"] if self.without else []
        words += [f"{self.unreadable:,} could not be read"] if self.unreadable else []
        words += [f"{self.damaged:,} damaged"] if self.damaged else []
        return ", ".join(words) + (f"; rows in {table}" if table else "")


def output_names(files: Mapping[Path, str]) -> dict[Path, Path]:
    """Return by which name, without a suffix, the copy and the report of each file go into their folders.

    It is what the file is called, from the folder that all files have in common, so that files of the same name in two
    folders do not meet. Files that differ in their suffix alone keep it.

    >>> names = output_names({Path(name): name for name in ("a/x.jpg", "a/b/x.jpg", "a/b/x.png")})
    >>> [str(name) for name in names.values()]
    ['x', 'b/x.jpg', 'b/x.png']
    """
    if not files:
        return {}
    places = {file: Path(os.path.abspath(called)) for file, called in files.items()}
    common = os.path.commonpath([place.parent for place in places.values()])
    names = {file: Path(os.path.relpath(place, common)) for file, place in places.items()}
    plain = Counter(str(name.with_suffix("")).casefold() for name in names.values())
    return {
        file: name if plain[str(name.with_suffix("")).casefold()] > 1 else name.with_suffix("")
        for file, name in names.items()
    }


class _Work:
    """The recognition of several files.

    Args:
        recognizer: of faces and expressions.
        files: all of them, also those that are done already, and what each is called.
        outputs: what is written.
        rows: the table.
    """

    def __init__(self, recognizer: Recognizer, files: Mapping[Path, str], outputs: Outputs, rows: RowWriter) -> None:
        self.recognizer, self.outputs, self.rows = recognizer, outputs, rows
        self.sums, self._names, self._called = _Sums(), output_names(files), files

    def copy_of(self, file: Path) -> Path | None:
        """Return where the annotated copy of a file goes.

        Raises:
            ConfigError: if it would lie beside the file, where it could replace an original.
        """
        if self.outputs.copies is None:
            return None
        copy = self.outputs.copies / f"{self._names[file]}{'.mp4' if is_video(file) else '.png'}"
        if copy.parent.resolve() == file.parent.resolve():
            raise ConfigError(
                f"annotated copies would lie among the originals in {file.parent}: give another folder to --annotate"
            )
        return copy

    def is_done(self, file: Path) -> bool:
        """Tell whether nothing is left to do of a picture. What is left of a video its session finds out."""
        copy = self.copy_of(file)
        return not is_video(file) and self._called[file] in self.rows.files and (copy is None or copy.is_file())

    def do(self, file: Path) -> list[str]:
        """Recognize a file and return what is printed.

        Raises:
            DataError: if it cannot be read.
            ConfigError: if something cannot be written.
        """
        self.sums.files += 1
        return self._video(file) if is_video(file) else self._picture(file)

    def leave_out(self, file: Path) -> None:
        """Write the row of a file that cannot be read."""
        self.sums.unreadable += 1
        if self._called[file] not in self.rows.files:
            self._add(file, ())

    def _add(self, file: Path, faces: Sequence[Face]) -> None:
        model, called = self.recognizer.model, self._called[file]
        self.rows.add(face_rows(self.rows.columns, faces, file=called, model=model.card.name, scheme=model.scheme))

    def _picture(self, file: Path) -> list[str]:
        called = self._called[file]
        try:
            pixels = decode(file, channels=3)
        except DataError as error:
            raise DataError(f"{called}: {error}") from error
        if called in self.rows.files:
            result = Result(called, faces_of(self.rows.earlier(called)))
        else:
            result = self.recognizer(pixels, called)
            self._add(file, result.faces)
        self.sums.faces += len(result)
        self.sums.without += not len(result)
        copy = self.copy_of(file)
        if copy is not None:
            with writing_errors(copy):
                write_atomically(copy, pixels_png(annotated(pixels, result.faces)))
        return str(result).splitlines()

    def _video(self, file: Path) -> list[str]:
        from fer_lightning.inference.video.reading import Video  # scipy and PyAV, which pictures do not need
        from fer_lightning.inference.video.report import write_session_report
        from fer_lightning.inference.video.session import Session

        outputs, called = self.outputs, self._called[file]
        video = Video(file, outputs.every)
        session = Session(self.recognizer, video, called, self.rows, self.copy_of(file), outputs.following).run()
        self.sums.faces += len(session.persons)
        self.sums.without += not session.persons
        self.sums.damaged += bool(session.problem)
        found = counted(len(session.persons), "person")
        lines = [f"{called}: {counted(session.frames, 'frame')}, {found}, {session.without:,} without a face"]
        if session.problem:
            lines.append(f"  the video is {session.problem}")
        if outputs.report is not None:
            folder = outputs.report / self._names[file]
            with writing_errors(folder):
                write_session_report(session, folder)
            lines.append(f"  report: {folder / 'index.html'}")
        return lines


def recognize_all(recognizer: Recognizer, files: Mapping[Path, str], outputs: Outputs) -> int:
    """Recognize pictures and videos and return the exit code: 1 if one of them could not be read, or not to its end.

    Args:
        recognizer: of faces and expressions.
        files: the place of each, and what it is called in what is printed and written.
        outputs: what is written.

    Raises:
        DataError: for a file that cannot be read, unless it is skipped.
        ConfigError: if something cannot be written; the rows before it are kept.
    """
    outputs.checked()
    model = recognizer.model
    with ExitStack() as stack:
        table = outputs.table
        if table is None:  # a video is summed up from its rows
            table = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.jsonl"
        again = set(files.values())
        rows = stack.enter_context(
            RowWriter(table, model.class_names, model.card.name, again, recognizer.coverage is not None)
        )
        work = _Work(recognizer, files, outputs, rows)
        waiting = [file for file in files if not work.is_done(file)]
        if len(waiting) < len(files):
            print(f"{outputs.table} already has {len(files) - len(waiting):,} of the {counted(len(files), 'file')}")
        bar = tqdm(waiting, unit="file", disable=None if len(waiting) > 1 else True, leave=False)
        for file in bar:
            try:
                lines = work.do(file)
            except DataError as error:
                if not outputs.skip:
                    raise
                bar.write(f"{error}", file=sys.stderr)
                work.leave_out(file)
                continue
            for line in lines:
                bar.write(line)
    print(work.sums.line(outputs.table))
    return int(work.sums.unreadable + work.sums.damaged > 0)
