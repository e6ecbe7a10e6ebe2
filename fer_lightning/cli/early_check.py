"""A look at a command line of ``fer fit`` and its config files before torch and Lightning are imported.

Only what is certainly wrong is refused here, at once; all else is left to the parser of
:mod:`fer_lightning.cli.trainer_cli`, which knows everything and takes seconds.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.cli.class_names import Named, check_backbone, looked_up
from fer_lightning.cli.known_options import (
    AUTO,
    DEFAULT_ROOT,
    FAMILIES,
    LINKED,
    NEEDS_CHECKPOINT,
    PLUGIN_GROUP,
    SECTIONS,
    local_modules,
    options_of_data,
    plain_options,
)
from fer_lightning.cli.lightning_parts import check_part
from fer_lightning.cli.misspelt import nearest_argument, nearest_key, unknown_option
from fer_lightning.cli.signatures import Types, class_signature
from fer_lightning.cli.trainer_values import check_trainer_value
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs.checkpoint import find_checkpoint
from fer_lightning.text import did_you_mean, folded, one_line, short_path

__all__ = ["check_command_line", "check_data_options"]

_EXAMPLE = "--data SketchDataModule --model.backbone fer_b_fast"  # a training that needs no files
_EVALUATIONS = ("validate", "test", "predict")
_DEFAULTS = {"model.loss": "CrossEntropyLoss", "model.head": "LinearHead"}
_EXAMPLES = {"model.optimizer": "AdamW", "model.lr_scheduler": "WarmupCosine"}
_KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
_TRUTH = ("true", "false", "yes", "no", "on", "off")
_STRUCTURE = ("class_path", "init_args", "dict_kwargs")


def check_command_line(verb: str, args: Sequence[str], complete: bool = True) -> None:
    """Refuse a command line of which something is certainly wrong; nothing heavy is imported.

    Args:
        verb: what was called, such as ``fit``, for messages.
        args: the options behind it, those of ``fer fit``.
        complete: whether nothing will be added to them; a checkpoint's configuration counts as such.

    Raises:
        CheckpointError: if a checkpoint is needed and none is named.
        ConfigError: with the option or file and key, what is wrong with it, and the nearest that would be right.
    """
    if any(argument in ("-h", "--help") or re.match(r"--[\w.]+\.help\b", argument) for argument in args):
        return
    options = list(_options(verb, args))
    files = [Path(value) for key, value in options if key == "config" and value]
    named = [value for key, value in options if key == "ckpt_path"]
    named += [str(values["ckpt_path"]) for file in files if "ckpt_path" in (values := _mapping(file))]
    resumes = bool(named)
    if verb in _EVALUATIONS and (not named or AUTO in named) and not any(key == "print_config" for key, _ in options):
        raise CheckpointError(NEEDS_CHECKPOINT.format(verb=verb))
    _check_checkpoint(dict(options))
    complete = complete and (not resumes or AUTO in named)
    example = f"fer {verb} {_EXAMPLE}"
    if not options and complete:
        raise ConfigError(f"fer {verb} needs data and a network, for example: {example} (see fer {verb} --help)")
    own_classes = not complete or _has_own_classes([value for _, value in options if value], files)
    check = _Check(verb, complete, own_classes)
    check.flags(options)
    if complete and "data" not in check.chosen and not check.unread:
        raise ConfigError(f"fer {verb} needs data: --data CLASS --data.root PATH, or, to try it: {example}")


def _check_checkpoint(given: Mapping[str, str | None]) -> None:
    """Refuse the path of a checkpoint at which nothing is."""
    wanted = given.get("ckpt_path")
    is_path = wanted is not None and ("/" in wanted or wanted.endswith(".ckpt"))
    if wanted is not None and is_path and not Path(wanted).expanduser().exists():
        root = given.get("trainer.default_root_dir") or DEFAULT_ROOT
        find_checkpoint(wanted, Path(root), "", "")  # which says what there is


def check_data_options(verb: str, args: Sequence[str]) -> None:
    """Refuse options of a data set of which something is certainly wrong; what a path says of it is not known yet.

    Raises:
        ConfigError: as :func:`check_command_line`.
    """
    if any(argument.startswith("--data.help") for argument in args):
        return
    options = list(_options(verb, args))
    _Check(verb, False, _has_own_classes([value for _, value in options if value], [])).flags(options)


def _options(verb: str, args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the options of a command line without their dashes, each with its value if there is one."""
    waiting = list(args)
    while waiting:
        argument = waiting.pop(0)
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-") or flag == "-":
            raise ConfigError(f"fer {verb}: '{argument}' belongs to no option (see fer {verb} --help)")
        follows = bool(waiting) and not re.match(r"-[^\d.]", waiting[0])
        key = "config" if flag == "-c" else flag.removeprefix("--")
        yield key, value if equals else waiting.pop(0) if follows else None


def _has_own_classes(texts: Sequence[str], files: Sequence[Path]) -> bool:
    """Tell whether classes that are not known here may have short names: plug-ins', and those of the user's files."""
    if importlib.metadata.entry_points(group=PLUGIN_GROUP):
        return True
    every = [*texts, *(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())]
    return any(re.search(rf"\b{module}\.\w", text) for module in local_modules(Path.cwd()) for text in every)


@dataclass
class _Check:
    """What is known of a command line as far as it has been read.

    Attributes:
        verb: for messages.
        complete: nothing will be added to the command line.
        own_classes: classes that are not known here may have short names.
        chosen: the class of each option that takes one.
        unread: whether a file could not be read that may name any class.
        folder: that of the file that is being read; the files it names lie beside it.
    """

    verb: str
    complete: bool
    own_classes: bool
    chosen: dict[str, Named] = field(default_factory=dict)
    unread: bool = False
    folder: Path = Path()

    def flags(self, options: Sequence[tuple[str, str | None]]) -> None:
        """Look at all options of a command line."""
        unknown = [(key, value) for key, value in options if not self.flag(key, value)]
        for key, value in unknown:  # last, because the classes are known now whose options are meant
            raise ConfigError(unknown_option(self.verb, key, value, self.lacks_class))

    def flag(self, key: str, value: str | None) -> bool:
        """Look at an option of the command line; return whether there is such an option."""
        if key in ("print_config", "print_shtab"):
            return True
        name = key.rstrip("+")
        if name not in plain_options() and not _parent(name):
            return False
        if value is None:
            raise ConfigError(f"fer {self.verb}: --{key} needs a value")
        if key == "config":
            self._config(Path(value))
        else:
            self._value(name, value, f"--{key}", value)
        return True

    def lacks_class(self, option: str) -> str:
        """Return a class that must be named before arguments of an option can be given, empty if there is one."""
        return "" if option in self.chosen or not self.complete else _EXAMPLES.get(option, "")

    def _config(self, path: Path) -> None:
        with self._inside(path):
            for key, value in _mapping(path).items():
                if key != "config":  # which is told elsewhere
                    self._value(str(key).rstrip("+"), value, f"{short_path(path)}: {key}")

    @contextmanager
    def _inside(self, file: Path) -> Iterator[None]:
        before, self.folder = self.folder, file.parent
        try:
            yield
        finally:
            self.folder = before

    def _file(self, name: object) -> Path | None:
        """Return the file that is named in place of values, ``None`` if there is no such file."""
        try:
            path = self.folder / name if isinstance(name, str) and name else None
            return path if path is not None and path.is_file() else None
        except (OSError, ValueError):
            return None

    def _value(self, key: str, value: Any, where: str, text: str | None = None) -> None:
        """Look at the value of a key; ``text`` is that of a flag."""
        if key in SECTIONS:
            self._section(key, value, where)
        elif key in FAMILIES or key == "model.backbone":
            self._class(key, value, where)
        elif parent := _parent(key):
            self._argument(parent, key, value, where, text)
        elif key in plain_options():
            _check_type(plain_options()[key], value, where)
            check_trainer_value(key, value, where)
            check_part(key, value)
        elif key.startswith("model.") and key[6:] in LINKED:
            raise ConfigError(f"{where} comes from the data; leave it out, or set data.{key[6:]} if the data has it")
        else:
            raise ConfigError(f"{where}: there is no such key{nearest_key(key)}")

    def _section(self, key: str, value: Any, where: str) -> None:
        if (file := self._file(value)) is not None:
            with self._inside(file):
                self._section(key, _mapping(file), f"{short_path(file)}: {key}")
        elif isinstance(value, str) and not value.lstrip().startswith("{"):
            hint = {"model": "model.backbone", "checkpoint": "ckpt_path", "trainer": "trainer.accelerator"}.get(key)
            more = f"; did you mean --{hint} {value}?" if hint else ""
            raise ConfigError(f"{where}: expected a YAML file, there is none called '{value}'{more}")
        elif not isinstance(value, str | dict | None):
            raise ConfigError(f"{where}: expected keys with their values, as {{a: b}}, found a {_kind(value)}")
        for name, inner in value.items() if isinstance(value, dict) else ():
            self._value(f"{key}.{name}".rstrip("+"), inner, f"{where}.{name}")

    def _class(self, key: str, value: Any, where: str) -> None:
        """Look at a class, given by its name or with its arguments, or at a list of such."""
        if (file := self._file(value)) is not None:
            values = _yaml(file.read_text(encoding="utf-8", errors="replace"))
            self.unread = self.unread or values is None
            with self._inside(file):
                self._class(key, values, f"{short_path(file)}: {key}")
            return
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = _yaml(value)
        if isinstance(value, list):
            for each in value:
                self._class(key, each, where)
            return
        if not isinstance(value, Mapping):
            self._name(key, value, where)
            return
        if "class_path" in value:
            self._name(key, value["class_path"], where)
        inner = {name: each for name, each in value.items() if name not in _STRUCTURE}
        for name in inner:
            if key in FAMILIES and name in FAMILIES[key].classes:
                raise ConfigError(f"{where}: write class_path: {name}, and its arguments below init_args:")
        given = value.get("init_args")
        for begin, arguments in ((where, inner), (f"{where}.init_args", given)):
            for name, each in arguments.items() if isinstance(arguments, Mapping) else ():
                self._argument(key, f"{key}.{name}", each, f"{begin}.{name}")

    def _name(self, key: str, name: Any, where: str) -> None:
        self.chosen[key] = Named(None)
        if not isinstance(name, str) or name in ("null", "true", "false", ""):
            return
        check_part(key, name)
        if key == "model.backbone" and "." not in name:
            check_backbone(name, where)
        elif key != "model.backbone" or name.rpartition(".")[2][:1].isupper():  # resnet18.a1_in1k is one of timm's
            self.chosen[key] = looked_up(key, name, where, self.own_classes)

    def _argument(self, parent: str, key: str, value: Any, where: str, text: str | None = None) -> None:
        """Look at an argument of a class."""
        name = key.removeprefix(f"{parent}.").removeprefix("init_args.")
        if name == "class_path":
            self._class(parent, value, where)
        if name in _STRUCTURE or name.startswith("dict_kwargs."):
            return
        chosen, first = self.chosen.get(parent), name.partition(".")[0].rstrip("+")
        is_lacking = chosen is None and self.complete and not self.unread
        if is_lacking and parent in _DEFAULTS | _EXAMPLES:
            default = (_DEFAULTS | _EXAMPLES)[parent]
            chosen = Named(FAMILIES[parent].classes.get(default), default)
        signature = None if chosen is None or chosen.path is None else class_signature(chosen.path)
        if signature is not None and not signature.open:
            assert chosen is not None  # it has a signature
            names = list(signature.arguments)[FAMILIES[parent].first if parent in FAMILIES else 0 :]
            if first not in names:
                hint = nearest_argument(first, names)
                raise ConfigError(one_line(f"{where}: {chosen.name} has no argument '{first}'{hint}", 500))
            if first == name.rstrip("+"):
                _check_type(signature.arguments[first], value, where)
        elif parent == "data" and chosen is None and not self.own_classes:
            if first not in options_of_data():
                raise ConfigError(f"{where}: no data module has such an option{nearest_key(key)}")
            if first == name.rstrip("+"):
                _check_type(options_of_data()[first], value, where)
        if is_lacking and text is not None and parent in _EXAMPLES:
            raise ConfigError(
                f"{where} is an argument of a class that nothing names; say for example "
                f"--{parent} {_EXAMPLES[parent]} {where} {text}"
            )


def _parent(key: str) -> str | None:
    """Return the option that takes values with keys of their own, of which a key is one."""
    parts = key.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((each for each in prefixes if each in plain_options() and each not in SECTIONS), None)


def _mapping(path: Path) -> dict[Any, Any]:
    """Return what a config file holds.

    Raises:
        ConfigError: if it is not there, or no YAML with sections.
    """
    if not path.is_file():
        beside = [each.name for each in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside) if path.name not in beside else ""
        raise ConfigError(f"there is no config file {short_path(path)}{hint}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(one_line(f"config file {short_path(path)} is no YAML: {folded(error)}", 400)) from None
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"config file {short_path(path)}: expected sections such as 'model:' and 'data:', found a {_kind(values)}"
        )
    return values or {}


def _kind(values: Any) -> str:
    return {"str": "text", "list": "list"}.get(type(values).__name__, "number")


def _yaml(text: str) -> Any:
    """Return the values in a text, ``None`` if it is no YAML: the parser will say so."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _check_type(types: Types, value: Any, where: str) -> None:
    """Refuse a value that is certainly not of a type: a word for a number, or one that is not among the known words."""
    if types.open or types.classes or str in types.scalars or isinstance(value, bool | list | dict | None):
        return
    text = str(value).strip()
    if not text or text in types.words or any(_fits(kind, text) for kind in types.scalars):
        return
    if isinstance(value, float) and value.is_integer():
        return
    kinds = [each for each in _KINDS if each in types.scalars and not (each is int and float in types.scalars)]
    expected = " or ".join([*(_KINDS[each] for each in kinds if each is not type(None)), *dict.fromkeys(types.words)])
    hint = did_you_mean(text, types.words)
    raise ConfigError(f"{where} must be {expected}, not '{text}'{hint}")


def _fits(kind: type, text: str) -> bool:
    try:
        if kind is int:
            int(text, 0)
        elif kind is float:
            float(text)
        else:
            return text.lower() in (_TRUTH if kind is bool else ("null", "none", "~"))
    except ValueError:
        return False
    return True
