"""Networks: backbones, heads and the classifier of both, as plain modules, and the task that trains them."""

from fer_lightning.models.backbones import BACKBONES, create_backbone, feature_width, load_weights
from fer_lightning.models.classifier import EmotionClassifier, build_classifier
from fer_lightning.models.compact import CompactMobileNetV2, CompactResNet, DilatedResNet, FERNet
from fer_lightning.models.heads import LinearHead, MLPHead

__all__ = [
    "BACKBONES",
    "CompactMobileNetV2",
    "CompactResNet",
    "DilatedResNet",
    "EmotionClassifier",
    "FERNet",
    "LinearHead",
    "MLPHead",
    "build_classifier",
    "create_backbone",
    "feature_width",
    "load_weights",
]
