"""What the verbs of ``fer data`` share: opening the data set, checking where to write, counting."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fer_lightning.cli.data_set import data_module
from fer_lightning.cli.stored_config import as_file
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.outputs import folder_to_write, place_to_write
from fer_lightning.runs.checkpoint import CONFIG_KEY, read_checkpoint
from fer_lightning.text import one_line, short_path, table_lines

__all__ = [
    "check_copies",
    "checked_folder",
    "checked_place",
    "counts_text",
    "data_file_of",
    "name_of",
    "names_data",
    "opened",
    "opened_for",
]

_MANY_COPIES = 10  # of one image: above it is told


@contextmanager
def opened(verb: str, path: str | None, flags: Sequence[str]) -> Iterator[EmotionDataModule]:
    """Give the data set that a command line names, see ``data_module``; a full disk is a ``FERError``."""
    with _readable(verb):
        yield data_module(f"fer data {verb}", path, flags)


@contextmanager
def opened_for(
    verb: str, checkpoint: Path | None, path: str | None, flags: Sequence[str]
) -> Iterator[EmotionDataModule]:
    """Give the data set that a command line names, else the one that a model was trained with.

    Args:
        verb: what was called, such as ``fer explain``.
        checkpoint: of the model, ``None`` where there is no file that tells.
        path: where the data set lies, if it was named.
        flags: ``--data CLASS`` and options of the class; without a class, options of the one that it was trained with.

    Raises:
        FERError: for whatever a user can mend.
    """
    with ExitStack() as stack:
        stack.enter_context(_readable(verb))
        if path is None and not names_data(flags) and checkpoint is not None:
            path = stack.enter_context(data_file_of(checkpoint))
        yield data_module(verb, path, flags)


def names_data(flags: Sequence[str]) -> bool:
    """Tell whether options name the class of a data set."""
    return any(flag.partition("=")[0] == "--data" for flag in flags)


@contextmanager
def data_file_of(checkpoint: Path) -> Iterator[str]:
    """Give a YAML file that names the data which a checkpoint was trained with.

    Raises:
        CheckpointError: if the checkpoint does not say it.
    """
    config = read_checkpoint(checkpoint, mapped=True).get(CONFIG_KEY)
    if not isinstance(config, dict) or "data" not in config:
        raise CheckpointError(f"{checkpoint} does not say which data it was trained with: name it")
    with as_file(config["data"]) as file:
        yield file


@contextmanager
def _readable(verb: str) -> Iterator[None]:
    """Make one line of what the system does not let be read or written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder without permission: nothing that a traceback explains
        raise FERError(one_line(f"{error.filename or verb}: {error.strerror or error}")) from error


def checked_place(out: str | Path, data: EmotionDataModule) -> Path:
    """Return where to write, checked before anything that takes long; raise ``ConfigError`` if that cannot be."""
    place = place_to_write(out)
    root = getattr(data, "root", None)
    if isinstance(root, str | Path):
        folder = Path(root).expanduser()
        if folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                one_line(f"{short_path(place)}: lies inside of the data set {short_path(folder)}; pass another --out")
            )
    return place


def checked_folder(out: str | Path, data: EmotionDataModule) -> Path:
    """Return the folder to write into, checked likewise."""
    checked_place(out, data)
    return folder_to_write(out)


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
    """Return the name of the folder or file that a data module reads, else the data module's own."""
    root = getattr(data, "root", None)
    return type(data).__name__ if root is None else Path(root).resolve().name or str(root)


def counts_text(table: SamplesTable) -> str:
    """Return the number of images of each class in each split, as lines for a terminal."""
    splits = [split for split in (*SPLITS, "") if len(table.rows(split))]
    counts = {split: table.class_counts(split) for split in splits}
    rows: list[tuple[str, ...]] = [("", *(split or "unused" for split in splits))]
    rows += [(name, *(f"{counts[split][name]:,}" for split in splits)) for name in table.class_names]
    rows.append(("all", *(f"{sum(counts[split].values()):,}" for split in splits)))
    return "\n".join(table_lines(rows, narrowest=8))
