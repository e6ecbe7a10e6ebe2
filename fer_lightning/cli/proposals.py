"""What to type in place of words that fit no option, and for what is not there; nothing heavy is imported."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.cli.config_files import values_in
from fer_lightning.cli.known_options import FAMILIES, SECTIONS, options_of_data, plain_options
from fer_lightning.cli.signatures import Types, class_signature
from fer_lightning.cli.values import typed
from fer_lightning.errors import ConfigError
from fer_lightning.text import one_line

__all__ = [
    "NEEDED_TOO",
    "check_single_class",
    "check_sources",
    "data_options",
    "lacking_arguments",
    "no_callback",
    "no_option",
]

_VALUES = {
    "T_max": "30",
    "gamma": "0.1",
    "max_lr": "0.01",
    "monitor": "val_loss",
    "name": "mine",
    "project": "faces",
    "root": "PATH",
    "save_dir": "runs",
    "schedule": "'{2: 1}'",
    "step_size": "10",
}
"""Values that make sense of arguments that have no default."""

NEEDED_TOO = {"OneCycleLR": ("total_steps",)}
"""Arguments that have a default and are needed nevertheless."""


def data_options(path: str) -> str:
    """Return the end of a message: the options that read a data set, and how to learn its class."""
    place = shlex.quote(path)
    if path.endswith((".yaml", ".yml")):
        return f"; did you mean --config {place}?"
    kind = "ManifestDataModule" if re.search(r"\.(csv|tsv|parquet|json|jsonl)$", path) else "ImageFolderDataModule"
    return f"; did you mean --data {kind} --data.root {place}? (fer data inspect {place} tells the class)"


def no_option(verb: str, word: str, before: str) -> str:
    """Return the message for a word on a command line that belongs to no option.

    Args:
        verb: what was called.
        word: the word.
        before: the option before it and its value.
    """
    text = f"'{word}' belongs to no option"
    if word.startswith(("–", "—")):  # what word processors make of two dashes
        return f"'{word}' begins with a long dash; did you mean --{word.lstrip('-–—')}?"
    name, equals, value = word.partition("=")
    if name == "data" and Path(value).expanduser().exists():
        return f"{text}{data_options(value)}"
    if equals and name not in SECTIONS and (name in plain_options() or re.fullmatch(r"\w+(\.\w+)+", name)):
        return f"{text}; did you mean --{name}={shlex.quote(value)}?"
    if Path(word).expanduser().exists():
        return f"{text}{data_options(word)}"
    option, _, given = before.partition(" ")
    key = option.removeprefix("--")
    types = plain_options().get(key, options_of_data().get(key.removeprefix("data.")))
    if given and re.fullmatch(r"[\w.]+,?", word) and (types is None or types.lists or types.open):
        return f"{text}; did you mean {option} '[{given.rstrip(',')}, {word.rstrip(',')}]'?"
    return f"{text} (see fer {verb} --help)"


def no_callback(name: str, where: str, text: str | None) -> str:
    """Return the message for an argument of a callback where none is named."""
    classes = FAMILIES["trainer.callbacks"].classes
    known = (each for each in ("EarlyStopping", "EMA", *classes) if _has_argument(classes.get(each), name))
    kind = next(known, "")
    if not kind:
        return f"{where}: name the callback before its arguments: --trainer.callbacks+=CLASS"
    monitor = " --trainer.callbacks.monitor val_loss" if kind == "EarlyStopping" and name != "monitor" else ""
    value = "" if text is None else f" --trainer.callbacks.{name} {shlex.quote(text)}"
    pasted = f"--trainer.callbacks+={kind}{monitor}{value}"
    return f"{where} is an argument of a callback that nothing names; did you mean {pasted}?"


def _has_argument(place: str | None, name: str) -> bool:
    signature = None if place is None else class_signature(place)
    return signature is not None and name in signature.arguments


def lacking_arguments(option: str, kind: str, names: Sequence[str]) -> str:
    """Return the message for arguments without which a class cannot be made.

    Args:
        option: the option that has named the class.
        kind: the name of the class.
        names: the arguments.
    """
    if kind == "OneCycleLR":
        return f"OneCycleLR needs the number of steps, which the run knows: --{option} OneCycle"
    values = " ".join(f"--{option}.{name} {_VALUES.get(name, 'VALUE')}" for name in names)
    how = "pass" if any(name not in _VALUES or name == "root" for name in names) else "pass for example"
    return f"{kind} needs {', '.join(names)}: {how} {values}"


def check_single_class(types: Types, value: str, where: str) -> None:
    """Refuse a word in place of a class, where an argument takes one class and those that are derived from it.

    Raises:
        ConfigError: with the class.
    """
    names = [place.rpartition(".")[2] for place in types.classes if place.startswith("fer_lightning.")]
    is_word = re.fullmatch(r"[A-Za-z_]+", value) is not None and value.lower() not in ("null", "none", "~")
    if len(names) == len(types.classes) == 1 and is_word and value not in names and not types.scalars & {str, bool}:
        raise ConfigError(one_line(f"{where}: there is no class '{value}'; did you mean {typed(where, names[0])}?"))


def check_sources(value: object, where: str) -> None:
    """Refuse sources of ``HybridDataModule`` that are no mappings: the parser would take each for a config file.

    Raises:
        ConfigError: with the mapping that is meant.
    """
    sources = values_in(value) if isinstance(value, str) else value
    for name, source in sources.items() if isinstance(sources, dict) else ():
        if not isinstance(source, dict):
            found = f"{{{name}: {{path: {source}}}}}"
            raise ConfigError(f"{where}: '{name}' must say where it lies; did you mean {typed(where, found)}?")
