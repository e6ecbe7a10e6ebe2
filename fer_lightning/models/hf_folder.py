"""A local Hugging Face image-classification folder as a backbone: ``config.json`` and ``model.safetensors``.

Nothing is fetched: the folder must be there. Needs the extra ``hf``.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from fer_lightning.emotions import canonical
from fer_lightning.errors import CheckpointError, ConfigError, LabelError
from fer_lightning.extras import need_extra
from fer_lightning.models.heads import LinearHead
from fer_lightning.preprocessing import to_channels
from fer_lightning.text import first_line
from fer_lightning.types import Preprocessing

__all__ = ["HFFolderBackbone", "MeetsData", "preprocessing_differences"]

_LOG = logging.getLogger(__name__)

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@runtime_checkable
class MeetsData(Protocol):
    """A backbone that has classes and a preprocessing of its own, to be compared with those of the data."""

    def meet(self, head: nn.Module, class_names: Sequence[str], preprocessing: Preprocessing) -> None:
        """Take the head, the class names in label order and the preprocessing of the data, once they are known."""


class HFFolderBackbone(nn.Module):
    """An image-classification network saved by ``transformers``, without its classification layer.

    The features are what its classification layer gets: the class token of a ViT, the pooled map of a ResNet. Weights
    are read from ``.safetensors`` only, which cannot run code. Images of another size than the folder's are taken by
    networks that can interpolate their position table.

    Args:
        path: the folder.
        in_channels: of the data; gray images are repeated for a network of three channels.
        keep_head: start the head from the folder's own classification layer, class by class by name.

    Raises:
        CheckpointError: if the folder is missing, incomplete or of another kind.
        ConfigError: if its network has no classification layer to take off.
        MissingExtraError: without ``transformers``.
    """

    def __init__(self, path: str, in_channels: int = 3, keep_head: bool = False) -> None:
        super().__init__()
        self.path = path
        self.network = _load(Path(path))
        if keep_head and not self.network.has_own_head:
            raise ConfigError(f"backbone hf:{path}: keep_head, but the folder has no classification layer")
        classifier, name = _classification_layer(self.network, path)
        parent = self.network.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], nn.Identity())
        self._kept = (classifier, dict(self.network.config.id2label)) if keep_head else None
        self.in_channels = in_channels
        self.channels = int(getattr(self.network.config, "num_channels", 3))
        self._own_size = getattr(self.network.config, "image_size", None)
        self._interpolates = "interpolate_pos_encoding" in inspect.signature(self.network.forward).parameters
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, F)``."""
        images = to_channels(images, self.channels)
        options: dict[str, Any] = {}
        if self._interpolates and self._own_size not in (images.shape[-1], list(images.shape[-2:]), None):
            options["interpolate_pos_encoding"] = True
        features: Tensor = self.network(pixel_values=images, **options).logits
        return features

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the number of the layer group of each tensor, by name: what is in front, then block by block.

        Args:
            coarse: for timm's sake; there is one kind of groups.
        """
        blocks = _blocks(self)
        place: dict[str, int] = {}
        group = 0
        for name, _ in self.named_modules():
            inside = next((i for i, block in enumerate(blocks) if name == block or name.startswith(f"{block}.")), None)
            group = group if inside is None else inside + 1
            place[name] = group  # what stands behind the blocks trains with the last one
        return lambda tensor: place.get(tensor.rpartition(".")[0], 0)

    def meet(self, head: nn.Module, class_names: Sequence[str], preprocessing: Preprocessing) -> None:
        """Start the head from the folder's, if asked for, and warn where the data differ from the folder's images.

        Raises:
            ConfigError: if a kept head does not fit.
        """
        if self._kept is not None:
            _start_head(head, class_names, *self._kept, self.path)
        stated = _folder_preprocessing(Path(self.path))
        if stated is None:
            _warn(f"hf:{self.path} has no readable preprocessor_config.json: its size, mean and std are not known")
            return
        differing = preprocessing_differences(stated, preprocessing)
        if differing:
            flags = " ".join(f"--data.{name} {_flag(value)}" for name, value in stated.items() if name in differing)
            words = ", ".join(differing.values())
            _warn(f"the data differ from what hf:{self.path} was trained on: {words}; for its own: {flags}")


def _warn(text: str) -> None:
    from lightning.pytorch.utilities import rank_zero_only  # a trained model is loaded without Lightning

    rank_zero_only(_LOG.warning)(text)


def preprocessing_differences(stated: dict[str, Any], given: Preprocessing) -> dict[str, str]:
    """Describe how the images differ from those that a network was trained on, by the name of the data's option.

    Args:
        stated: ``image_size``, ``mean`` and ``std`` of the network, as far as they are known.
        given: of the data.
    """
    found: dict[str, str] = {}
    for name, value in stated.items():
        own: Any = given[name]  # type: ignore[literal-required]  # one of three names
        if name == "image_size":
            same = own == value
        else:
            repeated = list(own) * (len(value) // len(own) if len(value) % len(own) == 0 else 1)
            same = len(repeated) == len(value) and all(abs(a - b) < 0.01 for a, b in zip(repeated, value, strict=True))
        if not same:
            found[name] = f"{name} {_flag(own)} and not {_flag(value)}"
    return found


def _flag(value: Any) -> str:
    return f"[{','.join(f'{part:.4g}' for part in value)}]" if isinstance(value, list) else str(value)


def _load(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is no folder"
        raise CheckpointError(f"backbone hf:{folder}: {what}; expected one saved by transformers' save_pretrained")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise CheckpointError(f"backbone hf:{folder}: has no {_WEIGHTS[0]} (other formats may run code when read)")
    need_extra("hf", "a backbone hf:PATH needs", "transformers")
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging as their_logging

    shown = their_logging.is_progress_bar_enabled()
    their_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not typed there
    try:
        network, stated = AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # transformers, safetensors and json each have their own; all are about this folder
        raise CheckpointError(f"backbone hf:{folder}: cannot be read: {first_line(error)}") from error
    finally:
        if shown:
            their_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # not typed there
    classifier = [name for name in stated["missing_keys"] if "classifier" in name]
    missing = sorted(set(stated["missing_keys"]) - set(classifier))
    if missing:
        raise CheckpointError(f"backbone hf:{folder}: {len(missing)} weights are missing, first {missing[0]}")
    network.has_own_head = not classifier
    return network


def _classification_layer(network: Any, path: str) -> tuple[nn.Linear, str]:
    """Return the last linear layer of the classifier and its name."""
    linear = [
        (module, name)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in ("classifier", "head", "fc")
    ]
    if len(linear) != 1:
        raise ConfigError(
            f"backbone hf:{path}: {type(network).__name__} has {len(linear)} layers that may be its classification "
            "layer, expected one called 'classifier'"
        )
    return linear[0]


def _blocks(network: nn.Module) -> list[str]:
    """Return the names of the blocks: the members of the outermost list of modules that has several."""
    lists = [
        (name.count("."), name, len(module))
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 1
    ]
    if not lists:
        return []
    _, name, length = min(lists, key=lambda entry: (entry[0], -entry[2]))
    return [f"{name}.{index}" for index in range(length)]


def _start_head(
    head: nn.Module, class_names: Sequence[str], classifier: nn.Linear, labels: dict[int, str], path: str
) -> None:
    if not isinstance(head, LinearHead):
        raise ConfigError(f"backbone hf:{path}: keep_head needs a LinearHead, not {type(head).__name__}")
    rows: dict[str, int] = {}
    for row, label in labels.items():
        try:
            rows[label if label in class_names else canonical(label)] = int(row)
        except LabelError as error:
            raise ConfigError(f"backbone hf:{path}: keep_head needs names of expressions: {error}") from None
    missing = [name for name in class_names if name not in rows]
    if missing:
        raise ConfigError(f"backbone hf:{path}: keep_head, but its head does not know {', '.join(missing)}")
    order = [rows[name] for name in class_names]
    head.fc.weight.data.copy_(classifier.weight.data[order])
    if classifier.bias is None:
        head.fc.bias.data.zero_()
    else:
        head.fc.bias.data.copy_(classifier.bias.data[order])


def _folder_preprocessing(folder: Path) -> dict[str, Any] | None:
    """Return ``image_size``, ``mean`` and ``std`` as far as a folder gives them, ``None`` if it says nothing."""
    try:
        stated = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stated, dict):
        return None
    found: dict[str, Any] = {}
    size = stated.get("crop_size") if stated.get("do_center_crop") else stated.get("size")
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if isinstance(size, int):
        found["image_size"] = size
    plain = not stated.get("do_normalize", True)
    for name, key, none in (("mean", "image_mean", 0.0), ("std", "image_std", 1.0)):
        values = [none] if plain else stated.get(key)
        if isinstance(values, list) and values and all(isinstance(value, (int, float)) for value in values):
            found[name] = [float(value) for value in values]
    return found
