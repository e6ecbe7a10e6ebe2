"""Networks: backbones, heads and the classifier of both, as plain modules, and the task that trains them."""

from fer_lightning.models.backbones import BACKBONES, create_backbone, feature_width
from fer_lightning.models.classifier import EmotionClassifier, build_classifier
from fer_lightning.models.compact import CompactMobileNetV2, CompactResNet, DilatedResNet, FERNet
from fer_lightning.models.heads import CosineHead, LinearHead, MLPHead
from fer_lightning.models.hf_folder import HFFolderBackbone
from fer_lightning.models.weights import load_weights

__all__ = [
    "BACKBONES",
    "CompactMobileNetV2",
    "CompactResNet",
    "CosineHead",
    "DilatedResNet",
    "EmotionClassifier",
    "FERNet",
    "HFFolderBackbone",
    "LinearHead",
    "MLPHead",
    "build_classifier",
    "create_backbone",
    "feature_width",
    "load_weights",
]
