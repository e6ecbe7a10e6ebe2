"""The data wing: from files on a disk to batches on a device."""

from typing import TYPE_CHECKING

from fer_lightning.lazy import lazily

if TYPE_CHECKING:
    from fer_lightning.data.batches.augment import BatchAugment
    from fer_lightning.data.batches.mixing import BatchMix
    from fer_lightning.data.datamodule import EmotionDataModule
    from fer_lightning.data.sets.affectnet.affectnet import AffectNetDataModule
    from fer_lightning.data.sets.arrow import ArrowDataModule
    from fer_lightning.data.sets.balanced import BalancedFER2013DataModule
    from fer_lightning.data.sets.ck_plus import CKPlusDataModule
    from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
    from fer_lightning.data.sets.fer2013.ferplus import FERPlusDataModule
    from fer_lightning.data.sets.hybrid import HybridDataModule, HybridSource
    from fer_lightning.data.sets.image_folder import ImageFolderDataModule
    from fer_lightning.data.sets.manifest import ManifestDataModule
    from fer_lightning.data.sets.raf_db import RAFDBDataModule
    from fer_lightning.data.sets.shards import ShardsDataModule
    from fer_lightning.data.sets.sketch.sketch import SketchDataModule
    from fer_lightning.data.table.samples import SamplesTable

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

__getattr__ = lazily(
    __name__,
    {
        "AffectNetDataModule": "fer_lightning.data.sets.affectnet.affectnet",
        "ArrowDataModule": "fer_lightning.data.sets.arrow",
        "BalancedFER2013DataModule": "fer_lightning.data.sets.balanced",
        "BatchAugment": "fer_lightning.data.batches.augment",
        "BatchMix": "fer_lightning.data.batches.mixing",
        "CKPlusDataModule": "fer_lightning.data.sets.ck_plus",
        "EmotionDataModule": "fer_lightning.data.datamodule",
        "FER2013DataModule": "fer_lightning.data.sets.fer2013.fer2013",
        "FERPlusDataModule": "fer_lightning.data.sets.fer2013.ferplus",
        "HybridDataModule": "fer_lightning.data.sets.hybrid",
        "HybridSource": "fer_lightning.data.sets.hybrid",
        "ImageFolderDataModule": "fer_lightning.data.sets.image_folder",
        "ManifestDataModule": "fer_lightning.data.sets.manifest",
        "RAFDBDataModule": "fer_lightning.data.sets.raf_db",
        "SamplesTable": "fer_lightning.data.table.samples",
        "ShardsDataModule": "fer_lightning.data.sets.shards",
        "SketchDataModule": "fer_lightning.data.sets.sketch.sketch",
    },
)
