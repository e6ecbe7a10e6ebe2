"""The data wing: from files on a disk to batches on a device."""

from fer_lightning.data.affectnet import AffectNetDataModule
from fer_lightning.data.arrow import ArrowDataModule
from fer_lightning.data.augment import BatchAugment
from fer_lightning.data.balanced import BalancedFER2013DataModule
from fer_lightning.data.ck_plus import CKPlusDataModule
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.fer2013 import FER2013DataModule
from fer_lightning.data.ferplus import FERPlusDataModule
from fer_lightning.data.hybrid import HybridDataModule, HybridSource
from fer_lightning.data.image_folder import ImageFolderDataModule
from fer_lightning.data.manifest import ManifestDataModule
from fer_lightning.data.mixing import BatchMix
from fer_lightning.data.raf_db import RAFDBDataModule
from fer_lightning.data.samples import SamplesTable
from fer_lightning.data.shards import ShardsDataModule
from fer_lightning.data.sketch import SketchDataModule

__all__ = [
    "AffectNetDataModule",
    "ArrowDataModule",
    "BalancedFER2013DataModule",
    "BatchAugment",
    "BatchMix",
    "CKPlusDataModule",
    "EmotionDataModule",
    "FER2013DataModule",
    "FERPlusDataModule",
    "HybridDataModule",
    "HybridSource",
    "ImageFolderDataModule",
    "ManifestDataModule",
    "RAFDBDataModule",
    "SamplesTable",
    "ShardsDataModule",
    "SketchDataModule",
]
