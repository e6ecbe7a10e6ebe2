"""The maps themselves: equal to captum's, and made without leaving a trace in the network."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from torch import Tensor, nn

from fer_lightning.explanation.layers import MapLayer, find_layer
from fer_lightning.explanation.maps import attention_map, class_activation_map, enlarged, gradient_map
from fer_lightning.models.classifier import EmotionClassifier
from tests.explanation.test_layers import VIT, classifier


@pytest.fixture(scope="module", params=["fer_b_fast", "resnet18", "mobilenetv3_small_100"])
def network(request: pytest.FixtureRequest) -> EmotionClassifier:
    return classifier(request.param).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 2, 4, 6])


def layer_of(network: EmotionClassifier, least: int = 6) -> MapLayer:
    layer = find_layer(network, 1, 48, least)
    assert layer is not None
    return layer


def test_grad_cam_is_that_of_captum(network: EmotionClassifier, images: Tensor) -> None:
    layer = layer_of(network)
    theirs = LayerGradCam(network, layer.module).attribute(images, LABELS, relu_attributions=True)[:, 0]
    assert theirs.max() > 0
    torch.testing.assert_close(class_activation_map(network, layer, images, LABELS), theirs.detach())


class ChangesInPlace(nn.Module):
    """A network that changes the output of its layer in place, as residual blocks of timm do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.stem(images)
        x.mul_(-3).add_(0.1)
        return x.relu_().mean((2, 3))


def test_what_changes_an_activation_in_place_does_not_change_the_map(images: Tensor) -> None:
    network = classifier(ChangesInPlace()).eval()
    layer = layer_of(network)
    assert layer.name == "backbone.stem"
    output = network.backbone.stem(images)  # type: ignore[operator]  # a module
    logits = network.head((-3 * output + 0.1).relu().mean((2, 3)))
    gradient = torch.autograd.grad(logits.gather(1, LABELS[:, None]).sum(), output)[0]
    wanted = (gradient.mean((2, 3), keepdim=True) * output).sum(1).clamp_min(0).detach()
    torch.testing.assert_close(class_activation_map(network, layer, images, LABELS), wanted)


def test_layer_cam_weights_each_place_by_its_own_gradient(network: EmotionClassifier, images: Tensor) -> None:
    layer = layer_of(network, 24)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.clone())
        return kept[0]

    handle = layer.module.register_forward_hook(keep)
    logits = network(images)
    handle.remove()
    gradient = torch.autograd.grad(logits.gather(1, LABELS[:, None]).sum(), kept[0])[0]
    wanted = (gradient.clamp_min(0) * kept[0]).sum(1).clamp_min(0).detach()
    torch.testing.assert_close(class_activation_map(network, layer, images, LABELS, layercam=True), wanted)


def test_gradients_are_those_of_captum_smoothed(network: EmotionClassifier, images: Tensor) -> None:
    theirs = Saliency(network).attribute(images.clone().requires_grad_(), LABELS)[:, 0]
    ours = gradient_map(network, images, LABELS)
    torch.testing.assert_close(ours[:, 10, 20], theirs[:, 8:13, 18:23].mean((1, 2)))
    torch.testing.assert_close(ours[:, 0, 0], theirs[:, :3, :3].mean((1, 2)))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_any_mode_gives_the_same_and_leaves_no_trace(network: EmotionClassifier, images: Tensor, mode: type) -> None:
    layer = layer_of(network)
    wanted = class_activation_map(network, layer, images, LABELS), gradient_map(network, images, LABELS)
    network.train()
    buffers = [buffer.clone() for buffer in network.buffers()]
    state = torch.get_rng_state()
    frozen = [parameter.requires_grad_(False) for parameter in network.backbone.parameters()]
    try:
        with mode(), torch.autocast("cpu", torch.bfloat16):
            inside, labels = images.clone(), LABELS.clone()
            again = find_layer(network, 1, 48, 6)
            assert again is not None
            assert again.name == layer.name
            found = class_activation_map(network, again, inside, labels), gradient_map(network, inside, labels)
    finally:
        for parameter in frozen:
            parameter.requires_grad_()
        trained, _ = network.training, network.eval()
    torch.testing.assert_close(found, wanted)
    assert trained
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, network.buffers(), buffers))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_weights_in_half_the_digits_give_nearly_the_same(images: Tensor) -> None:
    network = classifier("fer_b_fast").eval()
    layer = layer_of(network, 24)
    wanted = class_activation_map(network, layer, images, LABELS, layercam=True)
    network.bfloat16()
    found = class_activation_map(network, layer_of(network, 24), images, LABELS, layercam=True)
    assert found.dtype == torch.float32
    assert torch.corrcoef(torch.stack([wanted.flatten(), found.flatten()]))[0, 1] > 0.98


def test_attention_rollout_is_the_product_of_the_attentions(images: Tensor) -> None:
    network = classifier("vit_tiny_patch16_224", **{**VIT, "depth": 2}).eval()
    kept: list[Tensor] = []
    for block in network.backbone.blocks:  # type: ignore[union-attr]  # timm's
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        network(images)
    first, second = (0.5 * each.mean(1) + 0.5 * torch.eye(37) for each in kept)
    wanted = (second @ first)[:, 0, 1:].reshape(4, 6, 6)
    for block in network.backbone.blocks:  # type: ignore[union-attr]  # timm's
        block.attn.fused_attn = True
    found = attention_map(network, images)
    torch.testing.assert_close(found, wanted)
    assert all(block.attn.fused_attn for block in network.backbone.blocks)  # type: ignore[union-attr]  # timm's


def test_a_network_without_attention_has_no_such_map(images: Tensor) -> None:
    assert attention_map(classifier(nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 4))), images) is None


def test_maps_are_enlarged_between_the_centres_of_their_cells() -> None:
    large = enlarged(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), 4)
    torch.testing.assert_close(large[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
