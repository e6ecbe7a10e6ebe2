"""A user's own images with labels in a table, in texts beside them or in their names.

Layout, one of:
    - a table (CSV with comma, semicolon, tab or bar; JSON; JSONL; Parquet), a row per image, with the columns ``path``
      and ``label``, and perhaps ``split`` (train, val, test), ``source``, ``kind`` (real, web, synthetic), ``subject``,
      ``gender``, ``skin_type``, ``age_group``, a face box ``x, y, w, h`` in pixels, ``valence``, ``arousal``; further
      columns go along. Other usual names do, too (``image``, ``file_name``, ``pth``, ``emotion``, ``expression``,
      ``class``, ``Usage``, ...), and a table without header; ``columns`` names the rest;
    - a folder with such a table, or with one for each split: ``train_labels.csv`` and ``test_labels.csv``,
      ``train/metadata.csv`` and ``test/metadata.csv`` (Hugging Face);
    - ``train/images/*.jpg`` with ``train/labels/*.txt``, or ``images/train/`` with
      ``labels/train/``, and ``data.yaml`` (YOLO);
    - a Parquet file, or a folder of those or of ``save_to_disk`` (Hugging Face), with the images inside;
    - a folder of images whose names hold the expression: as in JAFFE (``KA.AN1.39.tiff``) and KDEF (``AF01ANS.JPG``),
      an expression as a word (``0001_happy.jpg``), or where ``pattern`` says.
    Paths are relative to the table's folder, or absolute. Where none of the images is as its path says, they are looked
    for in that folder by the last parts of their paths, which is told: tables bring the paths of other machines along.
Classes:
    labels by any known name of an expression; ``mapping`` for others, ``class_names`` for your own. Codes are read
    where something proves which expression each stands for, such as a column of names beside them (see
    ``code_evidence``), and told; else ``mapping`` must say it.
Converted sets:
    beside a table that ``fer data convert --to folders`` or ``fer data balance`` wrote, ``fer_dataset.json`` gives the
    classes, the size, the channels, mean and deviation, unless they are given.
Splits:
    those of the column; rows without one are not used if others have one. Without the column, splits are made.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.archives import open_root
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.files.tree import split_of
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.code_meanings import meanings_of_labels
from fer_lightning.data.sets.labels.tables import read_labels
from fer_lightning.data.storage.description import METADATA, StoredSet, read_metadata
from fer_lightning.data.table.manifest_file import ManifestFile
from fer_lightning.emotions import read_names
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["ManifestDataModule", "list_manifest"]

_TOLD = ("path", "label", "split")  # columns that are no evidence for the codes among the labels
_BOX = ("x", "y", "w", "h")
_FARTHEST = 10**6  # pixels: a box with larger numbers is none


def list_manifest(
    manifest: ManifestFile,
    root: Path,
    *,
    mapping: dict[str, str | None] | None = None,
    class_names: list[str] | None = None,
    source: str | None = None,
) -> Listing:
    """Turn a manifest into a listing; the arguments are those of ``ManifestDataModule``.

    Raises:
        DataError: for an unknown split, an image (with boxes: a face) that stands twice, an incomplete box.
        LabelError: for unknown labels, with a proposal.
    """
    raw = np.char.strip(manifest.columns["label"])
    paths, splits = manifest.columns["path"], _splits(manifest)
    others = {name: column for name, column in manifest.columns.items() if name not in _TOLD}
    meanings, remarks = meanings_of_labels(
        manifest.path, raw, paths, splits, others, mapping=mapping, class_names=class_names
    )
    names, label_of = read_names(np.unique(raw).tolist(), short_path(manifest.path), meanings, class_names)
    labels = np.array([label_of[name] for name in raw.tolist()], np.int64)
    keep = np.flatnonzero(labels >= 0)
    boxes = _boxes(manifest)
    _check_paths(manifest, boxes)
    default = manifest.path.stem if source is None else source
    sources = manifest.columns.get("source", np.full(len(labels), default))
    left_out = [(str(paths[row]), f"class '{raw[row]}' is left out") for row in np.flatnonzero(labels < 0)]
    return Listing(
        root=root,
        class_names=names,
        paths=paths[keep],
        labels=labels[keep],
        splits=splits[keep],
        sources=np.where(np.char.strip(sources) == "", default, sources)[keep],
        boxes=None if boxes is None else boxes[keep],
        columns={name: column[keep] for name, column in manifest.further().items()},
        left_out=tuple(left_out),
        remarks=(*manifest.remarks, *remarks),
    )


def _splits(manifest: ManifestFile) -> NDArray[np.str_]:
    if "split" not in manifest.columns:
        return np.full(len(manifest.lines), "", "<U5")
    splits = np.full(len(manifest.lines), "", "<U5")
    for row, text in enumerate(manifest.columns["split"].tolist()):
        split = split_of(text)
        if split is None and text.strip():
            raise DataError(
                one_line(
                    f"{manifest.place(row)}: unknown split {excerpt(text)}, expected train, val, test or nothing; pass "
                    "--data.columns '{split: null}' to do without this column"
                )
            )
        splits[row] = split or ""
    return splits


def _boxes(manifest: ManifestFile) -> NDArray[np.int64] | None:
    present = [name for name in _BOX if name in manifest.columns]
    if not present:
        return None
    if len(present) < len(_BOX):
        raise DataError(
            f"{short_path(manifest.path)}: a face box needs the columns x, y, w and h, found {', '.join(present)}"
        )
    numbers = np.stack([manifest.numbers(name) for name in _BOX], axis=1)
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1) | (numbers[:, 2:] < 1).any(axis=1))
    if not len(bad):
        bad = np.flatnonzero((np.abs(numbers) > _FARTHEST).any(axis=1))
    if len(bad):
        found = ", ".join(manifest.columns[name][bad[0]] or "nothing" for name in _BOX)
        raise DataError(
            one_line(
                f"{manifest.place(int(bad[0]))}: expected a face box x, y, w, h of at least one pixel, found {found}"
            )
        )
    return np.round(numbers).astype(np.int64)


def _check_paths(manifest: ManifestFile, boxes: NDArray[np.int64] | None) -> None:
    """Refuse one image (or face) in two rows: nobody could tell which label or split counts."""
    seen: dict[tuple[str, bytes], int] = {}
    for row, path in enumerate(manifest.columns["path"].tolist()):
        key = (path, b"" if boxes is None else boxes[row].tobytes())
        first = seen.setdefault(key, row)
        if first != row:
            text = f"{manifest.place(row)}: {excerpt(path, 80)} stands in {manifest.mention(first)} too"
            raise DataError(one_line(f"{text}; delete one of the two", 300))


def _description(place: Path) -> StoredSet | None:
    """Return what a converted set says of itself, ``None`` for a table that is not the one that was written with it."""
    folder = place if place.is_dir() else place.parent
    if not os.path.isfile(folder / METADATA):
        return None
    stored = read_metadata(folder, ("folders", "arrow", "shards"))
    return stored if place.is_dir() or place.name in stored.files else None


class ManifestDataModule(FilesDataModule):
    """A table of images, or a folder of images with labels beside them; its forms: see this module.

    Args:
        root: the table (CSV, Parquet, JSON), the Parquet or Arrow file, or the folder, or a .zip or .tar of it.
        images: folder that the paths of the table are relative to; ``null`` for its own.
        columns: which columns of the table are meant, where their names do not tell: ``{path: photo, label: mood}``,
            ``{path: 1, label: 3}`` in a table without header, ``{split: null}`` for no such column.
        pattern: labels are in the names of the files: a regular expression with a group ``label``, such as
            ``_(?P<label>[a-z]+)[.]`` for ``0001_happy.jpg``, and perhaps groups ``subject`` and ``split``.
        mapping: meanings of labels that are not known, such as ``{0: angry, other: null}``; ``null`` leaves a class
            out.
        class_names: classes of your own, in the order of their labels; ``null`` takes those of a converted set, unless
            a ``mapping`` gives it others; else the seven, or the eight if there is contempt.
        source: name of this set in reports where the table has no column ``source``; ``null`` for the table's name.
        **options: of ``FilesDataModule``.
    """

    def __init__(
        self,
        root: str,
        images: str | None = None,
        columns: dict[str, str | int | None] | None = None,
        pattern: str | None = None,
        mapping: dict[str, str | None] | None = None,
        class_names: list[str] | None = None,
        source: str | None = None,
        **options: Any,
    ) -> None:
        cache_dir = options.get("cache_dir")
        cache = None if cache_dir is None else Path(cache_dir)
        place = open_root(Path(root).expanduser(), cache)
        stored = _description(place)
        if stored is not None:
            self.native_size = stored.size
            self.native_channels = stored.channels
            self.native_mean = stored.mean
            self.native_std = stored.std
            if class_names is None and mapping is None:
                class_names = list(stored.class_names)
        super().__init__(**options)
        self.root = root
        self.images = images
        self.columns = columns
        self.pattern = pattern
        self.mapping = mapping
        self.source = source
        beside = None if images is None else self.opened(images)
        read, folder, left_out = read_labels(place, beside, columns, pattern, cache)
        listing = list_manifest(read, folder, mapping=mapping, class_names=class_names, source=source)
        self._listing = replace(listing, left_out=(*left_out, *listing.left_out))
        self.class_names = self._listing.class_names

    def list_files(self) -> Listing:
        """Return the rows of the table."""
        return self._listing
