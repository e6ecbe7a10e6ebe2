"""Finding images that show the same photograph: small gray copies, and a search for pairs of them.

Two pictures are near-duplicates if one becomes the other by what happens to photographs on the web: recompressed,
resized, made brighter or darker, cropped or shifted by a few per cent, given a watermark. Hashes of 64 bits do not do:
faces are cut out alike, and strangers agree in such a hash.

Stages:
    1. Descriptor: the lowest frequencies of the thumbnail without the mean, of unit length. Pairs whose descriptors
       correlate by ``CORRELATION`` or more are found by products of blocks of matrices: all pairs are looked at,
       in a memory that does not grow with their number.
    2. Screening: what of one descriptor cannot be made from the other by a small shift or stretch (tangent distance:
       Simard, LeCun and Denker 1993, "Efficient pattern recognition using a new transformation distance").
    3. Alignment: Gauss-Newton steps over shift, stretch, brightness and contrast, on the thumbnail without its margin.
       The distance is what remains.

The thresholds were chosen on the 32,298 images of FER2013's Training and PublicTest parts. The distances there have two
humps, copies around 0.07 and strangers from 0.24 up, with a valley at 0.2. Looked at by eye: of 120 pairs from 0.14 to
0.18 all showed one photograph, of 64 from 0.20 to 0.24 about ten did not (other shots of a session).
Of 1,500 of these images (others, not blank), changed on purpose and put among all of them, these were found again: JPEG
quality 50 or 20, contrast x 0.7, gamma 0.7, resizing to 40 or 32 pixels and back, noise of 8 levels, 3 % crop, 1 pixel
shift, mirrored: 99.9 % or more; 6 % crop: 99.8 %; brightness + or - 30: 99.3 %; contrast x 1.4, clipped: 97 %; shift by
2 pixels: 98.7 %, with a black edge 96 %; 3 pixels: 68 %; rotation by 3 degrees: 87 %; histogram equalisation: 54 %.
The time grows with the square of the rows: 129,192 take a minute on two cores, and 0.5 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from fer_lightning.data.table.images import ImageArray

__all__ = [
    "CORRELATION",
    "MAX_DISTANCE",
    "THUMBNAIL_SIDE",
    "Pairs",
    "components",
    "near_duplicates",
    "thumbnail",
    "thumbnails",
]

THUMBNAIL_SIDE = 24
"""Side of the pictures that are compared, pixels."""
CORRELATION = 0.75
"""Correlation of two descriptors below which a pair is not looked at."""
MAX_DISTANCE = 0.18
"""Distance up to which a pair is of the same picture: other shots of a session begin at 0.20, strangers at 0.24."""

_CHUNK = 1 << 22  # values of images that are worked on at a time: 32 MB in float64
_GRAY = {1: (65536,), 3: (19595, 38470, 7471)}  # ITU-R BT.601 in 1/65536, as Pillow has it

_FREQUENCIES = 7  # in each direction
_SCREEN = 0.35  # of the unit length of a descriptor
_CENTRE = slice(2, -2)  # without a margin: what a shift brings in is not compared
_PLACE = np.arange(THUMBNAIL_SIDE) - (THUMBNAIL_SIDE - 1) / 2  # thumbnail pixels from the centre
_FLAT = 2.0  # gray levels, standard deviation: below it, rounding is a large part of what one sees
_STEPS = 2  # of Gauss-Newton; a third changes nothing
_HOPELESS = 0.5  # after the first step; a shift by 4 % begins at 0.4
_ROWS, _COLUMNS = 512, 8192  # of a block of correlations: 16 MB
_SCREENED = 1 << 15  # pairs that are screened at a time
_BATCH = 1024  # pairs that are aligned at a time
_PARTNERS = 64  # later rows that one row is compared with: bounds the work on long films of one scene


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the gray thumbnail of a picture, uint8 ``(S, S)``: the mean of the area that each of its pixels covers.

    The picture is uint8 ``(H, W, 1 or 3)``; one that is not square is squeezed. Whole numbers only take part until the
    last division, so that it is the same on every machine.
    """
    small: NDArray[np.uint8] = _shrink(picture.transpose(2, 0, 1)[None])[0]
    return small


def thumbnails(images: ImageArray) -> NDArray[np.uint8]:
    """Return the thumbnails of images, uint8 ``(N, S, S)``, as ``thumbnail`` makes them, in chunks."""
    small = np.empty((len(images), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    chunk = max(_CHUNK // max(int(np.prod(images.shape[1:])), 1), 1)
    with tqdm(total=len(images), desc="thumbnails", unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(images), chunk):
            rows = np.arange(start, min(start + chunk, len(images)), dtype=np.int64)
            small[rows] = _shrink(images[rows])
            bar.update(len(rows))
    return small


def _shrink(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the thumbnails of ``(M, C, H, W)``, uint8 ``(M, S, S)``.

    Whole numbers, and no product of matrices: OpenBLAS would start threads for each small picture, in each of the
    threads that index a folder.
    """
    channels, height, width = planes.shape[1:]
    if channels not in _GRAY or height == 0 or width == 0:
        raise ValueError(f"expected images of 1 or 3 channels and at least one pixel, got {planes.shape[1:]}")
    sums = _covered(_covered(planes, 2), 3)
    gray = np.einsum("ncij,c->nij", sums, np.array(_GRAY[channels], np.int64))
    total = 65536 * height * width
    small: NDArray[np.uint8] = ((2 * gray + total) // (2 * total)).astype(np.uint8)
    return small


def _covered(planes: NDArray[Any], axis: int) -> NDArray[np.int64]:
    """Return the sum over what each thumbnail pixel covers along an axis, in units of 1/S source pixel."""
    length = planes.shape[axis]
    if length < THUMBNAIL_SIDE:
        parts = np.repeat(planes, THUMBNAIL_SIDE, axis)
        return np.add.reduceat(parts, np.arange(THUMBNAIL_SIDE) * length, axis, dtype=np.int64)
    whole, part = np.divmod(np.arange(THUMBNAIL_SIDE + 1) * length, THUMBNAIL_SIDE)
    shape = [THUMBNAIL_SIDE if number == axis else 1 for number in range(planes.ndim)]
    sums: NDArray[np.int64] = np.add.reduceat(planes, whole[:-1], axis, dtype=np.int64) * THUMBNAIL_SIDE
    sums -= planes.take(whole[:-1], axis) * part[:-1].reshape(shape)
    sums += planes.take(np.minimum(whole[1:], length - 1), axis) * part[1:].reshape(shape)
    return sums


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that show the same photograph, ascending by first and second row.

    Rows of identical thumbnails are one node: each is paired with the first of them at distance 0, and only that one
    with others.

    Attributes:
        first: int64 ``(P,)``.
        second: int64 ``(P,)``, larger than ``first``.
        distance: float32 ``(P,)``: share of one thumbnail's contrast (standard deviation, 0 to 1) that the other does
            not explain after alignment, the larger of both directions, rounded to 0.0001.
        mirrored: bool ``(P,)``: whether it is the mirror image that matches.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def none(cls) -> Pairs:
        """Return no pairs."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, np.empty(0, np.float32), np.empty(0, bool))


def near_duplicates(thumbnails: NDArray[np.uint8], mirrored: bool = False, max_distance: float = MAX_DISTANCE) -> Pairs:
    """Find pairs of rows that show the same photograph; what is found and what is missed: see this module.

    Flat thumbnails (blank images) match only if they are identical. The result does not depend on the order of the
    rows, except for which of several identical rows stands for them. A row is compared with at most 64 later ones, the
    likeliest: in longer films of one scene not every pair is listed, though all are connected.

    Args:
        thumbnails: uint8 ``(N, S, S)``.
        mirrored: find mirror images as well.
        max_distance: see ``Pairs``; a larger one than the default finds different photographs too.

    Raises:
        ValueError: if the thumbnails are of another size.
    """
    if thumbnails.shape[1:] != (THUMBNAIL_SIDE, THUMBNAIL_SIDE):
        raise ValueError(f"expected thumbnails (N, {THUMBNAIL_SIDE}, {THUMBNAIL_SIDE}), got {thumbnails.shape}")
    distinct, firsts, node = _distinct(thumbnails)
    identical = np.flatnonzero(firsts[node] != np.arange(len(node)))
    columns = [(firsts[node[identical]], identical, np.zeros(len(identical)), np.zeros(len(identical), bool))]
    seen = np.flatnonzero(_in_chunks(_contrast, distinct) >= _FLAT)
    distinct, rows_seen = distinct[seen], firsts[seen]
    for flip in (False, True) if mirrored else (False,):
        for one, other in _candidates(distinct, flip):
            distance = _distances(distinct[one], distinct[other], flip, max_distance)
            near = distance <= max_distance
            rows = rows_seen[one[near]], rows_seen[other[near]]
            columns.append((np.minimum(*rows), np.maximum(*rows), distance[near], np.full(int(near.sum()), flip)))
    first, second, distance, flipped = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.lexsort((flipped, distance, second, first))
    first, second = first[order], second[order]
    best = np.ones(len(order), bool)  # a pair that matches both ways is listed once
    best[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return Pairs(first[best], second[best], distance[order][best].astype(np.float32), flipped[order][best])


def components(
    count: int,
    columns: Sequence[NDArray[Any]] = (),
    pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] = (),
) -> NDArray[np.int64]:
    """Return which rows hang together, over any number of links: int64 ``(N,)``, numbered by smallest row.

    Args:
        count: number of rows, ``N``.
        columns: ``(N,)`` or ``(N, D)`` each: rows of equal values are linked (digests, subjects, parents). ``""`` and
            NaN are unknown and link nothing.
        pairs: two int64 ``(P,)`` of rows each: linked rows.

    Raises:
        ValueError: if a column is of another length, or a pair names a row that is not there.
    """
    links = [_same(column, count) for column in columns]
    for first, second in pairs:
        if len(first) != len(second) or (len(first) and min(first.min(), second.min()) < 0):
            raise ValueError("expected pairs of two columns of one length, of rows from 0 on")
        if len(first) and max(first.max(), second.max()) >= count:
            raise ValueError(f"a pair names row {max(first.max(), second.max())}, there are {count} rows")
        links.append((first, second))
    one, other = (np.concatenate([np.empty(0, np.int64), *(link[end] for link in links)]) for end in (0, 1))
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    _, smallest, component = np.unique(
        connected_components(graph, directed=False)[1], return_index=True, return_inverse=True
    )
    number = np.argsort(np.argsort(smallest))
    return number[component].astype(np.int64)


def _same(column: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of a column and, for each, the first row of equal value, where that is another."""
    if len(column) != count:
        raise ValueError(f"a column has {len(column)} rows, expected {count}")
    if column.ndim > 1:
        column = _as_bytes(column)
    if column.dtype.kind == "f":
        known = np.flatnonzero(~np.isnan(column))
    else:
        known = np.flatnonzero(column != "") if column.dtype.kind == "U" else np.arange(count)
    _, firsts, node = np.unique(column[known], return_index=True, return_inverse=True)
    first = known[firsts[node.reshape(-1)]]
    other = first != known
    return known[other].astype(np.int64), first[other].astype(np.int64)


def _as_bytes(rows: NDArray[Any]) -> NDArray[np.void]:
    """Return ``(N, ...)`` as ``(N,)`` of opaque values that compare as their bytes do."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), int(np.prod(rows.shape[1:])))
    view: NDArray[np.void] = flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize))).reshape(len(rows))
    return view


def _distinct(small: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct thumbnails in an order of their own, the first row of each, and each row's position."""
    _, firsts, node = np.unique(_as_bytes(small), return_index=True, return_inverse=True)
    return small[firsts], firsts.astype(np.int64), node.reshape(-1).astype(np.int64)


def _in_chunks(
    function: Callable[[NDArray[np.uint8]], NDArray[np.float32]], small: NDArray[np.uint8]
) -> NDArray[np.float32]:
    starts = range(0, max(len(small), 1), 4096)
    return np.concatenate([function(small[start : start + 4096]) for start in starts])


def _blurred(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return thumbnails smoothed by (1 2 1)/4, so that derivatives mean something."""
    padded = np.pad(small.astype(np.float64), ((0, 0), (1, 1), (1, 1)), "edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth: NDArray[np.float64] = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16
    return smooth


def _inside(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what lies within the margin, without its mean: ``(..., S, S)`` to ``(..., P)``."""
    part = pictures[..., _CENTRE, _CENTRE]
    part = part.reshape(*part.shape[:-2], part.shape[-1] ** 2)
    centred: NDArray[np.float64] = part - part.mean(axis=-1, keepdims=True)
    return centred


def _contrast(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the standard deviation of thumbnails, gray levels, float32 ``(N,)``."""
    contrast: NDArray[np.float32] = np.sqrt(np.square(_inside(_blurred(small))).mean(axis=1)).astype(np.float32)
    return contrast


def _spectrum(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lowest frequencies without the mean (discrete cosine transform), ``(..., S, S)`` to ``(..., D)``."""
    part = pictures[..., 1:-1, 1:-1]  # a black edge that a shift left is not described
    phase = (np.arange(part.shape[-1]) + 0.5) / part.shape[-1]
    waves = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * phase)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    spectrum: NDArray[np.float64] = (waves @ part @ waves.T).reshape(*part.shape[:-2], _FREQUENCIES**2)
    return spectrum[..., 1:]


def _descriptors(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the spectra of thumbnails, of unit length, float32 ``(N, D)``."""
    spectrum = _spectrum(small.astype(np.float64))
    lengths = np.linalg.norm(spectrum, axis=1, keepdims=True).clip(1e-9)
    descriptors: NDArray[np.float32] = (spectrum / lengths).astype(np.float32)
    return descriptors


def _tangents(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pictures and how they change under shift and stretch, across and down, ``(N, 5, S, S)``."""
    across, down = np.gradient(pictures, axis=2), np.gradient(pictures, axis=1)
    return np.stack([pictures, across, down, _PLACE * across, _PLACE[:, None] * down], axis=1)


def _moved(pictures: NDArray[np.float64], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pictures moved (bilinear) by ``(N, 4)``: shift across and down, stretch across and down."""
    places = np.arange(THUMBNAIL_SIDE)
    sources = places + moves[:, :2, None] + moves[:, 2:, None] * _PLACE
    weights = (1 - np.abs(sources.clip(0, THUMBNAIL_SIDE - 1)[..., None] - places)).clip(0)
    moved: NDArray[np.float64] = weights[:, 1] @ pictures @ weights[:, 0].transpose(0, 2, 1)
    return moved


def _candidates(small: NDArray[np.uint8], flip: bool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield batches of pairs, rows of the first (mirrored if ``flip``) before rows of the second."""
    descriptors = _in_chunks(_descriptors, small)
    with tqdm(total=len(small), desc="near-duplicates", unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(small), _ROWS):
            block = small[start : start + _ROWS, :, ::-1] if flip else small[start : start + _ROWS]
            pairs = _screened(start, block, descriptors)
            for batch in range(0, len(pairs[0]), _BATCH):
                yield pairs[0][batch : batch + _BATCH], pairs[1][batch : batch + _BATCH]
            bar.update(len(block))


def _screened(
    start: int, block: NDArray[np.uint8], descriptors: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the likely pairs of the rows from ``start`` on, ``block``, with later ones."""
    directions = _spectrum(_tangents(block.astype(np.float64))).transpose(0, 2, 1)
    bases = np.ascontiguousarray(np.linalg.qr(directions)[0].transpose(0, 2, 1), np.float32)  # (M, 5, D)
    of_block = _descriptors(block)
    one, other = np.empty(0, np.int64), np.empty(0, np.int64)
    rest = np.empty(0, np.float32)
    for left in range(start, len(descriptors), _COLUMNS):
        columns = descriptors[left : left + _COLUMNS]
        found = np.flatnonzero(of_block @ columns.T > CORRELATION)
        row, column = found // len(columns), found % len(columns) + left
        later = column > row + start
        row, column = row[later], column[later]
        for batch in range(0, len(row), _SCREENED):
            rows, partners = row[batch : batch + (_SCREENED)], column[batch : batch + (_SCREENED)]
            explained = np.square(np.einsum("nd,nkd->nk", descriptors[partners], bases[rows])).sum(axis=1)
            likely = 1 - explained < _SCREEN**2
            one = np.concatenate([one, rows[likely] + start])
            other = np.concatenate([other, partners[likely]])
            rest = np.concatenate([rest, (1 - explained)[likely]])
        order = np.lexsort((other, rest, one))
        one, other, rest = one[order], other[order], rest[order]
        rank = np.arange(len(one)) - np.searchsorted(one, one)
        one, other, rest = one[rank < _PARTNERS], other[rank < _PARTNERS], rest[rank < _PARTNERS]
    return one, other


def _distances(
    first: NDArray[np.uint8], second: NDArray[np.uint8], flip: bool, max_distance: float
) -> NDArray[np.float64]:
    """Return the distances of ``Pairs``, ``(P,)``; of one direction only where it is above ``max_distance``."""
    one, other = _blurred(first[:, :, ::-1] if flip else first), _blurred(second)
    distance = _aligned(one, other)
    near = distance <= max_distance
    distance[near] = np.maximum(distance[near], _aligned(other[near], one[near]))
    return np.round(distance, 4)  # so that the last bits of a machine's arithmetic do not show


def _aligned(pictures: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which share of the targets' contrast the pictures, moved and scaled to fit, leave over, ``(P,)``."""
    target = _inside(targets)
    target /= np.linalg.norm(target, axis=1, keepdims=True).clip(1e-9)
    distance, moves = np.full(len(target), np.inf), np.zeros((len(target), 4))
    left = np.arange(len(target))
    for step in range(_STEPS):
        fields = _inside(_tangents(_moved(pictures[left], moves[left]) if step else pictures))
        gram, right = fields @ fields.transpose(0, 2, 1), fields @ target[left, :, None]
        gram += (1e-6 * np.diagonal(gram, axis1=1, axis2=2) + 1e-6)[:, None] * np.eye(5)  # never singular
        weights = np.linalg.solve(gram, right)
        rest = np.sqrt((1 - (weights * right).sum(axis=(1, 2))).clip(0))
        distance[left] = np.where(weights[:, 0, 0] > 0, rest, np.inf)  # a negative is another picture
        hopeful = distance[left] < _HOPELESS
        left, weights = left[hopeful], weights[hopeful, :, 0]
        moves[left] += weights[:, 1:] / weights[:, :1]
        moves[left] = moves[left].clip([-2, -2, -0.12, -0.12], [2, 2, 0.12, 0.12])  # 8 % and 12 % at most
    return distance
