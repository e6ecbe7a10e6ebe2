"""Puts the sources of the documentation site together: python docs/build_site.py FOLDER.

``docs/`` and the Markdown files that it links to are copied; the pages of verbs, config keys and the Python API are
generated from the parsers and the exported names. ``make docs`` calls this before mkdocs.
"""

from __future__ import annotations

import inspect
import io
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import fer_lightning
import fer_lightning.data
from fer_lightning.__main__ import TRAINER_VERBS, main
from fer_lightning.cli.known_options import FAMILIES, LINKED, SECTIONS, options_of_data
from fer_lightning.cli.signatures import Types, class_signature
from fer_lightning.commands import COMMANDS, Group
from fer_lightning.commands import SECTIONS as PURPOSES

ROOT = Path(__file__).parents[1]
COPIED = ("CONTRIBUTING.md", "CHANGELOG.md", "configs/README.md", "configs/peers.png", "checkpoints/README.md")


def printed(*args: str) -> str:
    """Return what a command line of ``fer`` prints."""
    with redirect_stdout(io.StringIO()) as out:
        main(args)
    return out.getvalue().rstrip()


def verbs() -> str:
    """Return the page of all verbs: what ``--help-all`` says of each; of the verbs that train, ``--help``."""
    text = [
        "# Every verb",
        "",
        "What `fer VERB --help-all` prints, in the order of `fer --help`.",
        "",
    ]
    for purpose in PURPOSES:
        text += [f"## {purpose[0].upper()}{purpose[1:]}", ""]
        names = [*TRAINER_VERBS] if purpose == "train" else []
        names += [name for name, command in COMMANDS.items() if command.section == purpose]
        for name in names:
            command = COMMANDS.get(name)
            inner = [f"{name} {each}" for each in command.verbs] if isinstance(command, Group) else [name]
            for verb in inner:
                flag = "--help" if name in TRAINER_VERBS else "--help-all"
                text += [f"### fer {verb}", "", "```text", printed(*verb.split(), flag), "```", ""]
                text += ["All options are on [the page of config keys](keys.md).", ""] if name in TRAINER_VERBS else []
    return "\n".join(text)


def keys() -> str:
    """Return the page of all keys that a config of ``fer fit`` may have, read off the signatures as the parser does."""
    text = [
        "# Every config key",
        "",
        "Each key is a line of a config file and an option of the command line: `trainer: {max_epochs: 5}` is",
        "`--trainer.max_epochs 5`. Generated from the signatures that the parser reads.",
        "",
    ]
    for section, path in SECTIONS.items():
        hidden = LINKED if section == "model" else ()
        text += [f"## {section}", "", f"Arguments of `{path}`.", "", *table(path, section, hidden), ""]
    for option, family in FAMILIES.items():
        text += [f"## Classes of {option}", ""]
        text += [", ".join(f"`{name}`" for name in sorted(family.classes)), ""]
        own = {name: place for name, place in family.classes.items() if place.startswith("fer_lightning")}
        for name, place in sorted(own.items()):
            text += [f"### {name}", "", *table(place, option, list(signature_names(place))[: family.first]), ""]
    text += ["## All options of data sets", "", ", ".join(f"`data.{name}`" for name in sorted(options_of_data())), ""]
    return "\n".join(text)


def signature_names(path: str) -> Iterator[str]:
    """Yield the arguments of a class."""
    signature = class_signature(path)
    yield from signature.arguments if signature else ()


def table(path: str, prefix: str, hidden: object = ()) -> list[str]:
    """Return the arguments of a class as lines of a Markdown table."""
    signature = class_signature(path)
    rows = [(name, types) for name, types in signature.arguments.items() if name not in hidden] if signature else []  # type: ignore[operator]
    if not rows or signature is None:
        return ["It has no arguments."]
    lines = ["| key | takes | default |", "|---|---|---|"]
    for name, types in rows:
        default = signature.defaults.get(name)
        shown = "needed" if default is None else f"`{' '.join(default.split())}`".replace("|", r"\|")
        lines.append(f"| `{prefix}.{name}` | {accepted(types)} | {shown} |")
    return lines


def accepted(types: Types) -> str:
    """Return in words what an argument takes."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    given = [f"`{word}`" for word in types.words]
    given += [words[kind] for kind in (bool, int, float, str, type(None)) if kind in types.scalars]
    given += ["a list"] if types.lists else []
    given += [f"a `{path.rpartition('.')[2]}`" for path in types.classes]
    return ", ".join(dict.fromkeys(given)) or "see the class"


def api() -> str:
    """Return the page of the Python API, which mkdocstrings fills.

    Raises:
        SystemExit: if something on it is not documented.
    """
    names = [getattr(fer_lightning, name) for name in fer_lightning.__all__ if name != "__version__"]
    exported = [getattr(fer_lightning.data, name) for name in fer_lightning.data.__all__]
    sets = [value for value in exported if isinstance(value, type) and value.__name__.endswith("DataModule")]
    if lacking := [place for value in (*names, *sets) for place in undocumented(value)]:
        raise SystemExit(f"not documented: {', '.join(lacking)}")
    text = ["# Python API", "", "Scripts that use these are on [the page for Python](python.md).", ""]
    text += [f"::: {value.__module__}.{value.__name__}" for value in names]
    text += ["", "Data sets are in `fer_lightning.data`.", ""]
    return "\n\n".join([*text, *(f"::: {value.__module__}.{value.__name__}" for value in sets)]) + "\n"


def undocumented(value: Any) -> list[str]:
    """Return what a function or class lacks: its docstring, those of its public members, arguments below ``Args``."""
    name, text = value.__qualname__, inspect.cleandoc(value.__doc__ or "")
    lacking = [] if text else [name]
    told = re.search(r"^Args:\n((?: .*\n|\n)+)", f"{text}\n", re.MULTILINE)
    known = re.findall(r"^    \*{0,2}(\w+):", told[1], re.MULTILINE) if told else []
    lacking += [f"{name}({each})" for each in inspect.signature(value).parameters if each not in known]
    for member, part in vars(value).items() if isinstance(value, type) else ():
        part = getattr(part, "__func__", part)
        is_method = inspect.isfunction(part) or isinstance(part, property | cached_property)
        if is_method and not member.startswith("_") and not part.__doc__:
            lacking.append(f"{name}.{member}")
    return lacking


def build(folder: Path) -> None:
    """Write all pages into a folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.py", "scripts"))
    for name in COPIED:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name, page in (("verbs", verbs), ("keys", keys), ("api", api)):
        (folder / f"{name}.md").write_text(page(), encoding="utf-8")
    for path in folder.rglob("*.md"):
        path.write_text(relinked(path, folder), encoding="utf-8")


def relinked(path: Path, folder: Path) -> str:
    """Return a page whose links to files of the repository point to the pages of the site."""
    at_root = path.parent == folder
    text = path.read_text(encoding="utf-8")
    if (at_root and path.name in COPIED) or path.parent != folder:
        text = text.replace("](../docs/", "](../").replace("](docs/", "](")
    else:
        text = re.sub(r"\]\(\.\./(configs|checkpoints|CONTRIBUTING|CHANGELOG)", r"](\1", text)
    # what is no page of the site, such as a folder or a config file, stands as text
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|[^)]*\.md|[^)]*\.(?:png|svg|jpg))[^)]+\)", r"\1", text)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
