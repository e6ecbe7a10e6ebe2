"""From a list of image files to a samples table: the road that all sets of files share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.decode import MAX_PIXELS
from fer_lightning.data.files.file_images import FileImages
from fer_lightning.data.files.image_index import ImageIndex, index_images
from fer_lightning.data.table.bad_rows import OnError, check_on_error, reason_counts, warn_left_out
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import one_line, short_path
from fer_lightning.types import Interpolation

__all__ = ["Listing", "Small", "read_listing"]

Small = Literal["reject", "upscale"]
"""What happens to images below the least side: left out and counted, or enlarged and marked."""


@dataclass(frozen=True)
class Listing:
    """Files of a data set, as found before any of them was opened. All columns have ``N`` rows.

    Attributes:
        root: folder that the paths are relative to.
        class_names: canonical names; the position is the label.
        paths: ``(N,)`` strings, with forward slashes; absolute ones are allowed.
        labels: int64 ``(N,)``.
        splits: ``(N,)`` strings, ``""`` where the set has no split.
        sources: ``(N,)`` strings.
        boxes: int64 ``(N, 4)``: x, y, width, height of the face, pixels, or ``None`` for whole images.
        soft_labels: float32 ``(N, K)``, or ``None``.
        columns: further columns.
        left_out: (place, reason) of rows that were not listed; the user gets a warning with these.
        remarks: what was found out about the data set, see ``SamplesTable``.
    """

    root: Path
    class_names: tuple[str, ...]
    paths: NDArray[np.str_]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    sources: NDArray[np.str_]
    boxes: NDArray[np.int64] | None = None
    soft_labels: NDArray[np.float32] | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def select(self, rows: NDArray[np.int64]) -> Listing:
        """Return a listing of some rows, int64 ``(M,)``; what was left out or remarked stays."""
        return replace(
            self,
            paths=self.paths[rows],
            labels=self.labels[rows],
            splits=self.splits[rows],
            sources=self.sources[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            soft_labels=None if self.soft_labels is None else self.soft_labels[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )


def read_listing(
    listing: Listing,
    *,
    size: int,
    channels: int,
    interpolation: Interpolation = "area",
    on_error: OnError = "raise",
    min_side: int = 0,
    small: Small = "reject",
    max_pixels: int = MAX_PIXELS,
    allow_outside: bool = False,
    cache_dir: Path | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> SamplesTable:
    """Look at every file of a listing and return the table of the good ones; images are decoded again when asked for.

    The options are those of ``FilesDataModule``. ``wanted``, bool ``(N,)``, tells which files will be used: a bad
    one among the others is left out in any case.

    Raises:
        ConfigError: for a wrong argument.
        DataError: if there is no file, a file is bad and ``on_error`` is ``raise``, or more than half are bad.
    """
    check_on_error(on_error)
    if small not in ("reject", "upscale"):
        raise ConfigError(f"data.small must be 'reject' or 'upscale', not '{small}'")
    if min_side < 0:
        raise ConfigError(f"data.min_side must not be negative, not {min_side}")
    if not len(listing.paths):
        raise _no_image(listing)
    files = listing.root, listing.paths, listing.boxes
    index = index_images(*files, max_pixels=max_pixels, allow_outside=allow_outside, cache_dir=cache_dir)
    left_out = [*listing.left_out, *_bad_files(listing, index, on_error, wanted)]
    keep = ~np.isin(np.arange(len(listing.paths)), index.bad)
    too_small = (index.sizes.min(axis=1) < min_side) & keep
    if small == "reject":
        keep &= ~too_small
        left_out += _too_small(listing, index, too_small, min_side)
        if not keep.any():
            raise DataError(f"{short_path(listing.root)}: every image is below data.min_side ({min_side} pixels)")
    warn_left_out(short_path(listing.root), left_out)
    images = FileImages(listing.root, listing.paths, size, channels, listing.boxes, max_pixels, interpolation)
    marks = too_small if small == "upscale" and min_side > 0 else None
    table = _table(listing, index, images, marks)
    return replace(table if keep.all() else table.select(np.flatnonzero(keep)), left_out=tuple(left_out))


def _no_image(listing: Listing) -> DataError:
    reasons = [f"{count:,} {reason}" for reason, count in reason_counts(listing.left_out).items()]
    more = f" (left out: {'; '.join(reasons)})" if reasons else ""
    return DataError(one_line(f"{short_path(listing.root)}: expected images, found none{more}"))


def _bad_files(
    listing: Listing, index: ImageIndex, on_error: OnError, wanted: NDArray[np.bool_] | None
) -> list[tuple[str, str]]:
    """Return (file, reason) of the bad files, unless they are to be raised or more than half are bad."""
    found = [(str(listing.paths[row]), str(why)) for row, why in zip(index.bad, index.reasons, strict=True)]
    needed = [pair for pair, row in zip(found, index.bad, strict=True) if wanted is None or wanted[row]]
    if needed:
        path, reason = needed[0]
        first = f"{short_path(listing.root / path)}: {reason}"
        if on_error == "raise":
            raise DataError(f"{one_line(first, 360)}; --data.on_error skip leaves it out")
        if 2 * len(found) > len(listing.paths):
            counts = f"{len(found):,} of {len(listing.paths):,} images are bad, too many to skip; the first: "
            raise DataError(one_line(f"{short_path(listing.root)}: {counts}{first}", 500))
    return found


def _too_small(listing: Listing, index: ImageIndex, which: NDArray[np.bool_], min_side: int) -> list[tuple[str, str]]:
    """Return (file, reason) of the images that are left out for their size."""
    sizes = index.sizes.tolist()
    return [
        (str(listing.paths[row]), f"{sizes[row][0]}x{sizes[row][1]} pixels, below the least side of {min_side}")
        for row in np.flatnonzero(which).tolist()
    ]


def _table(listing: Listing, index: ImageIndex, images: FileImages, upscaled: NDArray[np.bool_] | None) -> SamplesTable:
    columns = {**listing.columns, "width": index.sizes[:, 0], "height": index.sizes[:, 1]}
    if upscaled is not None:
        columns["upscaled"] = np.where(upscaled, "yes", "no")
    if (index.frames > 1).any():
        columns["frames"] = index.frames
    return SamplesTable(
        class_names=listing.class_names,
        images=images,
        labels=listing.labels,
        splits=listing.splits,
        sources=listing.sources,
        files=listing.paths,
        digests=index.digests,
        soft_labels=listing.soft_labels,
        columns=columns,
        thumbnails=index.thumbnails,
        root=listing.root,
        remarks=listing.remarks,
    )
