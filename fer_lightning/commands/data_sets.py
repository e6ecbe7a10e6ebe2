"""What the verbs of ``fer data`` share: opening the data set, checking where to write, counting."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fer_lightning.cli.data_set import data_module
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.errors import ConfigError, FERError
from fer_lightning.text import one_line, short_path, table_lines

__all__ = ["check_copies", "checked_folder", "checked_place", "counts_text", "name_of", "opened"]

_MANY_COPIES = 10  # of one image: above it is told


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


def checked_place(out: str, data: EmotionDataModule) -> Path:
    """Return where to write, checked before anything that takes long; raise :class:`ConfigError` if that cannot be."""
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


def checked_folder(out: str, data: EmotionDataModule) -> Path:
    """Return the folder to write into, which may exist, checked likewise."""
    folder = checked_place(out, data)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(one_line(f"{short_path(folder)}: expected a folder to write into, found a file"))
    return folder


def check_copies(counts: Mapping[str, int], at_least: int, most: int) -> None:
    """See how often an image of each class must be copied to have ``at_least`` of them; say so where it is often.

    Raises:
        ConfigError: if it is more often than ``most``.
    """
    needed = {name: math.ceil((at_least - count) / count) for name, count in counts.items() if 0 < count < at_least}
    if not needed:
        return
    name = max(needed, key=lambda each: needed[each])
    what = f"{at_least:,} images of '{name}' are {needed[name]:,} copies of each of its {counts[name]:,}"
    if needed[name] > most:
        raise ConfigError(
            f"{what}; pass --copies {needed[name]} to make them, or --at_least {counts[name] * (most + 1)} for fewer"
        )
    if needed[name] > _MANY_COPIES:
        print(f"fer: {what}: a network may learn these by heart", file=sys.stderr)


def name_of(data: EmotionDataModule) -> str:
    """Return the data module's name and where it reads."""
    root = getattr(data, "root", None)
    return type(data).__name__ if root is None else f"{type(data).__name__}, {root}"


def counts_text(table: SamplesTable) -> str:
    """Return the number of images of each class in each split, as lines for a terminal."""
    splits = [split for split in (*SPLITS, "") if len(table.rows(split))]
    counts = {split: table.class_counts(split) for split in splits}
    rows: list[tuple[str, ...]] = [("", *(split or "unused" for split in splits))]
    rows += [(name, *(f"{counts[split][name]:,}" for split in splits)) for name in table.class_names]
    rows.append(("all", *(f"{sum(counts[split].values()):,}" for split in splits)))
    return "\n".join(table_lines(rows, narrowest=8))
