"""The labels of a folder of images, wherever they stand: one table, a table for each split, texts, names of files.

=============================================================  ====================================================
in the folder                                                  what is read
=============================================================  ====================================================
``images/`` and ``labels/*.txt``, ``data.yaml``                YOLO's form (see ``yolo``)
a table with columns for path and label, by any known name     its rows
``train_labels.csv`` and ``test_labels.csv``, ``train.csv``    their rows; the names give the splits
``train/metadata.csv``, ``test/metadata.jsonl``                Hugging Face's form; the folders give the splits
``train-00000-of-00001.parquet``, ``dataset_info.json``        images and labels in one file (see
                                                               ``hugging_face``)
``labels/train.csv``, ``annotations/labels.csv``               tables in a folder of their own, beside ``images/``
images alone, whose names hold the expression                  see ``file_names``
=============================================================  ====================================================
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.tree import entries, split_of, split_of_folder, subfolders
from fer_lightning.data.sets.labels.file_names import known_names, read_file_names
from fer_lightning.data.sets.labels.hugging_face import holds_images, packed_files, read_packed
from fer_lightning.data.sets.labels.whereabouts import locate
from fer_lightning.data.sets.labels.yolo import is_yolo, read_yolo
from fer_lightning.data.table.bad_rows import contents
from fer_lightning.data.table.manifest_file import (
    Columns,
    ManifestFile,
    has_label_columns,
    joined,
    names_images,
    read_manifest,
)
from fer_lightning.data.table.table_rows import HEAD, TABLE_SUFFIXES, read_rows
from fer_lightning.errors import ConfigError, DataError, FERError
from fer_lightning.text import one_line, short_path

__all__ = ["has_labels", "label_tables", "read_labels", "tables_to_read"]

_FOR_LABELS = ("labels", "label", "annotations", "annotation", "lists", "metadata", "csv", "data")

LeftOut = tuple[tuple[str, str], ...]


def label_tables(root: Path, columns: Columns | None = None) -> list[Path]:
    """Return the tables in a folder that name images and their labels, sorted.

    Those in its split folders are among them, and those in a folder for labels, such as ``labels/`` beside ``images/``.

    A table called ``manifest`` is the only one.
    """
    inner = [path for path in subfolders(root) if path.name.lower() in _FOR_LABELS or split_of_folder(path.name)]
    places = [root, *inner]
    found = [
        path
        for place in places
        for path in entries(place)
        if path.suffix.lower() in TABLE_SUFFIXES and path.is_file() and has_label_columns(path, columns)
    ]
    return [path for path in found if path.parent == root and path.stem.lower() == "manifest"] or found


def has_labels(root: Path) -> bool:
    """Tell whether a folder of images has labels that ``read_labels`` finds."""
    return bool(is_yolo(root) or _is_packed(root) or tables_to_read(root)) or known_names(root) is not None


def _is_packed(place: Path) -> bool:
    """Tell whether images and labels lie in Parquet or Arrow files; without pyarrow, whether there is nothing else."""
    files = packed_files(place)
    return bool(files) and (files[0].suffix.lower() == ".arrow" or holds_images(files[0]) or not tables_to_read(place))


def read_labels(
    place: Path,
    images: Path | None = None,
    columns: Columns | None = None,
    pattern: str | None = None,
    cache_dir: Path | None = None,
) -> tuple[ManifestFile, Path, LeftOut]:
    """Read the labels of images.

    Args:
        place: a table, or a folder in one of the forms of this module's docstring.
        images: folder that the paths of a table are relative to; ``None`` for the folder itself, or that of the table.
        columns: which columns of a table are meant, see ``read_manifest``.
        pattern: the labels are in the names of the files, see ``read_file_names``.
        cache_dir: where images that lie in Parquet or Arrow files are written.

    Returns:
        The rows; the folder that their paths are relative to; (place, reason) of the images that are left out.

    Raises:
        ConfigError: for a wrong ``columns`` or ``pattern``.
        DataError: if there are no labels, or they are malformed or ambiguous; the message names the file.
    """
    root = place if place.is_dir() else place.parent
    if pattern is not None:
        if columns is not None or not place.is_dir():
            raise ConfigError("data.pattern reads the names of the images in a folder: name the folder, no columns")
        return _with_root(read_file_names(place, pattern), root)
    if place.is_dir() and columns is None and is_yolo(place):
        return _with_root(read_yolo(place), root)
    if _is_packed(place):
        return read_packed(place, columns, cache_dir)
    tables = tables_to_read(place, columns)
    if not tables:
        known = known_names(place)
        if known is None:
            raise _no_labels(place)
        return _with_root(read_file_names(place, known), root)
    folder = root if images is None else images
    parts = [_read_table(table, place, folder, images is None, columns, len(tables) > 1) for table in tables]
    return (parts[0] if len(parts) == 1 else joined(place, parts)), folder, ()


def _with_root(read: tuple[ManifestFile, LeftOut], root: Path) -> tuple[ManifestFile, Path, LeftOut]:
    return read[0], root, read[1]


def tables_to_read(place: Path, columns: Columns | None = None) -> list[Path]:
    """Return the tables that hold the labels of a folder, or of a table that one: one, or one for each split.

    A table that names images by columns of other names is taken where there is no other: whoever reads it says what to
    do.

    Raises:
        DataError: if there are several, and their names do not say that they are splits.
    """
    if not place.is_dir():
        return [place]
    tables = label_tables(place, columns)
    splits = [_split_of_table(table, place) for table in tables]
    if len(tables) > 1 and (None in splits or len(set(splits)) < len(splits)):
        names = ", ".join(table.relative_to(place).as_posix() for table in tables)
        text = f"{short_path(place, 70)} holds several tables of labels ({names}): name one of them, such as"
        raise DataError(one_line(f"{text} {tables[0]}", 400))
    if tables or (columns is None and known_names(place) is not None):
        return tables
    others = (path for path in entries(place) if path.suffix.lower() in TABLE_SUFFIXES and names_images(path))
    return list(islice(others, 1))


def _split_of_table(table: Path, root: Path) -> str | None:
    return split_of(table.stem) or (split_of_folder(table.parent.name) if table.parent != root else None)


def _read_table(
    table: Path, root: Path, folder: Path, relative: bool, columns: Columns | None, several: bool
) -> ManifestFile:
    """Read a table, bring its paths to those of a folder, and give it splits where its name or theirs say them."""
    read = read_manifest(table, columns=columns)
    paths, splits = read.columns["path"], read.columns.get("split")
    split = _split_of_table(table, root) if several else None
    if splits is None and split is not None:
        splits = np.full(len(paths), split)
    within = "" if not relative else table.parent.relative_to(folder).as_posix()
    if within not in ("", "."):
        paths = np.array([f"{within}/{path}" for path in paths.tolist()], np.str_)
    given = [""] * len(paths) if splits is None else [split_of(text) or "" for text in splits.tolist()]
    found, remarks = locate(folder, paths, given, read.place)
    if splits is None and (remarks or table.stem.lower() == "metadata"):
        splits = _splits_of_paths(found)
    if splits is not None:
        read.columns["split"] = splits
    read.columns["path"] = found
    return replace(read, remarks=(*read.remarks, *remarks))


def _splits_of_paths(paths: NDArray[np.str_]) -> NDArray[np.str_] | None:
    """Return the split of each path by the folder that it lies in, ``None`` unless all lie in split folders."""
    found = [next(filter(None, map(split_of_folder, path.split("/")[:-1])), None) for path in paths.tolist()]
    return None if None in found else np.array(found, np.str_)


def _no_labels(place: Path) -> FERError:
    """Return what is wrong with a table that cannot be read, or say which forms of labels there are."""
    for path in entries(place):
        if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".xlsx", ".parquet") and path.is_file():
            try:
                read_rows(path, HEAD)
            except FERError as error:
                return error
    what = "a table with columns for path and label, or images whose names hold the expression"
    return DataError(
        one_line(
            f"{short_path(place, 60)}: expected {what}; found {contents(place)}; name the columns of a table with "
            "--data.columns '{path: image, label: emotion}', or the place of the label in the names of the files with "
            "--data.pattern '_(?P<label>[a-z]+)[.]'",
            600,
        )
    )
