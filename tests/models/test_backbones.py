from __future__ import annotations

import json
import pickle
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.models import timm_backbones
from fer_lightning.models.backbones import BACKBONES, create_backbone, feature_width
from fer_lightning.models.weights import load_weights


class Maps(nn.Module):
    """A user's backbone that returns feature maps."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        return maps


class Returns(nn.Module):
    """A backbone that returns what it is given, whatever the images."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Any:
        return self.value


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give all weights and buffers values that no initialisation would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.05 + 0.1 * torch.rand(tensor.shape, generator=generator))
    return network.eval()


def save(weights: dict[str, Any], path: Path) -> str:
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in weights.items()}, path)
    else:
        torch.save(weights, path)
    return str(path)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and a hub that refuses connections at once."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(timm_backbones, "try_to_load_from_cache", lambda *args, **kwargs: None)


# --- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "width"),
    [
        pytest.param("vgg16", {}, 4096, marks=pytest.mark.slow),  # 134M parameters; vgg11 is tried below
        pytest.param("vgg16_bn", {}, 4096, marks=pytest.mark.slow),
        ("resnet18", {}, 512),
        ("mobilenetv2_100", {}, 1280),
        ("mobilenetv3_rw", {}, 1280),
        ("mobilenetv3_large_100", {}, 1280),
        ("mobilenetv3_small_100", {}, 1024),
        ("efficientnet_b0", {}, 1280),
        ("vit_tiny_patch16_224", {"img_size": 48}, 192),
        ("fer_a", {}, 96),
    ],
)
def test_real_names_build_and_run_on_small_faces(name: str, options: dict[str, Any], width: int) -> None:
    for channels in (1, 3):
        network = create_backbone(name, in_channels=channels, **options)
        assert feature_width(network, channels, 48) == width  # runs it


def test_a_network_of_one_size_takes_that_of_the_data_unless_told() -> None:
    name = "vit_tiny_patch16_224"
    assert feature_width(create_backbone(name, 1, image_size=48), 1, 48) == 192
    assert feature_width(create_backbone(name, 1, image_size=48, img_size=64), 1, 64) == 192
    assert feature_width(create_backbone("resnet10t", 1, image_size=48), 1, 64) == 512  # takes any, and no such option


def test_vgg_lies_about_its_width_and_is_not_believed() -> None:
    network = create_backbone("vgg11", 1)
    assert network.num_features == 512
    assert feature_width(network, 1, 48) == 4096
    with pytest.raises(ConfigError, match="backbone VGG cannot take images of 1x16x16"):
        feature_width(network, 1, 16)


def test_options_reach_our_networks() -> None:
    network = create_backbone("compact_resnet_418k", 1, widths=(8, 16), dropout=0.3)
    assert feature_width(network, 1, 48) == 16
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]


def test_a_module_is_used_as_it_is() -> None:
    module = Maps()
    assert create_backbone(module, in_channels=1) is module
    assert feature_width(module, 1, 48) == 5


def test_a_folder_of_timm_weights_is_a_backbone(tmp_path: Path) -> None:
    original = filled(timm.create_model("resnet10t", num_classes=0))
    save_file(original.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet10t", "num_classes": 0, "pretrained_cfg": {"input_size": [3, 48, 48]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = create_backbone(f"local-dir:{tmp_path}", in_channels=3, pretrained=True).eval()
    images = torch.rand(1, 3, 48, 48)
    torch.testing.assert_close(loaded(images), original(images))


@pytest.mark.parametrize(
    ("backbone", "arguments", "message"),
    [
        ("fer_a", {"in_channels": 0}, "at least 1 input channel, got 0"),
        ("fer_a", {"pretrained": True, "weights": "w.pth"}, "both 'pretrained: true' and 'weights: w.pth'"),
        ("fer_a", {"pretrained": True}, "'fer_a' has no published weights"),
        ("fer_a", {"drop": 0.1}, r"'fer_a' has no option 'drop' \(known: stem, stages, dropout, image_size\)"),
        ("fer_a", {"dropout": "a"}, "'fer_a' cannot be built with dropout='a'"),
        ("fer_aa", {}, "unknown backbone 'fer_aa'; did you mean 'fer_a'"),
        ("resnt18", {}, "unknown backbone 'resnt18'; did you mean 'resnet18'"),
        ("someone/model", {}, "hf-hub:OWNER/NAME"),
        ("resnet18.nope", {}, "'resnet18.nope' cannot be built with no options: Invalid pretrained tag"),
        ("resnet18.nope", {"pretrained": True}, r"nope.*Known: .*resnet18\.a1_in1k"),
        ("resnet18", {"image": 48, "img_size": 48}, "'resnet18' has no option 'image'"),
        (
            "resnet18",
            {"num_classes": 7},
            "'num_classes' is not an option of a backbone: it is set by the data's",
        ),
        ("resnet18", {"output_stride": 7}, "'resnet18' cannot be built with output_stride=7"),
        ("seresnet18", {"pretrained": True}, "timm publishes no weights for 'seresnet18'"),
        ("local-dir:/does/not/exist", {}, "'local-dir:/does/not/exist' cannot be built"),
        ("elsewhere:x", {}, "elsewhere"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(backbone: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        create_backbone(backbone, **{"in_channels": 1, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"pretrained": True}, {"dropout": 0.1}])
def test_a_ready_module_takes_no_further_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"ready Maps: give {next(iter(arguments))} to its own constructor"):
        create_backbone(Maps(), 1, **arguments)


# --- width ------------------------------------------------------------------------------------------------------------


def test_the_dry_run_leaves_no_trace() -> None:
    network = create_backbone("fer_b_fast", 1)
    network.train()
    frozen = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    feature_width(network, 1, 48)
    assert network.training
    assert not frozen.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(
    ("name", "channels", "size", "message"),
    [
        ("resnet10t", 1, 48, "backbone ResNet cannot take images of 1x48x48.*channels"),
        ("vit_tiny_patch16_224", 3, 48, "VisionTransformer cannot take images of 3x48x48: .*224.*img_size"),
        ("fer_b_fast", 3, 64, "48x48 pixels and got 64x64"),
    ],
)
def test_images_that_do_not_fit_are_one_clear_line(name: str, channels: int, size: int, message: str) -> None:
    network = create_backbone(name, in_channels=3)
    with pytest.raises(ConfigError, match=message) as caught:
        feature_width(network, channels, size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, 3, 4), r"features \(N, F\) or \(N, F, h, w\), got \(2, 3, 4\)"),
        ([torch.zeros(2, 3)], "got a list"),
        (torch.zeros(1, 3), "one row per image, got 1 for 2 images"),
    ],
)
def test_what_is_no_feature_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        feature_width(Returns(value), 1, 48)


# --- local weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("name", ["fer_b_fast", "resnet10t"])
def test_weights_come_back(tmp_path: Path, name: str, suffix: str) -> None:
    original = filled(create_backbone(name, 1))
    path = save(dict(original.state_dict()), tmp_path / f"w{suffix}")
    loaded = create_backbone(name, 1, weights=path)
    for key, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key


@pytest.mark.parametrize("wrap", ["state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "classifier.backbone.", "model._orig_mod.backbone."])
def test_wrapping_and_prefix_are_removed(tmp_path: Path, wrap: str, prefix: str) -> None:
    original = filled(create_backbone("fer_b_fast", 1))
    weights = {f"{prefix}{key}": value for key, value in original.state_dict().items()}
    if prefix.endswith("backbone."):
        weights["classifier.head.fc.weight"] = torch.zeros(7, 60)  # other parts of a checkpoint are not asked for
        weights["criterion.weight"] = torch.ones(7)
    path = save({wrap: weights, "epoch": 3}, tmp_path / "w.ckpt")
    loaded = create_backbone("fer_b_fast", 1, weights=path)
    assert torch.equal(loaded.state_dict()["gdc.0.weight"], original.state_dict()["gdc.0.weight"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "name", ["fer_b_fast", "resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224", "compact_mobilenet_130k"]
)
def test_rgb_weights_in_a_gray_network_see_gray_images_as_before(tmp_path: Path, name: str, suffix: str) -> None:
    options: dict[str, Any] = {"img_size": 48} if name.startswith("vit") else {}
    rgb = filled(create_backbone(name, 3, **options))
    path = save(dict(rgb.state_dict()), tmp_path / f"w{suffix}")
    gray = create_backbone(name, 1, weights=path, **options).eval()
    images = torch.rand(2, 1, 48, 48)
    torch.testing.assert_close(gray(images), rgb(images.repeat(1, 3, 1, 1)), rtol=1e-3, atol=1e-4)


def test_gray_weights_in_an_rgb_network_see_gray_images_as_before(tmp_path: Path) -> None:
    gray = filled(create_backbone("fer_b_fast", 1))
    rgb = create_backbone("fer_b_fast", 3, weights=save(dict(gray.state_dict()), tmp_path / "w.safetensors")).eval()
    images = torch.rand(2, 1, 48, 48)
    torch.testing.assert_close(rgb(images.repeat(1, 3, 1, 1)), gray(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_the_classification_layer_of_a_published_file_is_dropped(tmp_path: Path, name: str) -> None:
    published = filled(timm.create_model(name, num_classes=1000))
    options: dict[str, Any] = {"img_size": 48} if name.startswith("vit") else {}
    loaded = create_backbone(name, 1, weights=save(dict(published.state_dict()), tmp_path / "w.safetensors"), **options)
    last = [key for key in loaded.state_dict() if key.endswith("weight")][-1]
    assert torch.equal(loaded.state_dict()[last], published.state_dict()[last])


def test_a_files_position_embedding_is_fitted_to_the_image_size(tmp_path: Path) -> None:
    published = filled(timm.create_model("vit_tiny_patch16_224"))
    path = save(dict(published.state_dict()), tmp_path / "w.safetensors")
    loaded = create_backbone("vit_tiny_patch16_224", 3, weights=path, img_size=48)
    assert loaded.state_dict()["pos_embed"].shape == (1, 10, 192)
    assert torch.equal(loaded.state_dict()["pos_embed"][:, 0], published.state_dict()["pos_embed"][:, 0])


def test_a_users_module_takes_weights_too(tmp_path: Path) -> None:
    original = filled(Maps())
    loaded = create_backbone(Maps(), 1, weights=save(dict(original.state_dict()), tmp_path / "w.pth"))
    assert torch.equal(loaded.state_dict()["conv.weight"], original.state_dict()["conv.weight"])


def test_a_misfit_names_the_first_keys_and_changes_nothing(tmp_path: Path) -> None:
    other = create_backbone("fer_b", 1)
    network = create_backbone("fer_b_fast", 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = save(dict(other.state_dict()), tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"does not fit the backbone FERNet: .*not of this network \d+, such as stages"
    ) as caught:
        load_weights(network, path)
    assert "such as stem.1.0.weight (expected 24x16x3x3, found 32x16x3x3)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    weights = dict(create_backbone("fer_b_fast", 1).state_dict())
    del weights["gdc.0.weight"]
    with pytest.raises(CheckpointError, match=r"tensors fit; missing 1, such as gdc\.0\.weight\. Choose"):
        create_backbone("fer_b_fast", 1, weights=save(weights, tmp_path / "w.safetensors"))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "absent.pth' is missing"),
        ("w.onnx", b"\x08\x07", "is neither a safetensors file nor one of torch.save"),
        ("harmful.pth", pickle.dumps(Harmful(), protocol=2), "may run code"),
    ],
)
def test_unreadable_files_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        create_backbone("fer_b_fast", 1, weights=str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert "must not run" not in capsys.readouterr().out


def test_a_folder_and_a_file_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder without"):
        create_backbone("fer_b_fast", 1, weights=str(tmp_path))
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        create_backbone("fer_b_fast", 1, weights=save({"epoch": 3}, tmp_path / "w.pth"))


# --- published weights ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["resnet18", "resnet18.tv_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_without_a_network_published_weights_fail_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(request: urllib.request.Request, **options: Any) -> Any:
        asked.append(request.full_url)
        return urlopen(request, **options)

    urlopen = urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", ask)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits to ask again"))
    with pytest.raises(ConfigError, match=r"hub http://127.0.0.1:9 could not be reached .*'weights: PATH'") as caught:
        create_backbone(name, 1, pretrained=True)
    assert asked == ["http://127.0.0.1:9"]
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_network")
def test_the_hubs_own_switch_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        create_backbone("resnet18", 1, pretrained=True)


@pytest.mark.usefixtures("no_network")
def test_a_cached_copy_is_used_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = filled(timm.create_model("resnet10t", num_classes=1000))
    path = save(dict(published.state_dict()), tmp_path / "model.safetensors")
    monkeypatch.setattr(timm_backbones, "try_to_load_from_cache", lambda *args, **kwargs: path)
    loaded = create_backbone("resnet10t", 1, pretrained=True).eval()
    key = "layer4.0.conv1.weight"
    assert torch.equal(loaded.state_dict()[key], published.state_dict()[key])
    assert loaded(torch.rand(1, 1, 48, 48)).shape == (1, 512)


@pytest.mark.usefixtures("no_network")
def test_a_cached_repository_is_used_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = filled(timm.create_model("resnet10t", num_classes=0))
    save(dict(published.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": {}}))
    monkeypatch.setattr(timm_backbones, "try_to_load_from_cache", lambda repo, file, **kwargs: str(tmp_path / file))
    loaded = create_backbone("hf-hub:someone/resnet", 3, pretrained=True)
    key = "layer4.0.conv1.weight"
    assert torch.equal(loaded.state_dict()[key], published.state_dict()[key])


@pytest.mark.usefixtures("no_network")
def test_a_download_that_breaks_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> nn.Module:
        raise OSError("connection reset\nand a long explanation")

    monkeypatch.setattr(timm_backbones, "_hub_unreachable", lambda: None)
    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(ConfigError, match=r"weights of 'resnet18' could not be loaded \(connection reset\)"):
        create_backbone("resnet18", 1, pretrained=True)


@pytest.mark.usefixtures("no_network")
def test_a_hub_that_answers_with_an_error_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: urllib.request.Request, timeout: float) -> None:
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD", {}, None)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert timm_backbones._hub_unreachable() is None


def test_every_name_of_ours_builds() -> None:
    for name in BACKBONES:
        assert feature_width(create_backbone(name, 3), 3, 48) > 0


def test_a_backbones_own_layers_are_loaded_whatever_they_are_called(tmp_path: Path) -> None:
    def made() -> nn.Module:
        return nn.Sequential(OrderedDict(stem=nn.Conv2d(1, 2, 3), head=nn.Conv2d(2, 3, 1), fc=nn.Linear(3, 3)))

    network, trained = made(), filled(made())
    load_weights(network, save({**trained.state_dict(), "classifier.bias": torch.ones(7)}, tmp_path / "w.pth"))
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in network.state_dict().items())
