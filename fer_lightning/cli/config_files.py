"""Reading a config file before anything heavy is imported, and what to say of one that is wrong or not there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.cli.named_configs import shipped_configs
from fer_lightning.errors import ConfigError
from fer_lightning.text import folded, nearest, one_line, short_path

__all__ = ["EXAMPLE", "kind_of", "read_config", "values_in"]

EXAMPLE = "--data SketchDataModule --model.backbone fer_b_fast"
"""Options of a training that needs no files."""

_VERBS = ("fit", "validate", "test", "predict")


def read_config(path: Path) -> dict[Any, Any]:
    """Return what a config file holds.

    Raises:
        ConfigError: if it is not there, or no YAML with sections, or has a key twice.
    """
    if not path.is_file():
        raise ConfigError(_absent(path))
    try:
        text = path.read_text(encoding="utf-8")
        node, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(one_line(f"config file {short_path(path)} is no YAML: {_why(error)}", 400)) from None
    if values is not None and not isinstance(values, dict):
        hint = " (is there a space behind each colon?)" if isinstance(values, str) and ":" in values else ""
        raise ConfigError(
            f"config file {short_path(path)}: expected sections such as 'model:' and 'data:', found a "
            f"{kind_of(values)}{hint}"
        )
    for key, first, second in _twice(node):
        raise ConfigError(f"{short_path(path)}: '{key}' is there twice, in lines {first} and {second}; put them in one")
    for verb in _VERBS:
        if isinstance((values or {}).get(verb), dict):
            raise ConfigError(
                f"{short_path(path)}: the verb stands on the command line alone: leave out '{verb}:' and move what is "
                "below it to the left"
            )
    return values or {}


def values_in(text: str) -> Any:
    """Return the values in a text, ``None`` if it is no YAML: the parser will say so."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def kind_of(values: Any) -> str:
    """Return what a value is called in a message."""
    return {"str": "text", "list": "list"}.get(type(values).__name__, "number")


def _absent(path: Path) -> str:
    """Return the message for a file that is not there, with what there is in its place."""
    beside = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    text = f"there is no config file {short_path(path)}"
    if close := nearest(path.stem, [each.stem for each in beside]):
        meant = next(each for each in beside if each.stem == close)
        return f"{text}; did you mean --config {shlex.quote(str(meant))}?"
    ours = {Path(name).name: name for name in reversed(shipped_configs())}  # of two that end alike, the first
    named = re.sub(r"^(?:.*/)?configs/|\.ya?ml$", "", path.as_posix())
    if close := nearest(named, ours.values()) or ours.get(nearest(path.stem, ours), ""):
        return f"{text}; did you mean --config {close}? (it comes with the package)"
    here = [str(each) for each in beside or sorted(Path().glob("*.y*ml"))][:5]
    there = f"; there is {', '.join(here)}" if here else ""
    return f"{text}{there}; fer configs list names those that come with the package; without any: {EXAMPLE}"


def _why(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return folded(error)
    where = f"line {mark.line + 1}"
    problem = folded(getattr(error, "problem", None) or error)
    if r"'\t'" in problem:
        return f"{where} begins with a tab; YAML is indented by spaces"
    if "mapping values are not allowed" in problem:
        return f"{where} has a colon too many, or the line before it should end with one ({problem})"
    if "block end" in problem or "block collection" in problem:
        return f"{where} is not indented as the lines around it ({problem})"
    return f"{where}: {problem}"


def _twice(node: yaml.Node | None) -> Iterator[tuple[str, int, int]]:
    """Yield each key that a mapping has twice, of which YAML would drop the first, and the lines of both."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and isinstance(key, yaml.ScalarNode) and key.value != "<<":
                yield key.value, lines[key.value], line
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = line
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _twice(each)
