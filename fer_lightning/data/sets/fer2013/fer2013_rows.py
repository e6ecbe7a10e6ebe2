"""What every layout of FER2013 is read into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import BadRows
from fer_lightning.data.table.samples import content_digests

__all__ = ["SIDE", "Fer2013Rows", "usage_code"]

SIDE = 48
"""Height and width of the images, pixels."""

_CODES = {usage.lower(): code for code, usage in enumerate(USAGES)}


def usage_code(name: str) -> int | None:
    """Return the position of a usage in ``USAGES``, ``None`` if it is none of them; case does not matter."""
    return _CODES.get(name.strip().lower())


@dataclass(frozen=True)
class Fer2013Rows:
    """The good rows of a data set, ``N`` of them, in the order of the file or sorted by path.

    All fields are arrays, so that a cache can store them as they are.

    Attributes:
        images: uint8 ``(N, 48, 48)``.
        labels: int64 ``(N,)``.
        usages: int64 ``(N,)``: positions in ``USAGES``.
        numbers: int64 ``(N,)``: row of the original file, from 0, good and bad rows counted; -1 if not known.
        places: ``(N,)`` strings: line of the CSV, or path relative to the root.
        digests: uint8 ``(N, 16)``: content hash of each image.
        total: int64 ``()``: number of rows, good and bad.
        bad_places: ``(B,)`` strings: line or path of each bad row, left out.
        bad_reasons: ``(B,)`` strings: what is wrong with it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    usages: NDArray[np.int64]
    numbers: NDArray[np.int64]
    places: NDArray[np.str_]
    digests: NDArray[np.uint8]
    total: NDArray[np.int64]
    bad_places: NDArray[np.str_]
    bad_reasons: NDArray[np.str_]

    @classmethod
    def collect(
        cls,
        images: list[NDArray[np.uint8]],
        rows: list[tuple[int, int, int, str]],
        bad: BadRows,
    ) -> Fer2013Rows:
        """Build the arrays from one image and one (label, usage, number, place) per good row."""
        bad.check_share(len(rows) + bad.count)
        stacked = np.array(images, np.uint8).reshape(-1, SIDE, SIDE)
        numbers = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3).T.copy()
        return cls(
            images=stacked,
            labels=numbers[0],
            usages=numbers[1],
            numbers=numbers[2],
            places=np.array([row[3] for row in rows], np.str_),
            digests=content_digests(stacked),
            total=np.array(len(rows) + bad.count, np.int64),
            bad_places=np.array([place for place, _ in bad.places], np.str_),
            bad_reasons=np.array([reason for _, reason in bad.places], np.str_),
        )

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """(place, reason) of each bad row."""
        return tuple(zip(self.bad_places.tolist(), self.bad_reasons.tolist(), strict=True))
