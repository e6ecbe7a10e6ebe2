"""Which folder a verb writes its findings into, found out before anything that takes long."""

from __future__ import annotations

import shlex
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.predictions import PREDICTIONS
from fer_lightning.outputs import folder_to_write
from fer_lightning.runs.checkpoint import CHECKPOINTS
from fer_lightning.runs.model_folder import is_model_folder
from fer_lightning.text import one_line, short_path

__all__ = ["page_folder"]


def page_folder(verb: str, out: Path | None, run: Path | None = None, of: str = "") -> Path:
    """Return the folder that a verb writes its page into; it may hold an older page of that verb.

    It is ``out`` if that is given. Else it is named like the verb: in the folder of the run that the verb is about,
    whose pages link to it; in the working folder where there is no run, or several. A model folder is passed on, and
    faces of a data set do not belong into it. What is found of other images than the usual ones lies in a folder of its
    own, such as ``explain-test``.

    Args:
        verb: whose folders are known by their numbers, ``<verb>.json``.
        out: ``--out``; ``None`` if it was not given.
        run: folder of the run, ``None`` for another model, or several.
        of: which images it is about, a name; empty for the usual ones.

    Raises:
        ConfigError: if nothing can be written there, or the page of something else would be overwritten.
    """
    usual, what = (Path() if run is None else run) / (f"{verb}-{of}" if of else verb), ""
    folder = folder_to_write(usual if out is None else out)
    if (folder / CHECKPOINTS).is_dir():
        what = "is the folder of a run"
    elif (folder / PREDICTIONS).exists():
        what = "is the folder of an evaluation"
    elif is_model_folder(folder):
        what = "is a model folder"
    elif (folder / "index.html").exists() and not (folder / f"{verb}.json").exists():
        what = f"has the page of something else (there is no {verb}.json)"
    if what:
        other = shlex.quote(str(folder / verb))
        raise ConfigError(f"{one_line(short_path(folder))} {what}: pass another --out, such as --out {other}")
    return folder
