"""A look at a command line of ``fer fit`` and its config files before torch and Lightning are imported.

Only what is certainly wrong is refused here, at once; all else is left to the parser of
``fer_lightning.cli.trainer_cli``, which knows everything and takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fer_lightning.cli.class_names import Named, check_backbone, looked_up
from fer_lightning.cli.config_files import EXAMPLE, kind_of, read_config, values_in
from fer_lightning.cli.known_options import (
    AUTO,
    DEFAULT_ROOT,
    EXAMPLES,
    FAMILIES,
    LINKED,
    NEEDS_CHECKPOINT,
    SECTIONS,
    local_modules,
    options_of_data,
    plain_options,
    plugins,
)
from fer_lightning.cli.lightning_parts import check_part
from fer_lightning.cli.misspelt import nearest_argument, nearest_key, unknown_option
from fer_lightning.cli.named_configs import with_fragments
from fer_lightning.cli.option_order import classes_first
from fer_lightning.cli.proposals import (
    NEEDED_TOO,
    check_single_class,
    check_sources,
    data_options,
    lacking_arguments,
    no_callback,
    no_option,
)
from fer_lightning.cli.quick_checks import check_accelerator_name, check_monitor_name, check_run_name
from fer_lightning.cli.signatures import Types, class_signature
from fer_lightning.cli.values import check_limit, check_type
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs.checkpoint import find_checkpoint, named_models
from fer_lightning.text import one_line, short_path

__all__ = ["check_command_line", "check_data_options"]

_EVALUATIONS = ("validate", "test", "predict")
_DEFAULTS = {"model.loss": "CrossEntropyLoss", "model.head": "LinearHead"}
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
    named += [str(values["ckpt_path"]) for file in files if "ckpt_path" in (values := read_config(file))]
    resumes = bool(named)
    only_prints = any(key == "print_config" for key, _ in options)
    if verb in _EVALUATIONS and (not named or AUTO in named) and not only_prints:
        raise CheckpointError(NEEDS_CHECKPOINT.format(verb=verb))
    _check_checkpoint(dict(options))
    complete = complete and not only_prints and (not resumes or AUTO in named)
    example = f"fer {verb} {EXAMPLE}"
    if not options and complete:
        raise ConfigError(f"fer {verb} needs data and a network, for example: {example} (see fer {verb} --help)")
    own_classes = not complete or _has_own_classes([value for _, value in options if value], files)
    check = _Check(verb, complete, own_classes)
    check.flags(options)
    if complete and "data" not in check.chosen and not check.unread:
        root = next((value for key, value in options if key == "data.root" and value), None)
        if root is not None:
            raise ConfigError(f"fer {verb} needs a class that reads the data{data_options(root)}")
        raise ConfigError(f"fer {verb} needs data: --data CLASS --data.root PATH, or, to try it: {example}")
    check.lacking()


def _check_checkpoint(given: Mapping[str, str | None]) -> None:
    """Refuse the path of a checkpoint at which nothing is."""
    wanted = given.get("ckpt_path")
    root = given.get("trainer.default_root_dir") or DEFAULT_ROOT
    for each in [] if wanted is None else named_models(wanted):
        if ("/" in each or each.endswith(".ckpt")) and not Path(each).expanduser().exists():
            find_checkpoint(each, Path(root), "", "")  # which says what there is


def check_data_options(verb: str, args: Sequence[str]) -> None:
    """Refuse options of a data set of which something is certainly wrong; what a path says of it is not known yet.

    Raises:
        ConfigError: as ``check_command_line``.
    """
    if any(argument.startswith("--data.help") for argument in args):
        return
    options = list(_options(verb, args))
    _Check(verb, False, _has_own_classes([value for _, value in options if value], [])).flags(options)


def _options(verb: str, args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the options of a command line without their dashes, each with its value if there is one."""
    waiting, before = classes_first(args), ""
    while waiting:
        argument = waiting.pop(0)
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-") or flag == "-":
            raise ConfigError(f"fer {verb}: {no_option(verb, argument, before)}")
        follows = bool(waiting) and not re.match(r"-[^\d.]", waiting[0])
        key = "config" if flag == "-c" else flag.removeprefix("--")
        given = value if equals else waiting.pop(0) if follows else None
        before = f"{flag} {given}"
        yield key, given


def _has_own_classes(texts: Sequence[str], files: Sequence[Path]) -> bool:
    """Tell whether classes that are not known here may have short names: plug-ins', and those of the user's files."""
    if plugins():
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
        given: the arguments that such a class was given.
        unread: whether a file could not be read that may name any class.
        folder: that of the file that is being read; the files it names lie beside it.
    """

    verb: str
    complete: bool
    own_classes: bool
    chosen: dict[str, Named] = field(default_factory=dict)
    given: dict[str, set[str]] = field(default_factory=dict)
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
        if value is None or (not value and name != "name"):
            raise ConfigError(
                f"fer {self.verb}: --{key} needs a value{'' if value is None else ', and has an empty one'}"
            )
        if key == "config":
            self._config(Path(value))
        else:
            adds = key.endswith("+") and name not in FAMILIES  # one more of a list
            self._value(name, f"[{value}]" if adds else value, f"--{key}", value)
        return True

    def lacks_class(self, option: str) -> str:
        """Return a class that must be named before arguments of an option can be given, empty if there is one."""
        return "" if option in self.chosen or not self.complete else EXAMPLES.get(option, "")

    def _config(self, path: Path) -> None:
        with self._inside(path):
            for key, value in with_fragments(read_config(path), path.parent, Path()).items():
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
            self._plain(key, value, where)
        elif key.startswith("model.") and key[6:] in LINKED:
            raise ConfigError(f"{where} comes from the data; leave it out, or set data.{key[6:]} if the data has it")
        else:
            raise ConfigError(f"{where}: there is no such key{nearest_key(key)}")

    def _plain(self, key: str, value: Any, where: str) -> None:
        """Look at a value that is no class."""
        check_part(key, value)
        if key != "trainer.strategy" or not plugins():
            check_limit(key, value, where)
        check_type(plain_options()[key], value, where)
        if isinstance(value, str) and key == "name":
            check_run_name(value, where)
        elif isinstance(value, str) and key == "trainer.accelerator":
            check_accelerator_name(value, where, bool(plugins()))
        elif isinstance(value, str) and key in ("checkpoint.monitor", "model.monitor") and not self.own_classes:
            check_monitor_name(value, where)

    def _section(self, key: str, value: Any, where: str) -> None:
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = values_in(value)
        if (file := self._file(value)) is not None:
            with self._inside(file):
                self._section(key, read_config(file), f"{short_path(file)}: {key}")
        elif isinstance(value, str):
            if found := re.fullmatch(r"(\w+)\s*[=:]\s*(\S.*)", value):
                typed = f"--{key}.{found[1]} {found[2]}" if where.startswith("--") else f"{found[1]}: {found[2]}"
                raise ConfigError(f"{where}: expected keys with their values, found '{value}'; did you mean {typed}?")
            hint = {"model": "model.backbone", "checkpoint": "ckpt_path", "trainer": "trainer.accelerator"}.get(key)
            more = f"; did you mean --{hint} {value}?" if hint else ""
            raise ConfigError(f"{where}: expected a YAML file, there is none called '{value}'{more}")
        elif not isinstance(value, dict | None):
            raise ConfigError(f"{where}: expected keys with their values, as {{a: b}}, found a {kind_of(value)}")
        for name, inner in value.items() if isinstance(value, dict) else ():
            self._value(f"{key}.{name}".rstrip("+"), inner, f"{where}.{name}")

    def _class(self, key: str, value: Any, where: str) -> None:
        """Look at a class, given by its name or with its arguments, or at a list of such."""
        if (file := self._file(value)) is not None:
            values = values_in(file.read_text(encoding="utf-8", errors="replace"))
            _check_holds_class(values, where, file)
            self.unread = self.unread or values is None
            with self._inside(file):
                self._class(key, values, f"{short_path(file)}: {key}")
            return
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = values_in(value)
        if isinstance(value, list):
            for each in value:
                self._class(key, each, where)
            return
        if not isinstance(value, Mapping):
            self._name(key, value, where)
            return
        self._structure(key, value, where)
        if "class_path" in value:
            self._name(key, value["class_path"], where)
        inner = {name: each for name, each in value.items() if name not in _STRUCTURE}
        given = value.get("init_args")
        for begin, arguments in ((where, inner), (f"{where}.init_args", given)):
            for name, each in arguments.items() if isinstance(arguments, Mapping) else ():
                self._argument(key, f"{key}.{name}", each, f"{begin}.{name}")

    def _structure(self, key: str, value: Mapping[Any, Any], where: str) -> None:
        """Refuse a class that is spelt otherwise than as ``class_path`` and ``init_args``."""
        inner = [str(name) for name in value if name not in _STRUCTURE]
        for name in inner:
            if key in FAMILIES and name in FAMILIES[key].classes:
                raise ConfigError(f"{where}: write class_path: {name}, and its arguments below init_args:")
            if name in ("class", "class_name", "type", "target", "_target_", "name") and "class_path" not in value:
                raise ConfigError(f"{where}.{name}: there is no such key; did you mean class_path: {value[name]}?")
            if name in ("args", "kwargs", "params", "init_arg", "arguments") and "class_path" in value:
                raise ConfigError(f"{where}.{name}: there is no such key; did you mean init_args?")
        if inner and "class_path" in value:
            raise ConfigError(f"{where}: {', '.join(inner)} must stand below init_args:, beside class_path:")

    def _name(self, key: str, name: Any, where: str) -> None:
        """Look at the name of a class; arguments that the same class was given before are kept."""
        before, self.chosen[key] = self.chosen.get(key), self._found(key, name, where)
        if before is None or before.name != self.chosen[key].name:
            self.given[key] = set()

    def _found(self, key: str, name: Any, where: str) -> Named:
        if not isinstance(name, str) or name in ("null", "true", "false", ""):
            return Named(None)
        check_part(key, name)
        if key == "data" and Path(name).expanduser().exists():
            raise ConfigError(f"{where} takes the class that reads the data, not '{name}'{data_options(name)}")
        if key == "model.backbone" and "." not in name:
            check_backbone(name, where)
        elif key != "model.backbone" or name.rpartition(".")[2][:1].isupper():  # resnet18.a1_in1k is one of timm's
            return looked_up(key, name, where, self.own_classes)
        return Named(None)

    def _argument(self, parent: str, key: str, value: Any, where: str, text: str | None = None) -> None:
        """Look at an argument of a class."""
        name = key.removeprefix(f"{parent}.").removeprefix("init_args.")
        if name == "class_path":
            self._class(parent, value, where)
        if name in _STRUCTURE or name.startswith("dict_kwargs."):
            return
        chosen, first = self.chosen.get(parent), name.partition(".")[0].rstrip("+")
        self.given.setdefault(parent, set()).add(first)
        if key == "data.sources":
            check_sources(value, where)
        if first == name.rstrip("+"):
            self._limited(parent, chosen, first, value, where)
        is_lacking = chosen is None and self.complete and not self.unread
        if is_lacking and parent in _DEFAULTS | EXAMPLES:
            default = (_DEFAULTS | EXAMPLES)[parent]
            chosen = Named(FAMILIES[parent].classes.get(default), default)
        signature = None if chosen is None or chosen.path is None else class_signature(chosen.path)
        if signature is not None and not signature.open:
            assert chosen is not None  # it has a signature
            names = list(signature.arguments)[FAMILIES[parent].first if parent in FAMILIES else 0 :]
            if first not in names:
                hint = nearest_argument(first, names)
                raise ConfigError(one_line(f"{where}: {chosen.name} has no argument '{first}'{hint}", 500))
            if first == name.rstrip("+"):
                self._argument_value(value, where, signature.arguments[first])
        elif parent == "data" and chosen is None and not self.own_classes:
            if first not in options_of_data():
                raise ConfigError(f"{where}: no data module has such an option{nearest_key(key)}")
            if first == name.rstrip("+"):
                check_type(options_of_data()[first], value, where)
        if is_lacking and parent == "trainer.callbacks" and not self.own_classes:
            raise ConfigError(no_callback(first, where, text))
        if is_lacking and text is not None and parent in EXAMPLES:
            raise ConfigError(
                f"{where} is an argument of a class that nothing names; say for example "
                f"--{parent} {EXAMPLES[parent]} {where} {text}"
            )

    def _limited(self, parent: str, chosen: Named | None, name: str, value: Any, where: str) -> None:
        """Look at a value that is limited for this class, or for this argument of all classes of an option."""
        check_limit(f"{parent}.{name}", value, where)
        if chosen is not None:
            check_limit(f"{chosen.name}.{name}", value, where)
            if chosen.name == "EarlyStopping" and name == "monitor" and isinstance(value, str) and not self.own_classes:
                check_monitor_name(value, where)

    def _argument_value(self, value: Any, where: str, types: Types) -> None:
        if types.classes and (file := self._file(value)) is not None:
            _check_holds_class(values_in(file.read_text(encoding="utf-8", errors="replace")), where, file)
        elif isinstance(value, str) and types.classes and not self.own_classes:
            check_single_class(types, value, where)
        check_type(types, value, where)

    def lacking(self) -> None:
        """Refuse a class whose arguments are not all there."""
        for option, chosen in self.chosen.items():
            known = chosen.path is not None and option in FAMILIES and self.complete and not self.unread
            signature = class_signature(chosen.path) if known and chosen.path is not None else None
            if signature is None or signature.open:
                continue
            needed = [name for name in signature.arguments if name not in signature.defaults]
            needed = [*needed[FAMILIES[option].first :], *NEEDED_TOO.get(chosen.name, ())]
            if lacking := [name for name in needed if name not in self.given[option]]:
                raise ConfigError(lacking_arguments(option, chosen.name, lacking))


def _check_holds_class(values: Any, where: str, file: Path) -> None:
    """Refuse a file in place of a class that holds none, without showing what it holds."""
    if not isinstance(values, Mapping | list | None):
        raise ConfigError(
            f"{where}: {short_path(file)} is a file, which must hold class_path: and init_args:, and holds a "
            f"{kind_of(values)}"
        )


def _parent(key: str) -> str | None:
    """Return the option that takes values with keys of their own, of which a key is one."""
    parts = key.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((each for each in prefixes if each in plain_options() and each not in SECTIONS), None)
