"""Which data module reads what lies at a path, told from its layout."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fer_lightning.data.files.archives import open_root
from fer_lightning.data.files.tree import entries
from fer_lightning.data.sets.affectnet.affectnet import is_affectnet
from fer_lightning.data.sets.arrow import is_converted
from fer_lightning.data.sets.ck_plus import is_ck_plus
from fer_lightning.data.sets.ck_plus_csv import find_ck_csv, is_ck_csv
from fer_lightning.data.sets.code_meanings import Codes
from fer_lightning.data.sets.fer2013.fer2013_csv import has_fer2013_header
from fer_lightning.data.sets.fer2013.fer2013_folder import top_folders
from fer_lightning.data.sets.fer2013.ferplus_folders import ferplus_folders
from fer_lightning.data.sets.image_folder import class_folders
from fer_lightning.data.sets.labels.tables import has_labels, tables_to_read
from fer_lightning.data.sets.raf_db import is_raf_db
from fer_lightning.data.sets.raw_codes import is_tree_of
from fer_lightning.data.storage.description import METADATA, read_metadata
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.manifest_file import has_label_columns
from fer_lightning.emotions import FER2013_CODES, code_of, is_expression
from fer_lightning.errors import DataError
from fer_lightning.text import absent, one_line, short_path, unreadable

__all__ = ["detect_datamodule"]

_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".xlsx")
_ARRAYS = (".h5", ".hdf5", ".npz", ".npy", ".mat", ".pkl", ".pickle")
_STORED = {"arrow": "ArrowDataModule", "shards": "ShardsDataModule", "folders": "ManifestDataModule"}


def detect_datamodule(path: Path) -> tuple[str, Path]:
    """Return the data module that reads what lies at a path (a folder, a table or an archive), and its ``root``.

    Archives are unpacked into the cache to look inside.

    Raises:
        DataError: if nothing known lies there.
    """
    try:
        place = open_root(path)
        if place.is_dir():
            name, root = _detect_folder(place)
            return name, root if place == path else path  # each data module opens what the user has named
        if place.is_file():
            return _detect_table(place), path
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    raise DataError(absent(path, "a folder, a table or an archive"))


def _detect_folder(folder: Path) -> tuple[str, Path]:
    if (folder / METADATA).is_file():
        stored = read_metadata(folder, tuple(_STORED))
        return _STORED[stored.format], folder / "manifest.csv" if stored.format == "folders" else folder
    if (pixels := find_ck_csv(folder)) is not None:
        return "CKPlusDataModule", pixels
    if ferplus_folders(folder):
        return "FERPlusDataModule", folder
    if any(has_fer2013_header(table) for table in sorted(folder.glob("*.csv"))) or _has_usage_names(folder):
        return "FER2013DataModule", folder
    manifest = folder / "manifest.csv"
    if has_label_columns(manifest):
        return "ManifestDataModule", manifest
    for name, matches in (
        ("AffectNetDataModule", is_affectnet),
        ("RAFDBDataModule", is_raf_db),
        ("CKPlusDataModule", is_ck_plus),
    ):
        if matches(folder):
            return name, folder
    if not _has_class_folders(folder) and has_labels(folder):
        tables = tables_to_read(folder)
        return "ManifestDataModule", tables[0] if len(tables) == 1 and tables[0].parent == folder else folder
    names = [path for path in entries(folder) if not path.name.lower().startswith("readme")]
    if names and all(path.suffix.lower() in _ARRAYS for path in names):
        raise _arrays(names[0])
    return "ImageFolderDataModule", folder


def _arrays(path: Path) -> DataError:
    way_out = "the section Arrays of docs/data.md has the lines that write the images and a manifest.csv, which is read"
    return DataError(one_line(f"{short_path(path)}: arrays (HDF5, NumPy, pickle) are not read; {way_out}", 400))


def _detect_table(path: Path) -> str:
    if path.suffix.lower() in (".parquet", ".arrow"):
        return "ArrowDataModule" if is_converted(path) else "ManifestDataModule"
    if path.suffix.lower() in _ARRAYS:
        raise _arrays(path)
    if has_fer2013_header(path):
        return "CKPlusDataModule" if is_ck_csv(path) else "FER2013DataModule"
    if path.suffix.lower() in _TABLES or has_label_columns(path):
        return "ManifestDataModule"
    expected = "a folder, an archive (.zip, .tar), or a table with the columns emotion, pixels, Usage or path, label"
    raise DataError(one_line(f"{short_path(path)}: not a data set that is known; expected {expected}"))


def _has_class_folders(folder: Path) -> bool:
    """Tell whether a folder holds folders named after expressions or their codes, under folders for splits or not."""
    try:
        names = {top.name for _, top in class_folders(folder)}
    except DataError:
        return False
    return any(is_expression(name) or code_of(name) is not None for name in names)


def _has_usage_names(root: Path) -> bool:
    """Tell whether a tree is FER2013's: its files are named after the official parts, all of them if codes are."""
    prefixes = tuple(f"{usage}_" for usage in USAGES)
    if not any(name.startswith(prefixes) for top in top_folders(root) for name in _first_names(top)):
        return False
    coded = any(code_of(path.name) is not None for top in top_folders(root) for path in top.iterdir())
    return not coded or is_tree_of(root, Codes("FER2013", FER2013_CODES))


def _first_names(top: Path) -> Iterator[str]:
    for folder in sorted(top.iterdir()):
        if folder.is_dir():
            yield from (path.name for path in islice(folder.iterdir(), 3))
