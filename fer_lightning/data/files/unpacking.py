"""Writing the entries of an archive into a folder, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fer_lightning.data.files.decode import inside
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["ArchiveLimits", "Unpacking"]

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold.

    Attributes:
        entries: number of files, folders and links.
        size: bytes of all files.
        ratio: bytes of all files over bytes of the archive, once they are more than ``ratio_from``.
        ratio_from: bytes.
    """

    entries: int = 5_000_000
    size: int = 1 << 40
    ratio: int = 200
    ratio_from: int = 1 << 30


class Unpacking:
    """Writes the entries of one archive into a folder, and into that folder only.

    Args:
        archive: for messages.
        folder: exists and is empty.
        limits: what may be written.
    """

    def __init__(self, archive: Path, folder: Path, limits: ArchiveLimits) -> None:
        self.archive = archive
        self.archive_size = archive.stat().st_size
        self.folder = folder
        self.limits = limits
        self.entries = 0
        self.size = 0
        self.links: dict[Path, tuple[str, str]] = {}  # where -> name in the archive, target
        self._made = {folder}

    def refuse(self, name: str, reason: str) -> DataError:
        """Return the error for an entry."""
        return DataError(one_line(f"{short_path(self.archive, 80)}: entry {excerpt(name, 60)} refused: {reason}"))

    def add_folder(self, name: str) -> None:
        """Make a folder."""
        place = self._place(name)
        if place is not None:
            self._make_folder(place, name)

    def add_file(self, name: str, content: IO[bytes]) -> None:
        """Write a file; an earlier one of the same name is replaced."""
        place = self._place(name)
        if place is None:
            return
        self._make_way(place, name)
        with place.open("xb") as handle:
            while chunk := content.read(_CHUNK):
                self._count_bytes(len(chunk), name)
                handle.write(chunk)

    def add_link(self, name: str, target: str) -> None:
        """Note a symbolic link, to be made by ``make_links``."""
        place = self._place(name)
        if place is not None:
            self.links[place] = name, target

    def add_hard_link(self, name: str, target: str) -> None:
        """Link to a file that was written before."""
        place, original = self._place(name), self._place(target)
        if place is None:
            return
        if original is None or not original.is_file():
            raise self.refuse(name, f"it links to {excerpt(target, 60)}, which is no file before it")
        if place == original:
            return
        self._make_way(place, name)
        os.link(original, place)

    def make_links(self) -> None:
        """Make the symbolic links; all of them must stay inside."""
        for place, (name, target) in self.links.items():
            if place.exists():
                raise self.refuse(name, "it is a link, and something else too")
            if not target or "\0" in target or _leaves(os.path.join(os.path.dirname(_slashes(name)), _slashes(target))):
                raise self.refuse(name, f"it links out of the folder, to {excerpt(target, 60)}")
            self._make_folder(place.parent, name)
            place.symlink_to(target)
        for place, (name, target) in self.links.items():  # a link over a link may leave where neither seems to
            if not inside(self.folder, place):
                raise self.refuse(name, f"it links out of the folder, to {excerpt(target, 60)}")

    def _place(self, name: str) -> Path | None:
        """Return where an entry belongs, ``None`` for one that is left out; refuse one outside of the folder."""
        self._count_entry(name)
        path = _slashes(name)
        if path.startswith("/") or re.match("[A-Za-z]:", path) or "\0" in path or ".." in path.split("/"):
            raise self.refuse(name, "its path leads out of the folder")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not parts or parts[0] == "__MACOSX":
            return None
        return self.folder.joinpath(*parts)

    def _make_way(self, place: Path, name: str) -> None:
        """Make the folder that a file goes into, and remove an earlier file of its name."""
        self._make_folder(place.parent, name)
        if place.is_dir():
            raise self.refuse(name, "it is a file, and a folder too")
        place.unlink(missing_ok=True)

    def _make_folder(self, place: Path, name: str) -> None:
        for folder in reversed(list(_up_to(place, self._made))):
            self._count_entry(name)
            try:
                folder.mkdir()
            except FileExistsError:
                raise self.refuse(name, "it is a folder, and a file too") from None
            self._made.add(folder)

    def _count_entry(self, name: str) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise self.refuse(name, f"more than {self.limits.entries:,} entries; unpack the archive by hand")

    def _count_bytes(self, count: int, name: str) -> None:
        self.size += count
        if self.size > self.limits.size:
            raise self.refuse(name, f"more than {self.limits.size:,} bytes in all; unpack the archive by hand")
        if self.size > max(self.limits.ratio_from, self.limits.ratio * self.archive_size):
            raise self.refuse(
                name, f"{self.size:,} bytes out of {self.archive_size:,} look like an attack; unpack by hand if not"
            )


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _leaves(path: str) -> bool:
    """Tell whether a path, relative to a folder, leads out of it as it is written."""
    return bool(re.match("/|[A-Za-z]:", path)) or os.path.normpath(path).split("/")[0] == ".."


def _up_to(place: Path, made: set[Path]) -> Iterator[Path]:
    """Yield a folder and those above it that are not made yet."""
    while place not in made:
        yield place
        place = place.parent
