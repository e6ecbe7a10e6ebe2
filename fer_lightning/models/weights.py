"""Loads a local file of weights into a backbone, completely or not at all."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fer_lightning.errors import CheckpointError
from fer_lightning.models.efficientnet_names import ported_names, unlike_tensorflow
from fer_lightning.models.weight_files import read_weight_file, recorded_backbone, tensor_groups, weight_file
from fer_lightning.text import short_path

__all__ = ["load_weights"]

_CLASSIFIERS = ("head", "heads", "fc", "classifier", "last_linear", "logits")
"""How timm, torchvision and others call the layers behind the features."""

_WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that ``torch.compile`` and wrappers of layers add, anywhere in a name."""

_EMA = re.compile(r"(^|[._])ema([._]|$)")
_USUAL = ("", "state_dict", "model_state_dict", "model", "net", "network")


@dataclass(frozen=True)
class _Candidate:
    """One of the mappings of names to tensors in a file, as weights of a backbone.

    Attributes:
        place: keys that lead to it.
        prefix: what stands before the backbone's names, removed.
        all: its tensors under the names of the file.
        names: those of the backbone, or what they would be, by the names of the file.
        weights: what is left of it under the backbone's names, without a classification layer.
        fitting: number of tensors of the backbone that it has, with their shape.
    """

    place: str
    prefix: str
    all: dict[str, Tensor]
    names: dict[str, str]
    weights: dict[str, Tensor]
    fitting: int

    @property
    def preference(self) -> tuple[int, int]:
        """Return what decides between candidates, larger is better: averaged weights first, then the usual names."""
        return self.fitting, 2 if _EMA.search(self.place) else int(self.place in _USUAL)


def load_weights(backbone: nn.Module, path: str) -> None:
    """Load a local file of weights into a backbone, completely or not at all, and say what was taken and what was left.

    The file may be of a backbone, a classifier or a training checkpoint of another program: its weights are found under
    any keys (of several that fit, averaged weights, ``ema``, are taken), and a prefix of their names (``module.``,
    ``model.backbone.``, ...) is removed. The classification layer is left out, and the first convolution
    is adapted to another number of input channels. Weights that timm publishes also fit networks of another
    ``img_size``.

    Args:
        backbone: receives the weights.
        path: a file of safetensors or of ``torch.save``, which is read without running code, or a folder with
            ``model.safetensors`` or ``pytorch_model.bin``.

    Raises:
        CheckpointError: if the file is missing, unreadable or belongs to another network.
    """
    file = weight_file(Path(path))
    content = read_weight_file(file)
    found = max(
        (_candidate(place, tensors, backbone) for place, tensors in tensor_groups(content)),
        key=lambda each: each.preference,
    )
    weights, problem = found.weights, _misfit(found.weights, backbone)
    # timm's own translation of older layouts and other image sizes; a convention of its modules.
    translate = getattr(inspect.getmodule(type(backbone)), "checkpoint_filter_fn", None)
    if problem and translate is not None:
        # It fails on layouts that it does not know; the problem found before is then the one to report.
        with suppress(RuntimeError, ValueError, KeyError, AttributeError, AssertionError, TypeError):
            translated = _adapted(translate(weights, backbone), backbone)
            if not _misfit(translated, backbone):
                weights, problem = translated, ""
    if problem:
        recorded = recorded_backbone(file, content)
        cure = f"--model.backbone {recorded or 'NAME'}"
        raise CheckpointError(
            f"weights: '{file}' does not fit the backbone {type(backbone).__name__}: {problem}. Choose the "
            f"network that the file is of: {cure}"
        )
    own = backbone.state_dict()
    taken = {name: value for name, value in weights.items() if name in own}
    backbone.load_state_dict(taken)
    from lightning.pytorch.utilities import rank_zero_info  # a trained model is loaded without Lightning

    rank_zero_info(_summary(file, found, taken, len(own)))
    if unlike_tensorflow(found.all, backbone):
        rank_zero_info("these weights were trained with TensorFlow's padding: timm's networks named tf_... have it")


def _candidate(place: str, tensors: dict[str, Tensor], backbone: nn.Module) -> _Candidate:
    own = backbone.state_dict()
    ported = ported_names((_WRAPPERS.sub("", name) for name in tensors), backbone)
    names = {name: ported[_WRAPPERS.sub("", name)] for name in tensors}
    plain = {names[name]: value for name, value in tensors.items()}
    prefix = _prefix(plain, own)
    names = {name: known.removeprefix(prefix) for name, known in names.items()}
    inside = {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}
    weights = _adapted(inside, backbone)
    fitting = sum(name in weights and weights[name].shape == value.shape for name, value in own.items())
    return _Candidate(place, prefix, tensors, names, weights, fitting)


def _prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return the prefix under which most tensors have a name, and best also the shape, of one of the backbone."""
    found: Counter[str] = Counter()
    for name, value in weights.items():
        parts = name.split(".")
        for start in range(len(parts)):
            rest = ".".join(parts[start:])
            if rest in own:
                found[name.removesuffix(rest)] += 1 + (own[rest].shape == value.shape)
    return max(found, key=found.__getitem__, default="")


def _adapted(weights: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Return ``weights`` without classification layer and with the first convolution for the backbone's channels."""
    own = backbone.state_dict()
    config = getattr(backbone, "pretrained_cfg", None) or {}
    classifiers = tuple(f"{name}." for name in (*_CLASSIFIERS, *_names(config.get("classifier"))))
    kept = {name: value for name, value in weights.items() if name in own or not name.startswith(classifiers)}
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


def _misfit(weights: Mapping[str, Tensor], backbone: nn.Module) -> str:
    """Return in words how far weights fit a backbone; empty if they fit.

    Tensors of modules that the backbone does not have at all, such as a loss, do not matter; further ones of its own
    modules do: they are those of a larger network.
    """
    own = backbone.state_dict()
    modules = {name.partition(".")[0] for name in own}
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    other = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    further = [name for name in weights if name not in own and name.partition(".")[0] in modules]
    if not (missing or other or further):
        return ""
    fitting = sum(name in weights and weights[name].shape == value.shape for name, value in own.items())
    if not fitting:
        expected, found = missing[0] if missing else other[0], next(iter(weights), "none")
        return f"none of its {len(own)} tensors is in the file; expected names such as {expected}, found {found}"
    parts = [f"{fitting} of its {len(own)} tensors fit"]
    parts += [f"missing {len(missing)}, such as {missing[0]}"] if missing else []
    if other:
        shapes = f"expected {_shape(own[other[0]])}, found {_shape(weights[other[0]])}"
        parts.append(f"of another shape {len(other)}, such as {other[0]} ({shapes})")
    unknown = further or [name for name in weights if name not in own]
    parts += [f"not of this network {len(unknown)}, such as {unknown[0]}"] if unknown else []
    return "; ".join(parts)


def _summary(file: Path, found: _Candidate, taken: Mapping[str, Tensor], wanted: int) -> str:
    """Return what to print of loaded weights: how many of those wanted were taken, from where, and what was left."""
    place = f" from '{found.place}'" if found.place else ""
    prefix = f" without the prefix '{found.prefix}'" if found.prefix else ""
    used = {name for name, known in found.names.items() if known in taken}
    left = [f"{name} {_shape(value)}" for name, value in found.all.items() if name not in used]
    more = f", ... ({len(left)} in all)" if len(left) > 3 else ""
    rest = f"; left out: {', '.join(left[:3])}{more}" if left else ""
    return f"weights of {short_path(file)}: {len(taken)} of {wanted} tensors taken{place}{prefix}{rest}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "number"


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names in a field of timm's configuration that is a name, several or ``None``."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
