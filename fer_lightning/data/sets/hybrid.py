"""A curated set out of several sources, 256x256 in colour, with the provenance of each image.

Source:
    whatever the user has: folders, manifests, and any other data module, each with a name and a kind.
Layout:
    see ``image_folder`` and ``manifest``.
Classes:
    the seven, or those of ``class_names``; rows of other classes are left out and counted.
Splits:
    made over all sources together: stratified by class; a subject, an image and its near-duplicates stand in one split
    only, also across sources. ``leave_out`` holds a whole source back for testing instead.
Licence:
    that of the sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.files.archives import open_root
from fer_lightning.data.files.file_images import ResizedImages
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.image_folder import ImageFolderDataModule, class_folders
from fer_lightning.data.sets.labels.tables import has_labels
from fer_lightning.data.sets.manifest import ManifestDataModule
from fer_lightning.data.splitting.folds import linked_names
from fer_lightning.data.splitting.near_duplicates import thumbnails
from fer_lightning.data.table.manifest_file import has_label_columns
from fer_lightning.data.table.samples import SamplesTable, concatenate, with_classes
from fer_lightning.data.table.table_rows import TABLE_SUFFIXES
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError, LabelError

__all__ = ["KINDS", "HybridDataModule", "HybridSource"]

KINDS = ("real", "web", "synthetic")
"""What images may be: taken in a laboratory or by a photographer, gathered from the web, made by a machine."""


@dataclass
class HybridSource:
    """One source of a hybrid set.

    Args:
        path: whatever ``ImageFolderDataModule`` or ``ManifestDataModule`` reads: a folder, a table, or an
            archive of either.
        data: another data module instead of a path.
        kind: ``real``, ``web`` or ``synthetic``, for rows that do not say it themselves.
        mapping: meanings of class names that are not known, ``null`` to leave a class out.
    """

    path: str | None = None
    data: EmotionDataModule | None = None
    kind: str = "real"
    mapping: dict[str, str | None] | None = None


class HybridDataModule(FilesDataModule):
    """Several sources as one set of 256x256 images; how splits are made: see this module.

    Args:
        sources: by name, which becomes the column ``source``.
        class_names: the classes; ``null`` for the seven.
        leave_out: name of a source that is used for testing only.
        keep_splits: keep the splits that the sources bring along, and make the missing ones.
        **options: of ``FilesDataModule``.
    """

    native_size = 256

    def __init__(
        self,
        sources: dict[str, HybridSource],
        class_names: list[str] | None = None,
        leave_out: str | None = None,
        keep_splits: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not sources:
            raise ConfigError("data.sources names no source; expected {name: {path: FOLDER, kind: real}, ...}")
        for name, source in sources.items():
            if (source.path is None) == (source.data is None):
                raise ConfigError(f"data.sources.{name}: expected either a path or a data module")
            if source.kind not in KINDS:
                raise ConfigError(f"data.sources.{name}: kind must be one of {', '.join(KINDS)}, not '{source.kind}'")
        if leave_out is not None and leave_out not in sources:
            raise ConfigError(f"data.leave_out: there is no source '{leave_out}' (sources: {', '.join(sources)})")
        self.sources = sources
        self.leave_out = leave_out
        self.keep_splits = keep_splits
        self.class_names = SEVEN.class_names if class_names is None else tuple(class_names)

    def scan(self) -> SamplesTable:
        """Read the sources, put them together and make the splits."""
        table = concatenate([self._read_source(name, source) for name, source in self.sources.items()])
        if not self.keep_splits:
            table = table.with_splits(np.full(len(table), "", "<U5"))
        if self.leave_out is None:
            return self.completed(table)
        return self._without(table, self.leave_out)

    def _without(self, table: SamplesTable, name: str) -> SamplesTable:
        """Test on one source; what is linked to it in the others is not used at all."""
        held = table.sources == name
        names = linked_names(table, self.near_duplicates, self.cache_dir)
        linked = np.isin(names, np.unique(names[held])) & ~held
        rest = np.flatnonzero(~held & ~linked)
        splits = np.full(len(table), "", "<U5")
        splits[held] = "test"
        splits[rest] = self.completed(table.select(rest).with_splits(table.splits[rest])).splits
        told = tuple((str(table.files[row]), f"also in '{name}', which is left out") for row in np.flatnonzero(linked))
        return replace(table, splits=splits, left_out=(*table.left_out, *told))

    def _read_source(self, name: str, source: HybridSource) -> SamplesTable:
        data = source.data
        table = self.read(self._listing(name, source)) if data is None else self._adapted(data.table)
        table = with_classes(table, self.class_names)
        return _with_provenance(table, name, source.kind)

    def _listing(self, name: str, source: HybridSource) -> Listing:
        """List a source; what is wrong with its labels is told with the place where its mapping belongs."""
        try:
            return self._reader(name, source).list_files()
        except LabelError as error:
            where = f"data.sources.{name} takes it as a key: {{path: {source.path}, mapping: {{...}}}}"
            raise LabelError(f"{error} (the source {where})") from None

    def _reader(self, name: str, source: HybridSource) -> FilesDataModule:
        assert source.path is not None
        cache_dir = None if self.cache_dir is None else str(self.cache_dir)
        options: dict[str, Any] = {"mapping": source.mapping, "source": name, "cache_dir": cache_dir}
        if not set(self.class_names) <= set(SEVEN.class_names):
            options["class_names"] = list(self.class_names)
        if _holds_labels(open_root(Path(source.path).expanduser(), self.cache_dir)):
            return ManifestDataModule(root=source.path, **options)
        return ImageFolderDataModule(root=source.path, **options)

    def _adapted(self, table: SamplesTable) -> SamplesTable:
        """Bring another module's images to this one's size, and apply the rule for small ones to them."""
        columns = dict(table.columns)
        columns.setdefault("width", np.full(len(table), table.images.shape[3]))
        columns.setdefault("height", np.full(len(table), table.images.shape[2]))
        too_small = np.minimum(columns["width"], columns["height"]) < self.min_side
        if self.small == "upscale" and self.min_side > 0:
            columns["upscaled"] = np.where(too_small, "yes", "no")
        small = table.thumbnails if table.thumbnails is not None else thumbnails(table.images)
        adapted = replace(
            table,
            images=ResizedImages(table.images, self.image_size, self.channels, self.interpolation),
            columns=columns,
            thumbnails=small,
            root=None,
        )
        if self.small == "upscale" or not too_small.any():
            return adapted
        told = tuple(
            (str(table.files[row]), f"below the least side of {self.min_side} pixels")
            for row in np.flatnonzero(too_small)
        )
        return replace(adapted.select(np.flatnonzero(~too_small)), left_out=(*table.left_out, *told))


def _holds_labels(place: Path) -> bool:
    """Tell whether a path is a table, or a folder of images whose labels stand elsewhere than in names of folders.

    A folder with a manifest is one, whatever folders stand beside it, as for ``fer data inspect``.
    """
    if not place.is_dir():
        return place.suffix.lower() in (*TABLE_SUFFIXES, ".arrow")
    if has_label_columns(place / "manifest.csv"):
        return True
    try:
        class_folders(place)
    except DataError:
        return has_labels(place)
    return False


def _with_provenance(table: SamplesTable, name: str, kind: str) -> SamplesTable:
    """Name the source of each row, and make its file, subject and parent names unique among all sources."""
    columns = table.columns
    changed = dict(columns)
    own = columns.get("kind", np.full(len(table), ""))
    changed["kind"] = np.where(own == "", kind, own)
    for column in ("subject", "parent"):
        if column in columns:
            values = columns[column].astype(np.str_)
            changed[column] = np.where(values == "", "", np.char.add(f"{name}/", values))
    return replace(
        table,
        sources=np.full(len(table), name),
        files=np.char.add(f"{name}/", table.files),
        columns=changed,
        left_out=tuple((f"{name}/{place}", reason) for place, reason in table.left_out),
        remarks=tuple(f"{name}: {remark}" for remark in table.remarks),
        root=None,
    )
