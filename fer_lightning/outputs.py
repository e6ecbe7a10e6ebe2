"""Where something may be written, found out before anything that takes long, and what a verb leaves in its folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fer_lightning.errors import ConfigError
from fer_lightning.files import json_text, write_atomically
from fer_lightning.text import one_line, short_path

__all__ = ["Findings", "folder_to_write", "place_to_write", "writing_errors"]


def place_to_write(out: str | Path) -> Path:
    """Return where to write a file or folder, ``~`` being one's home; nothing is made.

    A file is opened in the nearest folder that exists, as permissions alone do not tell: some file systems refuse it.

    Raises:
        ConfigError: if nothing can be written there.
    """
    try:
        place = Path(out).expanduser()
        nearest = place if place.is_dir() else next(path for path in place.absolute().parents if path.exists())
        why = _refusal(nearest)
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, an unknown ~user
        place, why = Path(out), str(getattr(error, "strerror", None) or error).lower()
    if why:
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {why}"))
    return place


def _refusal(folder: Path) -> str:
    """Return why nothing can be written into what is there, empty if it can."""
    if not folder.is_dir():
        return f"{short_path(folder)} is a file"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{short_path(folder)} is read-only"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{short_path(folder)} takes no files ({(error.strerror or str(error)).lower()})"


def folder_to_write(out: str | Path) -> Path:
    """Return the folder to write into, which may exist, checked likewise."""
    folder = place_to_write(out)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(one_line(f"{short_path(folder)}: expected a folder to write into, found a file"))
    return folder


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system inside of the block into one line.

    Args:
        path: that is named if the system names none.

    Raises:
        ConfigError: with the file and the reason.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output has gone
        raise
    except OSError as error:
        where = error.filename or path
        raise ConfigError(one_line(f"{where} cannot be written ({error.strerror or error})")) from error


class Findings:
    """What a verb writes into a folder that may hold what it has written there before.

    The numbers (JSON) list the files under ``files``, so that the next time those that are not written again go.

    Args:
        folder: is made if it is missing.
        numbers: name of the file with the numbers, such as ``explain.json``.
    """

    def __init__(self, folder: Path, numbers: str) -> None:
        self.folder, self.numbers = folder, numbers
        self._files: list[str] = []
        self._former: list[str] = []
        with suppress(OSError, ValueError, KeyError, TypeError):  # none, or damaged: nothing of it is removed
            self._former = [str(name) for name in json.loads((folder / numbers).read_text(encoding="utf-8"))["files"]]

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file and return it; raise an ``OSError`` if that cannot be."""
        self._files.append(name)
        return write_atomically(self.folder / name, content)

    def finish(self, values: dict[str, Any], page: str) -> Path:
        """Write the numbers and the page, remove what was written before and is not any more, and return the page.

        Raises:
            OSError: if something cannot be written.
        """
        write_atomically(self.folder / self.numbers, json_text({**values, "files": sorted(self._files)}))
        path = write_atomically(self.folder / "index.html", page)
        for name in {*self._former} - {*self._files}:
            if Path(name).name == name:  # in this folder, whatever somebody has written there
                (self.folder / name).unlink(missing_ok=True)
        return path
