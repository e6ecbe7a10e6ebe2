from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.models import EmotionClassifier, LinearHead, MLPHead, build_classifier


class Maps(nn.Module):
    """A user's backbone that returns feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        return maps


@pytest.mark.parametrize(
    ("backbone", "options", "width"),
    [
        ("fer_b_fast", {"dropout": 0.1}, 60),
        ("resnet18", {}, 512),
        (Maps(), {}, 5),
    ],
)
@pytest.mark.parametrize("head", [LinearHead, partial(MLPHead, hidden=8)])
def test_the_head_fits_the_backbone(
    backbone: str | nn.Module, options: dict[str, Any], width: int, head: Callable[[int, int], nn.Module]
) -> None:
    classifier = build_classifier(backbone, head, 8, 1, 48, **options)
    images = torch.rand(3, 1, 48, 48)
    assert classifier.training
    assert classifier.features(images).shape == (3, width)
    assert classifier(images).shape == (3, 8)


def test_logits_are_the_head_of_the_features() -> None:
    classifier = build_classifier("fer_b_fast", LinearHead, 7, 3, 48).eval()
    images = torch.rand(2, 3, 48, 48)
    torch.testing.assert_close(classifier(images), classifier.head(classifier.features(images)))


def test_feature_maps_are_averaged() -> None:
    maps = Maps()
    classifier = EmotionClassifier(maps, nn.Identity(), 5)
    images = torch.rand(2, 1, 48, 48)
    torch.testing.assert_close(classifier(images), maps(images).flatten(2).mean(dim=2))


def test_a_classifiers_own_file_starts_another_backbone(tmp_path: Path) -> None:
    first = build_classifier("fer_b_fast", LinearHead, 7, 1, 48)
    torch.save(first.state_dict(), tmp_path / "w.pth")
    second = build_classifier("fer_b_fast", LinearHead, 8, 1, 48, weights=str(tmp_path / "w.pth"))
    for key, value in first.backbone.state_dict().items():
        assert torch.equal(second.backbone.state_dict()[key], value), key


def test_the_classifier_can_be_recorded() -> None:
    classifier = build_classifier("fer_b_fast", LinearHead, 7, 1, 48).eval()
    images = torch.rand(2, 1, 48, 48)
    program = torch.export.export(classifier, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    more = torch.rand(3, 1, 48, 48)
    torch.testing.assert_close(program.module()(more), classifier(more), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backbone": "fer_c"}, ConfigError, "unknown backbone 'fer_c'"),
        ({"image_size": 60}, ConfigError, "image_size must be a multiple of 8, got 60"),
        ({"num_classes": 1}, ConfigError, "at least 2 classes"),
        ({"weights": "absent.pth"}, CheckpointError, "absent.pth"),
        ({"pretrained": True}, ConfigError, "no published weights"),
        ({"depth": 3}, ConfigError, "no option 'depth'"),
        ({"head": lambda f, k: nn.Linear(f, k + 1)}, ConfigError, r"Linear must map .* \(2, 7\), got \(2, 8\)"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"backbone": "fer_b_fast", "head": LinearHead, "num_classes": 7, "in_channels": 1, "image_size": 48}
    with pytest.raises(error, match=message):
        build_classifier(**{**given, **arguments})


@pytest.mark.parametrize("name", ["fer_b_fast", "compact_resnet_418k"])
def test_networks_of_ours_take_the_size_of_the_data(name: str) -> None:
    assert build_classifier(name, LinearHead, 7, 1, 64).eval()(torch.rand(2, 1, 64, 64)).shape == (2, 7)


def test_a_head_is_configured_by_class_path() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(build_classifier, fail_untyped=True)
    config = parser.parse_object(
        {
            "backbone": {"class_path": f"{__name__}.Maps"},
            "head": {"class_path": "fer_lightning.models.heads.MLPHead", "init_args": {"hidden": 9}},
            "num_classes": 7,
            "in_channels": 1,
            "image_size": 48,
        }
    )
    classifier = build_classifier(**parser.instantiate(config))
    assert isinstance(classifier.backbone, Maps)
    assert isinstance(classifier.head, MLPHead)
    assert classifier(torch.rand(2, 1, 48, 48)).shape == (2, 7)


def test_a_shift_is_loaded_unless_it_was_set() -> None:
    first, second, third = (EmotionClassifier(nn.Flatten(), nn.Linear(4, 3), 3) for _ in range(3))
    first.set_shift(torch.tensor([0.0, 1.0, 2.0]))
    third.set_shift(torch.tensor([5.0, 5.0, 5.0]))
    images = torch.rand(2, 1, 2, 2)
    for classifier, shift in ((second, [0.0, 1.0, 2.0]), (third, [5.0, 5.0, 5.0])):
        classifier.load_state_dict(first.state_dict())
        assert torch.equal(classifier(images), first.logits(images) + torch.tensor(shift))
    old = {name: value for name, value in first.state_dict().items() if name != "shift"}
    second.load_state_dict(old)
    assert second.shift.tolist() == [0.0, 1.0, 2.0]


def test_decisions_are_float32_whatever_the_network_computes_in() -> None:
    classifier = EmotionClassifier(nn.Flatten(), nn.Linear(4, 3), 3).bfloat16()
    images = torch.rand(2, 1, 2, 2, dtype=torch.bfloat16)
    assert classifier.logits(images).dtype == torch.bfloat16
    assert classifier(images).dtype == torch.float32


class Norming(nn.Sequential):
    """A head whose statistics a dry run must not move."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(nn.BatchNorm1d(in_features), nn.Linear(in_features, num_classes))


def test_the_dry_run_of_a_head_leaves_no_trace_and_finds_wrong_shapes() -> None:
    built = build_classifier(Maps(), Norming, 7, 1, 16)
    [norm] = [module for module in built.head.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norm.num_batches_tracked == 0
    assert norm.training
    for head in (lambda width, classes: nn.Linear(width, 6), lambda width, classes: nn.Unflatten(1, (1, width))):
        with pytest.raises(ConfigError, match=r"must map features \(2, 5\) to logits \(2, 7\), got \(2, "):
            build_classifier(Maps(), head, 7, 1, 16)
    with pytest.raises(ConfigError, match=r"got \(1, 7\)"):
        build_classifier(
            Maps(),
            lambda width, classes: nn.Sequential(nn.Flatten(0), nn.Linear(10, 7), nn.Unflatten(0, (1, 7))),
            7,
            1,
            16,
        )
