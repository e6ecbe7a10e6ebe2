"""Loads a local file of weights into a backbone, completely or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fer_lightning.errors import CheckpointError
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.text import first_line

__all__ = ["load_weights"]

_CLASSIFIERS = ("head", "fc", "classifier")
"""How timm and torchvision call the layers behind the features."""


def load_weights(backbone: nn.Module, path: str) -> None:
    """Load a local file of weights into a backbone, completely or not at all.

    The file may be of a backbone, a classifier or a training checkpoint: the prefix in front of the backbone's names is
    found and removed, the classification layer is left out, and the first convolution is adapted to another number of
    input channels. Weights that timm publishes also fit networks of another ``img_size``.

    Args:
        backbone: receives the weights.
        path: ``.safetensors``, or ``.pth``, ``.pt``, ``.ckpt`` or ``.bin``, which are read without running code.

    Raises:
        CheckpointError: if the file is missing, unreadable or belongs to another network.
    """
    weights = _adapted(_without_prefix(_read_weights(Path(path)), backbone), backbone)
    problem = _misfit(weights, backbone)
    # timm's own translation of older layouts and other image sizes; a convention of its modules.
    translate = getattr(inspect.getmodule(type(backbone)), "checkpoint_filter_fn", None)
    if problem and translate is not None:
        # It fails on layouts that it does not know; the problem found before is then the one to report.
        with suppress(RuntimeError, ValueError, KeyError, AttributeError, AssertionError, TypeError):
            weights = _adapted(translate(weights, backbone), backbone)
            problem = _misfit(weights, backbone)
    if problem:
        raise CheckpointError(f"'{path}' does not fit the backbone {type(backbone).__name__}: {problem}")
    backbone.load_state_dict(weights)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        what = "a folder (give a file, or use the backbone 'local-dir:PATH')" if path.is_dir() else "missing"
        raise CheckpointError(f"weights: '{path}' is {what}")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        elif path.suffix in {".pth", ".pt", ".ckpt", ".bin"}:
            content = read_checkpoint(path, foreign=True)
        else:
            raise CheckpointError(f"'{path}' is none of .safetensors, .pth, .pt, .ckpt, .bin")
    except CheckpointError as error:
        raise CheckpointError(f"weights: {error}") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"weights: '{path}' cannot be read: {first_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise CheckpointError(f"weights: '{path}' holds no named tensors")
    return tensors


def _without_prefix(weights: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Return the part of ``weights`` under the prefix that makes most names those of the backbone."""
    own = backbone.state_dict().keys()
    first = next(iter(own), "")
    prefixes = {name.removesuffix(first): None for name in weights if f".{name}".endswith(f".{first}")}
    parts = [{name.removeprefix(p): v for name, v in weights.items() if name.startswith(p)} for p in prefixes]
    return max(parts, key=lambda part: len(own & part.keys()), default=weights)


def _adapted(weights: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Return ``weights`` without classification layer and with the first convolution for the backbone's channels."""
    own = backbone.state_dict()
    config = getattr(backbone, "pretrained_cfg", None) or {}
    classifiers = tuple(f"{name}." for name in (*_CLASSIFIERS, *_names(config.get("classifier"))))
    kept = {name: v for name, v in weights.items() if name in own or not name.startswith(classifiers)}
    convolutions = [name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)]
    for conv in _names(config.get("first_conv")) or convolutions[:1]:
        name = f"{conv}.weight"
        if name in own and name in kept and kept[name].ndim == own[name].ndim == 4:
            kept[name] = _adapt_channels(kept[name], own[name].shape[1])
    return kept


def _adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Adapt filters ``(O, I, H, W)`` so that gray, repeated over the channels, gives the same as before.

    As timm's ``adapt_input_conv``, which starts from three channels only in the oldest release we support.
    """
    before = weight.shape[1]
    if before == channels:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = -(-channels // before)
    return weight.repeat(1, repeats, 1, 1)[:, :channels] * (before / channels)


def _misfit(weights: dict[str, Tensor], backbone: nn.Module) -> str:
    """Return in words which tensors are missing, unexpected or of another shape; empty if none are."""
    own = backbone.state_dict()
    found = {
        "missing": [name for name in own if name not in weights and not name.endswith("num_batches_tracked")],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    }
    return "; ".join(f"{len(names)} {what}, first {', '.join(names[:3])}" for what, names in found.items() if names)


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names in a field of timm's configuration that is a name, several or ``None``."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
