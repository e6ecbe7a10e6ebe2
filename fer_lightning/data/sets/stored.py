"""What the data modules of converted sets have in common."""

from __future__ import annotations

from typing import Any

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.storage.description import StoredSet

__all__ = ["StoredDataModule"]


class StoredDataModule(EmotionDataModule):
    """Base of the data modules that read a converted set.

    Attributes:
        stored: what the set says of itself.
    """

    stored: StoredSet

    def adopt(self, stored: StoredSet) -> None:
        """Take classes, size, channels and normalisation from a description, before the base is initialised."""
        self.stored = stored
        self.class_names = stored.class_names
        self.native_size, self.native_channels = stored.size, stored.channels
        self.native_mean, self.native_std = stored.mean, stored.std

    def describe(self) -> dict[str, Any]:
        """Return what a report must say of the data, and how it was stored."""
        stored = {"encoding": self.stored.encoding, "quality": self.stored.quality, "source": self.stored.source}
        return {**super().describe(), "stored": stored}
