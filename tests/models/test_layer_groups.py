from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models._manipulate import group_parameters
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.models import BACKBONES
from fer_lightning.models.layer_groups import RateShares, layer_groups, parameters_by_group
from tests.helpers.parts import TinyBackbone

TIMM = {  # name: groups, first parameter of the lowest, last of the highest
    "vgg16": (14, "features.0.weight", "pre_logits.fc2.bias"),
    "resnet18": (5, "conv1.weight", "layer4.1.bn2.bias"),
    "mobilenetv2_100": (8, "conv_stem.weight", "bn2.bias"),
    "efficientnet_b0": (8, "conv_stem.weight", "bn2.bias"),
    "vit_tiny_patch16_224": (13, "cls_token", "norm.bias"),
}


def timm_network(name: str) -> nn.Module:
    with torch.device("meta"):  # names and shapes alone
        network: nn.Module = timm.create_model(name, num_classes=0)
    return network


@pytest.mark.parametrize("name", TIMM)
def test_timm_networks_have_timms_groups(name: str) -> None:
    network = timm_network(name)
    found = layer_groups(network)
    count, first, last = TIMM[name]
    assert (len(found), found[0].parameters[0], found[-1].parameters[-1]) == (count, first, last)
    matcher: Any = network.group_matcher
    theirs = group_parameters(network, matcher(coarse=True))
    assert [set(group.parameters) for group in found] == [set(names) for names in theirs.values()]


@pytest.mark.parametrize("name", [*TIMM, *BACKBONES])
def test_every_tensor_is_in_one_group(name: str) -> None:
    network = BACKBONES[name]() if name in BACKBONES else timm_network(name)
    found = layer_groups(network)
    parameters = [parameter for group in found for parameter in group.parameters]
    buffers = [buffer for group in found for buffer in group.buffers]
    assert sorted(parameters) == sorted(name for name, _ in network.named_parameters())
    assert sorted(buffers) == sorted(name for name, _ in network.named_buffers())
    home = {name: index for index, group in enumerate(found) for name in (*group.parameters, *group.buffers)}
    for name in buffers:  # running statistics are where the gains of their norm are
        if name.endswith("running_mean"):
            assert home[name] == home[name.replace("running_mean", "weight")]


def test_ours_have_a_stem_and_one_group_per_block() -> None:
    found = layer_groups(BACKBONES["compact_resnet_418k"]())
    assert [group.parameters[0].rpartition(".conv")[0] for group in found[1:]] == [f"blocks.{n}.0" for n in range(4)]
    assert all(name.startswith("stem") for name in found[0].parameters)


def test_a_plain_module_has_one_group_per_child() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    assert [group.parameters[0] for group in layer_groups(network)] == ["0.weight", "2.0.weight"]
    assert layer_groups(network)[1].buffers == ("2.1.running_mean", "2.1.running_var", "2.1.num_batches_tracked")


def test_a_wrapping_child_is_looked_into() -> None:
    groups = layer_groups(TinyBackbone())
    assert [group.parameters[0] for group in groups] == ["layers.0.weight", "layers.1.weight", "layers.4.weight"]


def test_norm_without_gains_joins_the_layer_before_it() -> None:
    norm = nn.BatchNorm2d(4, affine=False)
    network = nn.Sequential(nn.BatchNorm2d(1, affine=False), nn.Conv2d(1, 4, 3), norm, nn.Conv2d(4, 4, 3))
    found = layer_groups(network)
    assert [group.parameters[0] for group in found] == ["1.weight", "3.weight"]
    assert {name.partition(".")[0] for name in found[0].buffers} == {"0", "2"}
    assert found[1].buffers == ()


class Tied(nn.Module):
    """Two layers of the same weight and a token of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x + self.token))
        return out


def test_tied_parameters_count_once_and_own_ones_are_at_the_input() -> None:
    found = [group.parameters for group in layer_groups(Tied())]
    assert found == [("token", "first.weight", "first.bias"), ("second.bias",)]


def test_a_module_without_parameters_has_no_groups() -> None:
    with pytest.raises(ConfigError, match="Flatten has no parameters"):
        layer_groups(nn.Flatten())


def test_lower_layers_get_smaller_shares() -> None:
    network = TinyBackbone()
    groups = parameters_by_group(network, network)
    shares = RateShares(backbone_lr_factor=0.5, layer_lr_decay=0.1).factors(groups)
    assert shares[network.get_parameter("layers.4.weight")] == 0.5
    assert shares[network.get_parameter("layers.1.bias")] == pytest.approx(0.05)
    assert shares[network.get_parameter("layers.0.weight")] == pytest.approx(0.005)
    assert len(shares) == len(list(network.parameters()))


def test_each_block_of_a_vit_is_a_group() -> None:
    network = timm_network("vit_tiny_patch16_224")
    shares = RateShares(layer_lr_decay=0.75).factors(parameters_by_group(network, network))
    assert shares[network.get_parameter("norm.weight")] == 1
    assert shares[network.get_parameter("blocks.11.mlp.fc2.bias")] == 1
    assert shares[network.get_parameter("blocks.0.norm1.weight")] == pytest.approx(0.75**11)
    assert shares[network.get_parameter("patch_embed.proj.weight")] == pytest.approx(0.75**12)


def test_what_others_share_or_the_network_keeps_fixed_is_left_out() -> None:
    backbone = TinyBackbone()
    whole = nn.ModuleDict({"backbone": backbone, "other": nn.Linear(1, 1)})
    whole["other"].weight = backbone.get_parameter("layers.4.weight")
    backbone.get_parameter("layers.0.weight").requires_grad_(False)
    found = [len(group) for group in parameters_by_group(whole, backbone)]
    assert found == [0, 2, 1]


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1])
@pytest.mark.parametrize("name", ["backbone_lr_factor", "layer_lr_decay"])
def test_shares_are_above_zero_and_at_most_one(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"model.{name} must be above 0 and at most 1"):
        RateShares(**{name: value})


def test_a_resumed_run_keeps_its_shares() -> None:
    RateShares(0.1, 0.5).check_resumed({"backbone_lr_factor": 0.1, "layer_lr_decay": 0.5})
    RateShares().check_resumed({})
    with pytest.raises(ConfigError, match="trained with layer_lr_decay 0.5, not 0.75"):
        RateShares(0.1, 0.75).check_resumed({"backbone_lr_factor": 0.1, "layer_lr_decay": 0.5})


class Owning(nn.Module):
    """A token and one child, in which everything else is."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.token = nn.Parameter(torch.zeros(4))


def test_a_child_beside_parameters_is_not_looked_into() -> None:
    [group] = layer_groups(Owning())
    assert set(group.parameters) == {"token", "only.0.weight", "only.0.bias", "only.1.weight", "only.1.bias"}
