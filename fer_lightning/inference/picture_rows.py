"""Recognizing many pictures: a line on the terminal, rows in a table, annotated copies."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from fer_lightning.data.files.decode import decode
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.figures import pixels_png
from fer_lightning.files import write_atomically
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.recognizer import Recognizer, Result
from fer_lightning.inference.rows import RowWriter, face_rows

__all__ = ["PictureRows"]


class PictureRows:
    """Recognizes pictures one after the other.

    Args:
        recognizer: of faces and expressions.
        table: where rows go; ``None`` for no table.
        pictures: folder of annotated copies; ``None`` for none.
        skip: go on after a file that cannot be read.
    """

    def __init__(self, recognizer: Recognizer, table: Path | None, pictures: Path | None, skip: bool) -> None:
        self.recognizer, self.table, self.pictures, self.skip = recognizer, table, pictures, skip
        self.faces = self.without = 0
        self.unreadable: list[str] = []

    def run(self, files: Sequence[Path]) -> int:
        """Recognize the pictures in files and return the exit code: 1 if one of them could not be read.

        Raises:
            DataError: for a file that cannot be read, unless it is skipped.
            ConfigError: if a table or picture cannot be written; the rows before it are kept.
        """
        with ExitStack() as stack:
            model = self.recognizer.model
            rows = None
            if self.table is not None:
                rows = stack.enter_context(RowWriter(self.table, model.class_names, model.card.name))
            done = {row["file"] for row in rows.before} if rows else set()
            waiting = [file for file in files if str(file) not in done]
            if len(waiting) < len(files):
                print(f"{self.table} already has {len(files) - len(waiting)} of the {len(files)} files")
            for file, result in self._results(waiting):
                if rows is not None:
                    self._write(rows, file, result)
        self._sum_up(len(waiting))
        return int(bool(self.unreadable))

    def _results(self, files: Sequence[Path]) -> Iterator[tuple[Path, Result | None]]:
        bar = tqdm(files, unit="picture", disable=None, leave=False)
        for file in bar:
            try:
                pixels = decode(file, channels=3)
            except DataError as error:
                if not self.skip:
                    raise
                self.unreadable.append(str(file))
                bar.write(f"{error}", file=sys.stderr)
                yield file, None
                continue
            result = self.recognizer(pixels, str(file))
            self.faces += len(result)
            self.without += not len(result)
            bar.write(str(result))
            if self.pictures is not None:
                target = self.pictures / file.with_suffix(".png").name
                write_atomically(target, pixels_png(annotated(pixels, result.faces)))
            yield file, result

    def _write(self, rows: RowWriter, file: Path, result: Result | None) -> None:
        model = self.recognizer.model
        faces = () if result is None else result.faces
        lines = face_rows(rows.columns, faces, file=str(file), model=model.card.name, scheme=model.scheme)
        try:
            rows.add(lines)
        except OSError as error:
            raise ConfigError(f"{self.table} cannot be written ({error.strerror}); the rows before {file} are in it") from error

    def _sum_up(self, count: int) -> None:
        words = [f"{count} picture{'s' * (count != 1)}, {self.faces} face{'s' * (self.faces != 1)}"]
        words += [f"{self.without} without a face"] if self.without else []
        words += [f"{len(self.unreadable)} could not be read"] if self.unreadable else []
        print(", ".join(words) + (f"; rows in {self.table}" if self.table else ""))
