from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.classifier import EmotionClassifier, build_classifier
from fer_lightning.models.compiled import TrainingFeatures
from fer_lightning.models.heads import LinearHead
from tests.helpers.parts import SmoothBackbone


def classifier() -> EmotionClassifier:
    return build_classifier(SmoothBackbone(in_channels=1), LinearHead, 7, 1, 16)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """Take the place of the compiler, and list what it was asked to compile."""
    asked: list[Callable[..., Any]] = []

    def compile_(function: Callable[..., Any], dynamic: bool | None = None) -> Callable[..., Any]:
        assert dynamic is False  # one code for each shape: code for all of them is slower
        asked.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    return asked


@pytest.mark.parametrize("compiled", [False, True])
def test_the_features_are_those_of_the_classifier(compiled: bool, compilations: list[Callable[..., Any]]) -> None:
    network, features = classifier(), TrainingFeatures(compiled)
    images = torch.rand(4, 1, 16, 16)
    for _ in range(2):
        torch.testing.assert_close(features(network, images), network.features(images), rtol=0, atol=0)
    assert compilations == ([EmotionClassifier.features] if compiled else [])


def test_a_copy_begins_without_compiled_code(compilations: list[Callable[..., Any]]) -> None:
    features = TrainingFeatures(True)
    features(classifier(), torch.rand(2, 1, 16, 16))
    for copied in (deepcopy(features), pickle.loads(pickle.dumps(features))):
        assert copied.compiled
        copied(classifier(), torch.rand(2, 1, 16, 16))
    assert len(compilations) == 3


def test_without_a_compiler_it_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    TrainingFeatures(False).check()
    with pytest.raises(ConfigError, match=r"g\+\+ or clang\+\+ is not installed: .* --model.compile false$"):
        TrainingFeatures(True).check()
    monkeypatch.setenv("CXX", "nowhere-c++")
    with pytest.raises(ConfigError, match=r"nowhere-c\+\+ is not installed"):
        TrainingFeatures(True).check()


def test_what_the_compiler_says_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def compile_(function: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        def run(*_: Any) -> Tensor:
            raise TorchDynamoException("\nno such header\nmore")

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    with pytest.raises(ConfigError, match=r"could not be compiled \(no such header\); .* --model.compile false$"):
        TrainingFeatures(True)(classifier(), torch.rand(2, 1, 16, 16))


@pytest.mark.slow
def test_compiled_code_learns_the_same() -> None:
    torch.manual_seed(0)
    plain = classifier()
    compiled = deepcopy(plain)
    images, labels = torch.rand(8, 1, 16, 16), torch.arange(8) % 7
    for network, features in ((plain, TrainingFeatures(False)), (compiled, TrainingFeatures(True))):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network.head(features(network, images)), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for before, after in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
