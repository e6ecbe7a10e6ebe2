"""What is known of image files after each was decoded once: are they whole, how large, which are the same.

Decoding everything before training starts is what finds the one broken file in a hundred thousand, and what makes
splits possible that no image crosses. It is done once: the index is cached under the folder and the names, sizes and
times of the files.
"""

from __future__ import annotations

import functools
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.files.decode import MAX_PIXELS, cropped, decode_with_facts
from fer_lightning.data.splitting.near_duplicates import THUMBNAIL_SIDE, thumbnail
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.data.table.samples import DIGEST_BYTES
from fer_lightning.errors import DataError
from fer_lightning.text import one_line

__all__ = ["ImageIndex", "index_images"]

_FORMAT = 2  # raise it whenever the same files would give another index
_CHUNK = 64  # files in one task of a thread


@dataclass(frozen=True)
class ImageIndex:
    """One row per file, in the order in which they were given.

    Attributes:
        digests: uint8 ``(N, 16)``: hash of the decoded pixels (and of the box); zero for a bad file.
        thumbnails: uint8 ``(N, S, S)``; zero for a bad file.
        sizes: int64 ``(N, 2)``: width and height of the upright image, pixels; of the box where there is one; zero for
            a bad file.
        frames: int64 ``(N,)``: number of frames; only the first is used.
        bad: int64 ``(B,)``: rows of the bad files, ascending.
        reasons: ``(B,)`` strings: what is wrong with each of them.
    """

    digests: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    frames: NDArray[np.int64]
    bad: NDArray[np.int64]
    reasons: NDArray[np.str_]


def index_images(
    root: Path,
    paths: NDArray[np.str_],
    boxes: NDArray[np.int64] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    allow_outside: bool = False,
    cache_dir: Path | None = None,
) -> ImageIndex:
    """Decode files once and note what they hold; bad ones are named in the index, nothing is raised for them.

    Args:
        root: folder that the paths are relative to.
        paths: ``(N,)`` strings, with forward slashes.
        boxes: int64 ``(N, 4)``: the part of each image that counts (x, y, width, height), or ``None``.
        max_pixels: files with more pixels are bad.
        allow_outside: whether paths and links may lead out of ``root``.
        cache_dir: where the index is kept; ``None`` for the user's cache folder.
    """
    key = f"index-v{_FORMAT}-{max_pixels}-{int(allow_outside)}-{_files_digest(root, paths, boxes)}"

    def build() -> dict[str, NDArray[np.generic]]:
        return vars(_build(root, paths, boxes, max_pixels, allow_outside))

    return ImageIndex(**cached_arrays(key, build, cache_dir))


def _files_digest(root: Path, paths: NDArray[np.str_], boxes: NDArray[np.int64] | None) -> str:
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(root)) + b"\n", digest_size=16)  # links may lead elsewhere
    for path in paths.tolist():
        try:
            status = os.stat(root / path)
            facts = b"%d %d" % (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            facts = b"-"
        digest.update(path.encode("utf-8", "surrogatepass") + b"\0" + facts + b"\n")
    if boxes is not None:
        digest.update(np.ascontiguousarray(boxes, "<i8").tobytes())
    return digest.hexdigest()


def _build(
    root: Path, paths: NDArray[np.str_], boxes: NDArray[np.int64] | None, max_pixels: int, allow_outside: bool
) -> ImageIndex:
    count = len(paths)
    index = ImageIndex(
        digests=np.zeros((count, DIGEST_BYTES), np.uint8),
        thumbnails=np.zeros((count, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8),
        sizes=np.zeros((count, 2), np.int64),
        frames=np.ones(count, np.int64),
        bad=np.empty(0, np.int64),
        reasons=np.empty(0, np.str_),
    )
    faults: dict[int, str] = {}
    fence = None if allow_outside else _Fence(root)

    def look_at(rows: range) -> int:
        for row in rows:
            try:
                path = _path(root, str(paths[row]), fence)
                _look_at(index, row, path, None if boxes is None else boxes[row], max_pixels)
            except DataError as error:
                faults[row] = one_line(str(error))
        return len(rows)

    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with (
        tqdm(total=count, unit="image", desc=f"looking at {root.name}", disable=None, leave=False) as bar,
        ThreadPoolExecutor(_threads()) as pool,
    ):
        try:
            for done in pool.map(look_at, chunks):
                bar.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    bad = sorted(faults)
    return replace(index, bad=np.array(bad, np.int64), reasons=np.array([faults[row] for row in bad], np.str_))


class _Fence:
    """The folder that files must not lie outside of, once links are followed."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self._real = functools.cache(os.path.realpath)  # of folders, of which there are few

    def holds(self, path: Path) -> bool:
        """Tell whether a file lies inside."""
        real = os.path.realpath(path) if path.is_symlink() else os.path.join(self._real(path.parent), path.name)
        return os.path.commonpath([self.root, real]) == self.root


def _path(root: Path, name: str, fence: _Fence | None) -> Path:
    if "\0" in name:
        raise DataError("expected the path of an image, found one with a zero byte")
    path = root / name
    if fence is not None and not fence.holds(path):
        raise DataError(
            "expected an image, found a path or link that leads out of the folder; "
            "pass --data.allow_outside true if that is meant"
        )
    return path


def _threads() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _look_at(index: ImageIndex, row: int, path: Path, box: NDArray[np.int64] | None, max_pixels: int) -> None:
    picture, facts = decode_with_facts(path, max_pixels=max_pixels)
    if picture.shape[2] == 3 and (picture == picture[:, :, :1]).all():
        picture = picture[:, :, :1]  # gray stored as colour is the same image as gray
    digest = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=DIGEST_BYTES)
    size = (picture.shape[1], picture.shape[0])
    if box is not None:
        digest.update(np.ascontiguousarray(box, "<i8").tobytes())
        picture = cropped(picture, box)
        size = (int(box[2]), int(box[3]))
    index.sizes[row] = size
    index.digests[row] = np.frombuffer(digest.digest(), np.uint8)
    index.thumbnails[row] = thumbnail(picture)
    index.frames[row] = facts.frames
