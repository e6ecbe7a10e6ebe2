"""``fer data``: look at a data set, clean it, convert it. What the verbs do stands in :mod:`.data_work`."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.cli.verbs import Rest

__all__ = ["OfData", "balance", "convert", "dedupe", "inspect"]


def _data_modules() -> list[str]:
    """Return the names of the data modules that ``fer_lightning.data`` exports, without importing it."""
    spec = find_spec("fer_lightning.data")
    assert spec is not None  # it is a part of this package
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    names = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return sorted(name for name in names if name.endswith("DataModule") and name != "EmotionDataModule")


_ABOUT_DATA = """\
the data set:
  PATH                  a folder, a table or an archive, told apart by its
                        layout, or a YAML file as in configs/data
  --data CLASS          the class that reads it, where the layout does not tell:
                        {classes}
  --data.OPTION VALUE   an option of the class, such as --data.on_error skip
  --data.help CLASS     list the options of a class
""".format(classes=f"\n{'':24}".join(_data_modules()))
OfData = Annotated[list[str], Rest("--data.OPTION VALUE", _ABOUT_DATA, prefix="--data")]


def inspect(
    path: str | None = None,
    *,
    out: str = "inspect",
    tsne: bool = False,
    tsne_samples: int = 3000,
    mirrored: bool = False,
    seed: int = 0,
    of_data: OfData,
) -> None:
    """Counts, pixel statistics, mean faces, samples, duplicates and bad files, as one HTML page, PNGs and JSON.

    Args:
        path: where the data set lies, see below.
        out: folder to write into.
        tsne: also a map of the raw pixels: PCA to 50, then t-SNE (needs scikit-learn).
        tsne_samples: training images on that map, at most.
        mirrored: count mirrored images as near-duplicates.
        seed: chooses the images shown.
        of_data: options of the data set; bad files are listed and left out.
    """
    from fer_lightning.commands import data_work  # here, because it imports torch and lightning

    with data_work.opened("inspect", path, of_data) as data:
        data_work.inspect(data, out, tsne=tsne, tsne_samples=tsne_samples, mirrored=mirrored, seed=seed)


def dedupe(
    path: str | None = None,
    *,
    out: str = "dedupe",
    near: bool = True,
    mirrored: bool = False,
    conflicts: Literal["majority", "drop", "keep"] = "majority",
    blank: bool = False,
    of_data: OfData,
) -> None:
    """Exact and near-duplicates within and across splits, conflicting labels, and a cleaned manifest.

    Args:
        path: where the data set lies, see below.
        out: folder to write into: dedupe.json, duplicates.csv, removed.csv, manifest.csv, pictures.
        near: also look for near-duplicates, and leave them out of the manifest.
        mirrored: count mirrored images as near-duplicates.
        conflicts: what becomes of equal images with different labels: the label of the majority (none if it is a tie),
            drop all, or keep the first.
        blank: keep images of one colour in the manifest.
        of_data: options of the data set.
    """
    from fer_lightning.commands import data_work  # here, because it imports torch and lightning

    with data_work.opened("dedupe", path, of_data) as data:
        data_work.dedupe(data, out, near=near, mirrored=mirrored, conflicts=conflicts, blank=blank)


def convert(
    path: str | None = None,
    *,
    to: Literal["arrow", "shards", "folders", "parquet", "csv"],
    out: str,
    size: int | None = None,
    channels: int | None = None,
    encoding: Literal["png", "jpeg", "webp"] = "png",
    quality: int = 92,
    of_data: OfData,
) -> None:
    """Store a data set in another form: arrow (memory-mapped), shards (streamed), folders, parquet or csv.

    Args:
        path: where the data set lies, see below.
        to: the form. Arrow and Parquet have random access; shards stream from a disk or an object store; folders come
            with a manifest; csv is the pixel form of FER2013.
        out: folder, or for parquet and csv the file, to write; must not exist or be empty.
        size: side of the stored images, pixels; the data module's own if not given.
        channels: 1 (gray) or 3 (RGB); the data module's own if not given.
        encoding: of the stored images; png is lossless.
        quality: of JPEG and WebP, 1..100.
        of_data: options of the data set.
    """
    from fer_lightning.commands import data_work  # here, because it imports torch and lightning

    with data_work.opened("convert", path, of_data) as data:
        data_work.convert(data, to, out, size=size, channels=channels, encoding=encoding, quality=quality)


def balance(
    path: str | None = None,
    *,
    out: str,
    at_least: int | None = None,
    rotation: float = 15.0,
    shift: float = 0.1,
    zoom: float = 0.1,
    flip: bool = True,
    seed: int = 0,
    of_data: OfData,
) -> None:
    """Add changed copies to the training split until each class has enough, as images and a manifest with parents.

    Args:
        path: where the data set lies, see below.
        out: folder to write; must not exist or be empty.
        at_least: training images that each class has at the end; 4500 if not given, none for a data set that balances
            itself, such as BalancedFER2013DataModule.
        rotation: largest angle, degrees, either way.
        shift: largest shift along each axis, as a share of the side.
        zoom: largest change of scale.
        flip: mirror every other one.
        seed: chooses the changes.
        of_data: options of the data set.
    """
    from fer_lightning.commands import data_work  # here, because it imports torch and lightning

    with data_work.opened("balance", path, of_data) as data:
        data_work.balance(data, out, at_least, rotation=rotation, shift=shift, zoom=zoom, flip=flip, seed=seed)
