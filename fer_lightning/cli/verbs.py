"""Verbs of our own: finding one on a command line, and calling its typed function. Nothing heavy is imported.

The signature of a function is its command line, its docstring the help. Parameters before ``*`` are arguments that are
known by their place, those behind it are options; without a default they are required. A type is ``str``, ``int``,
``float``, ``bool``, ``Path``, a ``Literal``, or ``tuple[..., ...]`` for any number of these, each also ``| None``.
``Annotated[Path, "FILE"]`` says what help calls the value, ``Annotated[Path, "FILE", "-c"]`` adds a short name. A
parameter that is annotated with ``Rest`` takes the options that the function does not have itself.
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from fer_lightning.cli.other_names import VERBS
from fer_lightning.cli.trainer_help import HELP_ALL
from fer_lightning.errors import ConfigError
from fer_lightning.text import did_you_mean

__all__ = ["Rest", "chosen_verb", "read_arguments", "run_function"]

_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
_FIRST = 10  # options that `--help` shows
_SEEDS = 2**32  # what NumPy and scikit-learn take
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Rest:
    """Marks the parameter for options that are passed on to another parser, in ``Annotated[list[str], Rest(...)]``.

    Attributes:
        usage: what the line of usage calls them.
        about: lines about them, for the end of the help.
        prefix: they all begin so; others are refused.
        check: called with the verb, the function's own arguments and them, raises a ``FERError`` for what is
            certainly wrong.
        hint: called with an option that does not begin so, returns the end of a message: what is meant by it.
    """

    usage: str
    about: str = ""
    prefix: str = "-"
    check: Callable[[str, Mapping[str, Any], Sequence[str]], None] | None = None
    hint: Callable[[str], str] | None = None


def chosen_verb(
    args: Sequence[str],
    sections: Mapping[str, Mapping[str, str]],
    overview: str,
    group: str = "",
    examples: Mapping[str, str] | None = None,
) -> str | None:
    """Return the verb that a command line begins with; print the overview if it has none or asks for help.

    Args:
        args: the command line, the verb first.
        sections: by heading, the verbs and what each does in a few words.
        overview: text in which ``{verbs}`` stands where they are listed.
        group: the verb that these belong to.
        examples: a command line for each heading.

    Raises:
        ConfigError: if there is no such verb.
    """
    verbs = {name: text for section in sections.values() for name, text in section.items()}
    if not args or args[0] in ("-h", "--help", HELP_ALL, "help"):
        width = max(map(len, verbs))
        lines = []
        for heading, section in sections.items():
            example = (examples or {}).get(heading, "")
            lines += [f"\n{heading}:{f'    {example}' if example else ''}"] if heading else []
            lines += [f"  {name:<{width}}  {text}" for name, text in section.items()]
        print(overview.format(verbs="\n".join(lines).lstrip("\n")).rstrip())
        return None
    if args[0] not in verbs:
        other = "" if group else VERBS.get(args[0].lower(), "")
        hint = f"; did you mean fer {other}?" if other else did_you_mean(args[0], verbs)
        raise ConfigError(f"there is no verb '{f'{group} {args[0]}'.strip()}'{hint} (verbs: {', '.join(verbs)})")
    return args[0]


def run_function(verb: str, function: Callable[..., Any], args: Sequence[str]) -> int:
    """Call a function with the arguments behind a verb such as ``data inspect``, or print its help.

    Returns:
        The function's result if it is an exit code, else 0.

    Raises:
        ConfigError: if the arguments are wrong.
    """
    if {"-h", "--help", HELP_ALL} & set(args):
        print(_Parser(f"fer {verb}", function, whole=HELP_ALL in args).format_help().rstrip())
        return 0
    result = function(**read_arguments(verb, function, args))
    return result if isinstance(result, int) else 0


def read_arguments(verb: str, function: Callable[..., Any], args: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that a command line gives to a function; see ``run_function``."""
    parser = _Parser(f"fer {verb}", function)
    own, rest = parser.divided(args)
    found = vars(parser.parse_args(own))
    if parser.passed_on is not None and parser.passed_on.check is not None:
        parser.passed_on.check(verb, found, rest)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    if missing := [word for name, word in parser.required.items() if name not in values]:
        parser.error(f"required: {', '.join(missing)} (see fer {verb} --help)")
    seed = values.get("seed", 0)
    if isinstance(seed, int) and not 0 <= seed < _SEEDS:
        parser.error(f"--seed must be 0 to {_SEEDS - 1}, not {seed}")
    given = inspect.signature(function).bind(**values, **({} if parser.rest is None else {parser.rest: rest}))
    given.apply_defaults()
    return given.arguments


class _Parser(argparse.ArgumentParser):
    """The parser of one function; it says what is wrong in one line. Unless ``whole``, its help shows ten options."""

    def __init__(self, prog: str, function: Callable[..., Any], whole: bool = True) -> None:
        text, self._about = _documented(function)
        super().__init__(
            prog,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,  # the function has the defaults
        )
        self._positionals.title = "arguments"
        self.rest: str | None = None
        self.required: dict[str, str] = {}
        self._booleans: set[str] = set()
        self.passed_on: Rest | None = None
        self._list_by_place = ""
        hints = get_type_hints(function, include_extras=True)
        words = [self._add(each, hints[each.name]) for each in inspect.signature(function).parameters.values()]
        places = [word for word in words if word and not word.startswith("-")]
        words += [f"[{self.passed_on.usage}]" if self.passed_on else ""]
        options = [action for action in self._actions if action.option_strings and action.dest != "help"]
        if not whole and (more := options[_FIRST:]):
            for action in more:
                action.help = argparse.SUPPRESS
            self.epilog = "\n\n".join(filter(None, [f"{len(more)} more: {prog} {HELP_ALL}", self.epilog]))
        self.usage = " ".join([prog, *places, "[options]", *(word for word in words if word and word not in places)])

    def _add(self, parameter: inspect.Parameter, hint: Any) -> str:
        """Add a parameter and return what the line of usage says of it, empty for what can be left out."""
        name, (kind, marks) = parameter.name, _taken_apart(hint)
        if marks and isinstance(marks[0], Rest):
            self.rest, self.passed_on, self.epilog = name, marks[0], marks[0].about
            return ""
        is_list, by_place = get_origin(kind) is tuple, parameter.kind is not parameter.KEYWORD_ONLY
        item = get_args(kind)[0] if is_list else kind
        is_choice, about = get_origin(item) is Literal, self._about.get(name, "")
        if parameter.default is parameter.empty:
            self.required[name] = name.upper() if by_place else f"--{name}"
        elif item is not bool and parameter.default not in (None, (), ""):
            about = f"{about.rstrip('.')} (default: {parameter.default})"
        metavar: str | None = None if is_choice else name.upper()
        if item is bool:
            self._booleans.add(name)
            metavar = "false" if parameter.default else ""
        metavar = next((mark for mark in marks if not mark.startswith("-")), metavar)
        settings: dict[str, Any] = {"type": _converter(item), "metavar": metavar, "help": about.replace("%", "%%")}
        settings["choices"] = get_args(item) if is_choice else None
        if by_place:
            self._list_by_place = name if is_list else self._list_by_place
            self.add_argument(name, nargs="*" if is_list else "?", **settings)
            word = f"{metavar} ..." if is_list else str(metavar)
            return word if name in self.required or is_list else f"[{word}]"
        short = [mark for mark in marks if mark.startswith("-")]
        flag = f"--{name.removesuffix('_')}"  # an option may be called as a word of Python, such as --from
        self.add_argument(*short, flag, dest=name, action="append" if is_list else "store", **settings)
        return f"{flag} {metavar or name.upper()}" if name in self.required else ""

    def divided(self, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the function's own arguments and the rest, each option with its value.

        An option that is not known is taken to have a value, unless another option follows.
        """
        places: list[str] = []
        options: list[str] = []
        rest: list[str] = []
        waiting = list(args)
        while waiting:
            argument = waiting.pop(0)
            flag, equals, value = argument.partition("=")
            flag = flag[:2] + flag[2:].replace("-", "_")  # --at-least is --at_least
            if not _is_option(argument):
                if self._list_by_place and self.rest and (options or rest):  # it may be the value of an option
                    self.error(f"'{argument}' belongs to no option; {self._list_by_place} stand before all options")
                places.append(argument)
            elif flag.removeprefix("--") in self._booleans:
                if not equals:
                    value = waiting.pop(0) if waiting and waiting[0].lower() in _BOOLEANS else "true"
                options.append(f"{flag}={value}")
            elif flag in self._option_string_actions:
                if not equals and not waiting:
                    self.error(f"{flag} needs a value")
                options.append(f"{flag}={value if equals else waiting.pop(0)}")
            else:
                rest.append(argument)
                rest += [waiting.pop(0)] if waiting and not equals and not _is_option(waiting[0]) else []
        prefix = self.passed_on.prefix if self.passed_on else None
        strange = [each for each in rest if _is_option(each) and not (prefix and each.startswith(prefix))]
        if strange:
            flag = strange[0].partition("=")[0]
            hint = did_you_mean(flag, self._option_string_actions)
            if not hint and self.passed_on is not None and self.passed_on.hint is not None:
                hint = self.passed_on.hint(flag)
            self.error(f"unrecognized arguments: {' '.join(strange)}{hint}")
        return [*options, *places], rest

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ConfigError(f"{self.prog}: {message}")


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and not re.fullmatch(r"-(\d.*|\.\d.*)?", argument)


def _taken_apart(hint: Any) -> tuple[Any, list[Any]]:
    """Return a type without ``Annotated`` and ``| None``, and the annotations.

    Python 3.10 puts ``| None`` around the annotation of a parameter whose default is ``None``.
    """
    marks: list[Any] = []
    while (origin := get_origin(hint)) in (Annotated, Union, types.UnionType):
        if origin is Annotated:
            hint, *more = get_args(hint)
            marks += more
        else:
            hint = next(kind for kind in get_args(hint) if kind is not type(None))
    return hint, marks


def _converter(kind: Any) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            if kind is bool:
                return _BOOLEANS[text.lower()]
            return kind(text) if kind in (int, float, Path) else text
        except (KeyError, ValueError):
            raise argparse.ArgumentTypeError(f"expected {_KINDS[kind]}, not '{text}'") from None

    return convert


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring, and what it says of each argument."""
    parts = re.split(r"^(\w+):\n(?= )", (inspect.getdoc(function) or "").replace("``", ""), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", sections.get("Args", ""), re.MULTILINE)
    paragraphs = [text if "\n " in text else textwrap.fill(text, 79) for text in parts[0].strip().split("\n\n")]
    return "\n\n".join(paragraphs), {name: " ".join(text.split()) for name, text in entries}
