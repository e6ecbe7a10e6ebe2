"""Synthesis of training images: rotated, shifted, zoomed and mirrored copies for the classes that have too few.

Nothing is drawn from a random number generator. Which images get children, and what each child looks like, are
functions of hashes of (seed, parent's content hash, number of the child): the same on every machine, whatever the
order of the rows, and whether the children are written to a disk or made while training.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.table.images import ImageArray, is_in_memory, to_picture
from fer_lightning.data.table.samples import DIGEST_BYTES, SamplesTable, concatenate, content_digests
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.randomness import order_key, uniform

__all__ = [
    "REPORT_RECIPE",
    "Recipe",
    "SyntheticImages",
    "hash_order",
    "parent_candidates",
    "parent_rows",
    "renamed_parents",
    "shared_rows",
    "synthesise",
    "with_kinds",
]

_LOG = logging.getLogger(__name__)
_CHUNK = 1024  # images made at a time
_MATRIX_STEP = 2.0**-20  # pixels: hides the last bits of sine and cosine, in which processors differ


@dataclass(frozen=True)
class Recipe:
    """How far a synthetic image may differ from its parent; each amount is drawn evenly from its range.

    The defaults are those of the report on compact networks: "rotation 15, shift 10 %, zoom 10 %, flip".

    Args:
        rotation: about the centre, degrees either way, 0 to 180.
        shift: share of width and of height, either way, at least 0 and below 1.
        zoom: 0.1 stands for factors from 0.9 to 1.1, the same for both axes; at least 0 and below 1.
        flip: mirror half of the images, left to right.
    """

    rotation: float = 15.0
    shift: float = 0.10
    zoom: float = 0.10
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"recipe.rotation must be 0 to 180 degrees, not {self.rotation:g}")
        for name, value in (("shift", self.shift), ("zoom", self.zoom)):
            if not 0 <= value < 1:
                raise ConfigError(f"recipe.{name} must be at least 0 and below 1, not {value:g}")


REPORT_RECIPE = Recipe()
"""The recipe of the report on compact networks."""


class SyntheticImages:
    """Children of other images, made when they are asked for; reads like a uint8 array ``(M, C, H, W)``.

    Pixels that come from outside the parent repeat its border.

    Args:
        images: what the parents are read from.
        parents: int64 ``(M,)``: row of each child's parent in ``images``.
        keys: int64 ``(M,)``: each child's amounts are a function of its key alone.
        recipe: the ranges of the amounts.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, images: ImageArray, parents: NDArray[np.int64], keys: NDArray[np.int64], recipe: Recipe = REPORT_RECIPE
    ) -> None:
        self.shape = (len(parents), *images.shape[1:])
        self.images = images
        self.parents = parents
        self.keys = keys
        self.recipe = recipe

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        chosen = np.asarray(rows, np.int64)
        channels, height, width = self.shape[1:]
        matrices = _matrices(self.keys[chosen], self.recipe, height, width)
        children = np.empty((len(chosen), channels, height, width), np.uint8)
        for position, planes in enumerate(self.images[self.parents[chosen]]):
            warped = cv2.warpAffine(
                to_picture(planes),
                matrices[position],
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            children[position] = warped.reshape(height, width, channels).transpose(2, 0, 1)
        return children


def _matrices(keys: NDArray[np.int64], recipe: Recipe, height: int, width: int) -> NDArray[np.float64]:
    """Return the map from a parent's pixel coordinates to its child's, float64 ``(N, 2, 3)``."""
    drawn = uniform(torch.from_numpy(keys), 5).numpy().astype(np.float64).T
    angle, scale, across, down = 2 * drawn[:4] - 1  # -1..1
    angle = np.radians(recipe.rotation) * angle
    scale = 1 + recipe.zoom * scale
    mirror = np.where(recipe.flip & (drawn[4] < 0.5), -1.0, 1.0)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    linear = np.array([[cosine * mirror, sine], [-sine * mirror, cosine]]).transpose(2, 0, 1)
    offset = np.stack([centre_x + recipe.shift * width * across, centre_y + recipe.shift * height * down], axis=1)
    offset -= linear @ np.array([centre_x, centre_y])
    matrices = np.concatenate([linear, offset[:, :, None]], axis=2)
    return np.round(matrices / _MATRIX_STEP) * _MATRIX_STEP


def synthesise(table: SamplesTable, at_least: int, *, seed: int = 0, recipe: Recipe = REPORT_RECIPE) -> SamplesTable:
    """Append children of training images until each class has so many training images.

    The children of a class are spread evenly: each distinct image gets as many as any other or one more. Parents are
    the training rows of ``parent_candidates``. A child is a training row with its parent's label, source, soft
    label and further columns, ``kind`` synthetic, ``parent`` the parent's file, and file ``<parent's file>~<number>``,
    from 1. If the table has children already, only the missing ones are added.

    Args:
        table: splits assigned; images in memory or not.
        at_least: training images of each class; classes that have more keep them. 0 adds none.
        seed: chooses which images get one child more than others, and what the children look like.
        recipe: how far children differ from their parents.

    Returns:
        The rows of ``table``, then the children: in memory if the images of ``table`` are, else made on access with
        the same pixels. The digest of a child is that of its pixels in memory; of a child made on access, a hash of
        its parent's digest, its key and the recipe. All rows have the columns ``kind`` (``real`` where it was unknown)
        and ``parent`` (``""`` where there is none). Thumbnails are dropped if there are children.

    Raises:
        ConfigError: if ``at_least`` is negative.
        DataError: if a class that needs children has no parent, or two images of a source go by one name.
    """
    if at_least < 0:
        raise ConfigError(f"at_least must not be negative (0 for no synthesis), not {at_least}")
    table = with_kinds(table)
    counts = table.class_counts("train")
    lacking = {name: at_least - count for name, count in counts.items() if count < at_least}
    if not lacking:
        return table
    _rows_by_name(table)  # children of two images of one name could not be told apart
    candidates = parent_candidates(table)
    families = _families(table)
    drawn: list[tuple[int, int]] = []
    for name, count in lacking.items():
        label = table.class_names.index(name)
        parents = hash_order(table.digests, candidates[table.labels[candidates] == label], seed)
        if not parents:
            raise DataError(_no_parent(table, name))
        drawn += itertools.islice(_turns(table, parents, families), count)
    _LOG.info(
        "synthesis: %s children of %s images (%s); %s training images that also stand in val or test have none",
        f"{len(drawn):,}",
        f"{len({row for row, _ in drawn}):,}",
        ", ".join(f"{name} {counts[name]:,} + {count:,}" for name, count in lacking.items()),
        f"{len(shared_rows(table)):,}",
    )
    return concatenate([table, _children(table, drawn, seed, recipe)])


def with_kinds(table: SamplesTable) -> SamplesTable:
    """Return the table with the columns ``kind`` (``real`` where unknown) and ``parent`` (``""`` where unknown)."""
    unknown = np.full(len(table), "")
    kinds = table.columns.get("kind", unknown).astype(np.str_)
    parents = table.columns.get("parent", unknown)
    return replace(table, columns={**table.columns, "kind": np.where(kinds == "", "real", kinds), "parent": parents})


def shared_rows(table: SamplesTable) -> NDArray[np.int64]:
    """Return the training rows whose image also stands, pixel for pixel, in validation or test, ascending."""
    return np.union1d(table.overlap("train", "val"), table.overlap("train", "test"))


def parent_candidates(table: SamplesTable) -> NDArray[np.int64]:
    """Return the rows that may have children, ascending, int64 ``(M,)``.

    These are the training rows, without children; without images that also stand in validation or test, so that no
    near-copy of what is measured on is made; and without images that stand under two labels, so that no contradiction
    is multiplied. Of identical images only the row first by source and file counts: no two children are the same.
    """
    shared = set(shared_rows(table).tolist())
    parents = table.columns.get("parent")
    names = list(zip(table.sources.tolist(), table.files.tolist(), strict=True))
    of_image: dict[bytes, list[int]] = {}
    for row in table.rows("train").tolist():
        if row not in shared and (parents is None or parents[row] == ""):
            of_image.setdefault(bytes(table.digests[row]), []).append(row)
    labels = table.labels.tolist()
    agreed = [rows for rows in of_image.values() if len({labels[row] for row in rows}) == 1]
    return np.array(sorted(min(rows, key=lambda row: names[row]) for rows in agreed), np.int64)


def hash_order(digests: NDArray[np.uint8], rows: NDArray[np.int64], seed: int) -> list[int]:
    """Return rows int64 ``(M,)`` in the order of a hash of (seed, content hash), whatever order they come in.

    Digests are uint8 ``(N, D)``, those of all images; another seed gives an unrelated order.
    """
    return sorted(rows.tolist(), key=lambda row: order_key(seed, digests[row].tobytes(), b"order:"))


def _hash(text: bytes, size: int = DIGEST_BYTES) -> bytes:
    return hashlib.blake2b(text, digest_size=size).digest()


def renamed_parents(table: SamplesTable, files: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the column ``parent`` for rows that get new names ``(N,)``, as when a table is written to a folder.

    The name of a parent that is not in the table stays.

    Raises:
        DataError: if two images of a source go by the name of a parent.
    """
    found = parent_rows(table)
    return np.where(found < 0, table.columns["parent"], files[found])


def parent_rows(table: SamplesTable) -> NDArray[np.int64]:
    """Return the row of each synthetic image's parent, int64 ``(N,)``; -1 without a parent, or one that is not there.

    A parent is found by the source and the file that its child names.

    Raises:
        DataError: if two images of a source go by the name of a parent.
    """
    found = np.full(len(table), -1, np.int64)
    children = np.flatnonzero(table.columns["parent"] != "") if "parent" in table.columns else found[:0]
    if len(children):
        rows = _rows_by_name(table)
        named = zip(table.sources[children].tolist(), table.columns["parent"][children].tolist(), strict=True)
        found[children] = [rows.get(name, -1) for name in named]
    return found


def _rows_by_name(table: SamplesTable) -> dict[tuple[str, str], int]:
    """Return the row of each image by source and file, training rows first; children are left out."""
    parents = table.columns.get("parent")
    rows: dict[tuple[str, str], int] = {}
    sources, files = table.sources.tolist(), table.files.tolist()
    for row in np.argsort(table.splits != "train", kind="stable").tolist():
        if parents is not None and parents[row] != "":
            continue
        first = rows.setdefault((sources[row], files[row]), row)
        if first != row and (table.digests[first] != table.digests[row]).any():
            raise DataError(
                f"samples table: two different images of source '{sources[row]}' are called '{files[row]}'; "
                "a synthetic image names its parent, so give them different names"
            )
    return rows


def _families(table: SamplesTable) -> Counter[tuple[str, str]]:
    """Return the number of children that each image has, by source and file."""
    rows = np.flatnonzero(table.columns["parent"] != "")
    return Counter(zip(table.sources[rows].tolist(), table.columns["parent"][rows].tolist(), strict=True))


def _turns(
    table: SamplesTable, parents: Sequence[int], families: Counter[tuple[str, str]]
) -> Iterator[tuple[int, int]]:
    """Yield (parent, number of the child) without end, a first child for all, then a second, ..."""
    have = {row: families[str(table.sources[row]), str(table.files[row])] for row in parents}
    for number in itertools.count(1):
        for row in parents:
            if have[row] < number:
                yield row, number


def _key(seed: int, digest: NDArray[np.uint8], number: int) -> int:
    text = b"child:%d:%d:" % (seed, number) + digest.tobytes()
    return int.from_bytes(_hash(text, 8), "little", signed=True)


def _children(table: SamplesTable, drawn: Sequence[tuple[int, int]], seed: int, recipe: Recipe) -> SamplesTable:
    """Return the table of the children, given as (row of the parent, number of the child)."""
    parents = np.array([row for row, _ in drawn], np.int64)
    keys = np.array([_key(seed, table.digests[row], number) for row, number in drawn], np.int64)
    images: ImageArray = SyntheticImages(table.images, parents, keys, recipe)
    if is_in_memory(table.images):
        images = _made(images)
        digests = content_digests(images)
    else:
        digests = _lazy_digests(table.digests[parents], keys, recipe)
    columns = {name: column[parents] for name, column in table.columns.items()}
    return SamplesTable(
        class_names=table.class_names,
        images=images,
        labels=table.labels[parents],
        splits=np.full(len(parents), "train"),
        sources=table.sources[parents],
        files=np.array([f"{table.files[row]}~{number}" for row, number in drawn]),
        digests=digests,
        soft_labels=None if table.soft_labels is None else table.soft_labels[parents],
        columns={**columns, "kind": np.full(len(parents), "synthetic"), "parent": table.files[parents]},
        root=table.root,
    )


def _made(images: ImageArray) -> NDArray[np.uint8]:
    """Return all images in memory."""
    made = np.empty(images.shape, np.uint8)
    with tqdm(total=len(made), desc="synthesis", unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(made), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(made)), dtype=np.int64)
            made[rows] = images[rows]
            bar.update(len(rows))
    return made


def _lazy_digests(parents: NDArray[np.uint8], keys: NDArray[np.int64], recipe: Recipe) -> NDArray[np.uint8]:
    ending = repr(astuple(recipe)).encode()
    texts = (parent.tobytes() + key.tobytes() + ending for parent, key in zip(parents, keys.astype("<i8"), strict=True))
    return np.frombuffer(b"".join(map(_hash, texts)), np.uint8).reshape(-1, DIGEST_BYTES)


def _no_parent(table: SamplesTable, name: str) -> str:
    count = table.class_counts("train")[name]
    todo = "add some, or pass at_least 0 for no synthesis"
    if count == 0:
        return f"class '{name}' has no training image to make synthetic ones of; {todo}"
    return (
        f"class '{name}' has no training image to make synthetic ones of: each of its {count:,} also stands in "
        f"validation or test, or under another label; {todo}"
    )
