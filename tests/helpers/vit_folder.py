"""A Hugging Face folder of a tiny ViT with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def write_vit_folder(folder: Path, image_size: int = 224) -> Path:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``, and return the folder.

    Args:
        folder: made if it does not exist.
        image_size: side of the images that the network takes, a multiple of 16 pixels.
    """
    from transformers import ViTConfig, ViTForImageClassification  # here: it takes seconds, and most tests need none

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=image_size,
        patch_size=16,
    )
    config.num_labels = 7
    torch.manual_seed(0)
    ViTForImageClassification(config).save_pretrained(folder)
    told = {"size": {"height": image_size, "width": image_size}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder
