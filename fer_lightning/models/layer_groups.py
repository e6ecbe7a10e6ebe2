"""The layers of a backbone as groups, ordered from input to output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import NamedTuple

from torch import nn

from fer_lightning.errors import ConfigError

__all__ = ["LayerGroup", "RateShares", "layer_groups", "parameters_by_group"]


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
        from timm.models._manipulate import group_with_matcher  # timm takes a second to import

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


def parameters_by_group(whole: nn.Module, backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of each layer group of a backbone that are its own and can be trained.

    Left out are those that another part of ``whole`` shares (a weight tied to the head) and those that the network
    itself keeps fixed (a sine position table).
    """
    inside = {id(module) for module in backbone.modules()}
    others = (module for module in whole.modules() if id(module) not in inside)
    shared = {parameter for module in others for parameter in module.parameters(recurse=False)}
    named = dict(backbone.named_parameters())
    return [
        [named[name] for name in group.parameters if named[name].requires_grad and named[name] not in shared]
        for group in layer_groups(backbone)
    ]


@dataclass(frozen=True)
class RateShares:
    """Which share of the learning rate the layer groups of a backbone get; the head has all of it.

    Howard and Ruder 2018, arXiv:1801.06146, section 3.2; layer-wise decay as in Clark et al. 2020, arXiv:2003.10555.

    Example:
        >>> lower, upper = (nn.Linear(1, 1, bias=False).weight for _ in range(2))
        >>> shares = RateShares(backbone_lr_factor=0.5, layer_lr_decay=0.1).factors([[lower], [upper]])
        >>> shares[lower], shares[upper]
        (0.05, 0.5)

    Attributes:
        backbone_lr_factor: share of the top group, the one next to the head.
        layer_lr_decay: rate of each group as a share of the rate of the group above it.

    Raises:
        ConfigError: for a share of 0 or less, or above 1.
    """

    backbone_lr_factor: float = 1.0
    layer_lr_decay: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 < value <= 1.0:
                raise ConfigError(f"model.{name} must be above 0 and at most 1, not {value:g}")

    def factors(self, groups: Sequence[Iterable[nn.Parameter]]) -> dict[nn.Parameter, float]:
        """Return the share of each parameter of the groups, which come from input to output."""
        return {
            parameter: self.backbone_lr_factor * self.layer_lr_decay**depth
            for depth, group in enumerate(reversed(groups))
            for parameter in group
        }

    def check_resumed(self, stored: Mapping[str, float]) -> None:
        """Raise ``ConfigError`` for other shares than those stored, which the optimizer's state would bring back.

        A checkpoint that names no share had 1.
        """
        for name, value in asdict(self).items():
            before = stored.get(name, 1.0)
            if before != value:
                raise ConfigError(
                    f"the checkpoint was trained with {name} {before:g}, not {value:g}: a resumed run keeps its "
                    "optimizer, so set it back or start a new run"
                )


def _by_child(backbone: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Return the number of the child to which each name belongs; tensors of the module itself get that of the first."""
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
