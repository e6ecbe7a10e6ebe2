"""The layers of a backbone as groups, ordered from input to output."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from timm.models._manipulate import group_with_matcher
from torch import nn

from fer_lightning.errors import ConfigError

__all__ = ["LayerGroup", "layer_groups"]


class LayerGroup(NamedTuple):
    """Layers that are trained or frozen together.

    Attributes:
        parameters: names as in ``named_parameters()`` of the backbone.
        buffers: names as in ``named_buffers()``, such as the running statistics of batch norm.
    """

    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


def layer_groups(backbone: nn.Module) -> list[LayerGroup]:
    """Return the layer groups of a backbone, the one next to the input first.

    The groups are those of ``backbone.group_matcher(coarse=True)``, timm's convention, which our networks follow. Any
    other module has one group per child, in the order in which the children were assigned, at the first level that has
    more than one. A tensor with two names (tied weights) is in the group of its first name only. Buffers do not make
    groups of their own: one without parameters around it joins the group before it.

    Raises:
        ConfigError: if the backbone has no parameters.
    """
    parameters = [name for name, _ in backbone.named_parameters()]
    buffers = [name for name, _ in backbone.named_buffers()]
    if not parameters:
        raise ConfigError(f"the backbone {type(backbone).__name__} has no parameters and so no layer groups")
    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        places = _by_child(backbone, chain(parameters, buffers))
    else:
        named = ((name, None) for name in chain(parameters, buffers))
        places = group_with_matcher(named, matcher(coarse=True), reverse=True)
    numbers = sorted({places[name] for name in parameters})
    below = {
        place: sum(number <= place for number in numbers) - 1  # -1: a buffer in front of all parameters
        for place in set(places.values())
    }
    return [
        LayerGroup(
            tuple(name for name in parameters if below[places[name]] == index),
            tuple(name for name in buffers if max(below[places[name]], 0) == index),
        )
        for index in range(len(numbers))
    ]


def _by_child(backbone: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Return the number of the child to which each name belongs; a module's own tensors count as its first child's."""
    prefix, module = "", backbone
    while True:
        children = [(name, child) for name, child in module.named_children() if _has_parameters(child)]
        if len(children) != 1 or next(module.parameters(recurse=False), None) is not None:
            break
        prefix, module = f"{prefix}{children[0][0]}.", children[0][1]
    order = {name: index for index, (name, _) in enumerate(module.named_children())}
    return {name: order.get(name.removeprefix(prefix).partition(".")[0], 0) for name in names}


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
