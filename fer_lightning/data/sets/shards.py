"""Sets larger than a disk: litdata shards in a folder or an object store, streamed.

Source:
    any data set of this program, written by ``fer data convert --to shards`` and copied wherever it shall be read from.
Layout:
    ``train/``, ``val/``, ``test/`` (and ``unused/``): shards of 64 MiB and litdata's ``index.json``; beside them
    ``index.parquet``, all columns but the images, and ``fer_dataset.json``. Only the columns are held in memory.
Classes and splits:
    those of the source.
Limits:
    training images come in the order of the shards, so that none can be drawn more often than another: no balancing, no
    class focus, no subsets. For these, convert to Arrow, which is read at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_lightning.data.sets.stored import StoredDataModule
from fer_lightning.data.storage.columns import table_of_columns
from fer_lightning.data.storage.description import StoredSet, check_files, need, read_metadata
from fer_lightning.data.storage.shard_loader import ShardAddress, ShardBatches, ShardImages, ShardLoader
from fer_lightning.data.storage.writers import INDEX, POSITION
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import one_line

__all__ = ["ShardsDataModule", "scan_shards"]

_PLAIN: dict[str, Any] = {
    "balance": "none",
    "class_multipliers": None,
    "group_balance": "none",
    "per_class": None,
    "keep": None,
    "drop_overlap": False,
    "focus_fraction": 0.0,
    "folds": None,
}
"""Options that choose among training images, and the values with which they do not."""


def scan_shards(address: ShardAddress, stored: StoredSet, verify: bool = False) -> SamplesTable:
    """Read the columns of a set of shards, if ``verify`` after comparing the checksums of its files; fetch no image.

    Raises:
        ConfigError: if the checksums of files that are not here are asked for.
        DataError: if the set is missing, incomplete or damaged; the message names the file.
    """
    if address.is_remote:
        if verify:
            raise ConfigError(f"{address.root}: only the files of a folder can be verified, not those of an address")
        path = address.index(stored)
    else:
        check_files(address.folder, stored, verify)
        path = address.folder / INDEX
    try:
        columns = need("pyarrow.parquet").read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(one_line(f"{address.root}/{INDEX}: is damaged ({error}); copy it again")) from None
    if POSITION not in columns.column_names:
        raise DataError(one_line(f"{address.root}/{INDEX}: the column '{POSITION}' is missing; convert the set again"))
    splits = columns["split"].to_numpy().astype(str)
    images = ShardImages(address, stored, splits, columns[POSITION].to_numpy())
    return table_of_columns(
        columns, images, stored, None if address.is_remote else address.folder, one_line(address.root, 100)
    )


class ShardsDataModule(StoredDataModule):
    """A set in shards, from a folder or an object store, streamed; what that does not allow: see this module.

    A run that is resumed inside an epoch is the run that was not interrupted if batch size and numbers of workers and
    processes are the same; others are refused.

    Args:
        root: a folder, or an address: ``s3://...``, ``gs://...``, ``azure://...``, ``r2://...``, ``file://...``, or
            ``local:<folder>`` for a slow disk that is copied like a download. Downloads are kept in ``cache_dir``.
        verify: compare checksums of all files of a folder before use.
        max_cache_size: of all downloads, such as ``100GB``; ``null`` for three quarters of the free disk.
        **options: of ``EmotionDataModule``.
    """

    def __init__(self, root: str, verify: bool = False, max_cache_size: str | None = None, **options: Any) -> None:
        for name, plain in _PLAIN.items():
            if options.get(name, plain) not in (plain, {}):
                raise ConfigError(
                    f"data.{name} cannot be had of shards, whose images come in the order in which they lie; convert "
                    "the set with `fer data convert --to arrow` and use ArrowDataModule"
                )
        cache_dir = options.get("cache_dir")
        self.address = ShardAddress(root, None if cache_dir is None else Path(cache_dir), max_cache_size)
        self.verify = verify
        self.adopt(
            self.address.description() if self.address.is_remote else read_metadata(self.address.folder, ("shards",))
        )
        super().__init__(**options)

    def scan(self) -> SamplesTable:
        """Read the columns."""
        return scan_shards(self.address, self.stored, self.verify)

    def train_dataloader(self) -> ShardLoader:  # type: ignore[override]  # no sampler, which is the point of shards
        """Return the loader of training batches, in the order that litdata makes of (seed, epoch)."""
        _, world = self._rank_and_world()
        table = self.table
        images = table.images
        assert isinstance(images, ShardImages)
        batches = ShardBatches(images, table.labels, table.soft_labels, self.transform, self._run_seed())
        return ShardLoader(
            self.address,
            batches,
            len(table.rows("train")),
            self._position,
            self.batch_size,
            world,
            **self._loader_options(transformed=True),
        )

    def set_draws(self, draws: Mapping[str, int]) -> None:
        """Raise a ConfigError: shards come in the order in which they lie."""
        raise ConfigError(
            "shards cannot be reweighted: convert the set with `fer data convert --to arrow` and use ArrowDataModule"
        )
