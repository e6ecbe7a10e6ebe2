"""What a data set holds, in numbers: counts, pixels, sizes, soft labels.

Functions named ``..._summary`` return plain values ready for JSON; what cannot be known is ``None``. Images are read
once, by ``measure_pixels``, a few megabytes at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.storage.encoded_images import EncodedImages
from fer_lightning.data.table.images import ImageArray, SubsetImages
from fer_lightning.data.table.samples import SPLITS, SamplesTable

__all__ = [
    "BLANK_CONTRAST",
    "UNUSED",
    "PixelStatistics",
    "column_summary",
    "mean_faces",
    "measure_pixels",
    "pixel_summary",
    "size_summary",
    "soft_label_summary",
    "split_names",
    "split_summary",
    "subject_summary",
    "train_or_all",
]

UNUSED = "unused"
"""Name of the rows that stand in no split."""
BLANK_CONTRAST = 0.02
"""Standard deviation of the pixels, of values in 0..1, below which an image is called blank: 5 of 255 gray levels."""

_CHUNK_BYTES = 4 << 20  # of uint8 pixels; counting them takes up to ten times that for a moment
_FEW_VALUES = 20  # a column with more distinct values is described, not listed
_NOT_CATEGORIES = ("width", "height", "valence", "arousal")  # measures, even where a set has few different ones


def split_names(table: SamplesTable) -> list[str]:
    """Return the splits of a table that have rows, in the usual order; rows of no split are ``UNUSED``."""
    return [name for name in (*SPLITS, UNUSED) if len(table.rows(_stored(name)))]


def _stored(split: str) -> str:
    """Return a split as the table holds it, where no split is the empty text."""
    return "" if split == UNUSED else split


def train_or_all(table: SamplesTable) -> tuple[str, NDArray[np.int64]]:
    """Return the part whose faces are shown, ``train``, or ``all`` without training rows, and its rows, int64."""
    rows = table.rows("train")
    return ("train", rows) if len(rows) else ("all", np.arange(len(table)))


def split_summary(table: SamplesTable) -> dict[str, Any]:
    """Return the counts of each split: of ``train``, ``val``, ``test`` and ``UNUSED``, always all four.

    Returns:
        By split: ``images, counts`` (by class), ``largest, smallest`` (names of classes that have images),
        ``imbalance_ratio`` (largest to smallest of those), ``absent`` (classes without images) and ``fingerprint``.
    """
    summary = {}
    for name in (*SPLITS, UNUSED):
        counts = table.class_counts(_stored(name))
        present = {label: count for label, count in counts.items() if count}
        largest = max(present, key=present.__getitem__, default=None)
        smallest = min(present, key=present.__getitem__, default=None)
        summary[name] = {
            "images": sum(counts.values()),
            "counts": counts,
            "largest": largest,
            "smallest": smallest,
            "imbalance_ratio": None if largest is None or smallest is None else present[largest] / present[smallest],
            "absent": [label for label, count in counts.items() if not count],
            "fingerprint": table.fingerprint(_stored(name)) if present else None,
        }
    return summary


def column_summary(table: SamplesTable) -> dict[str, Any]:
    """Return what stands in ``source`` and in the further columns, by column.

    Returns:
        Every column has ``unknown`` (number of rows without a value) and a ``kind``, on which the rest depends:
        ``categories`` (few distinct values) has ``values``: ``images, splits, counts`` (by class) of each value;
        ``numbers`` has ``known, mean, std, min, max``; ``names`` (many distinct values) has ``known, distinct,
        largest`` (the most frequent value) and ``images_of_largest``.
    """
    return {
        name: _one_column(table, name, column)
        for name, column in {"source": table.sources, **table.columns}.items()
        if name not in ("width", "height")  # see size_summary
    }


def _one_column(table: SamplesTable, name: str, column: NDArray[Any]) -> dict[str, Any]:
    text, known = _as_text(column)
    values, inverse, counts = np.unique(text[known], return_inverse=True, return_counts=True)
    common: dict[str, Any] = {"unknown": int((~known).sum())}
    if column.dtype.kind in "fiu" and (name in _NOT_CATEGORIES or len(values) > _FEW_VALUES):
        numbers = column[known].astype(np.float64)
        return {"kind": "numbers", **common, **_moments(numbers)}
    if len(values) > _FEW_VALUES:
        top = int(counts.argmax())
        names = {"distinct": len(values), "largest": str(values[top]), "images_of_largest": int(counts[top])}
        return {"kind": "names", **common, "known": int(known.sum()), **names}
    rows = np.flatnonzero(known)
    listed = {str(value): _one_value(table, rows[inverse == place]) for place, value in enumerate(values.tolist())}
    return {"kind": "categories", **common, "values": listed}


def _as_text(column: NDArray[Any]) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return the values of a column as text, and which are known."""
    if column.dtype.kind == "f":
        known = ~np.isnan(column)
        return np.array([f"{value:g}" for value in column.tolist()], np.str_), known
    text = column.astype(np.str_)
    return text, text != ""


def _moments(numbers: NDArray[np.float64]) -> dict[str, Any]:
    if not len(numbers):
        return {"known": 0, "mean": None, "std": None, "min": None, "max": None}
    values = {"mean": numbers.mean(), "std": numbers.std(), "min": numbers.min(), "max": numbers.max()}
    return {"known": len(numbers), **{name: float(value) for name, value in values.items()}}


def _one_value(table: SamplesTable, rows: NDArray[np.int64]) -> dict[str, Any]:
    counts = np.bincount(table.labels[rows], minlength=len(table.class_names)).tolist()
    splits = {name: int((table.splits[rows] == _stored(name)).sum()) for name in (*SPLITS, UNUSED)}
    return {"images": len(rows), "splits": splits, "counts": dict(zip(table.class_names, counts, strict=True))}


def subject_summary(table: SamplesTable) -> dict[str, Any] | None:
    """Return ``subjects, images`` (with a known subject) and ``in_several_splits``; ``None`` without such a column."""
    if "subject" not in table.columns:
        return None
    text, known = _as_text(table.columns["subject"])
    rows = known & (table.splits != "")
    places = {(subject, split) for subject, split in zip(text[rows].tolist(), table.splits[rows].tolist(), strict=True)}
    _, appearances = np.unique([subject for subject, _ in places], return_counts=True)
    return {
        "subjects": len(np.unique(text[known])),
        "images": int(known.sum()),
        "in_several_splits": int((appearances > 1).sum()),
    }


@dataclass(frozen=True)
class PixelStatistics:
    """What one reading of all images gives; sums are exact integers of the stored 0..255.

    Attributes:
        brightness: float64 ``(N,)``, mean of each image's pixels, 0..1.
        contrast: float64 ``(N,)``, standard deviation of each image's pixels around the mean of their channel, 0..1.
        gray: bool ``(N,)``: all channels of the image are the same.
        histograms: int64 ``(C, 256)`` by split: how many pixels have each value.
        face_rows: int64 ``(K,)``, images of each class in the part that ``train_or_all`` names.
        face_sums: int64 ``(K, C, H, W)``, sum of those images.
        face_squares: int64 ``(K, C, H, W)``, sum of their squares.
    """

    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    gray: NDArray[np.bool_]
    histograms: dict[str, NDArray[np.int64]]
    face_rows: NDArray[np.int64]
    face_sums: NDArray[np.int64]
    face_squares: NDArray[np.int64]

    @property
    def blank(self) -> NDArray[np.int64]:
        """Rows of the nearly constant images, ascending, int64 ``(M,)``."""
        return np.flatnonzero(self.contrast < BLANK_CONTRAST)

    def extremes(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of the darkest and of the brightest images that are not blank, most extreme first."""
        rows = np.flatnonzero(self.contrast >= BLANK_CONTRAST)
        order = rows[np.argsort(self.brightness[rows], kind="stable")]
        return order[:count], order[::-1][:count]


def measure_pixels(table: SamplesTable) -> PixelStatistics:
    """Read every image once, in chunks of a few megabytes, and sum up; images are not kept in memory."""
    rows, (channels, height, width) = len(table), table.images.shape[1:]
    area = height * width
    in_part = np.zeros(rows, bool)
    in_part[train_or_all(table)[1]] = True
    sums = np.zeros((rows, channels), np.int64)
    squares = np.zeros((rows, channels), np.int64)
    gray = np.ones(rows, bool)
    histograms = {name: np.zeros((channels, 256), np.int64) for name in split_names(table)}
    face_sums = np.zeros((len(table.class_names), channels, height, width), np.int64)
    face_squares = np.zeros_like(face_sums)
    for chunk, images in _chunks(table, "pixels"):
        squared = np.square(images, dtype=np.uint16)  # 255 * 255 just fits
        sums[chunk] = images.sum(axis=(2, 3), dtype=np.int64)
        squares[chunk] = squared.sum(axis=(2, 3), dtype=np.int64)
        gray[chunk] = (images == images[:, :1]).all(axis=(1, 2, 3))
        for name, histogram in histograms.items():
            part = images[table.splits[chunk] == _stored(name)]
            for channel in range(channels):
                histogram[channel] += np.bincount(part[:, channel].ravel(), minlength=256)
        for label in np.unique(table.labels[chunk][in_part[chunk]]):
            here = in_part[chunk] & (table.labels[chunk] == label)
            face_sums[label] += images[here].sum(axis=0, dtype=np.int64)
            face_squares[label] += squared[here].sum(axis=0, dtype=np.int64)
    variance = (squares * area - np.square(sums)) / area**2  # whole numbers up to the division: 0 means 0
    return PixelStatistics(
        brightness=(sums / area).mean(axis=1) / 255.0,
        contrast=np.sqrt(variance.mean(axis=1)) / 255.0,
        gray=gray,
        histograms=histograms,
        face_rows=np.bincount(table.labels[in_part], minlength=len(table.class_names)),
        face_sums=face_sums,
        face_squares=face_squares,
    )


def _chunks(table: SamplesTable, task: str) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Read the images of a table a few megabytes at a time, with a progress bar."""
    rows, size = len(table), max(1, _CHUNK_BYTES // max(1, math.prod(table.images.shape[1:])))
    with tqdm(total=rows, unit="image", desc=task, disable=None, leave=False) as bar:
        for start in range(0, rows, size):
            chunk = slice(start, min(start + size, rows))
            yield chunk, table.images[np.arange(chunk.start, chunk.stop)]
            bar.update(chunk.stop - chunk.start)


def mean_faces(pixels: PixelStatistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of the images of each class and, last, of all.

    Both are float64 ``(K + 1, C, H, W)`` in 0..1, NaN for a class without images.
    """
    rows = np.append(pixels.face_rows, pixels.face_rows.sum()).astype(np.float64)[:, None, None, None]
    rows[rows == 0] = math.nan
    sums = np.concatenate([pixels.face_sums, pixels.face_sums.sum(axis=0, keepdims=True)])
    squares = np.concatenate([pixels.face_squares, pixels.face_squares.sum(axis=0, keepdims=True)])
    mean = sums / rows
    std = np.sqrt(np.maximum(squares / rows - np.square(mean), 0.0))
    return mean / 255.0, std / 255.0


def pixel_summary(table: SamplesTable, pixels: PixelStatistics) -> dict[str, Any]:
    """Return the statistics of the pixels, all of values in 0..1.

    Returns:
        ``splits`` (by split with images: ``mean, std``, one number per channel, and ``histogram``, ``(C, 256)``),
        ``classes`` (by class, of the part that ``train_or_all`` names: ``images, brightness, brightness_std,
        contrast``), ``gray_images`` (whose channels are all the same) and ``blank`` (``images, one_colour, share,
        threshold``).
    """
    rows = train_or_all(table)[1]
    labels = table.labels[rows]
    classes = {}
    for label, name in enumerate(table.class_names):
        chosen = rows[labels == label]
        known = bool(len(chosen))
        classes[name] = {
            "images": len(chosen),
            "brightness": float(pixels.brightness[chosen].mean()) if known else None,
            "brightness_std": float(pixels.brightness[chosen].std()) if known else None,
            "contrast": float(pixels.contrast[chosen].mean()) if known else None,
        }
    blank = {
        "images": len(pixels.blank),
        "one_colour": int((pixels.contrast == 0.0).sum()),
        "share": len(pixels.blank) / len(table) if len(table) else None,
        "threshold": BLANK_CONTRAST,
    }
    return {
        "splits": {name: _channel_statistics(histogram) for name, histogram in pixels.histograms.items()},
        "classes": classes,
        "gray_images": int(pixels.gray.sum()),
        "blank": blank,
    }


def _channel_statistics(histogram: NDArray[np.int64]) -> dict[str, Any]:
    values = np.arange(256) / 255.0
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt(np.maximum(weights @ np.square(values) - np.square(mean), 0.0))
    return {"mean": mean.tolist(), "std": std.tolist(), "histogram": histogram.tolist()}


def size_summary(table: SamplesTable) -> dict[str, Any] | None:
    """Return the sizes of the original files, ``None`` where the columns ``width`` and ``height`` are not there.

    Returns:
        ``known`` (files of known size), ``width, height, aspect`` (width to height; each with ``min, median, max``),
        ``smallest, largest`` (``file, width, height``, by the shorter side) and ``enlarged``: how many files have a
        side shorter than the image in the table. ``enlarged`` is ``None`` for a converted set, which stores its images
        at another size than the files had. If no size is known, all but ``known`` are ``None``.
    """
    if not {"width", "height"} <= set(table.columns):
        return None
    width, height = (np.asarray(table.columns[name], np.float64) for name in ("width", "height"))
    rows = np.flatnonzero((width > 0) & (height > 0))
    if not len(rows):
        return {"known": 0, **dict.fromkeys(("width", "height", "aspect", "smallest", "largest", "enlarged"))}
    shorter = np.minimum(width, height)[rows]
    smaller = (width[rows] < table.images.shape[3]) | (height[rows] < table.images.shape[2])

    def spread(values: NDArray[np.float64]) -> dict[str, float]:
        return {"min": float(values.min()), "median": float(np.median(values)), "max": float(values.max())}

    def file(place: np.intp) -> dict[str, Any]:
        row = rows[place]
        return {"file": str(table.files[row]), "width": int(width[row]), "height": int(height[row])}

    return {
        "known": len(rows),
        "width": spread(width[rows]),
        "height": spread(height[rows]),
        "aspect": spread(width[rows] / height[rows]),
        "smallest": file(shorter.argmin()),
        "largest": file(shorter.argmax()),
        "enlarged": None if _is_converted(table.images) else int(smaller.sum()),
    }


def _is_converted(images: ImageArray) -> bool:
    """Tell whether the images come from a converted set, whose pictures were resized when it was written."""
    while isinstance(images, SubsetImages):
        images = images.images
    return isinstance(images, EncodedImages)


def soft_label_summary(table: SamplesTable) -> dict[str, Any] | None:
    """Return how sure the soft labels are, ``None`` where there are none.

    Returns:
        ``entropy`` (mean, in nats), ``entropy_of_classes`` (by label), ``unanimous`` (images with all weight on one
        class), ``agreement`` (share of the images whose label has the largest weight) and ``disagreeing``.
    """
    soft = table.soft_labels
    if soft is None:
        return None
    weights = soft.astype(np.float64)
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1.0))).sum(axis=1)
    own = soft[np.arange(len(table)), table.labels]
    agrees = own >= soft.max(axis=1) - 1e-6  # of classes with equal weight, each is a majority
    of_class = {name: entropy[table.labels == label] for label, name in enumerate(table.class_names)}
    return {
        "entropy": float(entropy.mean()) if len(entropy) else None,
        "entropy_of_classes": {name: float(part.mean()) if len(part) else None for name, part in of_class.items()},
        "unanimous": int((soft.max(axis=1) > 1 - 1e-6).sum()),
        "agreement": float(agrees.mean()) if len(agrees) else None,
        "disagreeing": int((~agrees).sum()),
    }
