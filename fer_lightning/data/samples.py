"""The samples table: what a scan of a data set on disk returns and what datasets read from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.emotions import scheme_of
from fer_lightning.errors import DataError, LabelError

__all__ = ["DIGEST_BYTES", "SPLITS", "SamplesTable", "content_digests"]

SPLITS = ("train", "val", "test")
DIGEST_BYTES = 16


def content_digests(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a BLAKE2b digest of each image's pixels, uint8 ``(N, 16)``; identical images have identical digests.

    Args:
        images: uint8 ``(N, ...)``.
    """
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
        images: uint8 ``(N, C, H, W)``, held in memory.
        labels: int64 ``(N,)``.
        splits: ``(N,)`` strings: ``train``, ``val``, ``test``, or ``""`` for rows that no split uses.
        sources: ``(N,)`` strings: where a row comes from, for example ``fer2013/Training``.
        files: ``(N,)`` strings: file of each row, with ``#<row>`` where a file holds many.
        digests: uint8 ``(N, 16)``: content hash of each image.
        soft_labels: float32 ``(N, K)`` whose rows sum to 1, or ``None``.
        groups: further columns by name, ``(N,)`` each: ``gender``, ``skin_type``, ``age_group``, ``subject``, ...
    """

    class_names: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    sources: NDArray[np.str_]
    files: NDArray[np.str_]
    digests: NDArray[np.uint8]
    soft_labels: NDArray[np.float32] | None = None
    groups: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.labels)
        columns = {
            "images": self.images,
            "splits": self.splits,
            "sources": self.sources,
            "files": self.files,
            "digests": self.digests,
            **({} if self.soft_labels is None else {"soft_labels": self.soft_labels}),
            **self.groups,
        }
        for name, column in columns.items():
            if len(column) != rows:
                raise DataError(f"samples table: column '{name}' has {len(column)} rows, labels have {rows}")
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"samples table: images must be uint8 (N, C, H, W), not {self.images.dtype} {self.images.shape}"
            )
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))
        if len(wrong):
            raise LabelError(
                f"{self.files[wrong[0]]}: label {self.labels[wrong[0]]} is outside 0..{len(self.class_names) - 1} "
                f"({', '.join(self.class_names)})"
            )
        unknown = sorted(set(np.unique(self.splits)) - {*SPLITS, ""})
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
        """Return the same rows assigned to other splits."""
        return replace(self, splits=splits)

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
