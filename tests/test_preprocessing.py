from __future__ import annotations

import doctest
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fer_lightning import preprocessing
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.preprocessing import (
    LUMA,
    check_preprocessing,
    normalised,
    prepare,
    resize_weights,
    resized,
    resized_picture,
    to_channels,
)
from fer_lightning.types import Interpolation, Preprocessing

RNG = np.random.default_rng(0)
SHAPES = [(256, 256, 224), (256, 256, 48), (48, 48, 96), (300, 201, 48), (30, 90, 48), (90, 30, 48), (7, 13, 10)]
SLIVERS = [(1, 1, 8), (1, 40, 8), (40, 1, 8), (9, 8, 1), (1, 9, 1), (2, 3, 2)]


def picture(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def planes(given: NDArray[Any]) -> torch.Tensor:
    """Turn a picture ``(H, W, C)`` into a batch ``(1, C, H, W)``."""
    return torch.from_numpy(np.ascontiguousarray(given.transpose(2, 0, 1)))[None]


def by_opencv(given: NDArray[Any], size: int) -> NDArray[Any]:
    """Resize one axis after the other, as each shrinks or grows: OpenCV itself takes one rule for both."""
    height, width, channels = given.shape
    rows = cv2.resize(given, (width, size), interpolation=cv2.INTER_AREA if size < height else cv2.INTER_LINEAR)
    rows = rows.reshape(size, width, channels)  # OpenCV drops a single channel
    made = cv2.resize(rows, (size, size), interpolation=cv2.INTER_AREA if size < width else cv2.INTER_LINEAR)
    return np.asarray(made).reshape(size, size, channels)


@pytest.mark.parametrize(("height", "width", "size"), [*SHAPES, *SLIVERS])
@pytest.mark.parametrize("channels", [1, 3])
def test_area_is_that_of_opencv(height: int, width: int, size: int, channels: int) -> None:
    given = picture(height, width, channels).astype(np.float32)
    found = resized(planes(given / 255), size) * 255
    assert found.dtype == torch.float32
    assert np.abs(found[0].numpy().transpose(1, 2, 0) - by_opencv(given, size)).max() < 1e-4
    in_unit = by_opencv(given / 255, size)
    assert np.abs(resized(planes(given / 255), size)[0].numpy().transpose(1, 2, 0) - in_unit).max() < 1e-6


@pytest.mark.parametrize(("height", "width", "size"), [*SHAPES, *SLIVERS])
def test_bilinear_is_that_of_pillow_and_torch(height: int, width: int, size: int) -> None:
    given = picture(height, width)
    expected = np.asarray(Image.fromarray(given).resize((size, size), Image.Resampling.BILINEAR), np.int64)
    found = resized_picture(given, size, "bilinear")
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1
    by_torch = F.interpolate(planes(given) / 255, (size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized(planes(given) / 255, size, "bilinear"), by_torch, rtol=0, atol=5e-5)


@pytest.mark.parametrize(("height", "width", "size"), [*SHAPES, *SLIVERS, (640, 480, 224)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rule", ["area", "bilinear"])
def test_pictures_are_resized_as_batches_are(
    height: int, width: int, size: int, channels: int, rule: Interpolation
) -> None:
    given = picture(height, width, channels)
    exact = resized(planes(given).double(), size, rule)[0].numpy().transpose(1, 2, 0)
    found = resized_picture(given, size, rule)
    assert found.shape == (size, size, channels)
    assert np.abs(found - exact).max() <= 0.502


def test_both_rules_enlarge_alike() -> None:
    images = planes(picture(30, 48)) / 255
    assert torch.equal(resized(images, 96), resized(images, 96, "bilinear"))
    by_torch = F.interpolate(images, (96, 96), mode="bilinear")
    torch.testing.assert_close(resized(images, 96), by_torch, rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["area", "bilinear"]))
def test_a_constant_stays_and_a_mirror_image_gives_one(length: int, size: int, rule: Interpolation) -> None:
    weights = resize_weights(length, size, rule)
    assert weights.shape == (size, length)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(size), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights, weights.flip(0, 1), rtol=0, atol=1e-6)
    assert weights.min() >= 0
    images = planes(picture(length, length, 1)) / 255
    expected = weights @ images @ weights.T
    torch.testing.assert_close(resized(images, size, rule), expected, rtol=0, atol=1e-6)


def test_area_keeps_the_mean() -> None:
    images = planes(picture(61, 47)) / 255
    torch.testing.assert_close(resized(images, 20).mean(dim=(2, 3)), images.mean(dim=(2, 3)), rtol=0, atol=1e-6)


def test_halves_go_up_whatever_float32_makes_of_them() -> None:
    given = picture(224, 224)
    exact = given.astype(np.int64).reshape(16, 14, 16, 14, 3).sum(axis=(1, 3))
    assert np.array_equal(resized_picture(given, 16), (2 * exact + 196) // 392)


def test_images_of_the_right_size_are_left_alone() -> None:
    images = planes(picture(16, 16))
    assert resized(images, 16) is images
    given = picture(16, 16)
    assert resized_picture(given, 16) is given


def test_an_image_does_not_depend_on_its_batch() -> None:
    images = torch.cat([planes(picture(50, 40)) for _ in range(5)])
    torch.testing.assert_close(resized(images, 32)[2:3], resized(images[2:3], 32), rtol=0, atol=5e-5)


def test_products_are_not_rounded_under_autocast() -> None:
    images = planes(picture(50, 40)) / 255
    with torch.autocast("cpu", torch.bfloat16):
        found = resized(images, 32)
    assert torch.equal(found, resized(images, 32))


def test_weights_made_in_inference_serve_training() -> None:
    preprocessing._weights_on.cache_clear()
    with torch.inference_mode():
        resized(torch.rand(1, 1, 9, 9), 5)
    images = torch.rand(1, 1, 9, 9, requires_grad=True)
    resized(images, 5).sum().backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
    assert images.grad is not None


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown interpolation 'cubic', expected area or bilinear"):
        resized(torch.zeros(1, 1, 4, 4), 8, cast(Any, "cubic"))


def test_gray_is_the_gray_of_pillow() -> None:
    given = picture(300, 300)
    found = to_channels(planes(given), 1)
    assert np.array_equal(found[0, 0].numpy(), np.asarray(Image.fromarray(given).convert("L")))
    images = planes(given)
    assert to_channels(images, 3) is images
    exact = torch.tensor(LUMA).view(1, 3, 1, 1).mul(images / 255).sum(dim=1, keepdim=True)
    torch.testing.assert_close(to_channels(images / 255, 1), exact)
    assert torch.equal(to_channels(images[:, :1], 3), images[:, :1].repeat(1, 3, 1, 1))


@pytest.mark.parametrize("given_channels", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_prepare_is_gray_then_size_then_scale(given_channels: int, channels: int) -> None:
    wanted: Preprocessing = {
        "image_size": 24, "channels": channels, "mean": [0.4, 0.5, 0.6][:channels], "std": [0.1, 0.2, 0.3][:channels],
        "interpolation": "area",
    }  # fmt: skip
    images = torch.cat([planes(picture(50, 40, given_channels)) for _ in range(2)])
    unit = images / 255
    gray = to_channels(unit, 1) if channels == 1 else unit
    expected = normalised(to_channels(resized(gray, 24), channels), wanted["mean"], wanted["std"])
    found = prepare(images, wanted)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(prepare(unit, wanted), expected)
    assert images.dtype == torch.uint8


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(preprocessing).failed == 0


GOOD: dict[str, Any] = {"image_size": 48, "channels": 1, "mean": [0.5], "std": [0.25], "interpolation": "area"}


def test_a_preprocessing_from_a_file_is_taken_as_it_is_or_refused() -> None:
    assert check_preprocessing({**GOOD, "more": 1}) == GOOD
    before = {name: value for name, value in GOOD.items() if name != "interpolation"}
    assert check_preprocessing(before) == {**GOOD, "interpolation": "bilinear"}  # what older versions had
    colour = {**GOOD, "channels": 3, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert check_preprocessing(colour) == colour
    wrong: list[dict[str, Any]] = [
        *({"image_size": size} for size in (0, -1, 48.0, "48", None)),
        *({"channels": 2, "mean": [0.5] * 2, "std": [0.5] * 2}, {"channels": None}, {"channels": 3}),
        *({name: value} for name in ("mean", "std") for value in ([], [0.5, 0.5], 0.5, None)),
        *({"interpolation": "nearest"}, {"interpolation": None}),
    ]
    for change in wrong:
        with pytest.raises(
            CheckpointError, match="is damaged: it needs image_size, channels, mean, std, interpolation"
        ):
            check_preprocessing({**GOOD, **change})
