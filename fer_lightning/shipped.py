"""What comes with the package, such as released models.

In the repository it stands at the top level, in a wheel inside of the package.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped", "shipped_file"]

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """Return the place of a folder that comes with the package, such as ``checkpoints``; it may be missing."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def shipped_file(path: Path, folder: str) -> Path:
    """Return the file that a path stands for: the path itself where it exists, else that file of the package.

    With the folder ``checkpoints``, ``checkpoints/a.npz`` and ``a.npz`` mean the same file of the package, from every
    working directory. A path that is neither is returned as it is.

    Args:
        path: as it was typed.
        folder: of the package, see ``shipped``.
    """
    if path.is_absolute() or ".." in path.parts or path.exists():
        return path
    found = shipped(folder).joinpath(*path.parts[path.parts[:1] == (folder,) :])
    return found if found.is_file() else path
