"""Parts as a user would write them: a backbone, a head, a loss and callbacks, reached by class_path alone."""

from __future__ import annotations

import os
import signal
from typing import Any, ClassVar

import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, nn

from fer_lightning.models.backbones import BACKBONES
from fer_lightning.types import Batch


class TinyBackbone(nn.Module):
    """Two convolutions with batch norm and dropout: everything that resuming can get wrong."""

    def __init__(self, in_channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


class SmoothBackbone(nn.Module):
    """A convolution without batch norm, dropout or kinks: sums in another order change its weights by rounding only."""

    def __init__(self, in_channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, width, 3, 2, 1), nn.Tanh(), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


class PooledBackbone(TinyBackbone):
    """The same for images of any size."""

    def __init__(self, in_channels: int = 1, width: int = 8) -> None:
        super().__init__(in_channels, width)
        self.layers[-1] = nn.AdaptiveAvgPool2d(1)


class CosineHead(nn.Module):
    """Logits are scaled cosines."""

    def __init__(self, in_features: int, num_classes: int, scale: float = 8.0) -> None:
        super().__init__()
        self.centres = nn.Linear(in_features, num_classes, bias=False)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features), F.normalize(self.centres.weight))


class DoubleBackbone(nn.Module):
    """A network of ours in float64, with group for batch norm and without dropout.

    Nothing in it depends on how a batch is shared out, and rounding does not grow to anything in an epoch.
    """

    def __init__(self, in_channels: int = 1, name: str = "fer_b") -> None:
        super().__init__()
        network = BACKBONES[name](in_channels=in_channels)
        for module in list(network.modules()):
            for child_name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, child_name, nn.GroupNorm(4, child.num_features))
                elif isinstance(child, nn.Dropout):
                    setattr(module, child_name, nn.Identity())
        self.network = network.double()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images.double())
        return features


class DoubleHead(nn.Module):
    """A linear layer in float64."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, num_classes).double()

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.fc(features.double())
        return logits


class PolyLoss(nn.Module):
    """Cross-entropy with a polynomial term (Leng et al. 2022, arXiv:2204.12511)."""

    def __init__(self, epsilon: float = 1.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        right = logits.softmax(1).gather(1, target[:, None])[:, 0]
        return F.cross_entropy(logits, target) + self.epsilon * (1 - right).mean()


class NaNLoss(nn.Module):
    """Becomes NaN after some calls."""

    def __init__(self, after: int = 3) -> None:
        super().__init__()
        self.after = after
        self.calls = 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += self.training
        loss = F.cross_entropy(logits, target)
        return loss * float("nan") if self.calls > self.after else loss


class StoppedError(Exception):
    """What ``StopAt`` raises."""


class StopAt(Callback):
    """Ends the run at the batch that the environment names, with SIGKILL or an exception that nobody handles.

    Not by an argument: a resumed run takes the callbacks of the stopped one from its checkpoint.
    """

    def __init__(self) -> None:
        self.step = int(os.environ.get("FER_TEST_STOP_AT", "0"))
        self.kill = "FER_TEST_KILL" in os.environ
        self.rank = int(os.environ.get("FER_TEST_RANK", "0"))
        self.seen = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen += 1
        if self.seen == self.step and trainer.global_rank == self.rank:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise StoppedError


class Recorder(Callback):
    """Notes which rows were trained on, in order."""

    rows: ClassVar[list[list[int]]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rows.append(batch["index"].tolist())


def note_epoch(trainer: Trainer, pl_module: LightningModule) -> None:
    """Do nothing at the end of an epoch."""


def samples_in(batch: Batch) -> int:
    """Return how many samples a batch has."""
    return len(batch["index"])


class KeepsPredictions(BasePredictionWriter):
    """Notes which rows were predicted."""

    seen: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        KeepsPredictions.seen += [row for batch in predictions for row in batch["index"].tolist()]


class FailsEarly(Callback):
    """Has a bug that shows before training."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        raise NotImplementedError
