"""What the parser of classes says, in our words: which key, what is wrong with it, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fer_lightning.cli.class_names import no_class, not_importable
from fer_lightning.cli.known_options import FAMILIES
from fer_lightning.cli.misspelt import nearest_argument, nearest_key, unknown_option
from fer_lightning.cli.signatures import class_signature, names_in
from fer_lightning.text import did_you_mean, folded

__all__ = ["of_lightning", "readable"]

_LIGHTNING = (
    (
        r"`val_check_interval` \((\d+)\) must be less than or equal to the number of the training batches \((\d+)\)",
        "trainer.val_check_interval {0} is more than an epoch's {1} batches; pass --trainer.val_check_interval {1}",
    ),
    (
        r"You requested to check (\S+) of the `(\w+)_dataloader` but \S+ \* (\d+) < 1.*=([\d.]+)`",
        "trainer.limit_{1}_batches {0} of {2} batches is less than one; pass --trainer.limit_{1}_batches {3}",
    ),
    (
        r"`devices` selected with `CPUAccelerator`",
        "trainer.devices: processes on a CPU are counted, not listed; pass for example --trainer.devices 2",
    ),
    (r"The strategy `(\w+)` requires a GPU", "trainer.strategy {0} needs a GPU; pass --trainer.strategy ddp"),
    (
        r"you must have DeepSpeed installed",
        "trainer.strategy deepspeed needs a package: pip install deepspeed; or pass --trainer.strategy ddp",
    ),
    (
        r"invalid strategy name: `strategy='([^']*)'`",
        "trainer.strategy: there is no '{0}'; pass --trainer.strategy ddp",
    ),
)
"""What Lightning says of values that only a run shows to be wrong, and what we say."""

_WRAPPERS = (
    r'(?:Parser key|Key) "(?P<key>[^"]+)": ',
    r"Problem with given class_path '(?P<kind>[^']+)': ",
    r"Type \S.*? expects a function or a callable class: ",
    r"- (?=Expected|Type|Problem)",
    r"Expected a path but \S+ either not accessible or invalid ",
    r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - ",
)
_OBJECTS = r"(?:Namespace|NestedArg)\("  # of the parser, which say nothing to a user
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list as [a,b]",
    "dict": "a mapping as {a: b}",
    "tuple": "a list as [a,b]",
    "NoneType": "null",
}


def readable(message: str, limit: int = 400) -> str:
    r"""Return a parser's message as one line of ours; what is not known is folded and cut.

    >>> readable('Parser key "trainer.max_epochs": Expected a <class \'int\'>. Got value: three')
    "trainer.max_epochs must be a whole number, not 'three'"
    """
    text = rest = re.sub(r" - (?:Expected a <class 'NoneType'>|Not a valid subclass of ).*$", "", folded(message))
    keys: list[str] = []
    kind = ""
    while found := next((match for each in _WRAPPERS if (match := re.match(each, rest))), None):
        named = found.groupdict()
        if named.get("key"):
            keys += [] if keys and keys[-1] == named["key"] else [named["key"]]
        kind = named.get("kind") or kind
        rest = rest[found.end() :]
    made = re.findall(r"class_path='(?:\w+\.)*(\w+)'", folded(message))
    key = ".".join(keys) or (made[-1] if made else "")  # or the class of Lightning's that says it when it is made
    for pattern, translate in _CAUSES:
        if cause := re.search(pattern, rest):
            said = translate(key, kind, cause)
            return said if len(said) <= limit + 200 else f"{said[: limit + 200]} ..."
    text = re.sub(rf"\.? ?Got value: {_OBJECTS}.*$", "", f"{key}: {rest}" if key else text)
    return text if len(text) <= limit else f"{text[:limit]} ..."


def of_lightning(error: BaseException) -> str:
    """Return what we say of an error of Lightning's, empty if it is not known."""
    text = folded(error)
    for pattern, ours in _LIGHTNING:
        if found := re.search(pattern, text):
            return ours.format(*found.groups())
    return ""


def _no_class(key: str, kind: str, cause: re.Match[str]) -> str:
    family = FAMILIES.get(key)
    if cause[1].lower() in ("none", "no", "off"):
        return f"{key}: there is no class '{cause[1]}'; did you mean null?"
    what = no_class(family, cause[1]) if family else f"there is no class '{cause[1]}' (one of your own: module.Class)"
    return f"{key}: {what}"


def _other_kind(key: str, kind: str, cause: re.Match[str]) -> str:
    value = re.search(r"Expected '([^']+)'|Got value: ([\w.]+)", cause.string)
    given = f"'{value[1] or value[2]}'" if value else "what is given"
    return f"{key}: {given} is no {cause[1].rpartition('.')[2]}; take one of ours or a class that is derived from it"


def _ambiguous(key: str, kind: str, cause: re.Match[str]) -> str:
    return f"{key}: several classes are called '{cause[1]}'; did you mean --{key} {cause[2]}?"


def _no_attribute(key: str, kind: str, cause: re.Match[str]) -> str:
    hint = did_you_mean(cause[2], names_in(cause[1]) or ())
    return f"{key}: {cause[1]} has no '{cause[2]}'{hint}"


def _no_argument(key: str, kind: str, cause: re.Match[str]) -> str:
    signature = class_signature(kind) if kind else None
    name = kind.rpartition(".")[2] or "the class"
    hint = nearest_argument(cause[1], list(signature.arguments)) if signature else ""
    return f"{key}: {name} has no argument '{cause[1]}'{hint}"


def _wrong_type(key: str, kind: str, cause: re.Match[str]) -> str:
    words = re.findall(r"Expected (?:a typing\.Literal\[|one of )(.+?)(?:\]|$|\.? Got| - )", cause[0])
    kinds = [_KINDS.get(each, each) for each in re.findall(r"Expected an? <class '([\w.]+)'>", cause[0])]
    kinds = [each for each in kinds if not (each == _KINDS["int"] and _KINDS["float"] in kinds)]
    expected = " or ".join(dict.fromkeys([*kinds, *(f"one of {each}" for each in words)]))
    value = re.search(r"Got value: (.*?)(?: - |$)", cause[0])
    return f"{key} must be {expected}" + (f", not '{value[1]}'" if value and not re.search(_OBJECTS, value[1]) else "")


def _lacking(key: str, kind: str, cause: re.Match[str]) -> str:
    names = [name.removeprefix(f"{key}.") for name in re.split(r",\s*", cause[1].strip())]
    options = " ".join(f"--{key}.{name} ..." if key else f"--{name} ..." for name in names)
    return f"{kind.rpartition('.')[2] or 'the command line'} needs {', '.join(names)}: pass {options}"


_CAUSES: tuple[tuple[str, Callable[[str, str, re.Match[str]], str]], ...] = (
    (r"(?:to a subclass|to be a subclass) of (?:<class ')?([\w.]+)", _other_kind),
    (r"to be a function that returns (?:<class ')?([\w.]+)", _other_kind),
    (r"Multiple subclasses with name (\w+)\..*?: ([\w.]+)", _ambiguous),
    (r"Importing '([^']+)' is not allowed", lambda key, kind, cause: f"{key}: {not_importable(cause[1], Path.cwd())}"),
    (r"No module named '([^']+)'", lambda key, kind, cause: f"{key}: there is no module '{cause[1]}'"),
    (r"module '([^']+)' has no attribute '([^']+)'", _no_attribute),
    (r"Option '([^']+)' is not accepted", _no_argument),
    (
        r"Dict must include a class_path",
        lambda key, kind, cause: f"{key}: name the class before its arguments: --{key} CLASS --{key}.NAME VALUE",
    ),
    (r"required: ([\w.]+(?:, [\w.]+)*)", _lacking),
    (r"Expected a dot import path string: (\S+)", _no_class),
    (r"Expected (?:an? <class|a typing\.Literal|one of).*", _wrong_type),
    (
        r"Unable to load config ['\"]([^'\"]+)",
        lambda key, kind, cause: f"{key}: expected a YAML file, found '{cause[1]}'",
    ),
    (r"argument (--\S+): expected one argument", lambda key, kind, cause: f"{cause[1]} needs a value"),
    (r"Key '([^']+)' is not expected", lambda key, kind, cause: _no_key(f"{key}.{cause[1]}".lstrip("."))),
    (
        r"^unrecognized arguments: --([^\s=]+)(?:[ =](\S+))?",
        lambda key, kind, cause: unknown_option("fit", cause[1], cause[2]),
    ),
)


def _no_key(key: str) -> str:
    return f"there is no key {key}{nearest_key(key)}"
