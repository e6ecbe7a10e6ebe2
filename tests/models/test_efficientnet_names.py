"""Weights of the PyTorch port of TensorFlow's EfficientNets in timm's networks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fer_lightning.errors import CheckpointError
from fer_lightning.models.backbones import create_backbone
from fer_lightning.models.efficientnet_names import ported_names

# Read off the package's own network and timm's, block by block: the second stage begins with block 1, the third with 3.
PAIRS = {
    "_conv_stem.weight": "conv_stem.weight",
    "_bn0.running_var": "bn1.running_var",
    "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
    "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
    "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
    "_blocks.0._bn2.weight": "blocks.0.0.bn2.weight",
    "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
    "_blocks.1._bn0.weight": "blocks.1.0.bn1.weight",
    "_blocks.2._depthwise_conv.weight": "blocks.1.1.conv_dw.weight",
    "_blocks.3._bn1.running_mean": "blocks.2.0.bn2.running_mean",
    "_blocks.5._project_conv.weight": "blocks.3.0.conv_pwl.weight",
    "_blocks.10._bn2.num_batches_tracked": "blocks.4.2.bn3.num_batches_tracked",
    "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
    "_conv_head.weight": "conv_head.weight",
    "_bn1.weight": "bn2.weight",
    "_fc.bias": "classifier.bias",
    "_blocks.16._bn1.bias": "_blocks.16._bn1.bias",  # there is none in this network
    "_blocks.1._swish.beta": "_blocks.1._swish.beta",
    "_swish.beta": "_swish.beta",
    "step": "step",
}


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    return create_backbone("tf_efficientnet_lite0", 3)


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_blocks_are_found_in_their_stages(lite: nn.Module, prefix: str) -> None:
    given = {f"{prefix}{name}": f"{prefix}{known}" for name, known in PAIRS.items()}
    assert ported_names(given, lite) == given


def test_squeeze_and_excitation_has_names_too() -> None:
    network = create_backbone("tf_efficientnet_b0", 1)
    names = ["_conv_stem.weight", "_blocks.0._se_reduce.weight", "_blocks.1._se_expand.bias"]
    assert list(ported_names(names, network).values())[1:] == [
        "blocks.0.0.se.conv_reduce.weight",
        "blocks.1.0.se.conv_expand.bias",
    ]


def test_other_files_and_other_networks_keep_their_names(lite: nn.Module) -> None:
    assert ported_names(["_bn0.bias"], lite) == {"_bn0.bias": "_bn0.bias"}
    for network in (nn.Sequential(nn.Conv2d(1, 1, 1)), create_backbone("fer_nano", 1)):
        assert ported_names(PAIRS, network) == {name: name for name in PAIRS}


def test_a_file_of_the_port_is_loaded_whole(lite: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {name: torch.rand(value.shape, generator=generator) for name, value in lite.state_dict().items()}
    own = {name: drawn[name].to(value) + 1 for name, value in lite.state_dict().items()}
    back = {known: name for name, known in _port_of(lite).items()}
    save_file({back[name]: value for name, value in own.items()} | {"_fc.bias": torch.ones(9)}, tmp_path / "w.bin")
    with caplog.at_level(logging.INFO):
        loaded = create_backbone("tf_efficientnet_lite0", 3, weights=str(tmp_path / "w.bin"))
    assert all(torch.equal(value, own[name]) for name, value in loaded.state_dict().items())
    assert f"{len(own)} of {len(own)} tensors taken; left out: _fc.bias 9" in caplog.text
    assert "TensorFlow" not in caplog.text
    with caplog.at_level(logging.INFO):
        create_backbone("efficientnet_lite0", 3, weights=str(tmp_path / "w.bin"))
    assert "these weights were trained with TensorFlow's padding: timm's networks named tf_... have it" in caplog.text
    with pytest.raises(CheckpointError, match="of its 384 tensors fit; missing"):
        create_backbone("tf_efficientnet_lite1", 3, weights=str(tmp_path / "w.bin"))


def _port_of(network: nn.Module) -> dict[str, str]:
    """Every name that the port can have for this network, with timm's."""
    blocks = range(16)
    modules = ["expand_conv", "bn0", "depthwise_conv", "bn1", "project_conv", "bn2"]
    ends = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    names = [f"_blocks.{block}._{module}.{end}" for block in blocks for module in modules for end in ends]
    names += [f"_{module}.{end}" for module in ("conv_stem", "bn0", "conv_head", "bn1") for end in ends]
    own = network.state_dict()
    found = {name: known for name, known in ported_names(names, network).items() if known in own}
    assert sorted(found.values()) == sorted(own)  # each once
    return found
