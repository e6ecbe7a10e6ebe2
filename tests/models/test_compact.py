from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fer_lightning.errors import ConfigError
from fer_lightning.models.backbones import BACKBONES
from fer_lightning.models.compact import CompactMobileNetV2, CompactResNet, DilatedResNet, FERNet

NAMES = sorted(BACKBONES)
FEATURES = {
    "compact_resnet_418k": 128,
    "compact_mobilenet_130k": 128,
    "dilated_resnet": 256,
    "fer_a": 96,
    "fer_a_fast": 96,
    "fer_b": 48,
    "fer_b_fast": 60,
}


def with_head(backbone: nn.Module, features: int) -> nn.Sequential:
    return nn.Sequential(backbone, nn.Linear(features, 7))


def perturbed(name: str) -> nn.Module:
    """A network in eval mode whose residual branches are not switched off by their zero start."""
    torch.manual_seed(0)
    network = BACKBONES[name](in_channels=1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
    return network.eval()


def test_registry_is_what_these_tests_cover() -> None:
    assert set(FEATURES) == set(BACKBONES)


@pytest.mark.parametrize(
    ("name", "gray", "rgb", "published"),
    [
        ("compact_resnet_418k", 418_239, 418_671, 418_000),
        ("compact_mobilenet_130k", 129_791, 130_079, 130_000),
        ("dilated_resnet", 1_095_655, 1_096_231, None),
        ("fer_a", 403_235, 403_523, 403_000),
        ("fer_a_fast", 309_303, 309_591, 309_000),
        ("fer_b", 126_427, 126_715, 126_000),
        ("fer_b_fast", 99_374, 99_662, 99_000),
    ],
)
def test_parameters_with_a_head_for_seven_classes(name: str, gray: int, rgb: int, published: int | None) -> None:
    for channels, expected in ((1, gray), (3, rgb)):
        classifier = with_head(BACKBONES[name](in_channels=channels), FEATURES[name])
        assert sum(p.numel() for p in classifier.parameters()) == expected
    if published is not None:
        assert round(gray, -3) == published


@pytest.mark.parametrize(
    ("name", "mega_macs", "tolerance"),
    [("fer_a", 59, 0.03), ("fer_a_fast", 38, 0.03), ("fer_b", 31, 0.03), ("fer_b_fast", 14, 0.03)],
)
def test_cost_is_as_documented(name: str, mega_macs: float, tolerance: float) -> None:
    network = BACKBONES[name](in_channels=1).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 1, 48, 48))
    assert counter.get_total_flops() / 2e6 == pytest.approx(mega_macs, rel=tolerance)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_features_of_gray_and_rgb(name: str, channels: int) -> None:
    network = BACKBONES[name](in_channels=channels).eval()
    with torch.no_grad():
        features = network(torch.rand(2, channels, 48, 48))
    assert features.shape == (2, FEATURES[name])
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_gives_the_same_features(name: str) -> None:
    network = perturbed(name)
    images = torch.rand(3, 1, 48, 48)
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        found = network(images.contiguous(memory_format=torch.channels_last))
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_reduce_the_loss(name: str) -> None:
    torch.manual_seed(0)
    size = {"image_size": 24} if name.startswith("fer_") else {}  # a quarter of the time
    classifier = with_head(BACKBONES[name](in_channels=1, dropout=0.0, **size), FEATURES[name])
    images, labels = torch.rand(14, 1, 24, 24), torch.arange(14) % 7
    optimizer = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    losses: list[float] = []
    for _ in range(6):
        loss = F.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    missing = [n for n, p in classifier.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missing == []


@pytest.mark.parametrize(
    ("name", "fine", "coarse"),
    [
        ("compact_resnet_418k", 5, 5),
        ("compact_mobilenet_130k", 13, 6),
        ("dilated_resnet", 4, 4),
        ("fer_a", 7, 4),
        ("fer_a_fast", 5, 4),
        ("fer_b", 5, 4),
        ("fer_b_fast", 4, 4),
    ],
)
def test_layer_groups_hold_every_parameter_once(name: str, fine: int, coarse: int) -> None:
    network: Any = BACKBONES[name](in_channels=1)
    for is_coarse, count in ((False, fine), (True, coarse)):
        groups = group_parameters(network, network.group_matcher(coarse=is_coarse))
        members = [parameter for group in groups.values() for parameter in group]
        assert sorted(members) == sorted(n for n, _ in network.named_parameters())
        assert len(groups) == count
        assert all(parameter.startswith("stem.") for parameter in groups[0])
        # Unmatched parameters would form a group of their own behind the last block.
        assert any(parameter.startswith(("blocks.", "stages.")) for parameter in groups[count - 1])


@pytest.mark.parametrize(
    "name",
    [
        "fer_b_fast",
        "compact_resnet_418k",
        *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in {"fer_b_fast", "compact_resnet_418k"}),
    ],
)
def test_exporters_record_the_network_for_any_batch_size(name: str) -> None:
    network = perturbed(name)
    images = torch.rand(2, 1, 48, 48)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    five = torch.rand(5, 1, 48, 48)
    torch.testing.assert_close(program.module()(five), network(five), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:FutureWarning")
def test_tracing_a_fernet_gives_no_warning() -> None:
    network = perturbed("fer_b_fast")
    images = torch.rand(2, 1, 48, 48)
    traced = torch.jit.trace(network, images, check_trace=False)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(images), network(images), rtol=1e-4, atol=1e-5)


def test_residual_networks_start_from_their_shortcuts() -> None:
    for network, blocks in ((FERNet(), 6), (CompactResNet(), 4), (DilatedResNet(), 1)):
        zeros = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.any()]
        assert len(zeros) == blocks


def test_convolutions_before_batch_norm_have_no_bias() -> None:
    for name in NAMES:
        for path, module in BACKBONES[name](in_channels=1).named_modules():
            if isinstance(module, nn.Conv2d) and ".se." not in path:
                assert module.bias is None, f"{name}: {path}"


def test_fernet_follows_image_size_and_refuses_others() -> None:
    network = FERNet(in_channels=1, image_size=64).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, 64, 64)).shape == (2, 96)
        with pytest.raises(ConfigError, match=r"64x64 pixels and got 48x40: set its option image_size"):
            network(torch.rand(2, 1, 48, 40))


@pytest.mark.parametrize("size", [0, 4, 50])
def test_fernet_refuses_sizes_it_cannot_halve(size: int) -> None:
    with pytest.raises(ConfigError, match=f"multiple of 8, got {size}"):
        FERNet(image_size=size)


@pytest.mark.parametrize("network", [CompactResNet, CompactMobileNetV2, DilatedResNet, FERNet])
@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_must_be_a_probability(network: type[nn.Module], dropout: float) -> None:
    with pytest.raises(ConfigError, match=r"dropout must be at least 0 and less than 1"):
        network(dropout=dropout)


@pytest.mark.parametrize("network", [CompactResNet, CompactMobileNetV2, DilatedResNet, FERNet])
def test_dropout_acts_in_training_only(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    built = network(dropout=0.5)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # leaves dropout as the only difference between two passes
    images = torch.rand(1, 1, 48, 48)

    def passes() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return built(images), built(images)

    assert not torch.equal(*passes())
    built.eval()
    assert torch.equal(*passes())


def test_networks_without_global_convolution_take_other_sizes() -> None:
    for network in (CompactResNet(), CompactMobileNetV2(), DilatedResNet()):
        with torch.no_grad():
            assert network.eval()(torch.rand(1, 1, 64, 64)).ndim == 2
