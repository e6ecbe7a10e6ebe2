"""Callbacks: what happens around a training step. Those listed here have short names in configs."""

from fer_lightning.callbacks.class_focus import ClassFocus
from fer_lightning.callbacks.ema import EMA
from fer_lightning.callbacks.explanation_maps import ExplanationMaps
from fer_lightning.callbacks.progressive_size import ProgressiveSize
from fer_lightning.callbacks.sam import SAM
from fer_lightning.callbacks.unfreezing import GradualUnfreezing

__all__ = ["EMA", "SAM", "ClassFocus", "ExplanationMaps", "GradualUnfreezing", "ProgressiveSize"]
