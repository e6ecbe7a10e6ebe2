"""The samples table: what a scan of a data set on disk returns and what datasets read from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.images import ConcatImages, ImageArray, SubsetImages, is_in_memory
from fer_lightning.emotions import LabelScheme, scheme_of
from fer_lightning.errors import DataError, LabelError

__all__ = ["DIGEST_BYTES", "FOCUS", "SPLITS", "SamplesTable", "concatenate", "content_digests", "with_classes"]

SPLITS = ("train", "val", "test")
"""The splits that a data set may have."""
FOCUS = "focus"
"""Training rows that a run has set apart (see ``focus_part``); no data set comes with them."""
DIGEST_BYTES = 16
"""Length of the hash of an image's pixels."""
_COLUMNS = ("labels", "splits", "sources", "files", "digests")  # arrays that every table has


def content_digests(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a BLAKE2b digest of the pixels of each image in uint8 ``(N, ...)``, uint8 ``(N, 16)``."""
    digests = np.empty((len(images), DIGEST_BYTES), np.uint8)
    for row, image in enumerate(images):
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST_BYTES).digest()
        digests[row] = np.frombuffer(digest, np.uint8)
    return digests


@dataclass(frozen=True)
class SamplesTable:
    """One row per sample: where it is, what it shows, which split it belongs to.

    All columns have ``N`` rows in the same order; a row's position is the ``index`` of its batches.

    Attributes:
        class_names: canonical names; the position is the label.
        images: uint8 ``(N, C, H, W)``: an array in memory, or anything that reads like one (see ``images``).
        labels: int64 ``(N,)``.
        splits: ``(N,)`` strings: ``train``, ``val``, ``test``, ``focus``, or ``""`` for rows that no split uses.
        sources: ``(N,)`` strings: where a row comes from, for example ``fer2013/Training``.
        files: ``(N,)`` strings: file of each row, with ``#<row>`` where a file holds many.
        digests: uint8 ``(N, 16)``: hash of each image's decoded pixels, at the size in which it is stored.
        soft_labels: float32 ``(N, K)`` whose rows sum to 1, or ``None``.
        columns: further columns by name, ``(N,)`` each: ``kind`` (real, web, synthetic), ``subject``, ``gender``,
            ``skin_type``, ``age_group``, ``parent`` (file of the image that a synthetic one was made from),
            ``valence``, ``arousal``, ``width`` and ``height`` (pixels of the file), ... Unknown is ``""`` in a column
            of strings, NaN in one of numbers.
        thumbnails: uint8 ``(N, S, S)``: small gray copies by which near-duplicates are found (see
            ``near_duplicates``), or ``None`` where they have not been made.
        left_out: (place, reason) of rows that the data set has and the table has not.
        remarks: what was found out about the data set as a whole, a sentence each; printed when it is
            read, and in every report.
        root: folder that ``files`` are relative to, or ``None`` where they name no files of their own.
    """

    class_names: tuple[str, ...]
    images: ImageArray
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    sources: NDArray[np.str_]
    files: NDArray[np.str_]
    digests: NDArray[np.uint8]
    soft_labels: NDArray[np.float32] | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    thumbnails: NDArray[np.uint8] | None = None
    root: Path | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.labels)
        columns: dict[str, Sized] = {
            "images": self.images,
            **{name: getattr(self, name) for name in _COLUMNS},
            **({} if self.soft_labels is None else {"soft_labels": self.soft_labels}),
            **({} if self.thumbnails is None else {"thumbnails": self.thumbnails}),
            **self.columns,
        }
        for name, column in columns.items():
            if len(column) != rows:
                raise DataError(f"samples table: column '{name}' has {len(column)} rows, labels have {rows}")
        if self.images.dtype != np.uint8 or len(self.images.shape) != 4:
            raise DataError(
                f"samples table: images must be uint8 (N, C, H, W), not {self.images.dtype} {self.images.shape}"
            )
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))
        if len(wrong):
            raise LabelError(
                f"{self.files[wrong[0]]}: label {self.labels[wrong[0]]} is outside 0..{len(self.class_names) - 1} "
                f"({', '.join(self.class_names)})"
            )
        unknown = sorted(set(np.unique(self.splits)) - {*SPLITS, FOCUS, ""})
        if unknown:
            raise DataError(f"samples table: unknown split '{unknown[0]}', expected one of {', '.join(SPLITS)}")
        if self.soft_labels is not None:
            self._check_soft_labels(self.soft_labels)

    def _check_soft_labels(self, soft: NDArray[np.float32]) -> None:
        if soft.shape != (len(self.labels), len(self.class_names)):
            raise DataError(f"samples table: soft labels are {soft.shape}, expected (N, {len(self.class_names)})")
        off = np.flatnonzero(~(np.abs(soft.sum(axis=1) - 1.0) < 1e-3))
        if len(off):
            raise DataError(f"{self.files[off[0]]}: soft label sums to {soft[off[0]].sum():g}, expected 1")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def scheme(self) -> str:
        """Name of the label scheme, ``custom`` if it is none of ours."""
        return scheme_of(self.class_names)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the rows of a split, ascending, int64 ``(M,)``."""
        return np.flatnonzero(self.splits == split)

    def class_counts(self, split: str) -> dict[str, int]:
        """Return the number of samples of each class in a split, by class name."""
        counts = np.bincount(self.labels[self.rows(split)], minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def with_splits(self, splits: NDArray[np.str_]) -> SamplesTable:
        """Return the same rows assigned to other splits ``(N,)``; raise a DataError for an unknown one."""
        return replace(self, splits=splits)

    def select(self, rows: NDArray[np.int64]) -> SamplesTable:
        """Return a table of some rows, in the order given; a row may stand in it more than once."""
        images = self.images
        return replace(
            self,
            images=images[rows] if is_in_memory(images) else SubsetImages(images, rows),
            columns={name: column[rows] for name, column in self.columns.items()},
            soft_labels=None if self.soft_labels is None else self.soft_labels[rows],
            thumbnails=None if self.thumbnails is None else self.thumbnails[rows],
            **{name: getattr(self, name)[rows] for name in _COLUMNS},
        )

    def fingerprint(self, split: str) -> str:
        """Return a hash of what a split contains: its sorted content hashes and labels, 16 hexadecimal digits.

        The order of the rows and the names of the files do not matter; a changed pixel, label or row does.
        """
        rows = self.rows(split)
        lines = sorted(bytes(self.digests[row]) + int(self.labels[row]).to_bytes(8, "little") for row in rows)
        names = ",".join(self.class_names).encode()
        return hashlib.blake2b(names + b"".join(lines), digest_size=8).hexdigest()

    def overlap(self, first: str, second: str) -> NDArray[np.int64]:
        """Return the rows of ``first`` whose image also stands, pixel for pixel, in ``second``."""
        rows = self.rows(first)
        others = {bytes(self.digests[row]) for row in self.rows(second)}
        return np.array([row for row in rows if bytes(self.digests[row]) in others], np.int64)


def concatenate(tables: Sequence[SamplesTable]) -> SamplesTable:
    """Return the rows of several tables in one.

    Columns that only some tables have are filled with ``""`` or NaN, missing soft labels with the labels; thumbnails
    are kept if all tables have them. All must have the same classes and images of one shape.

    Raises:
        DataError: if they have not, or there is none.
    """
    if not tables:
        raise DataError("samples table: nothing to put together")
    first = tables[0]
    for table in tables[1:]:
        if table.class_names != first.class_names:
            raise DataError(
                f"samples table: classes {', '.join(table.class_names)} and {', '.join(first.class_names)} do not go "
                "together"
            )
        if table.images.shape[1:] != first.images.shape[1:]:
            raise DataError(
                f"samples table: images {table.images.shape[1:]} and {first.images.shape[1:]} do not go together"
            )
    images = [table.images for table in tables]
    eye = np.eye(len(first.class_names), dtype=np.float32)
    soft = [eye[table.labels] if table.soft_labels is None else table.soft_labels for table in tables]
    thumbnails = [table.thumbnails for table in tables if table.thumbnails is not None]
    return SamplesTable(
        class_names=first.class_names,
        images=np.concatenate(images) if all(map(is_in_memory, images)) else ConcatImages(images),  # type: ignore[arg-type]  # all are numpy arrays
        soft_labels=np.concatenate(soft) if any(table.soft_labels is not None for table in tables) else None,
        columns={name: _column(tables, name) for name in dict.fromkeys(n for table in tables for n in table.columns)},
        thumbnails=np.concatenate(thumbnails) if len(thumbnails) == len(tables) else None,
        root=first.root if all(table.root == first.root for table in tables) else None,
        left_out=tuple(entry for table in tables for entry in table.left_out),
        remarks=tuple(dict.fromkeys(remark for table in tables for remark in table.remarks)),
        **{name: np.concatenate([getattr(table, name) for table in tables]) for name in _COLUMNS},
    )


def with_classes(table: SamplesTable, class_names: tuple[str, ...]) -> SamplesTable:
    """Return a table with other classes, matched by name or synonym.

    Rows of a class that is not among them are removed and listed in ``left_out``. Soft labels keep the columns of these
    classes and sum to 1 again; where nothing is left of them, the row's label gets all.

    Args:
        table: the samples.
        class_names: the new classes, in any order.
    """
    scheme = LabelScheme("custom", class_names)
    label_of = np.array([_label(scheme, name) for name in table.class_names], np.int64)
    labels = label_of[table.labels]
    keep = np.flatnonzero(labels >= 0)
    removed = tuple(
        (str(table.files[row]), f"class '{table.class_names[table.labels[row]]}' is not used")
        for row in np.flatnonzero(labels < 0)
    )
    labels, soft = labels[keep], None
    if table.soft_labels is not None:
        soft = np.zeros((len(keep), len(class_names)), np.float32)
        for column in np.flatnonzero(label_of >= 0):
            soft[:, label_of[column]] += table.soft_labels[keep, column]
        empty = np.flatnonzero(soft.sum(axis=1) == 0)
        soft[empty, labels[empty]] = 1.0
        soft /= soft.sum(axis=1, keepdims=True)
    left_out = (*table.left_out, *removed)
    return replace(table.select(keep), class_names=class_names, labels=labels, soft_labels=soft, left_out=left_out)


def _label(scheme: LabelScheme, name: str) -> int:
    if name in scheme.class_names:
        return scheme.class_names.index(name)
    try:
        return scheme.index(name)
    except LabelError:
        return -1


def _column(tables: Sequence[SamplesTable], name: str) -> NDArray[Any]:
    present = [table.columns[name] for table in tables if name in table.columns]
    if all(column.dtype.kind in "fiu" for column in present):
        missing: Any = math.nan
    else:
        missing = ""
        present = [column.astype(np.str_) for column in present]
    parts = iter(present)
    return np.concatenate([next(parts) if name in t.columns else np.full(len(t), missing) for t in tables])
