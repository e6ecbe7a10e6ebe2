"""The order of options: a class may be named before or after its arguments; nothing heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fer_lightning.cli.known_options import SECTIONS

__all__ = ["classes_first"]


def classes_first(args: Sequence[str]) -> list[str]:
    """Return a command line in which each class stands before its arguments, as the parser wants it.

    Callbacks and loggers stay where they are, because there may be several; so does a class with a config file between
    it and its arguments, because the file may name another one.

    >>> classes_first(["--data.root", "faces", "--name", "a", "--data", "ImageFolderDataModule"])
    ['--data', 'ImageFolderDataModule', '--data.root', 'faces', '--name', 'a']
    """
    options: list[list[str]] = []
    for argument in args:
        if options and not re.match(r"-[^\d.]", argument):
            options[-1].append(argument)
        else:
            options.append([argument])
    ordered: list[list[str]] = []
    for option in options:
        ordered.insert(_place(option[0].partition("=")[0], [before[0].partition("=")[0] for before in ordered]), option)
    return [word for option in ordered for word in option]


def _place(flag: str, before: Sequence[str]) -> int:
    """Return where a flag belongs among those before it."""
    place = len(before)
    if not flag.startswith("--") or flag in before or flag[2:] in SECTIONS or flag.startswith("--trainer."):
        return place
    for at in range(len(before) - 1, -1, -1):
        if before[at] in ("--config", "-c"):
            break
        if before[at].startswith(f"{flag}."):
            place = at
    return place
