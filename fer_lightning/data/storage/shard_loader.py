"""Reading litdata shards: images by row, and batches of training in the order of the shards."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.batches.transforms import SampleTransform
from fer_lightning.data.files.archives import open_root
from fer_lightning.data.storage.description import METADATA, StoredSet, need, parse_metadata
from fer_lightning.data.storage.encoded_images import EncodedImages
from fer_lightning.data.storage.writers import INDEX, SHARD_HEAD, UNUSED, quiet_litdata
from fer_lightning.data.table.cache import default_cache_dir
from fer_lightning.data.table.images import to_picture, to_planes
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.files import file_digest, replacing
from fer_lightning.randomness import draw_keys
from fer_lightning.text import one_line
from fer_lightning.types import Batch

__all__ = ["ShardAddress", "ShardBatches", "ShardImages", "ShardLoader"]


class ShardAddress:
    """Where a set of shards lies: a folder, or an address that litdata can download from.

    Args:
        root: a folder, ``file://...``, ``s3://...``, ``gs://...``, ``azure://...``, ``r2://...``, or ``local:<folder>``
            for a slow disk whose files are copied to the cache like downloads.
        cache_dir: where downloads are kept; ``None`` for the user's cache folder.
        max_cache_size: of all downloads, such as ``100GB``; ``None`` for three quarters of the free disk.
    """

    def __init__(self, root: str, cache_dir: Path | None = None, max_cache_size: str | None = None) -> None:
        plain = root.removeprefix("file://")
        self.is_remote = "://" in plain or plain.startswith("local:")
        self.root = plain.rstrip("/") if self.is_remote else str(open_root(Path(plain).expanduser(), cache_dir))
        self.max_cache_size = max_cache_size
        self._cache_dir = cache_dir

    @property
    def folder(self) -> Path:
        """The folder, where the set is not to be downloaded."""
        return Path(self.root)

    @property
    def cache_dir(self) -> Path:
        """Where downloads are kept; a ConfigError if there is no place."""
        folder = default_cache_dir() if self._cache_dir is None else self._cache_dir.expanduser()
        if folder is None:
            raise ConfigError("there is no home folder to keep downloads in: pass --data.cache_dir")
        return folder / "shards" / hashlib.blake2b(self.root.encode(), digest_size=8).hexdigest()

    def description(self) -> StoredSet:
        """Download and return the description of the set; raise a DataError if that fails."""
        with tempfile.TemporaryDirectory() as folder:
            content = self._downloaded(METADATA, Path(folder) / METADATA).read_bytes()
        stored = parse_metadata(content, f"{self.root}/{METADATA}")
        if stored.format != "shards":
            raise DataError(one_line(f"{self.root}: expected a set of shards, found one of format '{stored.format}'"))
        return stored

    def index(self, stored: StoredSet) -> Path:
        """Return the file of columns, downloaded once for each content; a DataError if it is not as described."""
        expected = stored.files.get(INDEX, {}).get("blake2b")
        path = self.cache_dir / f"{expected}.parquet"
        if not path.exists():
            self._downloaded(INDEX, path)
        if file_digest(path) != expected:
            path.unlink()
            raise DataError(one_line(f"{self.root}/{INDEX}: its checksum is wrong: it is damaged or changed"))
        return path

    def _downloaded(self, name: str, path: Path) -> Path:
        quiet_litdata()
        downloader = need("litdata.streaming.downloader")
        try:
            with replacing(path) as part:
                try:
                    downloader.get_downloader(self.root, str(path.parent), []).download_file(
                        f"{self.root}/{name}", str(part)
                    )
                finally:
                    Path(f"{part}.lock").unlink(missing_ok=True)
        except Exception as error:  # each object store fails in its own way; each means the same here
            raise DataError(
                one_line(
                    f"{self.root}/{name}: cannot be fetched ({type(error).__name__}: {error}); is the address right?"
                )
            ) from None
        return path

    def open(self, split: str, **options: Any) -> Any:
        """Return litdata's ``StreamingDataset`` of a split, of (row, encoded image), or raise a DataError."""
        quiet_litdata()
        streaming = need("litdata.streaming")
        place = f"{self.root}/{split or UNUSED}"
        if self.is_remote:
            options["cache_dir"] = str(self.cache_dir)
        try:
            return streaming.StreamingDataset(
                place,
                max_cache_size=self.max_cache_size,
                transform=split_sample,
                batch_decode=0,  # read single images, not blocks of 256
                item_shuffle_window=0,  # all images of a shard are shuffled together
                **options,
            )
        except (OSError, ValueError, KeyError) as error:
            raise DataError(one_line(f"{place}: cannot be opened ({error})")) from None


class ShardImages(EncodedImages):
    """Images in shards, found by their row.

    Reading in order is fast; random access is slow, because each image may be in another shard.

    Args:
        address: where the shards are.
        stored: description of the set.
        splits: ``(N,)`` strings: split of each row, as the set was written.
        positions: int64 ``(N,)``: place of each row among those of its split.
    """

    def __init__(
        self, address: ShardAddress, stored: StoredSet, splits: NDArray[np.str_], positions: NDArray[np.int64]
    ) -> None:
        super().__init__(one_line(address.root, 100), stored.images, stored.channels, stored.size)
        self.address = address
        self.splits = splits
        self.positions = positions

    def _open(self) -> dict[str, Any]:
        return {}

    def _dataset(self, split: str) -> Any:
        datasets = self.opened
        if split not in datasets:
            datasets[split] = self.address.open(split)
            _ = datasets[split][0:0]  # makes litdata download whole shards from now on, not single images
        return datasets[split]

    def encoded(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return stored images of rows, int64 ``(M,)``, as bytes of image files, in their order."""
        files = []
        for row in rows.tolist():
            dataset = self._dataset(str(self.splits[row]))
            try:
                found, content = dataset[int(self.positions[row])]
            except (OSError, ValueError, IndexError) as error:
                raise DataError(one_line(f"{self.place}, row {row}: cannot be read ({error})")) from None
            if found != row:
                raise DataError(f"{self.place}: expected row {row} in its shard, found row {found}; convert it again")
            files.append(content)
        return files


def split_sample(sample: bytes | memoryview) -> tuple[int, bytes]:
    """Return the row and the encoded image of a sample, copied: it may lie in a mapped file that is soon closed."""
    return int(SHARD_HEAD.unpack_from(sample)[0]), bytes(sample[SHARD_HEAD.size :])


@dataclass
class ShardBatches:
    """Turns samples of shards into a batch.

    Args:
        images: decodes them.
        labels: int64 ``(N,)``.
        soft_labels: float32 ``(N, K)`` or ``None``.
        transform: changes each image given its key.
        seed: of the run.
        epoch: of which samples are asked for.
    """

    images: ShardImages
    labels: NDArray[np.int64]
    soft_labels: NDArray[np.float32] | None
    transform: SampleTransform | None
    seed: int
    epoch: int = 0

    def __call__(self, samples: list[tuple[int, bytes]]) -> Batch:
        """Return the batch of (row, encoded image); the key of a draw is made of seed, epoch and row."""
        rows = np.array([row for row, _ in samples], np.int64)
        keys = draw_keys(self.seed, self.epoch, rows)
        images = np.empty((len(samples), *self.images.shape[1:]), np.uint8)
        for position, (row, content) in enumerate(samples):
            image = self.images.decoded(content, row)
            if self.transform is not None:
                image = to_planes(self.transform(to_picture(image), int(keys[position])))
            images[position] = image
        batch: Batch = {
            "image": torch.from_numpy(images),
            "label": torch.from_numpy(self.labels[rows]),
            "index": torch.from_numpy(rows),
            "key": torch.from_numpy(keys.copy()),
        }
        if self.soft_labels is not None:
            batch["soft_label"] = torch.from_numpy(self.soft_labels[rows])
        return batch


class ShardLoader:
    """A training loader over shards that starts at the trainer's position.

    litdata chooses the order: a function of seed, epoch, and the numbers of processes, workers and samples in a batch.
    ``__iter__`` is a generator: nothing is fetched before the first batch is asked for, which is after Lightning has
    restored its counters.

    Args:
        address: where the shards are.
        batches: turns samples into batches.
        count: number of training samples.
        position: returns (epoch, number of batches of it already processed).
        batch_size: samples in a batch.
        world: number of processes.
        **options: further arguments of ``torch.utils.data.DataLoader``.
    """

    def __init__(
        self,
        address: ShardAddress,
        batches: ShardBatches,
        count: int,
        position: Callable[[], tuple[int, int]],
        batch_size: int,
        world: int,
        **options: Any,
    ) -> None:
        if world > 1 and count < batch_size * world:
            raise ConfigError(
                f"{count:,} training samples do not give each of {world} processes a batch of {batch_size}: "
                "use smaller batches or fewer processes"
            )
        self.address = address
        self.batches = batches
        self.batch_size = batch_size
        self.num_workers = int(options["num_workers"])
        self.drop_last = count >= batch_size  # a last batch of one sample would break batch norm
        self._position = position
        self._options = options
        self._layout = {"num_workers": max(1, self.num_workers), "batch_size": batch_size, "processes": world}
        self._resumed: dict[str, Any] = {}
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            self._length = len(self._streaming(0))
        return self._length

    def _streaming(self, epoch: int) -> Any:
        """Return litdata's loader, about to begin an epoch."""
        seed = abs(self.batches.seed) % 2**32
        dataset = self.address.open("train", shuffle=True, drop_last=self.drop_last, seed=seed)
        self.batches.epoch = epoch
        loader = need("litdata.streaming").StreamingDataLoader(
            dataset, batch_size=self.batch_size, **{**self._options, "collate_fn": self.batches}
        )
        dataset.set_epoch(epoch + 1)  # litdata counts from 1
        loader.current_epoch = epoch
        return loader

    def __iter__(self) -> Iterator[Batch]:
        epoch, done = self._position()
        if done >= len(self):
            return
        loader = self._streaming(epoch)
        if done:
            self._check_layout()
            state = loader.state_dict()
            samples = done * self.batch_size
            state["dataset"] |= {"num_samples_yielded": samples, "sample_in_epoch": samples * self._layout["processes"]}
            state |= {"current_epoch": epoch + 1, "num_samples_yielded": samples}
            state["latest_worker_idx"] = (done - 1) % self._layout["num_workers"]
            loader.load_state_dict(state)
        yield from loader

    def _check_layout(self) -> None:
        for name, now in self._layout.items():
            before = self._resumed.get(name, now)
            if before != now:
                raise ConfigError(
                    f"shards are read in an order that depends on the number of {name}: it was {before} and is {now}; "
                    f"within an epoch resume with {before}, or resume from the end of an epoch"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what the order depends on; the position is in the trainer's counters."""
        return dict(self._layout)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._resumed = dict(state)
