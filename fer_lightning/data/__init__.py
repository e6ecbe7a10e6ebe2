"""The data wing: from files on a disk to batches on a device."""

from fer_lightning.data.augment import BatchAugment
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.fer2013 import FER2013DataModule
from fer_lightning.data.samples import SamplesTable
from fer_lightning.data.sketch import SketchDataModule

__all__ = ["BatchAugment", "EmotionDataModule", "FER2013DataModule", "SamplesTable", "SketchDataModule"]
