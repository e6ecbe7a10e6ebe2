"""Data sets in archives: unpacked once into the cache, with nothing in the archive believed.

=============================================  ======================================================================
archive or entry                               behaviour
=============================================  ======================================================================
.zip, .tar, .tar.gz, .tar.xz, .tar.bz2         unpacked into ``<cache>/archives/<name>-<digest of the content>``
.rar, .7z                                      refused: to be unpacked by hand
absolute path, drive letter, ``..``            refused, with slashes and with backslashes
link, symbolic or hard, to inside              kept; made when all files are written, so that none is written through it
link that leaves the folder                    refused
device, pipe, socket                           refused
encrypted                                      refused
damaged, cut off                               refused, also where Python's ``tarfile`` would stop without a word
too many entries, too large, a bomb            refused while unpacking, by what was written and not by what was promised
one name as a file and as a folder or link     refused
one name as a file twice                       the later one counts, as with ``tar``
owner, permissions, times                      not taken over
``__MACOSX/``                                  left out
=============================================  ======================================================================

A refused or interrupted archive leaves nothing behind.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from tqdm import tqdm

from fer_lightning.data.files.decode import inside
from fer_lightning.data.table.bad_rows import appearance
from fer_lightning.data.table.cache import default_cache_dir
from fer_lightning.errors import DataError
from fer_lightning.files import file_digest, part_beside, remove_stale_parts
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["ArchiveLimits", "is_archive", "open_root"]

_ZIP = ".zip"
_TAR: dict[str, Callable[[BinaryIO], Any]] = {
    ".tar": lambda raw: raw,
    ".tar.gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".tgz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".tar.xz": lzma.LZMAFile,
    ".txz": lzma.LZMAFile,
    ".tar.bz2": bz2.BZ2File,
    ".tbz2": bz2.BZ2File,
}
_BY_HAND = (".rar", ".7z")
_CHUNK = 1 << 20  # bytes
_BLOCK = 512  # bytes of a block in a tar file
_LONGEST_READ = 1 << 26  # bytes: a header of a tar file that asks for more is an attack
_LONGEST_LINK = 4096  # bytes
_SPLITS = frozenset({"test", "train", "train_set", "training", "val", "val_set", "valid", "validation", "images"})


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


def is_archive(path: Path) -> bool:
    """Tell by its name whether a path is an archive that :func:`open_root` unpacks."""
    return path.name.lower().endswith((_ZIP, *_TAR))


def open_root(root: Path, cache_dir: Path | None = None, limits: ArchiveLimits | None = None) -> Path:
    """Return the folder of a data set; an archive is unpacked into the cache first, once for each content.

    Args:
        root: a folder, or an archive. Whatever is neither is returned as it is.
        cache_dir: where to unpack; ``None`` for :func:`.default_cache_dir`.
        limits: what the archive may hold.

    Returns:
        ``root``, or the folder with what the archive holds; the only folder in it, unless that has a split's name.

    Raises:
        DataError: if the archive is damaged or not safe, or there is no place to unpack it; it names archive and entry.
    """
    by_hand = root.name.lower().endswith(_BY_HAND)
    if not (by_hand or is_archive(root)) or not os.path.isfile(root):
        return root
    if by_hand:
        raise DataError(f"{short_path(root)}: expected a folder, .zip or .tar; unpack this archive by hand")
    cache = default_cache_dir() if cache_dir is None else cache_dir.expanduser()
    if cache is None:
        raise _no_place(root, "there is no home folder")
    try:
        digest = file_digest(root)
    except OSError as error:
        raise DataError(unreadable(root, error)) from None
    folder = cache / "archives" / f"{root.name.split('.')[0][:40]}-{digest}"
    if not folder.is_dir():
        _unpack_to(root, folder, ArchiveLimits() if limits is None else limits)
    return _only_folder(folder)


def _no_place(root: Path, reason: str) -> DataError:
    return DataError(
        one_line(
            f"{short_path(root, 80)}: cannot be unpacked into the cache ({reason}); "
            "unpack it by hand, or pass cache_dir or set FER_CACHE_DIR to a folder that can be written"
        )
    )


def _only_folder(folder: Path) -> Path:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name.lower() not in _SPLITS:
        return entries[0]
    return folder


def _unpack_to(archive: Path, folder: Path, limits: ArchiveLimits) -> None:
    """Unpack into a folder beside the place and rename it: others see all of it or nothing."""
    remove_stale_parts(folder.parent)
    try:
        with part_beside(folder) as part:
            part.mkdir()
            _unpack(archive, _Unpacking(archive, part, limits))
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster; its content is the same
                    raise
    except OSError as error:
        where = "" if error.filename is None else f"{folder.parent}: "
        raise _no_place(archive, f"{where}{error.strerror or error}") from None


def _unpack(archive: Path, unpacking: _Unpacking) -> None:
    with archive.open("rb") as raw:
        head = raw.read(64)
        raw.seek(0)
        bar = tqdm(
            total=unpacking.archive_size, desc=archive.name, unit="B", unit_scale=True, disable=None, leave=False
        )
        try:
            with bar:
                if archive.name.lower().endswith(_ZIP):
                    _unpack_zip(raw, unpacking, bar)
                else:
                    _unpack_tar(raw, unpacking, bar)
                unpacking.make_links()
        except DataError:
            raise
        except Exception as error:  # damaged archives fail in many ways; each means the same here
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk is full or has failed, not the archive
            reason = str(error) or type(error).__name__
            text = (
                f"{short_path(archive)}: expected a whole {archive.suffix} archive, found {appearance(head)} ({reason})"
            )
            raise DataError(one_line(text)) from None


def _unpack_zip(raw: BinaryIO, unpacking: _Unpacking, bar: tqdm[Any]) -> None:
    with zipfile.ZipFile(raw) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if entry.flag_bits & 0x1:
                raise unpacking.refuse(name, "it is encrypted; unpack the archive by hand")
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if name.endswith(("/", "\\")):
                unpacking.add_folder(name)
            elif kind == stat.S_IFLNK:
                with archive.open(entry) as content:
                    unpacking.add_link(name, os.fsdecode(content.read(_LONGEST_LINK)))
            elif kind in (0, stat.S_IFREG):
                with archive.open(entry) as content:
                    unpacking.add_file(name, content)
            else:
                raise unpacking.refuse(name, "it is neither file, folder nor link")
            bar.update(entry.compress_size)


def _unpack_tar(raw: BinaryIO, unpacking: _Unpacking, bar: tqdm[Any]) -> None:
    suffix = next(suffix for suffix in sorted(_TAR) if unpacking.archive.name.lower().endswith(suffix))
    stream = _ShortReads(_TAR[suffix](raw))
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        while (entry := archive.next()) is not None:
            if entry.isdir():
                unpacking.add_folder(entry.name)
            elif entry.issym():
                unpacking.add_link(entry.name, entry.linkname)
            elif entry.islnk():
                unpacking.add_hard_link(entry.name, entry.linkname)
            elif entry.isreg():
                with cast(IO[bytes], archive.extractfile(entry)) as content:
                    unpacking.add_file(entry.name, content)
            else:
                raise unpacking.refuse(entry.name, "it is neither file, folder nor link")
            archive.members = []  # type: ignore[attr-defined]  # else it remembers every entry
            bar.update(raw.tell() - bar.n)
        # At a damaged header, and where the file ends too early, `tarfile` stops without a word.
        stream.seek(archive.offset)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("no end mark where the entries end")
        stream.read(_CHUNK)  # to the end of the compressed data, where its checksum is


class _ShortReads:
    """A stream of which nobody reads very much at once: ``tarfile`` would read a whole header, however long."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        if not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        """Go to a position."""
        return self.stream.seek(position)

    def tell(self) -> int:
        """Return the position."""
        return self.stream.tell()


class _Unpacking:
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
        """Note a symbolic link, to be made by :meth:`make_links`."""
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
