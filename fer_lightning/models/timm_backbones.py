"""Builds timm's networks as backbones; their published weights come out of the cache of the hub or from the hub."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from fer_lightning.backbone_names import unknown_backbone, why_not
from fer_lightning.errors import ConfigError
from fer_lightning.text import first_line

__all__ = ["create_timm"]

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


def create_timm(
    name: str,
    in_channels: int,
    pretrained: bool,
    image_size: int | None,
    options: dict[str, Any],
    ours: Sequence[str] = (),
) -> nn.Module:
    """Build a network of timm without its last layer.

    Args:
        name: as for ``create_backbone``, like the arguments that follow.
        in_channels: of the images.
        pretrained: start from the weights that timm publishes.
        image_size: side of the images, for networks that are built for one size.
        options: the network's own.
        ours: names of networks that are not timm's, for the message about an unknown name.

    Raises:
        ConfigError: for an unknown name or option, or if pretrained weights do not exist or cannot be reached.
    """
    options = _sized(name, image_size, options)
    for option in options:
        if option in _SET_ELSEWHERE:
            raise ConfigError(f"'{option}' is not an option of a backbone: it is set by {_SET_ELSEWHERE[option]}")
    source, place = name.split(":", 1) if ":" in name else ("", name)
    if not source and not timm.is_model(name):
        raise ConfigError(unknown_backbone(name, ours, timm.list_models()))
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
        raise ConfigError(why_not(name, pretrained, options, error)) from error
    return network


def _sized(name: str, image_size: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the size of the images, where a network of timm is built for one size."""
    if image_size is None or "img_size" in options or ":" in name or not timm.is_model(name):
        return options
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    fixed = config is not None and config.fixed_input_size
    return {**options, "img_size": image_size} if fixed else options


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
