"""Looking a class up by the name that a command line gives it, in source files; nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.backbone_names import unknown_backbone
from fer_lightning.cli.known_options import ALLOWED_IMPORTS, FAMILIES, Family, importable
from fer_lightning.cli.signatures import (
    defines,
    find_class,
    keys_of,
    missing_module,
    module_names,
    names_in,
    package_folder,
)
from fer_lightning.errors import ConfigError
from fer_lightning.text import did_you_mean, nearest

__all__ = ["Named", "check_backbone", "looked_up"]

_ELSEWHERE = ("timm.optim", "timm.loss", "timm.layers")  # whose classes have no short names


@dataclass(frozen=True)
class Named:
    """A class that an option names.

    Attributes:
        path: where it is defined, ``None`` if that is not known.
        name: its name without the module.
    """

    path: str | None
    name: str = ""


def looked_up(option: str, name: str, where: str, own_classes: bool) -> Named:
    """Return the class of a short name or a dotted path.

    Args:
        option: the option that takes the class, a key of ``FAMILIES`` or another one.
        name: what was given.
        where: the beginning of a message.
        own_classes: classes that are not known here may have short names, too.

    Raises:
        ConfigError: if there is certainly no such class, or none that a configuration may name.
    """
    family = FAMILIES.get(option)
    if "." in name:
        return _by_path(family, name, where)
    if family is None:
        return Named(None, name)
    if name in family.classes:
        return Named(family.classes[name], name)
    if own_classes or _is_defined(name, family):
        return Named(None, name)
    raise ConfigError(f"{where}: {no_class(family, name)}")


def no_class(family: Family, name: str) -> str:
    """Return what to say of a short name that no class has."""
    if name.lower() in ("none", "no", "off"):
        return f"there is no {family.what} '{name}'; did you mean null?"
    elsewhere = next((module for module in _ELSEWHERE if find_class(module, name)), None)
    if elsewhere is not None:
        return f"there is no {family.what} '{name}'; did you mean {elsewhere}.{name}?"
    hint = did_you_mean(name, family.classes)
    hint = hint or f"; there are {', '.join(sorted(family.classes)[:16])}"
    return f"there is no {family.what} '{name}'{hint} (a class of your own: module.Class)"


def _is_defined(name: str, family: Family) -> bool:
    """Tell whether any file of the packages whose classes are imported defines a class of a name."""
    pattern = re.compile(rb"^\s*class %s\b" % re.escape(name.encode()), re.MULTILINE)
    for home in family.homes:
        package, _, inner = home.partition(".")
        folder = package_folder(package)
        if folder is None or any(pattern.search(file.read_bytes()) for file in (folder / inner).rglob("*.py")):
            return True  # certainly, or not known
    return False


def _by_path(family: Family | None, name: str, where: str) -> Named:
    module, _, last = name.rpartition(".")
    top = module.partition(".")[0]
    folder = Path.cwd()
    if not all(part.isidentifier() for part in name.split(".")):
        return Named(None, name)
    if top not in importable(folder):
        raise ConfigError(f"{where}: {not_importable(name, folder)}")
    if missing := missing_module(module):
        parent, _, end = missing.rpartition(".")
        raise ConfigError(f"{where}: there is no module '{missing}'{_beside(parent, end, name)}")
    if defines(module, last) is False:
        names = [each for each in names_in(module) or () if each[:1].isupper() == last[:1].isupper()]
        close = nearest(last, names)
        hint = f"; did you mean '{module}.{close}'?" if close else did_you_mean(last, family.classes if family else ())
        raise ConfigError(f"{where}: {module} has no '{last}'{hint}")
    return Named(find_class(module, last), last)


def _beside(parent: str, end: str, name: str) -> str:
    """Return the end of a message about a module that a package does not have: the nearest one that it has."""
    close = nearest(end, module_names(parent))
    return f"; did you mean '{parent}.{close}{name.removeprefix(f'{parent}.{end}')}'?" if close else ""


def not_importable(name: str, folder: Path) -> str:
    """Return why a configuration cannot name a class by a path, where ``folder`` is the working directory."""
    top = name.partition(".")[0]
    try:
        there = importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        there = False
    if there:
        return (
            f"'{name}' may not be named in a configuration, which takes classes of {', '.join(ALLOWED_IMPORTS)}, of "
            f".py files in the folder that fer is started in ({folder}), and of plug-ins"
        )
    return f"there is no module '{top}' for '{name}'; put {top}.py into the folder that fer is started in ({folder})"


def check_backbone(name: str, where: str) -> None:
    """Refuse the name of a network that neither this package nor timm has.

    Raises:
        ConfigError: with the nearest names.
    """
    ours, models = keys_of("fer_lightning.models.backbones", "BACKBONES"), package_folder("timm")
    if name in ours or ":" in name or not ours or models is None or _is_class_of_models(name):
        return
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in sorted((models / "models").glob("*.py"))]
    word = re.compile(rf"(?:\bdef |['\"]){re.escape(name.partition('.')[0])}(?:\(|['\".])")
    if not name or "/" in name or not any(word.search(text) for text in texts):
        known = [model for text in texts for model in re.findall(r"^@register_model\s+def (\w+)", text, re.MULTILINE)]
        raise ConfigError(f"{where}: {unknown_backbone(name, ours, known)}")


def _is_class_of_models(name: str) -> bool:
    """Tell whether a class of the room of networks has this name, which the parser then knows."""
    folder = package_folder("fer_lightning")
    files = [] if folder is None else (folder / "models").glob("*.py")
    return any(
        re.search(rf"^class {re.escape(name)}\b", file.read_text(encoding="utf-8"), re.MULTILINE) for file in files
    )
