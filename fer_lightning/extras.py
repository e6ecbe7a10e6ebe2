"""Packages that only some features need: the extras of pyproject.toml."""

from __future__ import annotations

from importlib.util import find_spec

from fer_lightning.errors import MissingExtraError

__all__ = ["need_extra"]

_DISTRIBUTIONS = {"av": "PyAV", "python_multipart": "python-multipart", "sklearn": "scikit-learn"}
"""Packages that are not called as what is imported."""


def need_extra(extra: str, what: str, *packages: str) -> None:
    """Find out whether packages of an extra are installed, without importing them.

    Args:
        extra: that installs them, such as ``video``.
        what: needs them, with the verb: ``videos need``.
        packages: as they are imported.

    Raises:
        MissingExtraError: in one line, what is absent and the command that installs it.
    """
    absent = [_DISTRIBUTIONS.get(name, name) for name in packages if find_spec(name) is None]
    if absent:
        raise MissingExtraError(f"{what} {', '.join(absent)}: pip install 'fer_lightning[{extra}]'")
