"""Facial expression recognition on PyTorch Lightning."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from fer_lightning.lazy import lazily

if TYPE_CHECKING:
    from fer_lightning.inference.loading import load_model
    from fer_lightning.inference.recognizer import Recognizer

__all__ = ["Recognizer", "__version__", "load_model"]

try:
    __version__ = version("fer_lightning")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__getattr__ = lazily(
    __name__,
    {
        "Recognizer": "fer_lightning.inference.recognizer",
        "load_model": "fer_lightning.inference.loading",
    },
)
