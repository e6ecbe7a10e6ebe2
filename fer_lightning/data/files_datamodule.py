"""The base of the data modules that read image files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.files.archives import open_root
from fer_lightning.data.files.decode import MAX_PIXELS
from fer_lightning.data.files.listing import Listing, Small, read_listing
from fer_lightning.data.splitting.links import linked_groups
from fer_lightning.data.splitting.splits import complete_splits, missing_splits
from fer_lightning.data.table.bad_rows import OnError, warn_left_out
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError
from fer_lightning.text import short_path

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "FilesDataModule"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""What most published weights of timm and torchvision were trained with."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviations that belong to ``IMAGENET_MEAN``."""


class FilesDataModule(EmotionDataModule):
    """Base of the data modules that read image files. A subclass gives ``list_files`` and its own arguments.

    Files are decoded once when the set is first used, to find broken ones and equal ones, and again whenever they are
    needed: memory stays flat. A data set's own splits stay as they are; those it lacks are made, stratified by class,
    and no subject, no image and no near-duplicate stands in two of them.

    Args:
        on_error: ``raise`` stops at the first bad file; ``skip`` leaves bad files out and counts them.
        min_side: least side of an image, pixels.
        small: what happens to smaller ones: ``reject`` or ``upscale`` (marked in the column ``upscaled``).
        val_fraction: share of the training images for validation, where the set has no validation split.
        test_fraction: share of the images for testing, where it has no test split.
        test_per_class: this many test images of each class instead; further images linked to one of them are left out.
        split_seed: chooses which.
        near_duplicates: keep near-duplicates together when splits are made.
        max_pixels: larger images are bad.
        allow_outside: accept paths and links that lead out of the data set's folder.
        **options: of ``EmotionDataModule``.
    """

    native_size = 224
    native_channels = 3
    native_mean: tuple[float, ...] = IMAGENET_MEAN
    native_std: tuple[float, ...] = IMAGENET_STD

    def __init__(
        self,
        on_error: OnError = "raise",
        min_side: int = 0,
        small: Small = "reject",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        test_per_class: int | None = None,
        split_seed: int = 0,
        near_duplicates: bool = True,
        max_pixels: int = MAX_PIXELS,
        allow_outside: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.on_error: OnError = on_error
        self.min_side = min_side
        self.small: Small = small
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.test_per_class = test_per_class
        self.split_seed = split_seed
        self.near_duplicates = near_duplicates
        self.max_pixels = max_pixels
        self.allow_outside = allow_outside

    @property
    def split_options(self) -> dict[str, str]:
        """The options that split off training images what a data set lacks, by split."""
        return {"val": "--data.val_fraction 0.2", "test": "--data.test_fraction 0.2"}

    def list_files(self) -> Listing:
        """Return the files of the data set, without opening them.

        Raises:
            DataError: if it is missing or malformed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define list_files(), which returns the listing")

    def scan(self) -> SamplesTable:
        """Look at the files (only at those that ``keep`` names where that suffices), and complete the splits."""
        listing = self.list_files()
        rows = self.plan.alone(listing.paths, listing.splits, self._missing)
        return self.completed(self.read(listing if rows is None else listing.select(rows)))

    def _missing(self, splits: NDArray[np.str_]) -> tuple[str, ...]:
        """Return which splits are made for rows that have these, ``(N,)``."""
        val_fraction = self.val_fraction if self.plan.folds is None else 0.0  # a fold will be held out
        return missing_splits(splits, val_fraction, self.test_fraction, self.test_per_class)

    def read(self, listing: Listing) -> SamplesTable:
        """Look at the files of a listing, with this module's rules."""
        return read_listing(
            listing,
            size=self.image_size,
            channels=self.channels,
            interpolation=self.interpolation,
            on_error=self.on_error,
            min_side=self.min_side,
            small=self.small,
            max_pixels=self.max_pixels,
            allow_outside=self.allow_outside,
            cache_dir=self.cache_dir,
            wanted=self.plan.named(listing.paths),
        )

    def completed(self, table: SamplesTable) -> SamplesTable:
        """Add the splits that the data set does not bring along."""
        made = self._missing(table.splits)
        groups = linked_groups(table, near=self.near_duplicates, cache_dir=self.cache_dir) if made else table.digests
        splits = complete_splits(
            table.splits,
            table.labels,
            groups,
            val_fraction=self.val_fraction if self.plan.folds is None else 0.0,
            test_fraction=self.test_fraction,
            test_per_class=self.test_per_class,
            seed=self.split_seed,
            class_names=table.class_names,
            digests=table.digests,
        )
        unused = np.flatnonzero((splits == "") & ((table.splits == "train") | (table.splits == "").all()))
        reason = "linked to a test image, but the test split is full"
        surplus = tuple((str(table.files[row]), reason) for row in unused.tolist())
        warn_left_out(type(self).__name__, surplus)
        return replace(table, splits=splits, left_out=(*table.left_out, *surplus))

    def opened(self, root: str) -> Path:
        """Return the folder of a data set, an archive unpacked into the cache; a DataError if it does not exist."""
        folder = open_root(Path(root).expanduser(), self.cache_dir)
        if not folder.exists():
            raise DataError(f"{short_path(folder)} does not exist; expected a folder, or a .zip or .tar of it")
        return folder
