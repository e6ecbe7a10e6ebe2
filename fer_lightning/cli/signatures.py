"""Signatures of classes, read off their source files without importing them.

Importing torch and Lightning takes seconds; what a class accepts stands in its file. Nothing here is complete: whatever
cannot be read is open, which means that nothing is known against it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "Signature",
    "Types",
    "class_signature",
    "defines",
    "find_class",
    "keys_of",
    "missing_module",
    "module_names",
    "names_in",
    "package_folder",
]

_SCALARS = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
_DEEPEST = 12  # steps from one file to the next: more would be a circle


@dataclass(frozen=True)
class Types:
    """What an annotation accepts.

    Attributes:
        scalars: among ``int``, ``float``, ``bool``, ``str`` and ``NoneType``.
        words: the values of a ``Literal``, as text.
        classes: dotted paths of classes.
        lists: it accepts a list of numbers or words.
        open: it accepts what could not be read, too.
    """

    scalars: frozenset[type] = frozenset()
    words: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    lists: bool = False
    open: bool = False

    def __or__(self, other: Types) -> Types:
        """Return what either accepts."""
        classes = (*self.classes, *other.classes)
        words = (*self.words, *other.words)
        return Types(self.scalars | other.scalars, words, classes, self.lists or other.lists, self.open or other.open)


OPEN = Types(open=True)


@dataclass(frozen=True)
class Signature:
    """The arguments of a class.

    Attributes:
        arguments: what each accepts, by name.
        defaults: source text of those that have one.
        open: it has more arguments, which could not be read.
    """

    arguments: dict[str, Types] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    open: bool = False


@functools.cache
def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, or the file of a module, that is not imported for it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


@functools.cache
def _file_of(module: str) -> Path | None:
    """Return the source file of a module, ``None`` if it has none."""
    first, *rest = module.split(".")
    place = package_folder(first)
    if place is None or (rest and place.is_file()):
        return None
    path = place.joinpath(*rest)
    for file in (path, path.with_suffix(".py") if rest else path, path / "__init__.py"):
        if file.is_file():
            return file
    return None


def module_names(package: str) -> list[str]:
    """Return the modules and packages in a package, empty if it is none."""
    file = _file_of(package)
    if file is None or file.name != "__init__.py":
        return []
    inside = [*file.parent.glob("*.py"), *(each.parent for each in file.parent.glob("*/__init__.py"))]
    return sorted(each.stem for each in inside if each != file)


def missing_module(name: str) -> str:
    """Return the first part of a dotted path that is certainly no module although the package above it is there."""
    parts = name.split(".")
    for count in range(2, len(parts) + 1):
        package, last = ".".join(parts[: count - 1]), parts[count - 1]
        file = _file_of(package)
        found = _module(package)
        if file is None or found is None or found.dynamic or "__getattr__" in found.others:
            return ""
        if file.name == "__init__.py" and not (file.parent / last).exists() and not any(file.parent.glob(f"{last}.*")):
            return ".".join(parts[:count]) if defines(package, last) is False else ""
    return ""


@dataclass
class _Module:
    """What a source file defines at its top level, by name."""

    name: str
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    dynamic: bool = False


@functools.cache
def _module(name: str) -> _Module | None:
    file = _file_of(name)
    if file is None:
        return None
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    found = _Module(name, dynamic="globals()" in text or "setattr(" in text or "exec(" in text)
    for node in _top_level(tree.body):
        if isinstance(node, ast.ClassDef):
            found.classes[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in (target.id for target in targets if isinstance(target, ast.Name) and node.value):
                assert node.value is not None  # only such are looked at
                found.values[target] = node.value
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, name, file)
            for alias in node.names:
                if alias.name == "*":
                    found.stars.append(source)
                else:
                    found.imported[alias.asname or alias.name] = source, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                found.imported[bound] = (alias.name if alias.asname else bound), ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.others.add(node.name)
    return found


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those below an ``if`` or ``try``."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _top_level(node.body)
            yield from _top_level(node.orelse)
            for handler in node.handlers if isinstance(node, ast.Try) else ():
                yield from _top_level(handler.body)
        else:
            yield node


def _absolute(node: ast.ImportFrom, module: str, file: Path) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (file.name == "__init__.py")]
    return ".".join([*parts, *([node.module] if node.module else [])])


def names_in(module: str) -> set[str] | None:
    """Return the public names of a module, ``None`` if it has none that can be read or makes names as they are asked.

    With ``__all__`` these are its names, else all.
    """
    found = _module(module)
    if found is None or "__getattr__" in found.others:
        return None
    declared = found.values.get("__all__")
    if isinstance(declared, ast.List | ast.Tuple) and all(isinstance(each, ast.Constant) for each in declared.elts):
        return {str(each.value) for each in declared.elts if isinstance(each, ast.Constant)}
    names = {*found.classes, *found.values, *found.imported, *found.others}
    for star in found.stars:
        names |= names_in(star) or set()
    return {name for name in names if not name.startswith("_")}


def defines(module: str, name: str, depth: int = 0) -> bool | None:
    """Tell whether a module has a name, ``None`` if that cannot be read off its files."""
    found = _module(module)
    if found is None or "__getattr__" in found.others or depth > _DEEPEST:
        return None
    if name in {*found.classes, *found.values, *found.imported, *found.others} or _file_of(f"{module}.{name}"):
        return True
    inside = [defines(star, name, depth + 1) for star in found.stars]
    if any(inside):
        return True
    return None if None in inside or found.dynamic else False


def keys_of(module: str, name: str) -> list[str]:
    """Return the keys of a dictionary that a module spells out, empty if it does not."""
    found = _module(module)
    value = found.values.get(name) if found else None
    keys = value.keys if isinstance(value, ast.Dict) else []
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]


def find_class(module: str, name: str, depth: int = 0) -> str | None:
    """Return the dotted path of the definition of a class that a module has, ``None`` if it is not found."""
    found = _module(module)
    if found is None or depth > _DEEPEST:
        return None
    if name in found.classes:
        return f"{module}.{name}"
    if name in found.imported:
        source, original = found.imported[name]
        return find_class(source, original, depth + 1) if original else None
    return next((path for star in found.stars if (path := find_class(star, name, depth + 1))), None)


def class_signature(path: str) -> Signature | None:
    """Return the arguments of a class by its dotted path, ``None`` if the class is not found.

    Arguments that a class of ours hands on by ``**options`` are those of its base classes; what others do with theirs
    is not known.
    """
    module, _, name = path.rpartition(".")
    place = find_class(module, name)
    return None if place is None else _signature(place)


@functools.cache
def _signature(place: str, depth: int = 0) -> Signature:
    module, _, name = place.rpartition(".")
    found = _module(module)
    assert found is not None  # the class was found in it
    node = found.classes[name]
    init = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
    own = Signature()
    if node.keywords or (node.decorator_list and not _is_dataclass(node)):
        return Signature(open=True)
    if init is not None:
        given = [*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs][1:]
        own = Signature({each.arg: _types(each.annotation, module) for each in given}, _defaults(init.args))
        if init.args.kwarg is None:
            return own
    elif _is_dataclass(node):
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        named = {each.target.id: each for each in fields if isinstance(each.target, ast.Name)}
        own = Signature(
            {name: _types(each.annotation, module) for name, each in named.items()},
            {name: ast.unparse(each.value) for name, each in named.items() if each.value is not None},
        )
    inherited = [_base_signature(base, module, depth) for base in node.bases]
    arguments = {key: types for base in reversed(inherited) for key, types in base.arguments.items()}
    defaults = {key: text for base in reversed(inherited) for key, text in base.defaults.items()}
    unread = any(base.open for base in inherited) or (init is not None and not module.startswith("fer_lightning."))
    return Signature(arguments | own.arguments, defaults | own.defaults, unread)


def _base_signature(base: ast.expr, module: str, depth: int) -> Signature:
    place = _class_named(base, module)
    if place in ("object", "torch.nn.modules.module.Module") or _last(base) in ("ABC", "Protocol", "Generic"):
        return Signature()
    return Signature(open=True) if place is None or depth > _DEEPEST else _signature(place, depth + 1)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(_last(each.func if isinstance(each, ast.Call) else each) == "dataclass" for each in node.decorator_list)


def _defaults(args: ast.arguments) -> dict[str, str]:
    by_place = [*args.posonlyargs, *args.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(by_place[len(by_place) - len(args.defaults) :], args.defaults, strict=True)
    )
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return {arg.arg: ast.unparse(value) for arg, value in pairs if value is not None}


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _class_named(node: ast.expr, module: str) -> str | None:
    """Return where the class is defined that an expression such as ``nn.Module`` names in a module."""
    if isinstance(node, ast.Name):
        return find_class(module, node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        found = _module(module)
        source, name = found.imported.get(node.value.id, ("", "")) if found else ("", "")
        return find_class(f"{source}.{name}".rstrip("."), node.attr) if source else None
    return None


def _types(node: ast.expr | None, module: str, depth: int = 0) -> Types:
    """Return what an annotation accepts."""
    if node is None or depth > _DEEPEST:
        return OPEN
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _types(ast.parse(node.value, mode="eval").body, module, depth + 1)
        return Types(frozenset([type(None)])) if node.value is None else OPEN
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _types(node.left, module, depth + 1) | _types(node.right, module, depth + 1)
    if isinstance(node, ast.Subscript):
        return _subscripted(node, module, depth)
    if isinstance(node, ast.Name) and node.id in _SCALARS:
        return Types(frozenset([_SCALARS[node.id]]))
    alias = _alias(node, module)
    if alias is not None:
        return _types(alias[0], alias[1], depth + 1)
    place = _class_named(node, module)
    if place == "torch._tensor.Tensor":
        return Types()  # no configuration holds one
    return OPEN if place is None else Types(classes=(place,))


def _subscripted(node: ast.Subscript, module: str, depth: int) -> Types:
    kind, inner = _last(node.value), node.slice
    parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    if kind == "Literal":
        words = [each.value for each in parts if isinstance(each, ast.Constant)]
        return Types(words=tuple(map(str, words)), open=len(words) < len(parts))
    if kind in ("Optional", "Union"):
        found: Any = Types(frozenset([type(None)] if kind == "Optional" else []))
        for part in parts:
            found |= _types(part, module, depth + 1)
        return found  # type: ignore[no-any-return]  # the sum of several
    if kind in ("list", "Sequence"):
        each = _types(parts[0], module, depth + 1)
        return Types(lists=True) if (each.scalars or each.words) and not (each.open or each.classes) else OPEN
    return OPEN


def _alias(node: ast.expr, module: str, depth: int = 0) -> tuple[ast.expr, str] | None:
    """Return the value, and its module, of a name that stands for a type, such as ``Role = Literal[...]``."""
    found = _module(module)
    if found is None or not isinstance(node, ast.Name) or depth > _DEEPEST:
        return None
    if node.id in found.values:
        value = found.values[node.id]
        return (value, module) if isinstance(value, ast.Subscript | ast.BinOp) else None
    if node.id in found.imported:
        source, original = found.imported[node.id]
        return _alias(ast.Name(original), source, depth + 1) if original else None
    return None
