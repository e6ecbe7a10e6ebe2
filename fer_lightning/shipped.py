"""What comes with the package, such as released models.

In the repository it stands at the top level, in a wheel inside of the package.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped"]

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """Return the place of a folder that comes with the package, such as ``checkpoints``; it may be missing."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder
