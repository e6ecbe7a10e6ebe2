"""The architecture of a classifier as plain values, and the classifier that they describe."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn
from typing_extensions import NotRequired, TypedDict

from fer_lightning.errors import ConfigError
from fer_lightning.models.classifier import EmotionClassifier, build_classifier
from fer_lightning.models.views import Views
from fer_lightning.types import Preprocessing

__all__ = ["Architecture", "architecture_of", "described"]

_KNOWN = ("fer_lightning.", "torch.nn.", "torchvision.models.", "timm.")
"""Where classes may come from: a model folder is read, and must not run code of its own choice."""


class Architecture(TypedDict):
    """What ``described`` builds a network from; plain values, stored in model folders."""

    backbone: str | dict[str, Any]
    """A name of ours or timm's, or ``class_path`` and ``init_args`` of a module."""
    backbone_args: dict[str, Any]
    """Options of a backbone given by name."""
    head: dict[str, Any]
    """``class_path`` and ``init_args`` of the head."""
    views: NotRequired[Views]
    """Of each image, whose probabilities are averaged; ``none`` where it is missing."""


def architecture_of(model: Mapping[str, Any]) -> Architecture:
    """Return the architecture in the ``model`` part of a run's configuration.

    Raises:
        ConfigError: if the backbone is a folder of transformers, whose configuration is in that folder alone.
    """
    backbone = model["backbone"]
    if isinstance(backbone, str) and backbone.startswith(("hf:", "local-dir:")):
        raise ConfigError(f"a network from '{backbone}' needs that folder: use its checkpoint instead")
    options = {name: value for name, value in (model.get("backbone_args") or {}).items() if name != "pretrained"}
    head = model.get("head") or "fer_lightning.models.heads.LinearHead"
    architecture: Architecture = {
        "backbone": backbone,
        "backbone_args": options,
        "head": {"class_path": head} if isinstance(head, str) else dict(head),
    }
    if model.get("views", "none") != "none":
        architecture["views"] = model["views"]
    return architecture


def described(
    architecture: Architecture, num_classes: int, preprocessing: Preprocessing, foreign: bool = False
) -> EmotionClassifier:
    """Build a classifier with random weights, in eval mode.

    Args:
        architecture: of the network.
        num_classes: K.
        preprocessing: of its input.
        foreign: also take classes from modules that are not ours, torch's or timm's; they are imported, so only for
            files that the user has written.

    Raises:
        ConfigError: if a class is not known or does not make a classifier.
    """
    backbone: str | nn.Module
    if isinstance(architecture["backbone"], str):
        backbone = architecture["backbone"]
    else:
        backbone = _made(architecture["backbone"], foreign)()
    classifier = build_classifier(
        backbone,
        _made(architecture["head"], foreign),
        num_classes,
        preprocessing["channels"],
        preprocessing["image_size"],
        views=architecture.get("views", "none"),
        **architecture["backbone_args"],
    )
    return classifier.eval()


def _made(value: Mapping[str, Any], foreign: bool) -> Callable[..., nn.Module]:
    """Return a class with its arguments bound; modules among these are made first."""
    path = str(value["class_path"])
    if not foreign and not path.startswith(_KNOWN):
        raise ConfigError(
            f"the network needs the class {path}, which is not part of this package: load its checkpoint in a folder "
            "that holds this module"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the network needs the class {path}, which cannot be imported: {error}") from error
    arguments = {
        key: _made(each, foreign)() if isinstance(each, Mapping) and "class_path" in each else each
        for key, each in (value.get("init_args") or {}).items()
    }
    return partial(found, **arguments)
