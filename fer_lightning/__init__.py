"""Facial expression recognition on PyTorch Lightning.

Names are imported when they are first asked for: ``import fer_lightning`` alone imports neither torch nor Lightning.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from fer_lightning.lazy import lazily

if TYPE_CHECKING:
    from fer_lightning.api import audit, compare, evaluate
    from fer_lightning.data.datamodule import EmotionDataModule
    from fer_lightning.inference.loading import load_model
    from fer_lightning.inference.recognizer import Recognizer
    from fer_lightning.models.task import EmotionTask

__all__ = [
    "EmotionDataModule",
    "EmotionTask",
    "Recognizer",
    "__version__",
    "audit",
    "compare",
    "evaluate",
    "load_model",
]

try:
    __version__ = version("fer_lightning")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__getattr__ = lazily(
    __name__,
    {
        "EmotionDataModule": "fer_lightning.data.datamodule",
        "EmotionTask": "fer_lightning.models.task",
        "Recognizer": "fer_lightning.inference.recognizer",
        "audit": "fer_lightning.api",
        "compare": "fer_lightning.api",
        "evaluate": "fer_lightning.api",
        "load_model": "fer_lightning.inference.loading",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
