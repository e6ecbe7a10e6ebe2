"""Builds a backbone by name: a network that maps images ``(N, C, H, W)`` to features ``(N, F)``.

A name is one of ours (:data:`BACKBONES`) or timm's. The width of the features is found by running the network once,
because attributes are not reliable: timm's VGG has 512 as ``num_features`` and returns 4096.
"""

from __future__ import annotations

import inspect
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor, nn

from fer_lightning.backbone_names import unknown_backbone
from fer_lightning.errors import ConfigError
from fer_lightning.models.compact import CompactMobileNetV2, CompactResNet, DilatedResNet, FERNet
from fer_lightning.models.hf_folder import HFFolderBackbone
from fer_lightning.models.weights import load_weights
from fer_lightning.text import first_line

__all__ = ["BACKBONES", "create_backbone", "feature_width", "in_eval_mode", "pool_features"]

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "compact_resnet_418k": CompactResNet,
    "compact_mobilenet_130k": CompactMobileNetV2,
    "dilated_resnet": DilatedResNet,
    "fer_a": FERNet,
    "fer_a_fast": partial(FERNet, stages=((32, 1), (64, 2), (96, 1))),
    "fer_b": partial(FERNet, stages=((32, 2), (48, 1), (48, 1))),
    "fer_b_fast": partial(FERNet, stem=(16, 24), stages=((24, 1), (40, 1), (60, 1))),
}
"""Our networks by name. Each is called with ``in_channels`` and its own options, all by keyword."""

_HF = "hf:"

HUB_TIMEOUT_S = 5.0
"""How long to wait for the hub's first answer. Its own client asks twelve times, which took 47 s without a network."""

_SET_ELSEWHERE = {
    "in_chans": "the data's number of channels",
    "num_classes": "the data's classes",
    "pretrained_cfg": "a tag in the name, such as 'resnet18.a1_in1k'",
    "pretrained_cfg_overlay": "a tag in the name, such as 'resnet18.a1_in1k'",
    "checkpoint_path": "weights: PATH",
    "features_only": "nothing: a backbone returns one tensor",
}
"""Options of ``timm.create_model`` that are refused as options of a backbone, and what sets them instead."""

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for in a repository, in this order."""


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
        backbone: a key of :data:`BACKBONES`, any name that ``timm.create_model`` knows (also with a tag, or
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
        network = _create_timm(backbone, in_channels, pretrained, _sized(backbone, image_size, options))
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
        raise ConfigError(f"'{name}' has no option {_quoted(unknown)} (known: {', '.join(known)})")
    if image_size is not None and "image_size" in known:
        options = {"image_size": image_size, **options}
    try:
        return build(in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:  # a value of the wrong type
        raise ConfigError(_why_not(name, pretrained, options, error)) from error


def _create_hf(name: str, in_channels: int, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if pretrained:
        raise ConfigError(f"'{name}' starts from the weights in that folder: leave 'pretrained' out")
    unknown = [option for option in options if option != "keep_head"]
    if unknown:
        raise ConfigError(f"'{name}' has no option {_quoted(unknown)} (known: keep_head)")
    return HFFolderBackbone(name.removeprefix(_HF), in_channels, **options)


def _sized(name: str, image_size: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the size of the images, where a network of timm is built for one size."""
    if image_size is None or "img_size" in options or ":" in name or not timm.is_model(name):
        return options
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    fixed = config is not None and config.fixed_input_size
    return {**options, "img_size": image_size} if fixed else options


def _create_timm(name: str, in_channels: int, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    for option in options:
        if option in _SET_ELSEWHERE:
            raise ConfigError(f"'{option}' is not an option of a backbone: it is set by {_SET_ELSEWHERE[option]}")
    source, place = name.split(":", 1) if ":" in name else ("", name)
    if not source and not timm.is_model(name):
        raise ConfigError(unknown_backbone(name, list(BACKBONES), timm.list_models()))
    overlay: dict[str, Any] = {}
    timm_name = name
    if source == "hf-hub":
        timm_name = _local_copy(name, place, pretrained)
    elif not source and pretrained:
        overlay = _published_weights(name)
    try:
        given = {"in_chans": in_channels, "num_classes": 0, "pretrained_cfg_overlay": overlay or None, **options}
        network: nn.Module = timm.create_model(timm_name, pretrained=pretrained, **given)
    except Exception as error:  # timm, the hub's client and HTTP each have their own; all are about these arguments
        raise ConfigError(_why_not(name, pretrained, options, error)) from error
    return network


def _published_weights(name: str) -> dict[str, Any]:
    """Return where timm shall take the weights from: a copy in the cache, or nothing, if the hub can be reached."""
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that does not exist
        tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise ConfigError(f"{first_line(error)} Known: {', '.join(tags)}") from error
    if config is None or not config.has_weights:
        raise ConfigError(
            f"timm publishes no weights for '{name}': set 'pretrained: false', or 'weights: PATH' for a local file"
        )
    if not config.hf_hub_id:
        return {}
    if config.hf_hub_filename:
        _require_hub(name, config.hf_hub_id, [config.hf_hub_filename])
        return {}
    cached = _require_hub(name, config.hf_hub_id, _WEIGHT_FILES)
    # Given as a file, the hub's client is not asked whether the copy is still current.
    return {"file": cached, "custom_load": False} if cached else {}


def _local_copy(name: str, repository: str, pretrained: bool) -> str:
    """Return the timm name of the cached folder of a repository, or ``name``, if the hub can be reached."""
    config = _require_hub(name, repository, ["config.json"])
    weights = _require_hub(name, repository, _WEIGHT_FILES) if pretrained else config
    return name if config is None or weights is None else f"local-dir:{Path(config).parent}"


def _require_hub(name: str, repository: str, files: Iterable[str]) -> str | None:
    """Return the cached copy of the first of ``files`` found, ``None`` if the hub must be and can be asked."""
    repo_id, _, revision = repository.partition("@")
    for file in files:
        cached = try_to_load_from_cache(repo_id, file, revision=revision or None)
        if isinstance(cached, str):
            return cached
    reason = _hub_unreachable()
    if reason is not None:
        raise ConfigError(
            f"cannot get '{name}': it is not in the local cache and the hub {constants.ENDPOINT} could not be reached "
            f"({reason}); 'weights: PATH' loads a local file"
        )
    return None


def _hub_unreachable() -> str | None:
    """Return why the hub cannot be reached, or ``None`` if it answers; asks once, without repeating."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return None  # it answered
    except OSError as error:
        reason = getattr(error, "reason", error)
        # The hub's client may know a certificate that Python does not: reachable, so let it try.
        return None if isinstance(reason, ssl.SSLError) else first_line(reason)
    return None


def _why_not(name: str, pretrained: bool, options: dict[str, Any], error: Exception) -> str:
    """Return the message for a network that could not be built."""
    text = first_line(error)
    wrong = [option for option in options if f"'{option}'" in text]
    if isinstance(error, TypeError) and wrong:
        return f"'{name}' has no option {_quoted(wrong)} ({text})"
    if pretrained and not isinstance(error, TypeError):
        return f"the pretrained weights of '{name}' could not be loaded ({text}); 'weights: PATH' loads a local file"
    given = ", ".join(f"{option}={value!r}" for option, value in options.items()) or "no options"
    return f"'{name}' cannot be built with {given}: {text}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
