from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.squeeze_excite import SEModule
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual as ReferenceInvertedResidual
from torchvision.models.resnet import BasicBlock
from torchvision.ops import SqueezeExcitation

from fer_lightning.errors import ConfigError
from fer_lightning.models.backbones import BACKBONES
from fer_lightning.models.compact import (
    CompactMobileNetV2,
    CompactResNet,
    DilatedResNet,
    FERNet,
    InvertedResidual,
    ResidualBlock,
    SEResidualBlock,
    SqueezeExcite,
    initialise,
)

NAMES = sorted(BACKBONES)
FEATURES = {
    "compact_resnet_418k": 128,
    "compact_mobilenet_130k": 128,
    "dilated_resnet": 256,
    "fer_a": 96,
    "fer_a_fast": 96,
    "fer_b": 48,
    "fer_b_fast": 60,
    "fer_nano": 36,
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


@pytest.mark.parametrize("name", NAMES)
def test_dropout_unless_another_is_given(name: str) -> None:
    wanted = {"compact_resnet_418k": 0.0, "compact_mobilenet_130k": 0.0, "dilated_resnet": 0.5}.get(name, 0.2)
    for options, share in (({}, wanted), ({"dropout": 0.35}, 0.35)):
        layers = [each for each in BACKBONES[name](in_channels=1, **options).modules() if isinstance(each, nn.Dropout)]
        assert {layer.p for layer in layers} == {share}


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
        ("fer_nano", 57_050, 57_338, 57_000),
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
    [
        *(("fer_a", 59, 0.03), ("fer_a_fast", 38, 0.03), ("fer_b", 31, 0.03), ("fer_b_fast", 14, 0.03)),
        ("fer_nano", 11.6, 0.03),
        *(("compact_resnet_418k", 90, 0.01), ("dilated_resnet", 279, 0.01), ("compact_mobilenet_130k", 28.3, 0.01)),
    ],
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
        ("fer_nano", 4, 4),
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


def drawn(network: nn.Module) -> nn.Module:
    """Give each tensor of a network, by the order of their names, values that do not depend on torch's generator."""
    rng = np.random.default_rng(0)
    for name, tensor in sorted(network.state_dict().items()):
        if tensor.ndim:
            values = rng.normal(0, math.sqrt(2 / tensor[0].numel()) if tensor.ndim > 1 else 0.2, tensor.shape)
            scale = tensor.ndim == 1 and name.endswith(("weight", "var"))
            tensor.copy_(torch.from_numpy((1 + values).clip(0.5, 1.5) if scale else values))
    return network.eval()


def assert_alike(ours: nn.Module, reference: nn.Module, size: int) -> None:
    """Check that a block on 8 channels computes what another does that has the same tensors in the same order."""
    reference.load_state_dict(dict(zip(reference.state_dict(), drawn(ours).state_dict().values(), strict=True)))
    images = 4 * torch.randn(2, 8, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.eval()(images)
        torch.testing.assert_close(ours(images.clone()), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1
    assert expected.shape[-1] == size


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expansion", [1, 5])
@pytest.mark.parametrize("channels", [8, 16])
def test_the_inverted_residual_is_that_of_torchvision(channels: int, expansion: int, stride: int) -> None:
    reference = ReferenceInvertedResidual(8, channels, stride, expansion)
    assert_alike(InvertedResidual(8, channels, expansion, stride), reference, 12 // stride)


@pytest.mark.parametrize("channels", [8, 16])
def test_the_residual_block_is_that_of_torchvision(channels: int) -> None:
    down = None if channels == 8 else nn.Sequential(nn.Conv2d(8, channels, 1, bias=False), nn.BatchNorm2d(channels))
    assert_alike(ResidualBlock(8, channels), BasicBlock(8, channels, downsample=down), 12)


@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (16, 1), (8, 2), (16, 2)])
def test_the_block_with_squeeze_excitation_averages_on_its_shortcut(channels: int, stride: int) -> None:
    norm = nn.BatchNorm2d(channels)
    down: list[nn.Module] = [nn.AvgPool2d(2)] if stride == 2 else []
    down += [nn.Conv2d(8, channels, 1, bias=False), norm] if channels != 8 or stride == 2 else []
    reference = BasicBlock(8, channels, stride, downsample=nn.Sequential(*down) if down else None)
    reference.bn2 = nn.Sequential(nn.BatchNorm2d(channels), SqueezeExcitation(channels, channels // 8))
    assert_alike(SEResidualBlock(8, channels, stride), reference, 12 // stride)


def test_squeeze_excitation_gives_timms_numbers_to_the_last_digit() -> None:
    ours, timms = SqueezeExcite(32, 4), SEModule(32, rd_channels=4)
    torch.manual_seed(0)
    again = SqueezeExcite(32, 4)
    torch.manual_seed(0)
    drawn = SEModule(32, rd_channels=4)
    assert all(torch.equal(one, two) for one, two in zip(again.parameters(), drawn.parameters(), strict=True))
    timms.load_state_dict(ours.state_dict())  # the same names
    images = torch.randn(3, 32, 6, 6)
    gradients = []
    for module in (ours, timms):
        out = module(images)
        out.square().sum().backward()
        gradients.append([out, *(parameter.grad for parameter in module.parameters())])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


SIZES: dict[Callable[..., Any], tuple[str, list[int]]] = {
    CompactResNet: ("blocks", [48, 24, 12, 6, 3]),
    CompactMobileNetV2: ("stages", [48, 48, 48, 24, 12, 12]),
    DilatedResNet: ("blocks", [48, 24, 12, 12]),
    FERNet: ("stages", [24, 24, 12, 6]),
}


@pytest.mark.parametrize("network", SIZES)
def test_resolutions_of_stem_and_stages_are_those_of_the_table(network: Callable[..., Any]) -> None:
    name, sizes = SIZES[network]
    built = network().eval()
    found: list[list[int]] = []
    for stage in (built.stem, *getattr(built, name)):
        stage.register_forward_hook(lambda module, inputs, output: found.append(list(output.shape[-2:])))
    with torch.no_grad():
        built(torch.rand(1, 1, 48, 48))
    assert found == [[size, size] for size in sizes]


def test_the_first_block_of_the_dilated_network_sees_13_pixels_without_holes() -> None:
    network: Any = DilatedResNet().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    images = torch.rand(1, 1, 48, 48, requires_grad=True)
    network.blocks[0][0](network.stem(images))[0, 0, 20, 30].backward()
    assert images.grad is not None
    wanted = torch.zeros(48, 48, dtype=torch.bool)
    wanted[14:27, 24:37] = True  # 1 + 2 + 3 pixels to each side
    assert torch.equal(images.grad[0, 0] != 0, wanted)


@pytest.mark.parametrize(
    ("convolution", "fan_out"),
    [(nn.Conv2d(2048, 2048, 3, groups=2048), 9), (nn.Conv2d(32, 64, 3), 9 * 64), (nn.Conv2d(64, 128, 1), 128)],
    ids=["depthwise", "3x3", "1x1"],
)
def test_weights_are_drawn_by_fan_out(convolution: nn.Conv2d, fan_out: int) -> None:
    torch.manual_seed(0)
    initialise(convolution)
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)
    assert convolution.bias is not None
    assert not convolution.bias.any()


GOLDEN = {
    "compact_mobilenet_130k": [0.0, 2.42973, 2.17694, 2.0567],
    "compact_resnet_418k": [30.80198, 14.65736, 9.77575, 10.56947],
    "dilated_resnet": [0.0263, 0.32843, 2.15045, 3.11505],
    "fer_a": [0.48095, 14.40443, -0.44622, 7.12765],
    "fer_a_fast": [-3.18983, 6.41773, -0.30944, 1.89284],
    "fer_b": [-0.61448, -0.02966, -0.3236, 2.01027],
    "fer_b_fast": [0.23675, 0.30054, -0.36749, 3.22506],
    "fer_nano": [-1.68776, 0.24629, -0.39802, 2.53652],
}
"""First two features, mean and deviation of all, by name."""


@pytest.mark.parametrize("name", NAMES)
def test_given_weights_mean_the_same_for_all_time(name: str) -> None:
    network = drawn(BACKBONES[name](in_channels=1))
    images = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (2, 1, 48, 48))).float()
    with torch.no_grad():
        features = network(images)
    found = [*features[0, :2].tolist(), features.mean().item(), features.std().item()]
    assert found == pytest.approx(GOLDEN[name], rel=2e-3, abs=1e-4)
