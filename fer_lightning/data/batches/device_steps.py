"""What happens to a batch once it is on the device."""

from __future__ import annotations

from collections.abc import Callable

from fer_lightning.data.batches.augment import BatchAugment
from fer_lightning.data.batches.mixing import BatchMix
from fer_lightning.preprocessing import normalised, prepare, resized, to_channels
from fer_lightning.types import Batch, Preprocessing

__all__ = ["DeviceSteps"]


class DeviceSteps:
    """Turns the uint8 images of a batch into the network's input; training batches are augmented and mixed.

    Attributes:
        preprocessing: what the network expects.
        augment: changes the images of training batches, or ``None``.
        mix: mixes the samples of training batches after that, or ``None``.
        training_size: side of training images, pixels, by progress (epochs done over epochs to do); ``None`` for the
            network's own. Set by ``ProgressiveSize``.
    """

    def __init__(self, preprocessing: Preprocessing, augment: BatchAugment | None, mix: BatchMix | None) -> None:
        self.preprocessing = preprocessing
        self.augment = augment
        self.mix = mix
        self.training_size: Callable[[float], int] | None = None

    def __call__(self, batch: Batch, progress: float, num_classes: int) -> Batch:
        """Return a batch of uint8 images ``(N, C, H, W)`` with float32 images ``(N, c, S, S)``, normalised.

        A ``key`` marks training batches. Progress is epochs done over epochs to do; mixing makes soft labels of width
        ``num_classes``.
        """
        wanted = self.preprocessing
        if "key" not in batch:
            return {**batch, "image": prepare(batch["image"], wanted)}
        size = wanted["image_size"] if self.training_size is None else self.training_size(progress)
        images = resized(batch["image"].float().div_(255), size, wanted["interpolation"])
        if self.augment is not None:
            images = self.augment(images, batch["key"], self.augment.strength(progress))
        batch = {**batch, "image": images}
        if self.mix is not None and self.mix.active(progress):
            batch = self.mix(batch, num_classes)  # normalising is linear: here it is the same, on fewer channels
        images = to_channels(batch["image"], wanted["channels"])
        return {**batch, "image": normalised(images, wanted["mean"], wanted["std"])}
