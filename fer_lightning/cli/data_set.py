"""The data set that a command line of ours names: by a path, or by ``--data CLASS`` and ``--data.OPTION VALUE``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser

import fer_lightning.data
from fer_lightning.cli.option_order import classes_first
from fer_lightning.cli.parsing import prepare_parsing, readable_errors
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.errors import ConfigError
from fer_lightning.lazy import import_all
from fer_lightning.text import absent, folded, one_line, short_path

__all__ = ["data_module"]

import_all(fer_lightning.data)

_YAML = (".yaml", ".yml")


def data_module(verb: str, path: str | None, flags: Sequence[str]) -> EmotionDataModule:
    """Make the data module that a command line names; no data is read.

    Args:
        verb: what was called, such as ``fer data inspect``, for messages.
        path: where the data set lies, or a YAML file with ``class_path`` and ``init_args``; ``None`` if only ``flags``
            say it.
        flags: ``--data CLASS`` and options of the class.

    Raises:
        FERError: for whatever a user can mend.
        SystemExit: after ``--data.help``.
    """
    prepare_parsing()
    parser = ArgumentParser(prog=verb, exit_on_error=False, allow_abbrev=False)
    parser.add_subclass_arguments(EmotionDataModule, "data", as_group=False, required=True)
    with readable_errors():
        named = parser.parse_args(_named(verb, path, classes_first(flags)))
        data: EmotionDataModule = parser.instantiate_classes(named)["data"]
    return data


def _named(verb: str, path: str | None, flags: Sequence[str]) -> list[str]:
    """Turn a path into the flags that name the data module which reads it."""
    names = [flag.partition("=")[0] for flag in flags]
    for place, flag in enumerate(flags):
        named = flag.partition("=")[2] if "=" in flag else " ".join(flags[place + 1 : place + 2])
        if names[place] == "--data" and named.endswith(_YAML):
            _check_config(Path(named))
    if path is None:
        if not {"--data", "--data.help"} & set(names):
            raise ConfigError(f"name the data set: {verb} PATH, or --data CLASS --data.root PATH")
        return list(flags)
    if "--data" in names:
        return [*flags, f"--data.root={path}"]
    if path.endswith(_YAML):
        _check_config(Path(path))
        return [f"--data={path}", *flags]
    name, root = detect_datamodule(Path(path).expanduser())
    if "--data.help" in flags:
        return [f"--data.help={name}"]
    print(f"{path}: read by {name}")
    return [f"--data={name}", f"--data.root={root}", *flags]


def _check_config(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(absent(path, "a file as in configs/data"))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(one_line(f"{short_path(path)}: expected YAML ({folded(error)})")) from None
    if isinstance(values, dict) and "names" in values and "class_path" not in values:
        raise ConfigError(
            one_line(f"{short_path(path)} names the classes of a YOLO set; name its folder: {path.parent}")
        )
    if not isinstance(values, dict) or "class_path" not in values:
        raise ConfigError(one_line(f"{short_path(path)}: expected a class_path and its init_args, as in configs/data"))
