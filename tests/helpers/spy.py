"""Functions that keep what they were called with."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["Spy"]


class Spy:
    """Stands in for functions and keeps what they were called with."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def on(self, path: str, result: Any) -> None:
        """Replace a function by one that returns a result, or raises it if it is an error."""

        def call(*args: Any, **options: Any) -> Any:
            self.calls[path.rpartition(".")[2]] = args, options
            if isinstance(result, Exception):
                raise result
            return result

        self.patch.setattr(f"fer_lightning.{path}", call)

    def options(self, name: str) -> dict[str, Any]:
        """Return the named arguments of the last call."""
        return self.calls[name][1]
