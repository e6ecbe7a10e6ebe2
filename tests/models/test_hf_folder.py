from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fer_lightning.errors import CheckpointError, ConfigError, MissingExtraError
from fer_lightning.models.classifier import build_classifier
from fer_lightning.models.heads import LinearHead, MLPHead
from fer_lightning.models.hf_folder import (
    HFFolderBackbone,
    _blocks,
    _folder_preprocessing,
    preprocessing_differences,
)
from fer_lightning.models.layer_groups import layer_groups
from fer_lightning.types import Preprocessing
from tests.helpers.cli import QUICK, fer, fit

transformers = pytest.importorskip("transformers")

LABELS = ["happiness", "anger", "disgust", "fear", "sad", "surprise", "neutral", "contempt"]
NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
TOLD = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}


def preprocessing(size: int = 16, channels: int = 3, mean: float = 0.5, std: float = 0.5) -> Preprocessing:
    return {
        "image_size": size, "channels": channels, "mean": [mean] * channels, "std": [std] * channels,
        "interpolation": "bilinear",
    }  # fmt: skip


def save(network: Any, folder: Path, told: dict[str, Any] | None = None) -> Path:
    network.save_pretrained(folder)
    if told is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def vit(labels: list[str] | None = None) -> Any:
    names = LABELS if labels is None else labels
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4,
        num_labels=len(names), id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(vit(), tmp_path_factory.mktemp("vit"), TOLD)


def images(channels: int = 3, size: int = 16) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_features_are_what_the_classification_layer_gets(folder: Path) -> None:
    network = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    features = HFFolderBackbone(str(folder)).eval()(images())
    assert features.shape == (2, 32)
    torch.testing.assert_close(network.classifier(features), network(images()).logits)


def test_gray_images_are_repeated_and_other_sizes_interpolated(folder: Path) -> None:
    backbone = HFFolderBackbone(str(folder), in_channels=1).eval()
    gray = images(1)
    torch.testing.assert_close(backbone(gray), backbone(gray.expand(-1, 3, -1, -1)))
    assert backbone(images(3, 24)).shape == (2, 32)


def test_a_kept_head_gives_the_folders_logits_in_our_order(folder: Path) -> None:
    network = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    classifier = build_classifier(f"hf:{folder}", LinearHead, 7, 3, 16, keep_head=True).eval()
    backbone = classifier.backbone
    assert isinstance(backbone, HFFolderBackbone)
    backbone.meet(classifier.head, NAMES, preprocessing())
    order = [1, 2, 3, 0, 4, 5, 6]
    torch.testing.assert_close(classifier(images()), network(images()).logits[:, order])


def test_heads_that_cannot_be_kept(folder: Path, tmp_path: Path) -> None:
    backbone = HFFolderBackbone(str(folder), keep_head=True)
    with pytest.raises(ConfigError, match="keep_head needs a LinearHead, not MLPHead"):
        backbone.meet(MLPHead(32, 7), NAMES, preprocessing())
    unnamed = HFFolderBackbone(str(save(vit(["LABEL_0", "LABEL_1"]), tmp_path / "a")), keep_head=True)
    with pytest.raises(ConfigError, match="keep_head needs names of expressions: unknown expression 'LABEL_0'"):
        unnamed.meet(LinearHead(32, 7), NAMES, preprocessing())
    few = HFFolderBackbone(str(save(vit(["happy", "sad"]), tmp_path / "b")), keep_head=True)
    with pytest.raises(ConfigError, match="its head does not know angry, disgust"):
        few.meet(LinearHead(32, 7), NAMES, preprocessing())
    headless = save(transformers.ViTModel(vit().config), tmp_path / "c")
    with pytest.raises(ConfigError, match="the folder has no classification layer"):
        HFFolderBackbone(str(headless), keep_head=True)
    assert HFFolderBackbone(str(headless)).eval()(images()).shape == (2, 32)


def test_each_block_is_a_layer_group(folder: Path) -> None:
    groups = layer_groups(HFFolderBackbone(str(folder)))
    assert len(groups) == 4
    assert any("patch_embeddings" in name for name in groups[0].parameters)
    assert any("cls_token" in name for name in groups[0].parameters)
    for number, group in enumerate(groups[1:]):
        assert all(f".{number}." in name or (number == 2 and "layernorm" in name) for name in group.parameters)


def test_a_convolutional_folder(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=7
    )
    network = transformers.ResNetForImageClassification(config)
    folder = save(network, tmp_path)
    backbone = HFFolderBackbone(str(folder)).eval()
    network.eval()
    torch.testing.assert_close(network.classifier[-1](backbone(images(size=32))), network(images(size=32)).logits)
    groups = layer_groups(backbone)
    assert len(groups) == 3
    assert {name for group in groups for name in group.buffers} == {name for name, _ in backbone.named_buffers()}


@pytest.mark.parametrize(
    ("told", "given", "expected"),
    [
        ({"image_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}, preprocessing(), {}),
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, preprocessing(48, 1), {}),
        ({"image_size": 224}, preprocessing(48), {"image_size": "image_size 48 and not 224"}),
        ({"mean": [0.485, 0.456, 0.406]}, preprocessing(), {"mean": "mean [0.5,0.5,0.5] and not [0.485,0.456,0.406]"}),
    ],
)
def test_what_differs_from_the_folders_images(
    told: dict[str, Any], given: Preprocessing, expected: dict[str, str]
) -> None:
    assert preprocessing_differences(told, given) == expected


def test_differing_data_are_warned_of(folder: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    backbone = HFFolderBackbone(str(folder))
    with caplog.at_level(logging.WARNING):
        backbone.meet(LinearHead(32, 7), NAMES, preprocessing())
        assert caplog.messages == []
        backbone.meet(LinearHead(32, 7), NAMES, preprocessing(48, 1, mean=0.3))
        HFFolderBackbone(str(save(vit(), tmp_path))).meet(LinearHead(32, 7), NAMES, preprocessing())
    assert "image_size 48 and not 16, mean [0.3] and not [0.5,0.5,0.5]" in caplog.messages[0]
    assert caplog.messages[0].endswith("for its own: --data.image_size 16 --data.mean [0.5,0.5,0.5]")
    assert "no readable preprocessor_config.json" in caplog.messages[1]


def test_what_is_no_folder_of_transformers(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="none: is no folder; expected one saved by"):
        HFFolderBackbone(str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="has no config.json"):
        HFFolderBackbone(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no model.safetensors"):
        HFFolderBackbone(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        HFFolderBackbone(str(tmp_path))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        HFFolderBackbone(str(tmp_path))


def test_missing_weights_are_not_made_up(tmp_path: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in tensors if "layers.1" in name or "layer.1" in name))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing, first "):
        HFFolderBackbone(str(tmp_path))


def test_without_transformers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fer_lightning\[hf\]'"):
        HFFolderBackbone(str(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, "starts from the weights in that folder"),
        ({"img_size": 3}, "has no option 'img_size' \\(known: keep_head\\)"),
    ],
)
def test_options_that_a_folder_has_not(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_classifier(f"hf:{folder}", LinearHead, 7, 3, 16, **options)


def test_by_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--model.backbone=hf:{folder}", "--model.backbone_args.keep_head=true", "--model.layer_lr_decay=0.5"]
    own = ["--data.mean=[0.5]", "--data.std=[0.5]"]
    assert fit(tmp_path, *options, *own, "--trainer.callbacks+=GradualUnfreezing", "--trainer.callbacks.every=1") == 0
    assert fer("test", f"--ckpt_path={tmp_path}/tiny/version_0", *QUICK) == 0
    assert fit(tmp_path, f"--model.backbone=hf:{tmp_path}/none", name="none") == 2
    assert "is no folder; expected one saved by" in capsys.readouterr().err
    given = ["--model.backbone=HFFolderBackbone", f"--model.backbone.path={folder}", "--model.backbone.in_channels=1"]
    assert fit(tmp_path, *given, name="by_class", epochs=1) == 0


def test_the_backbone_is_a_module_that_trains(folder: Path) -> None:
    backbone = HFFolderBackbone(str(folder))
    assert backbone.training
    assert isinstance(backbone.network, nn.Module)
    backbone(images()).sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (TOLD, {"image_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}),
        ({"size": 224, "image_mean": [0.1], "image_std": [1]}, {"image_size": 224, "mean": [0.1], "std": [1.0]}),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224}, "do_center_crop": True}, {"image_size": 224}),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224}}, {"image_size": 256}),
        ({"do_normalize": False, "image_mean": [0.5]}, {"mean": [0.0], "std": [1.0]}),
        ({"size": {"longest_edge": 9}, "image_mean": [], "image_std": "0.5"}, {}),
        ({}, {}),
        ([], None),
    ],
)
def test_what_a_folder_says_of_its_images(told: Any, known: dict[str, Any] | None, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    assert _folder_preprocessing(tmp_path) == known


def test_mean_and_std_may_differ_by_rounding_only() -> None:
    told = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    given = preprocessing()
    given |= {"mean": [0.48, 0.46, 0.4], "std": [0.23, 0.23, 0.23]}
    assert preprocessing_differences(told, given) == {}
    given["std"][1] = 0.239
    assert list(preprocessing_differences(told, given)) == ["std"]
    assert list(preprocessing_differences({"mean": [0.5, 0.5]}, preprocessing())) == ["mean"]  # of two channels


def test_blocks_are_the_members_of_the_outermost_list_with_the_most_of_them() -> None:
    def several(count: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Linear(1, 1) for _ in range(count))

    network = nn.ModuleDict({"one": nn.ModuleList([several(9)]), "few": several(2), "most": several(3)})
    assert _blocks(network) == ["most.0", "most.1", "most.2"]
    assert _blocks(nn.ModuleDict({"inner": nn.ModuleDict({"blocks": several(2)})})) == [
        "inner.blocks.0",
        "inner.blocks.1",
    ]
    assert _blocks(nn.Linear(1, 1)) == []


def test_a_folder_begins_in_training_and_counts_its_channels(folder: Path) -> None:
    backbone = HFFolderBackbone(str(folder), in_channels=1)
    assert all(module.training for module in backbone.modules())
    assert (backbone.in_channels, backbone.channels) == (1, 3)
