"""What results depend on where nobody says anything: defaults of options, and constants."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pytest

from fer_lightning.models.task import _default_optimizer
from tests.helpers.parts import TinyBackbone

DEFAULTS: dict[str, dict[str, Any]] = {
    "callbacks.checkpoints.BestCheckpoint": {"monitor": "val_acc", "mode": "max", "save_top_k": 1},
    "callbacks.checkpoints.ResumeCheckpoint": {"every_n_steps": 100, "keep_every_n_epochs": 0, "keep_steps": False},
    "callbacks.class_focus.ClassFocus": {
        "mode": "regret",
        "source": "focus",
        "k": 2,
        "weight": 3.0,
        "power": 0.5,
        "max_repeats": 4.0,
        "warmup": 0.25,
        "release": 0.15,
        "gamma": 4.0,
    },
    "callbacks.ema.EMA": {"decay": 0.998, "update_every_n_steps": 1},
    "callbacks.focus_rules.RegretRule": {
        "shrink": 10.0,
        "smooth": 0.8,
        "gamma": 4.0,
        "gate_from": 0.1,
        "gate_width": 0.2,
        "least": 1.5,
        "most": 2.5,
        "step": 1.25,
        "patience": 6,
        "gain": 0.002,
        "power": 0.75,
        "natural": 0.2,
        "max_repeats": 4.0,
        "warmup": 0.25,
        "release": 0.15,
    },
    "callbacks.sam.SAM": {"rho": 0.05, "adaptive": False},
    "callbacks.unfreezing.GradualUnfreezing": {"backbone_lr_factor": 1.0, "group_lr_decay": 1.0},
    "class_weights.class_weights": {"method": "inverse", "beta": 0.999},
    "class_weights.effective_number": {"beta": 0.999},
    "data.batches.augment.BatchAugment": {
        "flip": 0.5,
        "rotation": 15.0,
        "scale": (0.85, 1.15),
        "shift": 0.12,
        "brightness": 0.1,
        "contrast": 0.2,
        "erasing": 0.3,
        "erasing_area": (0.02, 0.2),
        "occlusion": 0.0,
        "occlusion_size": 0.25,
        "noise": 0.0,
        "noise_std": 0.05,
        "padding": "border",
        "calm": 0.1,
        "calm_strength": 0.4,
    },
    "data.batches.mixing.BatchMix": {"mixup": 0.2, "cutmix": 0.0, "probability": 1.0, "calm": 0.0},
    "data.datamodule.EmotionDataModule": {
        "batch_size": 128,
        "interpolation": "area",
        "transform": "none",
        "balance": "none",
        "drop_overlap": False,
        "focus_fraction": 0.0,
        "fold": 0,
        "fold_seed": 0,
        "soft_label_role": "target",
    },
    "data.files_datamodule.FilesDataModule": {
        "min_side": 0,
        "small": "reject",
        "val_fraction": 0.2,
        "test_fraction": 0.0,
        "split_seed": 0,
        "near_duplicates": True,
    },
    "data.sets.balanced.BalancedFER2013DataModule": {
        "inject_classes": ("angry", "disgust", "surprise"),
        "at_least": 4500,
        "synthesis_seed": 0,
    },
    "data.sets.ck_plus.CKPlusDataModule": {"classes": 7, "peak_frames": 3, "neutral": True},
    "data.sets.fer2013.fer2013.UsageDataModule": {
        "train": "Training",
        "val": "PublicTest",
        "test": "PrivateTest",
        "holdout_fraction": 0.1,
        "split_seed": 0,
    },
    "data.sets.fer2013.ferplus.FERPlusDataModule": {
        "target": "majority",
        "ties": "drop",
        "single_votes": False,
        "share": 0.3,
    },
    "data.sets.sketch.sketch.SketchDataModule": {
        "train": 4200,
        "val": 700,
        "test": 1400,
        "drawing_seed": 0,
        "difficulty": 1.0,
        "size": 48,
        "colour": False,
    },
    "data.sets.hybrid.HybridSource": {"kind": "real"},
    "data.splitting.near_duplicates.near_duplicates": {"mirrored": False, "max_distance": 0.18},
    "data.splitting.splits.complete_splits": {"val_fraction": 0.2, "test_fraction": 0.0, "seed": 0, "class_names": ()},
    "data.splitting.splits.drop_overlap": {"drop_from": "train", "against": ("val", "test")},
    "data.storage.convert.convert_table": {"quality": 92},
    "data.storage.encoding.Encoder": {"encoding": "jpeg", "quality": 92},
    "data.table.synthesis.Recipe": {"rotation": 15.0, "shift": 0.1, "zoom": 0.1, "flip": True},
    "losses.FocalLoss": {"gamma": 2.0, "method": "none"},
    "losses.LDAMLoss": {"max_margin": 0.5, "scale": 30.0, "method": "effective_number", "beta": 0.9999},
    "losses.LogitAdjustedLoss": {"tau": 1.0, "label_smoothing": 0.0},
    "losses.WeightedCrossEntropy": {"method": "inverse", "beta": 0.999, "label_smoothing": 0.0},
    "metrics.calibration_bins": {"bins": 15},
    "models.heads.CosineHead": {"scale": 30.0, "learn_scale": False, "dropout": 0.0},
    "models.heads.LinearHead": {"dropout": 0.0},
    "models.heads.MLPHead": {"hidden": 256, "dropout": 0.5},
    "models.layer_groups.RateShares": {"backbone_lr_factor": 1.0, "layer_lr_decay": 1.0},
    "models.task.EmotionTask": {
        "backbone": "fer_a",
        "pretrained": False,
        "monitor": "val_loss",
        "decay_norm_and_bias": False,
        "backbone_lr_factor": 1.0,
        "layer_lr_decay": 1.0,
        "aux_weight": 0.0,
        "teacher_weight": 0.5,
        "temperature": 4.0,
        "prior_correction": False,
        "channels_last": True,
        "compile": False,
    },
    "optim.OneCycle": {"peak": 0.3, "start": 0.04, "final": 4e-06, "momentum": (0.85, 0.95)},
    "optim.WarmupCosine": {"warmup": 0.1, "start": 0.04, "final": 0.0},
    "preprocessing.resized": {"interpolation": "area"},
    "evaluation.plots.worst_mistakes_figure": {"rows": 4, "columns": 6},
    "evaluation.prior.best_tau": {"grid": tuple(step / 20 for step in range(-20, 31))},
    "evaluation.prior.cross_fitted": {"grid": tuple(step / 20 for step in range(-20, 31))},
    "evaluation.page.worst_mistakes": {"count": 24},
    "inspection.page.inspect_table": {
        "near": True,
        "mirrored": False,
        "tsne": False,
        "tsne_samples": 3000,
        "seed": 0,
    },
    "inspection.plots.pairs_figure": {"columns": 4},
    "inspection.plots.strip_figure": {"columns": 8},
    "models.backbones.create_backbone": {"pretrained": False, "weights": None, "image_size": None},
    "models.compact.CompactMobileNetV2": {"in_channels": 1, "features": 128, "dropout": 0.0},
    "models.compact.CompactResNet": {"in_channels": 1, "stem": 24, "widths": (32, 56, 80, 128), "dropout": 0.0},
    "models.compact.DilatedResNet": {
        "in_channels": 1,
        "widths": (32, 128, 256),
        "dilations": (1, 2, 3),
        "dropout": 0.5,
    },
    "models.compact.FERNet": {"in_channels": 1, "stem": (16, 32), "dropout": 0.2, "image_size": 48},
    "models.hf_folder.HFFolderBackbone": {"in_channels": 3, "keep_head": False},
    "models.precision.measure_precision": {"seconds": 2.0},
    "preprocessing.resized_picture": {"interpolation": "area"},
    "preprocessing.resize_weights": {"interpolation": "area"},
    "studies.child_runs.fit_in_child": {"follow": None, "resume": True},
    "studies.tune.search_space.Parameter": {"step": None, "log": False, "choices": ()},
    "text.excerpt": {"limit": 30},
    "text.one_line": {"limit": 250},
    "text.short_path": {"limit": 100},
}

CONSTANTS: dict[str, dict[str, Any]] = {
    "callbacks.focus_rules": {
        "CEILINGS": {
            "angry": 0.81,
            "disgust": 0.9,
            "fear": 0.8,
            "happy": 0.94,
            "sad": 0.73,
            "surprise": 0.87,
            "neutral": 0.83,
        }
    },
    "callbacks.sam": {"_ETA": 0.01, "_TINY": 1e-12},
    "cli.end_watch": {"_UNHEARD_S": 2.0, "_ENDING_S": 10.0, "_SAME_S": 0.5},
    "cli.stored_config": {"REPLACED": {"pretrained": False, "weights": None}},
    "data.datamodule": {"_EVAL_PIXELS": 2_000_000},
    "data.files_datamodule": {"IMAGENET_MEAN": (0.485, 0.456, 0.406), "IMAGENET_STD": (0.229, 0.224, 0.225)},
    "evaluation.prior": {"TAUS": tuple(step / 20 for step in range(-20, 31))},
    "evaluation.spread": {"CONFIDENCE": 0.95},
    "losses": {"MOST_WEIGHT": 100.0},
    "metrics": {"CALIBRATION_BINS": 15, "CONFIDENCE_SCALE": 2**30, "Z_95": 1.959963984540054},
    "models.precision": {"GAIN": 1.1},
    "preprocessing": {"LUMA": (0.299, 0.587, 0.114), "_HALF": np.float32(0.501)},
    "data.batches.mixing": {"_STREAM": 7},
    "data.splitting.near_duplicates": {
        "CORRELATION": 0.75,
        "MAX_DISTANCE": 0.18,
        "THUMBNAIL_SIDE": 24,
        "_SCREEN": 0.35,
        "_HOPELESS": 0.5,
        "_FLAT": 2.0,
        "_FREQUENCIES": 7,
        "_STEPS": 2,
        "_PARTNERS": 64,
        "_GRAY": {1: (65536,), 3: (19595, 38470, 7471)},
    },
    "data.splitting.dedupe": {"_GIVE_WAY": ("test", "val", "train", "")},
    "data.splitting.focus_part": {"_SEED": 0},
    "data.splitting.splits": {"_ATTEMPTS": 20},
    "data.storage.convert": {"_MEASURED": 10_000},
    "data.storage.writers": {"_SHUFFLE_SEED": 20_130_704},
    "data.table.label_columns": {"LOOKED_AT": 50, "_FEW": 15},
    "data.table.samples": {"DIGEST_BYTES": 16},
    "data.table.soft_labels": {"_SUM_TOLERANCE": 0.01},
    "data.table.synthesis": {"_MATRIX_STEP": 2.0**-20},
    "data.sets.fer2013.ferplus_votes": {"_AGREEMENT": 0.35, "_AGREEMENT_ROWS": 200},
    "data.files.decode": {"_BACKGROUND": 128, "_FARTHEST": 10, "MAX_PIXELS": 50_000_000},
    "data.sets.sketch.actions": {"_MIXED": 0.35, "_TRACE": 0.4, "_MISSING": 0.12, "_STRAY": 0.16, "_ASYMMETRY": 0.12},
    "data.sets.sketch.scene": {"_OCCLUDED": 0.12},
    "evaluation.page": {"MISTAKES_SHOWN": 24, "_BY_PAIR": (3, 6), "_SUSPECTS": 12, "_GROUPS_LISTED": 12},
    "evaluation.plots": {"BAR": 0.27, "DASHES": ("-", "--", ":", "-.")},
    "evaluation.report": {"NAME_WIDTH": 20},
    "evaluation.uncertainty": {"PAIRS": 10},
    "inspection.dedupe_report": {"_SHOWN": 16},
    "inspection.embedding": {"_COMPONENTS": 50, "_PERPLEXITY": 30.0, "_SIDE": 64, "_FEWEST": 5},
    "inspection.findings": {"_UNEVEN": 1.5, "_SHIFTED": 0.05, "_DARKER": 0.05},
    "inspection.statistics": {
        "BLANK_CONTRAST": 0.02,
        "_FEW_VALUES": 20,
        "_NOT_CATEGORIES": ("width", "height", "valence", "arousal"),
    },
    "inspection.page": {"SCHEMA": 1, "_PER_CLASS": 8, "_EXTREMES": 8, "_BLANKS": 16, "_PAIRS": 12},
    "figures": {
        "DPI": 150,
        "SPLIT_COLORS": {"train": "#0072B2", "val": "#D55E00", "test": "#009E73"},
        "_CLASS_COLORS": {
            "angry": "vermillion",
            "disgust": "green",
            "fear": "purple",
            "happy": "yellow",
            "sad": "blue",
            "surprise": "orange",
            "neutral": "sky",
        },
    },
    "models.timm_backbones": {"HUB_TIMEOUT_S": 5.0, "_WEIGHT_FILES": ("model.safetensors", "pytorch_model.bin")},
    "models.weight_files": {"_DEPTH": 3, "_MOST_CLASSES": 200, "_HF_FILES": ("model.safetensors", "pytorch_model.bin")},
    "studies.child_runs": {
        "POLL_SECONDS": 0.25,
        "GROUP_SECONDS": 2.0,
        "ORPHAN_SECONDS": 120.0,
        "STOP_SECONDS": 900.0,
        "_PR_SET_PDEATHSIG": 1,
    },
    "studies.tune.config": {"_EPOCHS": 1000},
    "studies.tune.plots": {"FEW_TRIALS": 50},
    "studies.tune.results": {"PICTURE_SECONDS": 30.0, "LEAST_TRIALS": 10},
    "studies.tune.storage": {"_ATTEMPTS": 5, "SQLITE_SECONDS": 60},
    "studies.tune.study": {"OWNERLESS_SECONDS": 60.0, "FAILURES": 3},
    "files": {"_STALE": 86400},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_option_that_is_left_out_is_what_it_always_was(name: str) -> None:
    module, _, thing = name.rpartition(".")
    options = inspect.signature(getattr(importlib.import_module(f"fer_lightning.{module}"), thing)).parameters
    assert {option: options[option].default for option in DEFAULTS[name]} == DEFAULTS[name]


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_what_it_always_was(name: str) -> None:
    module = importlib.import_module(f"fer_lightning.{name}")
    assert {constant: getattr(module, constant) for constant in CONSTANTS[name]} == CONSTANTS[name]


def test_the_optimizer_is_what_it_always_was() -> None:
    optimizer = _default_optimizer(TinyBackbone().parameters())
    assert type(optimizer).__name__ == "AdamW"
    options = {"lr": 1e-3, "weight_decay": 0.05, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
    assert {name: optimizer.defaults[name] for name in options} == options
