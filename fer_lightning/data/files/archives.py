"""Data sets in archives: unpacked once into the cache, with nothing in the archive believed.

=============================================  ======================================================================
archive or entry                               behaviour
=============================================  ======================================================================
.zip, .tar, .tar.gz, .tar.xz, .tar.bz2         unpacked into ``<cache>/archives/<name>-<digest of the content>``
one of these under another name                the same: its first bytes tell what it is, not its name
a single file, compressed (fer2013.csv.gz)     the same
an archive in an archive                       the same, where nothing lies beside it
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
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from tqdm import tqdm

from fer_lightning.data.files.tree import split_of_folder
from fer_lightning.data.files.unpacking import ArchiveLimits, Unpacking
from fer_lightning.data.table.bad_rows import appearance
from fer_lightning.data.table.cache import default_cache_dir
from fer_lightning.emotions import code_of, is_expression
from fer_lightning.errors import DataError
from fer_lightning.files import file_digest, part_beside, remove_stale_parts
from fer_lightning.text import one_line, short_path, unreadable

__all__ = ["ArchiveLimits", "is_archive", "open_root", "unpacked_once"]

_STREAMS: dict[str, Callable[[BinaryIO], Any]] = {
    "tar": lambda raw: raw,
    "gz": lambda raw: gzip.GzipFile(fileobj=raw),
    "xz": lzma.LZMAFile,
    "bz2": bz2.BZ2File,
}
"""The bytes inside of an archive that is no zip, by its form."""

_SUFFIXES = {
    ".zip": "zip", ".tar": "tar", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz", ".txz": "xz", ".tar.bz2": "bz2",
    ".tbz2": "bz2", ".rar": "rar", ".7z": "7z",
}  # fmt: skip
_SIGNATURES = {
    "zip": re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"), "gz": re.compile(rb"\x1f\x8b"),
    "xz": re.compile(rb"\xfd7zXZ"),
    "bz2": re.compile(rb"BZh[1-9]1AY&SY"), "rar": re.compile(rb"Rar!"), "7z": re.compile(rb"7z\xbc\xaf"),
}  # fmt: skip
_OF_PROGRAMS = (".npz", ".pt", ".pth", ".ckpt", ".xlsx", ".docx", ".pptx", ".whl", ".jar")
_DEEPEST = 10  # folders and archives in each other
_FEW = 20  # files in a folder that are looked at for archives
_ABOUT = re.compile(
    r"(readme[^.]*|licen[cs]e|citation|copyright|changelog|notes?|about|info)(\.(md|txt|rst|rtf|html?|bib|cff))?$"
    r"|fer2013new\.csv$|thumbs\.db$|desktop\.ini$",
    re.IGNORECASE,
)
_PARTS = {
    "images", "image", "labels", "basic", "dataset", "ck+48", "cohn-kanade-images", "extended-cohn-kanade-images",
    "emotion", "emotion_labels", "manually_annotated", "manually_annotated_images", "manually_annotated_file_lists",
}  # fmt: skip
_CHUNK = 1 << 20  # bytes
_BLOCK = 512  # bytes of a block in a tar file
_LONGEST_READ = 1 << 26  # bytes: a header of a tar file that asks for more is an attack
_LONGEST_LINK = 4096  # bytes


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive that ``open_root`` opens, by its first bytes or by its name."""
    return _form(path) is not None


def _form(path: Path) -> str | None:
    """Return what an archive is by its first bytes, and where these say nothing by its name; ``None`` for no archive.

    Files of programs that are zip archives inside, such as checkpoints, are none.
    """
    name = path.name.lower()
    if name.endswith(_OF_PROGRAMS):
        return None
    try:
        with path.open("rb") as raw:
            head = raw.read(_BLOCK)
    except OSError:
        head = b""
    for form, signature in _SIGNATURES.items():
        if signature.match(head):
            return form
    if _is_tar_header(head):
        return "tar"
    return next((form for suffix, form in _SUFFIXES.items() if name.endswith(suffix)), None)


def _is_tar_header(block: bytes) -> bool:
    """Tell whether a block is the header of an entry in a tar file, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def open_root(root: Path, cache_dir: Path | None = None, limits: ArchiveLimits | None = None) -> Path:
    """Return the folder of a data set, wherever a user's path leads to it: the one door for all data modules and verbs.

    Args:
        root: a folder or an archive; or a folder that holds nothing but one of these, at any depth, beside texts such
            as a README. Whatever is neither is returned as it is.
        cache_dir: where archives are unpacked, once for each content; ``None`` for ``default_cache_dir``.
        limits: what an archive may hold.

    Returns:
        ``root``, or the first folder below it or in it that holds more, or whose only folder is named like a split, a
        class or a part of a published set.

    Raises:
        DataError: if an archive is damaged or not safe, or there is no place to unpack it; it names archive and entry.
            If a folder holds nothing but several archives.
    """
    place = root
    for _ in range(_DEEPEST):
        if place.is_dir():
            inner = _only_entry(place)
            if inner is None:
                return place
            place = inner
        elif os.path.isfile(place) and is_archive(place):
            place = _unpacked(place, cache_dir, ArchiveLimits() if limits is None else limits)
        else:
            break
    return place


def _only_entry(folder: Path) -> Path | None:
    """Return the folder or archive that is all that a folder holds, ``None`` if it holds something else."""
    try:
        names = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith((".", "__MACOSX"))]
        found = [entry for entry in names if entry.is_dir() or not _is_about(entry)]
        if not found or len(found) > _FEW or (len(found) > 1 and any(entry.is_dir() for entry in found)):
            return None
        if found[0].is_dir():
            stays = _is_part(found[0].name) or found[0].is_symlink() or not any(found[0].iterdir())
            return None if stays else found[0]
        if not all(map(is_archive, found)):
            return None
    except OSError:
        return None  # whoever reads it will say so
    if len(found) > 1:
        listed = ", ".join(entry.name for entry in found[:4])
        text = (
            f"{short_path(folder)} holds several archives ({listed}): unpack them into one folder, or name one of them"
        )
        raise DataError(one_line(f"{text}, such as {short_path(found[0])}", 400))
    return found[0]


def _is_about(file: Path) -> bool:
    """Tell whether a file only tells about a data set, or completes one that lies in an archive beside it."""
    return bool(_ABOUT.fullmatch(file.name)) or file.suffix.lower() == ".pdf"


def _is_part(name: str) -> bool:
    """Tell whether a folder is a part of a data set by its name: a split, a class, a part of a published set."""
    key = name.strip().lower()
    return is_expression(name) or code_of(name) is not None or key in _PARTS or split_of_folder(name) is not None


def _unpacked(archive: Path, cache_dir: Path | None, limits: ArchiveLimits) -> Path:
    """Return the folder into which an archive was unpacked, now or before."""
    form = _form(archive)
    if form in ("rar", "7z"):
        with archive.open("rb") as raw:
            found = appearance(raw.read(64))
        raise DataError(
            f"{short_path(archive)}: expected a folder, .zip or .tar, found {found}; unpack this archive by hand"
        )
    try:
        digest = file_digest(archive)
    except OSError as error:
        raise DataError(unreadable(archive, error)) from None
    return unpacked_once(archive, digest, cache_dir, lambda part: _unpack(archive, Unpacking(archive, part, limits)))


def unpacked_once(source: Path, digest: str, cache_dir: Path | None, write: Callable[[Path], None]) -> Path:
    """Return the folder in the cache for what is inside of a data set, filled by ``write`` unless it was before.

    Args:
        source: the archive or data set, for the folder's name and messages.
        digest: of its content.
        cache_dir: the cache; ``None`` for ``default_cache_dir``.
        write: fills a folder that exists; it raises nothing but a DataError or an OSError.

    Raises:
        DataError: if there is no place to write.
    """
    cache = default_cache_dir() if cache_dir is None else cache_dir.expanduser()
    if cache is None:
        raise _no_place(source, "there is no home folder")
    folder = cache / "archives" / f"{source.name.split('.')[0][:40]}-{digest}"
    if not folder.is_dir():
        _unpack_to(source, folder, write)
    return folder


def _no_place(root: Path, reason: str) -> DataError:
    return DataError(
        one_line(
            f"{short_path(root, 80)}: cannot be unpacked into the cache ({reason}); "
            "unpack it by hand, or pass cache_dir or set FER_CACHE_DIR to a folder that can be written"
        )
    )


def _unpack_to(source: Path, folder: Path, write: Callable[[Path], None]) -> None:
    """Unpack into a folder beside the place and rename it: others see all of it or nothing."""
    remove_stale_parts(folder.parent)
    try:
        with part_beside(folder) as part:
            part.mkdir()
            write(part)
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster; its content is the same
                    raise
    except OSError as error:
        where = "" if error.filename is None else f"{folder.parent}: "
        raise _no_place(source, f"{where}{error.strerror or error}") from None


def _unpack(archive: Path, unpacking: Unpacking) -> None:
    with archive.open("rb") as raw:
        head = raw.read(64)
        raw.seek(0)
        bar = tqdm(
            total=unpacking.archive_size, desc=archive.name, unit="B", unit_scale=True, disable=None, leave=False
        )
        try:
            with bar:
                form = _form(archive)
                if form == "zip":
                    _unpack_zip(raw, unpacking, bar)
                elif form is not None:
                    _unpack_stream(raw, form, unpacking, bar)
                unpacking.make_links()
        except DataError:
            raise
        except Exception as error:  # damaged archives fail in many ways; each means the same here
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk is full or has failed, not the archive
            reason = str(error) or type(error).__name__
            suffix = archive.suffix if archive.name.lower().endswith(tuple(_SUFFIXES)) else f".{_form(archive)}"
            text = f"{short_path(archive)}: expected a whole {suffix} archive, found {appearance(head)} ({reason})"
            raise DataError(one_line(text)) from None


def _unpack_zip(raw: BinaryIO, unpacking: Unpacking, bar: tqdm[Any]) -> None:
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


def _unpack_stream(raw: BinaryIO, form: str, unpacking: Unpacking, bar: tqdm[Any]) -> None:
    """Unpack a tar file, compressed or not, or a single file that was only compressed."""
    name = unpacking.archive.name
    stream = _STREAMS[form](raw)
    if name.lower().endswith(tuple(_SUFFIXES)) or _is_tar_header(stream.read(_BLOCK)):
        raw.seek(0)
        _unpack_tar(raw, _STREAMS[form](raw), unpacking, bar)
        return
    raw.seek(0)
    is_called_so = name.lower().endswith((".gz", ".xz", ".bz2"))
    unpacking.add_file(name.rpartition(".")[0] if is_called_so else name, _STREAMS[form](raw))


def _unpack_tar(raw: BinaryIO, content: IO[bytes], unpacking: Unpacking, bar: tqdm[Any]) -> None:
    stream = _ShortReads(content)
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
