"""``fer bench storage``: measures how fast folders, Arrow and shards are read, and how much memory that takes."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.files.file_images import FileImages
from fer_lightning.data.sets.arrow import ArrowDataModule
from fer_lightning.data.sets.shards import ShardsDataModule
from fer_lightning.data.storage.description import METADATA, StoredSet, describe_files
from fer_lightning.data.storage.encoding import EncodedChunk, chunks_of
from fer_lightning.data.storage.shard_loader import ShardImages
from fer_lightning.data.storage.writers import ArrowSetWriter, FolderSetWriter, SetWriter, ShardSetWriter
from fer_lightning.data.table.samples import SamplesTable, content_digests
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.text import table_lines

__all__ = ["bench_storage"]

_FORMS = ("folders", "arrow", "shards")
_DISTINCT = 256  # different images; the others repeat them, with a row number at the end to make each file unique
_BATCH = 128
_RANDOM_SHARD_READS = 20_000  # random reads of shards are slow


@dataclass(frozen=True)
class Measured:
    """What was measured of one form; speeds in images per second, sizes in bytes.

    Attributes:
        random_bytes: encoded files read in random order; ``random_decoded``: and decoded.
        sequential_bytes: encoded files read in the order of the set.
        loader_0: training batches without workers; ``loader_2``: with two.
        memory: peak growth of the anonymous memory of the reading process.
        resident: peak growth of the resident set, which includes cached pages of files.
    """

    form: str
    disk: int
    random_bytes: float
    random_decoded: float
    sequential_bytes: float
    loader_0: float
    loader_2: float
    memory: int
    resident: int


def bench_storage(images: int, size: int, folder: Path | None) -> None:
    """Measure how generated images are read; see ``fer_lightning.commands.bench.storage``."""
    if images < 1000 or size < 8:
        raise ConfigError(f"bench storage needs at least 1000 images of 8 pixels, not {images} of {size}")
    drawn = _drawn(size)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"bench storage: {folder} is no folder")
    with tempfile.TemporaryDirectory(prefix="fer_storage_", dir=folder) as name:
        needed = int(images * (sum(map(len, drawn)) / len(drawn) * 1.1 + 1500)) + (256 << 20)
        free = shutil.disk_usage(name).free
        if free < needed:
            raise ConfigError(f"{name}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        results = []
        with tqdm(total=len(_FORMS) * (images + 5), unit="image", disable=None, leave=False) as bar:
            for form in _FORMS:  # one at a time: none is read from pages that another left in the cache
                root = Path(name) / form
                bar.set_description(f"{form}: writing")
                disk = _lay_out(form, root, images, size, drawn, bar)
                results.append(_measure(form, root, size, disk, bar))
                shutil.rmtree(root)
    print(_table_text(results, images, size))


def _drawn(size: int) -> list[bytes]:
    """Return JPEG files (quality 92) of gradients with noise, ``size`` pixels a side."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    files = []
    for _ in range(_DISTINCT):
        slopes = rng.uniform(-100, 100, (3, 2))
        planes = 128 + slopes[:, 0, None, None] * (x - 0.5) + slopes[:, 1, None, None] * (y - 0.5)
        noisy = (planes + rng.normal(0, 8, (1, size, size))).clip(0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(noisy.transpose(1, 2, 0).copy()).save(out, "JPEG", quality=92)
        files.append(out.getvalue())
    return files


class _NoImages:
    """Placeholder for images that are never decoded: the writers get encoded files."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, size: int) -> None:
        self.shape = (count, 3, size, size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        raise NotImplementedError("these images are encoded already")


def _table(count: int, size: int) -> SamplesTable:
    numbers = np.arange(count, dtype=np.int64)
    return SamplesTable(
        class_names=SEVEN.class_names,
        images=_NoImages(count, size),
        labels=numbers % 7,
        splits=np.full(count, "train"),
        sources=np.full(count, "drawn"),
        files=np.char.add("drawn/", numbers.astype(str)),
        digests=content_digests(numbers[:, None].view(np.uint8)),
    )


def _lay_out(form: str, root: Path, count: int, size: int, drawn: list[bytes], bar: tqdm[Any]) -> int:
    """Write the set and return its size on the disk, bytes."""
    table = _table(count, size)
    root.mkdir()
    writer = _writer(form, root, table)
    for rows in chunks_of(writer.order(table), table.images.shape[1:]):
        files = [drawn[row % len(drawn)] + row.to_bytes(8, "little") for row in rows.tolist()]
        writer.add(EncodedChunk(rows, files, table.digests[rows]))
        bar.update(len(rows))
    written = writer.finish(table.digests)
    stored = StoredSet(
        form, table.class_names, table.scheme, size, 3, "jpeg", 92, count, {"train": table.class_counts("train")},
        {"train": table.fingerprint("train")}, (0.5,) * 3, (0.25,) * 3, files=describe_files(root, written),
    )  # fmt: skip
    (root / METADATA).write_text(stored.to_json(), encoding="utf-8")
    return sum(os.lstat(Path(at, name)).st_blocks * 512 for at, _, names in os.walk(root) for name in names)


def _writer(form: str, root: Path, table: SamplesTable) -> SetWriter:
    if form == "folders":
        return FolderSetWriter(root, table, ".jpg")
    return ArrowSetWriter(root, table) if form == "arrow" else ShardSetWriter(root, table)


class _FolderModule(EmotionDataModule):
    """The images of plain folders."""

    native_channels = 3

    def __init__(self, root: str, size: int, **options: Any) -> None:
        self.native_size = size
        super().__init__(**options)
        self.root = Path(root)

    def scan(self) -> SamplesTable:
        paths = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*.jpg"))
        paths.sort(key=lambda path: path.rpartition("/")[2])  # by number, which is the row
        files = np.array(paths)
        return replace(_table(len(files), self.native_size), images=FileImages(self.root, files, self.native_size, 3))


def _module(form: str, root: str, size: int, workers: int) -> EmotionDataModule:
    options: dict[str, Any] = {"num_workers": workers, "batch_size": _BATCH, "seed": 0, "allow_empty_class": True}
    if form == "folders":
        return _FolderModule(root, size, **options)
    return ArrowDataModule(root, **options) if form == "arrow" else ShardsDataModule(root, **options)


_KINDS = ("random_bytes", "random_decoded", "sequential_bytes", "loader_0", "loader_2")


def _measure(form: str, root: Path, size: int, disk: int, bar: tqdm[Any]) -> Measured:
    speeds: dict[str, float] = {}
    memory = resident = 0
    for kind in _KINDS:  # each in a new process, so that no measurement affects the next one
        bar.set_description(f"{form}: {kind}")
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        method = multiprocessing.get_start_method()
        process = context.Process(target=_measure_kind, args=(sender, form, str(root), size, kind, method))
        process.start()
        sender.close()
        try:
            speeds[kind], own, all_pages = receiver.recv()
        except EOFError:
            raise RuntimeError(f"the process that measured {kind} of {form} ended early") from None
        finally:
            process.join()
        memory, resident = max(memory, own), max(resident, all_pages)
        bar.update(1)
    return Measured(form=form, disk=disk, memory=memory, resident=resident, **speeds)


def _measure_kind(sender: Any, form: str, root: str, size: int, kind: str, method: str) -> None:
    """Measure one kind in this process and send (images per second, growth of own memory, growth of resident set)."""
    multiprocessing.set_start_method(method, force=True)  # else a spawned process would also spawn its loader's workers
    torch.set_num_threads(1)
    data = _module(form, root, size, 2 if kind == "loader_2" else 0)
    images = data.table.images
    chunks = _rows(kind, images)
    images[np.arange(_BATCH)]  # load what is loaded once, so that it does not count as growth
    began_resident = _own_peak()
    with _watched_memory() as growth:
        if kind.startswith("loader"):
            speed = _speed(len(batch["label"]) for batch in data.train_dataloader())
        elif kind == "random_decoded":
            speed = _speed(len(images[rows]) for rows in chunks)
        else:
            speed = _speed(len(_encoded(images, rows)) for rows in chunks)
    sender.send((speed, growth[0], _own_peak() - began_resident))


def _rows(kind: str, images: Any) -> Iterator[NDArray[np.int64]]:
    """Return rows in the order in which they are to be read, a batch at a time."""
    if kind.startswith("random"):
        order = np.random.default_rng(0).permutation(len(images))
        if isinstance(images, ShardImages):
            order = order[:_RANDOM_SHARD_READS]
    else:  # in the order on the disk: shards hold training images in a shuffled order
        order = np.argsort(images.positions) if isinstance(images, ShardImages) else np.arange(len(images))
    return iter([order[start : start + _BATCH] for start in range(0, len(order), _BATCH)])


def _encoded(images: Any, rows: NDArray[np.int64]) -> list[bytes]:
    if isinstance(images, FileImages):
        return [Path(images.root, str(images.paths[row])).read_bytes() for row in rows.tolist()]
    files: list[bytes] = images.encoded(rows)
    return files


def _speed(counts: Iterator[int]) -> float:
    """Return images per second; the first batch is not counted."""
    next(counts)  # it includes the start of the loader's workers
    began = time.perf_counter()
    done = sum(counts)
    return done / (time.perf_counter() - began)


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _anonymous() -> int:
    """Return the anonymous memory of this process, bytes; its peak resident set where the system has no such number."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["RssAnon"].split()[0]) * 1024
    except (OSError, KeyError):
        return _own_peak()


@contextmanager
def _watched_memory() -> Iterator[list[int]]:
    """Yield a list whose only entry becomes the peak growth of this process's anonymous memory, bytes."""
    start = _anonymous()
    growth = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            growth[0] = max(growth[0], _anonymous() - start)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield growth
    finally:
        done.set()
        thread.join()
        growth[0] = max(growth[0], _anonymous() - start)


def _table_text(results: list[Measured], images: int, size: int) -> str:
    lines = [
        f"{images:,} JPEG images of {size}x{size}, quality 92; images/s; {os.cpu_count()} cores; batches of {_BATCH}",
    ]
    rows: list[tuple[str, ...]] = [
        ("", "random", "random", "in order", "loader", "loader", "own", "with file", "on disk"),
        ("", "bytes", "decoded", "bytes", "0 workers", "2 workers", "MB", "pages MB", "MB"),
    ]
    for found in results:
        speeds = (found.random_bytes, found.random_decoded, found.sequential_bytes, found.loader_0, found.loader_2)
        bytes_ = (found.memory / 1e6, found.resident / 1e6, found.disk / 1e6)
        rows.append((found.form, *(f"{value:,.0f}" for value in (*speeds, *bytes_))))
    lines += table_lines(rows)
    lines.append(
        "memory: growth of the reading process at its peak; pages of files are taken back when they are needed"
    )
    return "\n".join(lines)
