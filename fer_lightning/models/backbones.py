"""Builds a backbone by name: a network that maps images ``(N, C, H, W)`` to features ``(N, F)``.

A name is one of ours (``BACKBONES``) or timm's. The width of the features is found by running the network once,
because attributes are not reliable: timm's VGG has 512 as ``num_features`` and returns 4096.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.backbone_names import quoted, why_not
from fer_lightning.errors import ConfigError
from fer_lightning.models.compact import CompactMobileNetV2, CompactResNet, DilatedResNet, FERNet
from fer_lightning.models.hf_folder import HFFolderBackbone
from fer_lightning.models.weights import load_weights
from fer_lightning.text import first_line

__all__ = ["BACKBONES", "backbone_name", "create_backbone", "feature_width", "in_eval_mode", "pool_features"]

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "compact_resnet_418k": CompactResNet,
    "compact_mobilenet_130k": CompactMobileNetV2,
    "dilated_resnet": DilatedResNet,
    "fer_a": FERNet,
    "fer_a_fast": partial(FERNet, stages=((32, 1), (64, 2), (96, 1))),
    "fer_b": partial(FERNet, stages=((32, 2), (48, 1), (48, 1))),
    "fer_b_fast": partial(FERNet, stem=(16, 24), stages=((24, 1), (40, 1), (60, 1))),
    "fer_nano": partial(FERNet, stem=(16, 24), stages=((24, 1), (32, 1), (36, 1))),
}
"""Our networks by name. Each is called with ``in_channels`` and its own options, all by keyword."""

_HF = "hf:"


def backbone_name(backbone: object) -> str:
    """Return the name of a backbone: as it was given, or that of its class.

    Args:
        backbone: a name, a module, or a mapping with the ``class_path`` of one, as in a config file.
    """
    if isinstance(backbone, str):
        return backbone
    path = str(backbone["class_path"]) if isinstance(backbone, Mapping) else type(backbone).__name__
    return path.rpartition(".")[2]


def create_backbone(
    backbone: str | nn.Module,
    in_channels: int,
    pretrained: bool = False,
    weights: str | None = None,
    image_size: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a backbone by name, or take a module as it is.

    Args:
        backbone: a key of ``BACKBONES``, any name that ``timm.create_model`` knows (also with a tag, or
            ``local-dir:PATH`` and ``hf-hub:OWNER/NAME``), ``hf:PATH`` for a local Hugging Face image-classification
            folder, or a module.
        in_channels: 1 for gray, 3 for RGB.
        pretrained: start from the weights that timm publishes for this name.
        weights: a local ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file to start from.
        image_size: side of the data's images, for networks that are built for one size (ours with a global
            convolution, timm's ViT and its kin).
        **options: the network's own, for example ``dropout=0.1`` for ours or ``patch_size=8`` for timm's ViT.

    Returns:
        A network without classification layer: images ``(N, in_channels, H, W)`` to features ``(N, F)``.

    Raises:
        ConfigError: for an unknown name or option, or if pretrained weights do not exist or cannot be reached.
        CheckpointError: if ``weights`` is missing, unreadable or belongs to another network.
    """
    if in_channels < 1:
        raise ConfigError(f"a backbone needs at least 1 input channel, got {in_channels}")
    if pretrained and weights is not None:
        raise ConfigError(f"both 'pretrained: true' and 'weights: {weights}' are set: choose one to start from")
    if isinstance(backbone, nn.Module):
        if pretrained or options:
            what = ", ".join([*(["pretrained"] if pretrained else []), *options])
            kind = type(backbone).__name__
            raise ConfigError(f"the backbone is a ready {kind}: give {what} to its own constructor instead")
        network = backbone
    elif backbone in BACKBONES:
        network = _create_ours(backbone, in_channels, pretrained, options, image_size)
    elif backbone.startswith(_HF):
        network = _create_hf(backbone, in_channels, pretrained, options)
    else:
        from fer_lightning.models.timm_backbones import create_timm  # timm takes a second to import

        network = create_timm(backbone, in_channels, pretrained, image_size, options, list(BACKBONES))
    if weights is not None:
        load_weights(network, weights)
    return network


def feature_width(backbone: nn.Module, in_channels: int, image_size: int) -> int:
    """Return the number of features, found by a dry run on two black images of a size in pixels.

    Raises:
        ConfigError: if the network cannot take such images or returns something else.
    """
    name = type(backbone).__name__
    like = next(backbone.parameters(), torch.zeros(0))
    images = torch.zeros(2, in_channels, image_size, image_size, device=like.device, dtype=like.dtype)
    try:
        with in_eval_mode(backbone), torch.no_grad():
            features = pool_features(backbone(images))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise ConfigError(
            f"the backbone {name} cannot take images of {in_channels}x{image_size}x{image_size}: {first_line(error)} "
            "(change the data's image_size or channels; a network of fixed size has an option such as img_size)"
        ) from error
    if features.shape[0] != 2:
        raise ConfigError(f"the backbone {name} must return one row per image, got {len(features)} for 2 images")
    return features.shape[1]


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Set a network and all of its modules to eval mode, and each back afterwards."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def pool_features(features: Tensor) -> Tensor:
    """Return features ``(N, F)``, or maps ``(N, F, h, w)`` averaged over positions; refuse anything else."""
    if not isinstance(features, Tensor):
        raise ConfigError(f"a backbone must return a tensor (N, F) or (N, F, h, w), got a {type(features).__name__}")
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if features.ndim != 2:
        raise ConfigError(f"a backbone must return features (N, F) or (N, F, h, w), got {tuple(features.shape)}")
    return features


def _create_ours(
    name: str, in_channels: int, pretrained: bool, options: dict[str, Any], image_size: int | None
) -> nn.Module:
    if pretrained:
        raise ConfigError(f"'{name}' has no published weights: set 'pretrained: false', or 'weights: PATH' for a file")
    build = BACKBONES[name]
    known = [option for option in inspect.signature(build).parameters if option != "in_channels"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(f"'{name}' has no option {quoted(unknown)} (known: {', '.join(known)})")
    if image_size is not None and "image_size" in known:
        options = {"image_size": image_size, **options}
    try:
        return build(in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:  # a value of the wrong type
        raise ConfigError(why_not(name, pretrained, options, error)) from error


def _create_hf(name: str, in_channels: int, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if pretrained:
        raise ConfigError(f"'{name}' starts from the weights in that folder: leave 'pretrained' out")
    unknown = [option for option in options if option != "keep_head"]
    if unknown:
        raise ConfigError(f"'{name}' has no option {quoted(unknown)} (known: keep_head)")
    return HFFolderBackbone(name.removeprefix(_HF), in_channels, **options)
