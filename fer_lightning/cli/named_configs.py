"""Config files by name: as a path, in the working directory, or among those that come with the package.

A path that exists always wins. Else ``quickstart``, ``quickstart.yaml`` and ``configs/quickstart.yaml`` mean the same
file of the package, wherever ``fer`` is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_lightning.cli.known_options import SECTIONS
from fer_lightning.shipped import shipped

__all__ = ["PARTS", "config_file", "shipped_configs", "with_config_files", "with_fragments"]

PARTS = ("data", *SECTIONS)
"""Keys of a config file whose value may be the name of another file."""

_FILES = ("--config", "-c", "--space")
_SUFFIXES = ("", ".yaml", ".yml")


def shipped_configs() -> dict[str, Path]:
    """Return the config files that come with the package by name, such as ``experiment/fer2013_a``."""
    root = shipped("configs")
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def config_file(name: str, *folders: Path) -> Path | None:
    """Return the config file that a name stands for, ``None`` if there is none.

    Args:
        name: a path or a name, with or without ``.yaml``.
        folders: where it is looked for before the package is, in this order.
    """
    for folder in folders or (Path(),):
        for suffix in _SUFFIXES:
            path = folder / f"{name}{suffix}"
            try:
                if path.is_file():
                    return path
            except (OSError, ValueError):  # a name that no file can have
                return None
    plain = name.removeprefix("./").removeprefix("configs/").removesuffix(".yaml")
    return shipped_configs().get(plain)


def with_config_files(args: Sequence[str]) -> list[str]:
    """Return a command line in which options that take a config file name a path that is there.

    ``--model``, ``--data`` and ``--trainer`` take the name of a file if it has a folder or ends with ``.yaml``;
    otherwise it is a class. Any other word is taken for a name if it ends with ``.yaml``.
    """
    done: list[str] = []
    flag = ""
    for word in args:
        option, equals, value = word.partition("=")
        if equals and option.startswith("-"):
            done.append(f"{option}={_path(option, value)}")
        else:
            done.append(_path(flag, word))
        flag = "" if equals else word
    return done


def _path(option: str, value: str) -> str:
    """Return what is typed behind an option, the path of a config file in place of its name."""
    if option in _FILES:
        found = config_file(value) if value else None
    elif ((_is_part(option) and _names_file(value)) or value.endswith(".yaml")) and not Path(value).exists():
        found = config_file(value)
    else:
        return value
    return value if found is None else str(found)


def _is_part(option: str) -> bool:
    return option.startswith("--") and option[2:] in PARTS


def _names_file(value: str) -> bool:
    """Tell whether a part is named by a file rather than by a class or its values."""
    return value[:1] not in ("{", "[") and "\n" not in value and ("/" in value or value.endswith((".yaml", ".yml")))


def with_fragments(values: Mapping[Any, Any], *folders: Path) -> dict[Any, Any]:
    """Return the values of a config file in which parts that name another file have a path that is there.

    Args:
        values: of the file.
        folders: where a fragment is looked for before the package is: the file's own folder first.
    """
    done = dict(values)
    for part in PARTS:
        name = values.get(part)
        if not isinstance(name, str) or not _names_file(name) or (folders and (folders[0] / name).exists()):
            continue
        if (found := config_file(name, *folders)) is not None:
            done[part] = str(found.absolute())
    return done
