"""What the verbs of ``fer data`` do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fer_lightning.cli.data_set import data_module
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.sets.balanced import BalancedFER2013DataModule
from fer_lightning.data.splitting.dedupe import Conflicts, clean, find_duplicates, without_blank
from fer_lightning.data.storage.convert import Format, check_target
from fer_lightning.data.storage.convert import convert as convert_table
from fer_lightning.data.storage.encoding import Encoding
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.data.table.synthesis import Recipe, synthesise, with_kinds
from fer_lightning.errors import ConfigError, FERError
from fer_lightning.inspection.dedupe_report import dedupe_text, write_dedupe_report
from fer_lightning.inspection.page import inspect_table
from fer_lightning.text import one_line, short_path, table_lines

__all__ = ["balance", "convert", "dedupe", "inspect", "opened"]

_AT_LEAST = 4500  # of the report on compact networks


@contextmanager
def opened(verb: str, path: str | None, flags: Sequence[str]) -> Iterator[EmotionDataModule]:
    """Give the data set that a command line names, see :func:`.data_module`; a full disk is a :class:`FERError`."""
    data = data_module(f"fer data {verb}", path, flags)
    try:
        yield data
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder without permission: nothing that a traceback explains
        raise FERError(one_line(f"{error.filename or verb}: {error.strerror or error}")) from error


def inspect(data: EmotionDataModule, out: str, *, tsne: bool, tsne_samples: int, mirrored: bool, seed: int) -> None:
    """Write the page of a data set; see :func:`fer_lightning.commands.data.inspect`."""
    folder = _checked_folder(out, data)
    if hasattr(data, "on_error"):
        vars(data)["on_error"] = "skip"  # bad files belong on the page
    table = data.table
    result = inspect_table(
        table,
        folder,
        name=_name(data),
        notes=table.left_out,
        tsne=tsne,
        tsne_samples=tsne_samples,
        mirrored=mirrored,
        seed=seed,
    )
    print(_counts_text(table))
    for finding in result["findings"]:
        print(f"- {finding}")
    print(f"page: {folder / 'index.html'}")


def dedupe(data: EmotionDataModule, out: str, *, near: bool, mirrored: bool, conflicts: Conflicts, blank: bool) -> None:
    """Write what stands twice in a data set; see :func:`fer_lightning.commands.data.dedupe`."""
    folder = _checked_folder(out, data)
    table = data.table
    duplicates = find_duplicates(table, near=near, mirrored=mirrored)
    cleaning = clean(table, duplicates, conflicts=conflicts, near=near)
    if not blank:
        cleaning = without_blank(cleaning, duplicates)
    options = {"near": near, "mirrored": mirrored, "conflicts": conflicts, "blank": blank}
    print(dedupe_text(write_dedupe_report(table, duplicates, cleaning, folder, name=_name(data), options=options)))
    manifest = folder / "manifest.csv"
    print(f"cleaned manifest: {manifest} (train on it: fer fit ... --data.keep {manifest})")


def convert(
    data: EmotionDataModule,
    to: Format,
    out: str,
    *,
    size: int | None,
    channels: int | None,
    encoding: Encoding,
    quality: int,
) -> None:
    """Store a data set in another form; see :func:`fer_lightning.commands.data.convert`."""
    target = _checked_place(out, data)
    check_target(target, to)
    written = convert_table(
        data.table,
        target,
        to,
        size=size,
        channels=channels,
        encoding=encoding,
        quality=quality,
        description=data.describe(),
    )
    print(_counts_text(data.table))
    left_out = f", {written['left_out']:,} left out" if written["left_out"] else ""
    print(f"{to}: {target} ({written['images']:,} images, {written['bytes'] / 1e6:,.1f} MB{left_out})")
    reader, root = detect_datamodule(target)
    print(f"train on it: fer fit ... --data {reader} --data.root {root}")


def balance(
    data: EmotionDataModule,
    out: str,
    at_least: int | None,
    *,
    rotation: float,
    shift: float,
    zoom: float,
    flip: bool,
    seed: int,
) -> None:
    """Write a data set with changed copies of its training images; see :func:`fer_lightning.commands.data.balance`."""
    target = _checked_place(out, data)
    check_target(target, "folders")
    if at_least is None:
        at_least = 0 if isinstance(data, BalancedFER2013DataModule) else _AT_LEAST
    recipe = Recipe(rotation=rotation, shift=shift, zoom=zoom, flip=flip)
    table = synthesise(data.table, at_least, seed=seed, recipe=recipe)
    convert_table(table, target, "folders", encoding="png", description=data.describe())
    print(_counts_text(table))
    print(f"{(with_kinds(table).groups['parent'] != '').sum():,} of them are synthetic")
    manifest = target / "manifest.csv"
    print(f"manifest: {manifest}")
    print(f"train on it: fer fit ... --data ManifestDataModule --data.root {manifest}")


def _checked_place(out: str, data: EmotionDataModule) -> Path:
    """Return where to write, checked before anything that takes long."""
    place = Path(out).expanduser()
    nearest = next(path for path in place.absolute().parents if path.exists())
    if not nearest.is_dir():
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {short_path(nearest)} is a file"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {short_path(nearest)} is read-only"))
    root = getattr(data, "root", None)
    if isinstance(root, str | Path):
        folder = Path(root).expanduser()
        if folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                one_line(f"{short_path(place)}: lies inside of the data set {short_path(folder)}; pass another --out")
            )
    return place


def _checked_folder(out: str, data: EmotionDataModule) -> Path:
    """Return the folder to write into, which may exist, checked likewise."""
    folder = _checked_place(out, data)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(one_line(f"{short_path(folder)}: expected a folder to write into, found a file"))
    return folder


def _name(data: EmotionDataModule) -> str:
    root = getattr(data, "root", None)
    return type(data).__name__ if root is None else f"{type(data).__name__}, {root}"


def _counts_text(table: SamplesTable) -> str:
    """Return the number of images of each class in each split, as lines for a terminal."""
    splits = [split for split in (*SPLITS, "") if len(table.rows(split))]
    counts = {split: table.class_counts(split) for split in splits}
    rows: list[tuple[str, ...]] = [("", *(split or "unused" for split in splits))]
    rows += [(name, *(f"{counts[split][name]:,}" for split in splits)) for name in table.class_names]
    rows.append(("all", *(f"{sum(counts[split].values()):,}" for split in splits)))
    return "\n".join(table_lines(rows, narrowest=8))
