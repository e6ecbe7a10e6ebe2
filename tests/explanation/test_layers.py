"""Which layer the maps are made of: found in every kind of network, without a name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fer_lightning.explanation.explainer import Explainer
from fer_lightning.explanation.layers import find_layer
from fer_lightning.models.backbones import BACKBONES
from fer_lightning.models.classifier import EmotionClassifier, build_classifier
from fer_lightning.models.heads import LinearHead
from fer_lightning.types import Preprocessing

GRAY: Preprocessing = {"image_size": 48, "channels": 1, "mean": [0.5], "std": [0.25], "interpolation": "area"}
VIT = {"patch_size": 8, "depth": 3}


def classifier(name: str | nn.Module, **options: Any) -> EmotionClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_classifier(name, LinearHead, 7, 1, 48, **options)


@pytest.mark.parametrize("name", BACKBONES)
def test_our_networks_have_a_fine_layer_and_one_for_grad_cam(name: str) -> None:
    explainer = Explainer.of(classifier(name), GRAY)
    assert explainer.fine is not None
    assert explainer.fine.side >= 24
    assert explainer.coarse is not None
    assert 6 <= explainer.coarse.side < explainer.fine.side
    assert not explainer.attention


@pytest.mark.parametrize(
    ("name", "fine", "coarse"),
    [
        ("resnet18", ("backbone.act1", 24), ("backbone.layer2", 6)),
        ("mobilenetv3_small_100", (None, 24), (None, 6)),
        ("efficientnet_b0", (None, 24), (None, 6)),
        ("mobilenetv2_100", (None, 24), (None, 6)),
        ("convnext_atto", (None, 12), (None, 6)),  # its stem leaves 12x12 of 48x48
        pytest.param("vgg11", ("backbone.features.4", 24), ("backbone.features.14", 6), marks=pytest.mark.slow),
    ],
)
def test_networks_of_timm_have_them_too(
    name: str, fine: tuple[str | None, int], coarse: tuple[str | None, int]
) -> None:
    explainer = Explainer.of(classifier(name), GRAY)
    for layer, (wanted, side) in ((explainer.fine, fine), (explainer.coarse, coarse)):
        assert layer is not None
        assert layer.side == side
        assert wanted in (None, layer.name)


@pytest.mark.parametrize("options", [VIT, {**VIT, "global_pool": "avg", "class_token": False}], ids=["token", "mean"])
def test_a_vision_transformer_has_tokens_gradients_and_attention(options: dict[str, Any]) -> None:
    explainer = Explainer.of(classifier("vit_tiny_patch16_224", **options), GRAY)
    assert explainer.fine is None
    assert explainer.fine_name == "gradient"
    assert explainer.coarse is not None
    assert (explainer.coarse.side, explainer.coarse.form) == (6, "tokens")
    assert explainer.attention
    images = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    attention = explainer.attention_maps(images)
    assert attention is not None
    assert attention.shape == (3, 48, 48)
    labels = torch.tensor([0, 3, 6])
    assert explainer.fine_maps(images, labels).amax((1, 2)).min() > 0
    coarse = explainer.coarse_maps(images, labels)
    assert coarse is not None
    assert coarse.shape == (3, 48, 48)


class Shortcut(nn.Module):
    """A block around which a shortcut goes, and another output that nothing uses."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3, 2, 1)
        self.inside = nn.Conv2d(4, 4, 3, 1, 1)
        self.unused = nn.Conv2d(4, 4, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        self.unused(x)
        return torch.relu(x + self.inside(x)).mean((2, 3))


def test_a_layer_that_does_not_see_all_is_not_taken() -> None:
    layer = find_layer(classifier(Shortcut()), 1, 48, 6)
    assert layer is not None
    assert layer.name == "backbone.stem"


class Flat(nn.Module):
    """A network without any map."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 48 * 48, 5))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


def test_a_network_without_maps_is_explained_by_gradients() -> None:
    explainer = Explainer.of(classifier(Flat()), GRAY)
    assert explainer.fine is explainer.coarse is None
    images = torch.rand(2, 1, 48, 48)
    assert explainer.fine_maps(images, torch.tensor([0, 1])).shape == (2, 48, 48)
    assert explainer.coarse_maps(images, torch.tensor([0, 1])) is None
    assert explainer.coarse_name == ""


def test_the_same_layers_are_found_in_another_network() -> None:
    explainer = Explainer.of(classifier("fer_b_fast"), GRAY)
    other = classifier("fer_b_fast")
    moved = explainer.of_other(other)
    assert moved.fine is not None
    assert moved.fine.module is dict(other.named_modules())["backbone.stages.0"]
    assert moved.network is other
