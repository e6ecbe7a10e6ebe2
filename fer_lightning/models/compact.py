"""Small networks for 48x48 faces, without their classification layer.

Every class is a plain module: ``forward`` maps images ``(N, C, H, W)`` to pooled features ``(N, F)``. The contract is
timm's: ``group_matcher`` tells stem and blocks apart, and a network's own dropout is an option of the network that acts
at its end, on the pooled features; only ``CompactResNet`` has it between its blocks, as its report says.

Conventions: convolutions before batch norm have no bias; Kaiming initialisation, fan-out (He et al. 2015,
arXiv:1502.01852); the last batch norm of a residual branch starts at zero, so that training starts from the shortcuts
(Goyal et al. 2017, arXiv:1706.02677).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.errors import ConfigError

__all__ = ["CompactMobileNetV2", "CompactResNet", "DilatedResNet", "FERNet"]

MERGE_WITH_PREVIOUS = (99999,)
"""timm's mark in a group matcher: these layers join the group before them (``timm.models._manipulate``)."""


class CompactResNet(nn.Module):
    """Residual network for low-resolution faces; with its defaults and a linear head for 7 classes 418k parameters.

    A convolutional stem, then residual blocks, each followed by max-pooling and, if asked for, dropout; global average
    pooling at the end. The report that it follows gives the layout and the total of 418k but not the widths. These are
    ours: they rise by 1.4 to 1.8 per block, and a 7-class head on 1-channel input brings the total to 418,239. 90 MMAC.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels of the first convolution.
        widths: channels of each residual block. Each halves the resolution: four take 48 to 3.
        dropout: probability of dropping a value after each block, behind the addition and the pooling.
    """

    def __init__(
        self,
        in_channels: int = 1,
        stem: int = 24,
        widths: Sequence[int] = (32, 56, 80, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_probability("dropout", dropout)
        self.stem = conv_norm_act(in_channels, stem)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(ResidualBlock(before, width), nn.MaxPool2d(2), nn.Dropout(dropout))
                for before, width in zip([stem, *widths[:-1]], widths, strict=True)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        initialise(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's regexes for layer groups: the stem, then one group per block, ``coarse`` or not."""
        return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, F)``; H and W at least 16."""
        x: Tensor = self.blocks(self.stem(images))
        return torch.flatten(self.pool(x), 1)


class CompactMobileNetV2(nn.Module):
    """MobileNetV2 for low-resolution faces; with its defaults and a linear head for 7 classes 130k parameters.

    Sandler et al. 2018, arXiv:1801.04381, table 2, changed for 48x48 input as in a report on compact networks: stride 1
    in the stem and in the 24-channel stage, no 160- and 320-channel stages, a last 1x1 convolution to 128 channels
    instead of 1280. With the full table that is 555k parameters, so three more numbers had to shrink to reach 130k (the
    report does not say which ones it changed): half width (rounded by the paper's rule, so 24 becomes 16), expansion 5
    instead of 6, and one block less in the first of the two 16-channel stages.

    =====  ==========  ========  ======  =======  ==========
    stage  resolution  channels  blocks  stride   expansion
    =====  ==========  ========  ======  =======  ==========
    stem   48          16        conv    1 (2)
    0      48          8         1       1        1
    1      48          16        1 (2)   1 (2)    5 (6)
    2      24          16        3       2        5 (6)
    3      12          32        4       2        5 (6)
    4      12          48        3       1        5 (6)
    last   12          128       1x1     1
    =====  ==========  ========  ======  =======  ==========

    In brackets: the paper's number where it differs, width aside. Total: 129,791 with the head.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels of the first convolution.
        stages: (expansion, channels, blocks, stride) of each stage.
        features: channels of the last 1x1 convolution, the number of features.
        dropout: probability of dropping a feature at the end.
    """

    def __init__(
        self,
        in_channels: int = 1,
        stem: int = 16,
        stages: Sequence[tuple[int, int, int, int]] = (
            (1, 8, 1, 1),
            (5, 16, 1, 1),
            (5, 16, 3, 2),
            (5, 32, 4, 2),
            (5, 48, 3, 1),
        ),
        features: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_probability("dropout", dropout)
        self.stem = conv_norm_act(in_channels, stem, act=nn.ReLU6)
        built: list[nn.Module] = []
        channels = stem
        for expansion, width, count, stride in stages:
            blocks: list[nn.Module] = []
            for index in range(count):
                blocks.append(InvertedResidual(channels, width, expansion, stride if index == 0 else 1))
                channels = width
            built.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*built)
        self.last = conv_norm_act(channels, features, kernel=1, act=nn.ReLU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        initialise(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's regexes for layer groups: the stem, then one group per stage (``coarse``) or per block."""
        return staged_groups(coarse, last=r"^last")

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, F)``."""
        x: Tensor = self.last(self.stages(self.stem(images)))
        x = self.dropout(torch.flatten(self.pool(x), 1))
        return x


class DilatedResNet(nn.Module):
    """Dilated first block, residual second block, refining third block; 1.1M parameters.

    The first block sees far at full resolution through three convolutions of dilation 1, 2 and 3 (these rates leave no
    holes in the receptive field: Wang et al. 2018, arXiv:1702.08502). Max-pooling separates the blocks; the third
    refines with two plain convolutions before global average pooling and dropout. 279 MMAC at 48x48.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        widths: channels of the three blocks.
        dilations: dilation of each convolution of the first block.
        dropout: probability of dropping a feature at the end.
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: tuple[int, int, int] = (32, 128, 256),
        dilations: Sequence[int] = (1, 2, 3),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_probability("dropout", dropout)
        first, second, third = widths
        self.stem = conv_norm_act(in_channels, first, dilation=dilations[0])
        dilated = nn.Sequential(*(conv_norm_act(first, first, dilation=rate) for rate in dilations[1:]))
        residual = ResidualBlock(first, second)
        refine = nn.Sequential(conv_norm_act(second, third), conv_norm_act(third, third))
        self.blocks = nn.Sequential(
            nn.Sequential(dilated, nn.MaxPool2d(2)),
            nn.Sequential(residual, nn.MaxPool2d(2)),
            refine,
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        initialise(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's regexes for layer groups: the stem, then one group per block, ``coarse`` or not."""
        return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, F)``."""
        x: Tensor = self.blocks(self.stem(images))
        x = self.dropout(torch.flatten(self.pool(x), 1))
        return x


class FERNet(nn.Module):
    """Plain 3x3 residual network with squeeze-excitation that ends in a global depthwise convolution.

    Layout: a convolution at full resolution, one of stride 2, stages of ``SEResidualBlock`` (each stage but the
    first halves the resolution), then a depthwise convolution as large as what is left, 6x6 for 48x48 input. In place
    of average pooling it keeps the layout of the face (MobileFaceNets, Chen et al. 2018, arXiv:1804.07573). Plain 3x3
    convolutions rather than depthwise blocks, because they are faster on a CPU at this size.

    ==============  ========  ==================================  ==========  ====
    name            stem      stages (channels x blocks)          parameters  MMAC
    ==============  ========  ==================================  ==========  ====
    ``fer_a``       16, 32    32 x 2, 64 x 3, 96 x 1              403,235     59
    ``fer_a_fast``  16, 32    32 x 1, 64 x 2, 96 x 1              309,303     38
    ``fer_b``       16, 32    32 x 2, 48 x 1, 48 x 1              126,427     31
    ``fer_b_fast``  16, 24    24 x 1, 40 x 1, 60 x 1              99,374      14
    ``fer_nano``    16, 24    24 x 1, 32 x 1, 36 x 1              57,050      12
    ==============  ========  ==================================  ==========  ====

    Counted for 1x48x48 with a linear head for 7 classes. Widths that are multiples of 16 fill the vectors of a CPU: a
    training step of ``fer_a`` takes 0.68 of the time of the same budget laid out as 24, 40 / 40 x 2, 72 x 2, 96 x 1
    (bfloat16 on two AVX512 cores, turn by turn).

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels of the first two convolutions.
        stages: (channels, blocks) of each stage.
        dropout: probability of dropping a feature at the end.
        image_size: side of the input in pixels. It fixes the size of the global convolution, for three stages an
            eighth of it.

    Raises:
        ConfigError: if ``image_size`` cannot be halved once per stage, or ``dropout`` is not a probability.
    """

    def __init__(
        self,
        in_channels: int = 1,
        stem: tuple[int, int] = (16, 32),
        stages: Sequence[tuple[int, int]] = ((32, 2), (64, 3), (96, 1)),
        dropout: float = 0.2,
        image_size: int = 48,
    ) -> None:
        super().__init__()
        check_probability("dropout", dropout)
        reduction = 2 ** len(stages)
        if image_size < reduction or image_size % reduction:
            raise ConfigError(
                f"this network halves its input {len(stages)} times: image_size must be a multiple of {reduction}, "
                f"got {image_size}"
            )
        self.image_size = image_size
        self.stem = nn.Sequential(conv_norm_act(in_channels, stem[0]), conv_norm_act(stem[0], stem[1], stride=2))
        built: list[nn.Module] = []
        channels = stem[1]
        for stage, (width, count) in enumerate(stages):
            blocks: list[nn.Module] = []
            for index in range(count):
                blocks.append(SEResidualBlock(channels, width, stride=2 if stage > 0 and index == 0 else 1))
                channels = width
            built.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*built)
        self.gdc = nn.Sequential(
            nn.Conv2d(channels, channels, image_size // reduction, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.dropout = nn.Dropout(dropout)
        initialise(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's regexes for layer groups: the stem, then one group per stage (``coarse``) or per block."""
        return staged_groups(coarse, last=r"^gdc")

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, S, S)`` to features ``(N, F)``; ``ConfigError`` if S is not ``image_size``."""
        # Exporters record what tensors do; a check on their shape would only warn there.
        recording = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        if not recording and images.shape[-2:] != (self.image_size, self.image_size):
            height, width = images.shape[-2:]
            raise ConfigError(
                f"this network was built for images of {self.image_size}x{self.image_size} pixels and got "
                f"{height}x{width}: set its option image_size to the size of the data, or resize the data to "
                f"{self.image_size}"
            )
        x: Tensor = self.gdc(self.stages(self.stem(images)))
        x = self.dropout(torch.flatten(x, 1))
        return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where the width changes (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(in_channels, channels)
        self.conv2 = zero_start(conv_norm(channels, channels))
        self.shortcut = nn.Identity() if in_channels == channels else conv_norm(in_channels, channels, kernel=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, channels, H, W)``."""
        out: Tensor = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return out


class SqueezeExcite(nn.Module):
    """Scale each channel by a share in 0..1 that follows from the means of all (Hu et al. 2018, arXiv:1709.01507).

    The same numbers and names of parameters as timm's ``SEModule``, without timm, which our networks do not need else.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        share: Tensor = self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()
        return x * share


class SEResidualBlock(nn.Module):
    """Residual block with squeeze-excitation (Hu et al. 2018, arXiv:1709.01507; an eighth of the channels in between).

    The shortcut averages before its 1x1 convolution, so that no value is skipped (He et al. 2018, arXiv:1812.01187).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(in_channels, channels, stride=stride)
        self.conv2 = zero_start(conv_norm(channels, channels))
        self.se = SqueezeExcite(channels, max(channels // 8, 1))
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride)] if stride > 1 else []
        if stride > 1 or in_channels != channels:
            shortcut.append(conv_norm(in_channels, channels, kernel=1))
        self.shortcut = nn.Sequential(*shortcut)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        out: Tensor = self.act(self.se(self.conv2(self.conv1(x))) + self.shortcut(x))
        return out


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand 1x1, depthwise 3x3, project 1x1 without activation (Sandler et al. 2018)."""

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [conv_norm_act(in_channels, hidden, kernel=1, act=nn.ReLU6)] if expansion > 1 else []
        layers += [conv_norm_act(hidden, hidden, stride=stride, groups=hidden, act=nn.ReLU6)]
        layers += [conv_norm(hidden, channels, kernel=1)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


def conv_norm(
    in_channels: int, channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution that keeps the resolution (at stride 1) and its batch norm."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, padding, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    )


def conv_norm_act(in_channels: int, channels: int, act: type[nn.Module] = nn.ReLU, **options: int) -> nn.Sequential:
    """Return convolution, batch norm and activation; ``options`` are those of ``conv_norm``."""
    return nn.Sequential(*conv_norm(in_channels, channels, **options), act(inplace=True))


def zero_start(layers: nn.Sequential) -> nn.Sequential:
    """Set the scale of the batch norm that ends ``layers`` to zero and return them."""
    norm = layers[-1]
    if not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"expected a batch norm at the end, got {type(norm).__name__}")
    nn.init.zeros_(norm.weight)
    return layers


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 2 / fan-out), counting a depthwise filter's own outputs only."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def staged_groups(coarse: bool, last: str) -> dict[str, Any]:
    """Return timm's group matcher for networks of ``stem``, ``stages.<i>.<j>`` and a last layer."""
    stages = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
    return {"stem": r"^stem", "blocks": [(stages, None), (last, MERGE_WITH_PREVIOUS)]}


def check_probability(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` lies in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{name} must be at least 0 and less than 1, got {value}")
