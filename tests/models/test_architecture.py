"""A configuration as plain values, and the network that is made from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.architecture import Architecture, architecture_of, described
from fer_lightning.models.heads import LinearHead
from fer_lightning.types import Preprocessing
from tests.helpers.parts import TinyBackbone

GRAY: Preprocessing = {"image_size": 16, "channels": 1, "mean": [0.5], "std": [0.25], "interpolation": "area"}
LINEAR = "fer_lightning.models.heads.LinearHead"
TINY = "tests.helpers.parts.TinyBackbone"


class Twice(nn.Module):
    """A head around another one."""

    def __init__(self, in_features: int, num_classes: int, inner: nn.Module, times: float = 2.0) -> None:
        super().__init__()
        self.inner, self.times = inner, times
        self.fc = nn.Linear(in_features, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(self.fc(features)) * self.times
        return logits


def test_an_architecture_is_the_network_without_where_its_weights_come_from() -> None:
    assert architecture_of({"backbone": "fer_a"}) == {
        "backbone": "fer_a",
        "backbone_args": {},
        "head": {"class_path": LINEAR},
    }
    args = {"pretrained": True, "dropout": 0.1}
    given: dict[str, Any] = {"backbone": {"class_path": TINY}, "backbone_args": args, "head": "torch.nn.Bilinear"}
    assert architecture_of(given) == {
        "backbone": {"class_path": TINY},
        "backbone_args": {"dropout": 0.1},
        "head": {"class_path": "torch.nn.Bilinear"},
    }
    assert args == {"pretrained": True, "dropout": 0.1}
    head = {"class_path": LINEAR, "init_args": {"dropout": 0.5}}
    assert architecture_of({"backbone": "resnet18", "head": head})["head"] == head
    for folder in ("hf:models/vit", "local-dir:models/resnet"):
        with pytest.raises(ConfigError, match=f"a network from '{folder}' needs that folder: use its checkpoint"):
            architecture_of({"backbone": folder})


def test_a_described_network_has_all_that_is_described_and_is_ready_to_be_used() -> None:
    inner = {"class_path": "torch.nn.Threshold", "init_args": {"threshold": 0.1, "value": 20.0}}
    head = {"class_path": f"{__name__}.Twice", "init_args": {"inner": inner, "times": 3.0}}
    backbone = {"class_path": TINY, "init_args": {"width": 5}}
    architecture: Architecture = {"backbone": backbone, "backbone_args": {}, "head": head}
    network = described(architecture, 6, GRAY, foreign=True)
    assert isinstance(network.backbone, TinyBackbone)
    assert isinstance(network.head, Twice)
    assert network.head.fc.weight.shape == (6, 5 * 4 * 4)
    assert isinstance(network.head.inner, nn.Threshold)
    assert network.head.inner.value == 20.0
    assert network.head.times == 3.0
    assert not any(module.training for module in network.modules())
    named: Architecture = {
        "backbone": "fer_b_fast",
        "backbone_args": {"stem": [4, 4], "stages": [[4, 1], [8, 1]]},
        "head": {"class_path": LINEAR, "init_args": {"dropout": 0.25}},
    }
    network = described(named, 7, {**GRAY, "image_size": 32, "channels": 3})
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert isinstance(network.head, LinearHead)
    assert network.head.dropout.p == 0.25


@pytest.mark.parametrize(
    "path", ["tests.helpers.parts.CosineHead", "os.system", "torchvision.datasets.CIFAR10", "torch.hub.load"]
)
def test_classes_of_others_are_not_imported_for_a_file(path: str) -> None:
    for place in ("backbone", "head"):
        architecture: Any = {"backbone": "fer_b", "backbone_args": {}, "head": {"class_path": LINEAR}}
        architecture[place] = {"class_path": path}
        with pytest.raises(ConfigError, match=f"needs the class {path}, which is not part of this package"):
            described(architecture, 7, GRAY)
    inside = {"class_path": LINEAR, "init_args": {"dropout": {"class_path": path}}}
    with pytest.raises(ConfigError, match=f"needs the class {path}, which is not"):
        described({"backbone": "fer_b", "backbone_args": {}, "head": inside}, 7, GRAY)


def test_a_class_that_is_not_there_is_named() -> None:
    wrong: Architecture = {"backbone": "fer_b", "backbone_args": {}, "head": {"class_path": "torch.nn.Linaer"}}
    with pytest.raises(ConfigError, match=r"needs the class torch.nn.Linaer, which cannot be imported"):
        described(wrong, 7, {**GRAY, "image_size": 48})
