"""The features of training batches, computed by compiled code where that is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fer_lightning.errors import ConfigError

if TYPE_CHECKING:
    from fer_lightning.models.classifier import EmotionClassifier

__all__ = ["TrainingFeatures"]

_COMPILERS = ("g++", "clang++")


class TrainingFeatures:
    """Computes the features of training batches, with ``torch.compile`` or as the network is written.

    The first batch of each shape waits for the compiler, up to a minute; code that was compiled before on this machine
    is found again in seconds. A copy starts without compiled code.

    Args:
        compiled: use ``torch.compile``.
    """

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        self._run: Callable[[EmotionClassifier, Tensor], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"compiled": self.compiled, "_run": None}

    def check(self) -> None:
        """Raise ``ConfigError`` if code is to be compiled and there is no C++ compiler."""
        names = (os.environ["CXX"],) if "CXX" in os.environ else _COMPILERS
        if self.compiled and not any(map(shutil.which, names)):
            raise ConfigError(
                f"model.compile needs a C++ compiler, and {' or '.join(names)} is not installed: install one, or train "
                "without: --model.compile false"
            )

    def __call__(self, classifier: EmotionClassifier, images: Tensor) -> Tensor:
        """Map normalised images ``(N, C, H, W)`` to features ``(N, F)``.

        Raises:
            ConfigError: if this network cannot be compiled here.
        """
        if not self.compiled:
            return classifier.features(images)
        if self._run is None:
            self._run = torch.compile(type(classifier).features, dynamic=False)
        from torch._dynamo.exc import TorchDynamoException  # seconds, for those alone who compile

        try:
            return self._run(classifier, images)
        except TorchDynamoException as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(
                f"model.compile: this network could not be compiled ({said}); train without: --model.compile false"
            ) from error
