"""Facial expression recognition on PyTorch Lightning."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("fer_lightning")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
