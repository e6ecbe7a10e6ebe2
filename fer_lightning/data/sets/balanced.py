"""FER2013 with its rare expressions filled up: images of another set first, synthetic ones for what is still lacking.

Source:
    FER2013 (see ``fer2013``) and any other data set; the report on compact networks took the angry, disgusted and
    surprised faces of AffectNet (Mollahosseini et al. 2017, arXiv:1708.03985), and then synthesised (rotation 15
    degrees, shift 10 %, zoom 10 %, flip) until each expression had 4,500 training images.
Layout:
    that of FER2013 and that of the other set; nothing is written.
Classes:
    the seven of FER2013; those of the other set are mapped by name.
Splits:
    those of FER2013. What is added is for training only: no image that stands in validation or test, no child of one.
Licence:
    those of both sets.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.files.file_images import ResizedImages
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.data.table.images import is_in_memory
from fer_lightning.data.table.samples import SamplesTable, concatenate, content_digests, with_classes
from fer_lightning.data.table.synthesis import REPORT_RECIPE, Recipe, hash_order, shared_rows, synthesise, with_kinds
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.types import Interpolation

__all__ = ["INJECTED_CLASSES", "BalancedFER2013DataModule", "injected_table"]

_LOG = logging.getLogger(__name__)
_CACHE_FORMAT = 2  # raise it whenever the same images would be converted to other pixels
_CHUNK = 256  # images converted at a time

INJECTED_CLASSES = ("angry", "disgust", "surprise")
"""The expressions that the report took from AffectNet."""


def injected_table(
    table: SamplesTable,
    other: SamplesTable,
    classes: tuple[str, ...] = INJECTED_CLASSES,
    *,
    limit: int | None = None,
    interpolation: Interpolation = "area",
    seed: int = 0,
    cache_dir: Path | None = None,
) -> SamplesTable:
    """Return training images of another set as rows that go together with those of a table.

    Args:
        table: what they will be added to; splits assigned.
        other: the other set; its training rows are looked at, without those that are children of other images. It may
            have other classes, in any order.
        classes: the expressions to take.
        limit: images of each class at most, chosen by a hash of (seed, content); ``None`` for all.
        interpolation: how the images are resized.
        seed: chooses which images.
        cache_dir: where images that are not in memory are kept once converted; ``None`` for the user's cache folder.

    Returns:
        The rows, in memory, of the size and channels of ``table``, all in the training split; they keep source, file,
        soft labels and further columns. Added to ``left_out`` are the images that stand in validation or test of
        ``table``: the same source and file, or the same pixels, as they are or once converted.

    Raises:
        ConfigError: if ``limit`` is below 1.
        LabelError: for an expression that is unknown or not one of the seven.
        DataError: if the other set has no such class, or no training image of it.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"data.inject_limit must be at least 1, or null for all, not {limit}")
    held = np.flatnonzero(np.isin(table.splits, ["val", "test"]))
    held_names = set(_names(table, held))
    held_digests = {bytes(table.digests[row]) for row in held}
    images, rows, left_out = [], [], list(other.left_out)
    for name in dict.fromkeys(SEVEN.class_names[SEVEN.index(given)] for given in classes):
        ordered = np.array(hash_order(other.digests, _training_rows(other, name), seed), np.int64)
        is_held = np.array([place in held_names for place in _names(other, ordered)], bool)
        is_held |= np.array([bytes(digest) in held_digests for digest in other.digests[ordered]], bool)
        wanted = ordered[~is_held]
        resized = ResizedImages(other.images, table.images.shape[2], table.images.shape[1], interpolation)
        made = _converted(other, resized, wanted, held_digests, limit, cache_dir)
        images.append(made["images"])
        rows.append(wanted[made["kept"]])
        barred = [*ordered[is_held], *wanted[made["barred"]]]
        left_out += [(str(other.files[row]), "also stands in validation or test") for row in barred]
        _LOG.info("injected: %s images of %s; %s also stand in val or test", len(rows[-1]), name, len(barred))
    return _relabelled(table, other, np.concatenate(rows), np.concatenate(images), tuple(left_out))


def _names(table: SamplesTable, rows: NDArray[np.int64]) -> list[tuple[str, str]]:
    """Return source and file of some rows."""
    return list(zip(table.sources[rows].tolist(), table.files[rows].tolist(), strict=True))


def _training_rows(other: SamplesTable, name: str) -> NDArray[np.int64]:
    if name not in other.class_names:
        raise DataError(f"data.inject has no class '{name}' (it has {', '.join(other.class_names)})")
    chosen = (other.splits == "train") & (other.labels == other.class_names.index(name))
    if "parent" in other.columns:
        chosen &= other.columns["parent"] == ""  # its parent may be an image that is tested on
    if not chosen.any():
        raise DataError(f"data.inject has no training image of '{name}'; add some, or take it out of inject_classes")
    return np.flatnonzero(chosen)


def _converted(
    other: SamplesTable,
    resized: ResizedImages,
    rows: NDArray[np.int64],
    barred: set[bytes],
    limit: int | None,
    cache_dir: Path | None,
) -> dict[str, NDArray[Any]]:
    """Return the first ``images`` of ``rows`` that are not barred, which they are (``kept``), and the ``barred`` ones.

    Images are uint8 ``(M, C, H, W)``, the others positions in ``rows``.
    """

    def build() -> dict[str, NDArray[Any]]:
        images = [np.empty((0, *resized.shape[1:]), np.uint8)]
        kept: list[int] = []
        refused: list[int] = []
        wanted = len(rows) if limit is None else min(limit, len(rows))
        with tqdm(total=wanted, desc="converting", unit="image", disable=None, leave=False) as bar:
            start = 0
            while start < len(rows) and len(kept) < wanted:
                chunk = np.arange(start, min(start + min(_CHUNK, wanted - len(kept)), len(rows)))
                made = resized[rows[chunk]]
                good = np.array([bytes(digest) not in barred for digest in content_digests(made)])
                images.append(made[good])
                kept += chunk[good].tolist()
                refused += chunk[~good].tolist()
                start += len(chunk)
                bar.update(int(good.sum()))
        return {
            "images": np.concatenate(images),
            "kept": np.array(kept, np.int64),
            "barred": np.array(refused, np.int64),
        }

    if is_in_memory(other.images):
        return build()
    content = hashlib.blake2b(digest_size=16)
    for part in (
        repr((resized.shape[1:], resized.interpolation, limit)).encode(),
        other.digests[rows].tobytes(),
        *sorted(barred),
    ):
        content.update(part)
    return cached_arrays(f"injected-v{_CACHE_FORMAT}-{content.hexdigest()}", build, cache_dir)


def _relabelled(
    table: SamplesTable,
    other: SamplesTable,
    rows: NDArray[np.int64],
    images: NDArray[np.uint8],
    left_out: tuple[tuple[str, str], ...],
) -> SamplesTable:
    """Return rows of the other set with other images and with the classes of ``table``."""
    chosen = replace(
        other.select(rows),
        images=images,
        digests=content_digests(images),
        splits=np.full(len(rows), "train"),
        thumbnails=None,
        left_out=left_out,
    )
    chosen = with_classes(chosen, table.class_names)
    return chosen if table.soft_labels is not None else replace(chosen, soft_labels=None)


class BalancedFER2013DataModule(FER2013DataModule):
    """FER2013 whose training part is filled up from another set and by synthesis; see this module.

    Args:
        root: folder or CSV file of FER2013, in any of its layouts.
        inject: a data module whose training images are added; ``null`` for none.
        inject_classes: the expressions that are taken from it.
        inject_limit: images of each of these at most; ``null`` for all.
        at_least: training images of each expression, reached by synthesis; 0 for no synthesis.
        recipe: how far synthetic images differ from their parents.
        synthesis_seed: chooses the images that are injected and what is synthesised, whatever the seed of the run.
        **options: of ``FER2013DataModule``.
    """

    def __init__(
        self,
        root: str,
        inject: EmotionDataModule | None = None,
        inject_classes: tuple[str, ...] = INJECTED_CLASSES,
        inject_limit: int | None = None,
        at_least: int = 4500,
        recipe: Recipe = REPORT_RECIPE,
        synthesis_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(root=root, **options)
        if at_least < 0:
            raise ConfigError(f"data.at_least must not be negative (0 for no synthesis), not {at_least}")
        if inject_limit is not None and inject_limit < 1:
            raise ConfigError(f"data.inject_limit must be at least 1, or null for all, not {inject_limit}")
        for name in inject_classes:
            SEVEN.index(name)
        self.inject = inject
        self.inject_classes = tuple(inject_classes)
        self.inject_limit = inject_limit
        self.at_least = at_least
        self.recipe = recipe
        self.synthesis_seed = synthesis_seed

    def extended(self, table: SamplesTable) -> SamplesTable:
        """Add images of the other set, then synthetic ones.

        ``keep`` and ``drop_overlap`` are applied to FER2013 first, so that what they take out is made up for.
        """
        table = self.plan.without_overlap(with_kinds(table))
        if self.inject is not None and self.inject_classes:
            injected = injected_table(
                table,
                self.inject.table,
                self.inject_classes,
                limit=self.inject_limit,
                interpolation=self.interpolation,
                seed=self.synthesis_seed,
                cache_dir=self.cache_dir,
            )
            table = concatenate([table, with_kinds(injected)])
        return synthesise(table, self.at_least, seed=self.synthesis_seed, recipe=self.recipe)

    def fold_candidates(self, table: SamplesTable) -> NDArray[np.bool_]:
        """Return which rows may be held out as a fold, bool ``(N,)``: those of FER2013; what is added only trains."""
        return super().fold_candidates(table) & np.char.startswith(table.sources, "fer2013/")

    def describe(self) -> dict[str, Any]:
        """Return what the base says, and how many training images have no children: they stand in val or test too."""
        return {**super().describe(), "training_images_without_children": len(shared_rows(self.table))}
