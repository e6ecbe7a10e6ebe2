"""``fer data``: look at a data set, clean it, convert it.

What needs torch is imported inside of the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fer_lightning.cli.early_check import check_data_options
from fer_lightning.cli.known_options import data_modules, options_of_data
from fer_lightning.cli.verbs import Rest
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import absent, did_you_mean

__all__ = ["OfData", "balance", "convert", "dedupe", "inspect"]

_MOST_COPIES = 50  # a class that needs more has too few images to learn from


def _check(verb: str, own: Mapping[str, Any], of_data: Sequence[str]) -> None:
    """Raise a ``FERError`` for a path at which nothing is, or a wrong option of the data set."""
    check_data_options(verb, of_data)
    path = own.get("path")
    if path is not None and not Path(path).expanduser().exists():
        is_config = path.endswith((".yaml", ".yml"))
        expected = "a file as in configs/data" if is_config else "a folder, a table or an archive"
        raise DataError(absent(Path(path), expected))


def _nearest_of_data(flag: str) -> str:
    """Return the end of a message about an option that is written without ``--data``."""
    return did_you_mean(f"--data.{flag.lstrip('-')}", [f"--data.{name}" for name in options_of_data()])


_ABOUT_DATA = """\
the data set:
  PATH                  a folder, a table or an archive, told apart by its
                        layout, or a YAML file as in configs/data
  --data CLASS          the class that reads it, where the layout does not tell:
                        {classes}
  --data.OPTION VALUE   an option of the class, such as --data.on_error skip
  --data.help CLASS     list the options of a class
""".format(classes=f"\n{'':24}".join(data_modules()))
OfData = Annotated[list[str], Rest("--data.OPTION VALUE", _ABOUT_DATA, "--data", _check, _nearest_of_data)]
"""Arguments that are passed on to a data module: ``--data.OPTION VALUE``."""


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
    from fer_lightning.commands.data_sets import checked_folder, counts_text, name_of, opened
    from fer_lightning.inspection.page import inspect_table

    with opened("inspect", path, of_data) as data:
        folder = checked_folder(out, data)
        if hasattr(data, "on_error"):
            vars(data)["on_error"] = "skip"  # bad files belong on the page
        table, name = data.table, name_of(data)
        shown: dict[str, Any] = {"tsne": tsne, "tsne_samples": tsne_samples, "mirrored": mirrored, "seed": seed}
        result = inspect_table(table, folder, name=name, notes=table.left_out, **shown)
        print(counts_text(table))
        for finding in result["findings"]:
            print(f"- {finding}")
        print(f"page: {folder / 'index.html'}")


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
    from fer_lightning.commands.data_sets import checked_folder, name_of, opened
    from fer_lightning.data.splitting.dedupe import clean, find_duplicates, without_blank
    from fer_lightning.inspection.dedupe_report import dedupe_text, write_dedupe_report

    with opened("dedupe", path, of_data) as data:
        folder, table = checked_folder(out, data), data.table
        duplicates = find_duplicates(table, near=near, mirrored=mirrored)
        cleaning = clean(table, duplicates, conflicts=conflicts, near=near)
        if not blank:
            cleaning = without_blank(cleaning, duplicates)
        options = {"near": near, "mirrored": mirrored, "conflicts": conflicts, "blank": blank}
        print(
            dedupe_text(write_dedupe_report(table, duplicates, cleaning, folder, name=name_of(data), options=options))
        )
        manifest = folder / "manifest.csv"
        print(f"cleaned manifest: {manifest} (train on it: fer fit ... --data.keep {manifest})")


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
    from fer_lightning.commands.data_sets import checked_place, counts_text, opened
    from fer_lightning.data.detect import detect_datamodule
    from fer_lightning.data.storage.convert import check_target, convert_table

    with opened("convert", path, of_data) as data:
        target = checked_place(out, data)
        check_target(target, to)
        form: dict[str, Any] = {"size": size, "channels": channels, "encoding": encoding, "quality": quality}
        written = convert_table(data.table, target, to, description=data.describe(), **form)
        print(counts_text(data.table))
        left_out = f", {written['left_out']:,} left out" if written["left_out"] else ""
        print(f"{to}: {target} ({written['images']:,} images, {written['bytes'] / 1e6:,.1f} MB{left_out})")
        reader, root = detect_datamodule(target)
        print(f"train on it: fer fit ... --data {reader} --data.root {root}")


def balance(
    path: str | None = None,
    *,
    out: str,
    at_least: int | None = None,
    copies: int = _MOST_COPIES,
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
        at_least: training images that each class has at the end; those of the largest class if not given, none for a
            data set that balances itself, such as BalancedFER2013DataModule.
        copies: copies of one image at most; more are refused.
        rotation: largest angle, degrees, either way.
        shift: largest shift along each axis, as a share of the side.
        zoom: largest change of scale.
        flip: mirror every other one.
        seed: chooses the changes.
        of_data: options of the data set.
    """
    from fer_lightning.commands.data_sets import check_copies, checked_place, counts_text, opened
    from fer_lightning.data.sets.balanced import BalancedFER2013DataModule
    from fer_lightning.data.storage.convert import check_target, convert_table
    from fer_lightning.data.table.synthesis import Recipe, synthesise, with_kinds

    with opened("balance", path, of_data) as data:
        target = checked_place(out, data)
        check_target(target, "folders")
        counts = data.class_counts
        if at_least is None:
            at_least = 0 if isinstance(data, BalancedFER2013DataModule) else max(counts.values())
        empty = [name for name, count in counts.items() if not count]
        if at_least and empty and (fewer := data.class_option()):
            raise ConfigError(f"no training image of {', '.join(empty)}; pass {fewer}")
        check_copies(counts, at_least, copies)
        recipe = Recipe(rotation=rotation, shift=shift, zoom=zoom, flip=flip)
        table = synthesise(data.table, at_least, seed=seed, recipe=recipe)
        convert_table(table, target, "folders", encoding="png", description=data.describe())
        print(counts_text(table))
        print(f"{(with_kinds(table).columns['parent'] != '').sum():,} of them are synthetic")
        manifest = target / "manifest.csv"
        print(f"manifest: {manifest}")
        print(f"train on it: fer fit ... --data ManifestDataModule --data.root {manifest}")
