"""Where a verb may write, found out before anything that takes long."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.predictions import PREDICTIONS
from fer_lightning.runs.checkpoint import CHECKPOINTS
from fer_lightning.runs.model_folder import is_model_folder
from fer_lightning.text import one_line, short_path

__all__ = ["folder_to_write", "page_folder", "place_to_write"]


def place_to_write(out: str | Path) -> Path:
    """Return where to write a file or folder; raise :class:`ConfigError` if that cannot be."""
    place = Path(out).expanduser()
    nearest = next(path for path in place.absolute().parents if path.exists())
    nearest = place if place.is_dir() else nearest
    if not nearest.is_dir():
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {short_path(nearest)} is a file"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {short_path(nearest)} is read-only"))
    return place


def folder_to_write(out: str | Path) -> Path:
    """Return the folder to write into, which may exist, checked likewise."""
    folder = place_to_write(out)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(one_line(f"{short_path(folder)}: expected a folder to write into, found a file"))
    return folder


def page_folder(out: str | Path, numbers: str) -> Path:
    """Return the folder that a verb writes its page into, checked likewise; it may hold an older page of that verb.

    Args:
        out: the folder.
        numbers: name of the file with the verb's numbers, such as ``compare.json``, by which its folders are known.

    Raises:
        ConfigError: if nothing can be written there, or the page of something else would be overwritten.
    """
    folder, what = folder_to_write(out), ""
    if (folder / CHECKPOINTS).is_dir():
        what = "is the folder of a run"
    elif (folder / PREDICTIONS).exists():
        what = "is the folder of an evaluation"
    elif is_model_folder(folder):
        what = "is a model folder"
    elif (folder / "index.html").exists() and not (folder / numbers).exists():
        what = f"has the page of something else (there is no {numbers})"
    if what:
        other = shlex.quote(str(folder / numbers.removesuffix(".json")))
        raise ConfigError(f"{one_line(short_path(folder))} {what}: pass another --out, such as --out {other}")
    return folder
