"""Names of a package that are imported when they are first asked for, so that one of them does not cost all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_all", "lazily"]


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package (PEP 562).

    Args:
        package: its ``__name__``.
        homes: names and the modules that they come from.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return get


def import_all(package: ModuleType) -> None:
    """Import all names that a package exports, for parsers, which find classes by name among those imported."""
    for name in package.__all__:
        getattr(package, name)
