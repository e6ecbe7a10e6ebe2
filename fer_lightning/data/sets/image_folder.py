"""A user's own tree of images, one folder for each expression.

Layout, one of:
    - ``<root>/<expression>/**/*.jpg``: splits are made;
    - ``<root>/<split>/<expression>/**/*.jpg``, with ``train``, ``val`` (``valid``, ``validation``) and ``test``: splits
      stay; validation is taken out of training where there is none;
    - either in a .zip or .tar file, which is unpacked into the cache.
Classes:
    folder names by any known name of an expression; ``mapping`` for other names, ``class_names`` for classes of your
    own. Folders named by a code (``0`` .. ``6``) are read where something proves which expression it stands for (see
    ``code_evidence``), and told; else ``mapping`` must say it.
Files:
    whatever has the suffix of an image, at any depth. Other files in class folders, and images outside of them, are
    left out and counted; hidden files and folders are not looked at. Linked folders inside of the tree are followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.data.files.listing import Listing
from fer_lightning.data.files.tree import entries, is_image_name, split_of_folder, subfolders, walk_images
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.code_meanings import meanings_of
from fer_lightning.data.sets.labels.compared import compared_with_tables
from fer_lightning.emotions import read_names
from fer_lightning.errors import DataError
from fer_lightning.text import one_line, short_path

__all__ = ["ImageFolderDataModule", "class_folders", "list_classes", "list_image_folder"]

_NO_CLASSES = frozenset({
    "images", "image", "imgs", "img", "jpegimages", "labels", "label", "annotations", "annotation", "ann", "bbox",
    "data", "dataset", "datasets", "faces", "archive", "cropped", "aligned", "original", "origin", "raw", "lists",
    "masks",
})  # fmt: skip
"""Folder names that say what lies in a folder, or how it was made, but no expression."""


def class_folders(root: Path) -> list[tuple[str, Path]]:
    """Return (split, folder) of each class folder, sorted; the split is ``""`` where the tree has none.

    Raises:
        DataError: if ``root`` is no folder or has no class folders, or split folders and others stand side by side.
    """
    if not root.exists():
        raise DataError(f"{short_path(root)} does not exist; expected a folder with one folder for each expression")
    if not root.is_dir():
        raise DataError(f"{short_path(root)} is a file; expected a folder with one folder for each expression")
    tops = subfolders(root)
    splits = [(split, top) for top in tops if (split := split_of_folder(top.name)) is not None]
    if splits and len(splits) < len(tops):
        other = next(top for top in tops if split_of_folder(top.name) is None)
        text = f"'{other.name}/' stands beside '{splits[0][1].name}/'; expected splits or classes; move one away"
        raise DataError(one_line(f"{short_path(root)}: {text}"))
    if splits:
        found = [(split, folder) for split, top in splits for folder in subfolders(top)]
    else:
        found = [("", top) for top in tops]
    names = sorted({folder.name for _, folder in found})
    if all(name.lower() in _NO_CLASSES or split_of_folder(name) is not None for name in names):
        raise _no_class(root, names)
    return found


def _no_class(root: Path, names: list[str]) -> DataError:
    """Return the error for a tree without class folders: where its labels may be, and what reads them."""
    found = ", ".join(f"{name}/" for name in names[:6]) or "none"
    text = f"{short_path(root, 70)}: expected folders named after expressions, found {found}"
    inner = [root / name for name in names if (root / name).is_dir()]
    if len(inner) == 1 and subfolders(inner[0]):
        return DataError(one_line(f"{text}; name {inner[0]} if they lie there", 400))
    way_out = "labels in a table, in texts beside the images or in their names are read by --data ManifestDataModule"
    return DataError(one_line(f"{text}; {way_out}", 400))


def list_image_folder(
    root: Path,
    *,
    mapping: dict[str, str | None] | None = None,
    class_names: list[str] | None = None,
    source: str | None = None,
    allow_outside: bool = False,
) -> Listing:
    """List a tree of images; the layouts stand in this module's docstring.

    The arguments are those of ``ImageFolderDataModule``.

    Raises:
        DataError: if the layout is another.
        LabelError: for unknown folder names, and for codes of which nothing shows what they stand for, with a proposal.
    """
    folders = class_folders(root)
    meanings, remarks = meanings_of(root, folders, mapping, class_names)
    names, label_of = read_names([folder.name for _, folder in folders], short_path(root), meanings, class_names)
    listing = list_classes(root, folders, names, label_of, meanings, allow_outside=allow_outside)
    sources = np.full(len(listing.paths), source if source is not None else root.name)
    return replace(listing, sources=sources, remarks=(*remarks, *listing.remarks))


def list_classes(
    root: Path,
    folders: list[tuple[str, Path]],
    class_names: tuple[str, ...],
    label_of: Mapping[str, int],
    meanings: Mapping[str, str | None],
    *,
    reasons: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> Listing:
    """List the images in class folders; sources are the name of ``root``.

    Args:
        root: folder that paths are relative to.
        folders: split, ``""`` for none, and path of each class folder.
        class_names: the classes.
        label_of: label of each folder's name, -1 for one that is left out.
        meanings: other meanings of labels in tables beside the folders, which are compared with these.
        reasons: why folders are left out, by name.
        allow_outside: follow links that lead out of ``root``.
    """
    paths: list[str] = []
    labels: list[int] = []
    splits: list[str] = []
    left_out = [(path.relative_to(root).as_posix(), "not in a class folder") for path in _stray_images(root, folders)]
    for split, folder in folders:
        reason = (reasons or {}).get(folder.name, f"class '{folder.name}' is left out")
        for path, is_image in walk_images(folder, None if allow_outside else root):
            place = path.relative_to(root).as_posix()
            if label_of[folder.name] < 0:
                left_out.append((place, reason))
            elif not is_image:
                left_out.append((place, "not an image by its name"))
            else:
                paths.append(place)
                labels.append(label_of[folder.name])
                splits.append(split)
    listing = Listing(
        root=root,
        class_names=class_names,
        paths=np.array(paths, np.str_),
        labels=np.array(labels, np.int64),
        splits=np.array(splits, "<U5"),
        sources=np.full(len(paths), root.name),
        left_out=tuple(left_out),
    )
    return replace(listing, remarks=compared_with_tables(root, listing, meanings))


def _stray_images(root: Path, folders: list[tuple[str, Path]]) -> list[Path]:
    """Return the images that lie beside the class folders, or beside the split folders."""
    places = dict.fromkeys([root, *(folder.parent for _, folder in folders)])
    return [path for place in places for path in entries(place) if is_image_name(path) and not path.is_dir()]


class ImageFolderDataModule(FilesDataModule):
    """A tree of images, one folder for each expression; layouts: see this module.

    Args:
        root: the folder, or a .zip or .tar of it.
        mapping: meanings of folder names that are not known, such as ``{joyful: happy, other: null}``; ``null`` leaves
            a class out.
        class_names: classes of your own, in the order of their labels; ``null`` takes the seven, or the eight if there
            is contempt.
        source: name of this set in reports; ``null`` for the name of the folder.
        **options: of ``FilesDataModule``.
    """

    def __init__(
        self,
        root: str,
        mapping: dict[str, str | None] | None = None,
        class_names: list[str] | None = None,
        source: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.mapping = mapping
        self.source = Path(root).expanduser().resolve().name if source is None else source
        self._folder = self.opened(root)
        folders = class_folders(self._folder)
        meanings, _ = meanings_of(self._folder, folders, mapping, class_names)
        names = [folder.name for _, folder in folders]
        self.class_names, _ = read_names(names, short_path(Path(root)), meanings, class_names)

    def list_files(self) -> Listing:
        """List the tree."""
        return list_image_folder(
            self._folder,
            mapping=self.mapping,
            class_names=list(self.class_names),
            source=self.source,
            allow_outside=self.allow_outside,
        )
