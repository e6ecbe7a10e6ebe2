from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.batches.augment import BatchAugment
from fer_lightning.errors import ConfigError
from fer_lightning.randomness import draw_keys

OFF: dict[str, Any] = {
    "flip": 0, "rotation": 0, "scale": (1, 1), "shift": 0, "brightness": 0, "contrast": 0, "erasing": 0,
}  # fmt: skip


def keys(count: int, epoch: int = 0) -> Tensor:
    return torch.from_numpy(draw_keys(0, epoch, np.arange(count)))


def images(count: int = 64, side: int = 24) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_nothing_changed() -> None:
    batch = images()
    assert torch.equal(BatchAugment(**OFF)(batch, keys(64)), batch)


def test_flip_mirrors_the_given_share() -> None:
    batch = images(400)
    out = BatchAugment(**{**OFF, "flip": 0.3})(batch, keys(400))
    mirrored = [torch.allclose(o, i.flip(-1), atol=1e-5) for o, i in zip(out, batch, strict=True)]
    same = [torch.allclose(o, i, atol=1e-5) for o, i in zip(out, batch, strict=True)]
    assert sum(mirrored) + sum(same) == 400
    assert sum(mirrored) == pytest.approx(120, abs=35)


def test_shift_moves_by_at_most_its_share() -> None:
    dot = torch.zeros(200, 1, 25, 25)
    dot[:, :, 12, 12] = 1
    out = BatchAugment(**{**OFF, "shift": 0.2, "padding": "zeros"})(dot, keys(200))
    place = torch.arange(25.0)
    rows = (out.sum(dim=(1, 3)) * place).sum(1) / out.sum(dim=(1, 2, 3)) - 12
    assert rows.abs().max() <= 0.2 * 25 + 0.01
    assert rows.abs().max() > 4
    assert abs(float(rows.mean())) < 0.7


def test_rotation_keeps_the_centre_and_stays_in_range() -> None:
    bar = torch.zeros(100, 1, 41, 41)
    bar[:, :, 20, 20:] = 1  # points right
    out = BatchAugment(**{**OFF, "rotation": 30.0})(bar, keys(100))[:, 0]
    place = torch.arange(41.0) - 20
    rows = (out.sum(2) * place).sum(1) / out.sum(dim=(1, 2))
    columns = (out.sum(1) * place).sum(1) / out.sum(dim=(1, 2))
    angles = torch.rad2deg(torch.atan2(rows, columns))
    assert out[:, 20, 20].min() > 0.4
    assert angles.abs().max() < 32
    assert angles.max() > 20
    assert angles.min() < -20


def test_scale_magnifies() -> None:
    block = torch.zeros(4, 1, 40, 40)
    block[:, :, 15:25, 15:25] = 1
    out = BatchAugment(**{**OFF, "scale": (1.5, 1.5), "padding": "zeros"})(block, keys(4))
    assert out.sum(dim=(1, 2, 3)).numpy() == pytest.approx(225, rel=0.05)


def test_light_keeps_the_range() -> None:
    out = BatchAugment(**{**OFF, "brightness": 0.5, "contrast": 0.5})(images(), keys(64))
    assert out.min() >= 0
    assert out.max() <= 1
    assert out.mean(dim=(1, 2, 3)).std() > 0.1


def test_erasing_and_occlusion_change_rectangles_only() -> None:
    batch = images(300, 40)
    erased = BatchAugment(**{**OFF, "erasing": 0.5, "erasing_area": (0.1, 0.2)})(batch, keys(300))
    shares = (erased != batch).float().mean(dim=(1, 2, 3))
    assert float((shares > 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert shares.max() < 0.23
    assert shares[shares > 0].min() > 0.08
    hidden = BatchAugment(**{**OFF, "occlusion": 1.0, "occlusion_size": 0.25})(batch, keys(300))
    assert (hidden == 0).float().mean(dim=(1, 2, 3)).numpy() == pytest.approx(0.0625, abs=0.01)


def test_noise_has_its_deviation() -> None:
    gray = torch.full((50, 1, 40, 40), 0.5)
    out = BatchAugment(**{**OFF, "noise": 1.0, "noise_std": 0.1})(gray, keys(50))
    assert float(out.std()) == pytest.approx(0.1, rel=0.03)
    assert float(out.mean()) == pytest.approx(0.5, abs=0.005)


def test_a_draw_depends_on_its_key_alone() -> None:
    augment, batch = BatchAugment(noise=0.5, occlusion=0.5), images()
    whole = augment(batch, keys(64))
    assert torch.allclose(augment(batch[10:20], keys(64)[10:20]), whole[10:20], atol=1e-6)
    torch.rand(5)
    assert torch.equal(augment(batch, keys(64)), whole)
    assert not torch.allclose(augment(batch, keys(64, epoch=1)), whole)


def test_the_end_of_a_run_is_calmer() -> None:
    augment, batch = BatchAugment(flip=0, calm=0.2, calm_strength=0.25), images()
    assert augment.strength(0.79) == 1
    assert augment.strength(0.8) == 0.25
    strong = (augment(batch, keys(64)) - batch).abs().mean()
    weak = (augment(batch, keys(64), strength=0.1) - batch).abs().mean()
    assert weak < 0.7 * strong


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"flip": 1.5}, "flip must be in 0..1"),
        ({"scale": (1.2, 0.8)}, "scale must be two ascending"),
        ({"erasing_area": (0.0, 0.2)}, "erasing_area"),
        ({"erasing_area": (0.1, 1.0)}, "erasing_area"),
        ({"erasing_area": (0.2, 0.1)}, "erasing_area"),
        ({"padding": "mirror"}, "padding must be one of"),
    ],
)
def test_bad_values_are_named(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchAugment(**argument)


def sampled(count: int, strength: float = 1.0, **options: Any) -> tuple[Tensor, Tensor]:
    """Return how the geometry changes around the middle, measured on two ramps that tell each pixel's place.

    Returns:
        ``(N, 2, 2)``, how the place (across, down) that is looked at moves with that in the result, and ``(N, 2)``, the
        place that the middle shows; in sides of the image from its middle.
    """
    side = 33
    place = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    ramps = torch.stack([place.expand(side, side), place[:, None].expand(side, side)]).expand(count, 2, side, side)
    out = BatchAugment(**{**OFF, **options})(ramps, keys(count), strength)
    middle = side // 2
    across = (out[:, :, middle, middle + 2] - out[:, :, middle, middle - 2]) * side / 4
    down = (out[:, :, middle + 2, middle] - out[:, :, middle - 2, middle]) * side / 4
    return torch.stack([across, down], dim=2), out[:, :, middle, middle] - 0.5


def parts(moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return magnification, angle in degrees and whether it is mirrored, each ``(N,)``, of the matrices of sampling."""
    mirrored = torch.linalg.det(moves) < 0
    turned = torch.where(mirrored[:, None, None], moves * torch.tensor([-1.0, 1.0]), moves)
    angle = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    return 1 / torch.linalg.det(turned).sqrt(), angle, mirrored


def test_faces_are_turned_and_magnified_but_never_sheared() -> None:
    moves, _ = sampled(500, rotation=40.0, scale=(0.8, 1.3), flip=0.5)
    products = moves.transpose(1, 2) @ moves
    assert torch.allclose(products, torch.linalg.det(moves).abs()[:, None, None] * torch.eye(2), atol=1e-3)


def test_a_flip_mirrors_what_the_same_draw_gives_without_it() -> None:
    options = {**OFF, "rotation": 25.0, "scale": (0.8, 1.2), "shift": 0.1}
    plain = BatchAugment(**options)(images(), keys(64))
    assert torch.allclose(BatchAugment(**{**options, "flip": 1.0})(images(), keys(64)), plain.flip(-1), atol=1e-5)


def test_each_movement_fills_its_range_on_its_own() -> None:
    moves, places = sampled(2000, rotation=40.0, scale=(0.8, 1.3), shift=0.1, flip=0.3, padding="reflection")
    magnification, angle, mirrored = parts(moves)
    for values, low, high in (
        (angle, -40, 40),
        (magnification, 0.8, 1.3),
        (places[:, 0], -0.1, 0.1),
        (places[:, 1], -0.1, 0.1),
    ):
        quarters = torch.quantile(values, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
        wanted = torch.linspace(low, high, 5)
        assert torch.allclose(quarters, wanted, atol=0.06 * (high - low))
        assert quarters[0] >= low - 0.001 * (high - low)
        assert quarters[4] <= high + 0.001 * (high - low)
    assert float(mirrored.float().mean()) == pytest.approx(0.3, abs=0.04)
    together = torch.corrcoef(torch.stack([angle, magnification, places[:, 0], places[:, 1], mirrored.float()]))
    assert (together - torch.eye(5)).abs().max() < 0.1


def test_a_weaker_augmentation_moves_less_in_each_way() -> None:
    moves, places = sampled(500, 0.25, rotation=40.0, scale=(0.8, 1.4), shift=0.2)
    magnification, angle, _ = parts(moves)
    assert 8 < angle.abs().max() < 10.01
    assert 0.95 - 1e-4 < magnification.min() < 0.96
    assert 1.09 < magnification.max() < 1.1 + 1e-4
    assert 0.04 < places.abs().max() < 0.05001


EFFECTS: dict[str, dict[str, Any]] = {
    "rotation": {"rotation": 30.0},
    "scale": {"scale": (0.7, 1.4)},
    "shift": {"shift": 0.2},
    "brightness": {"brightness": 0.5},
    "contrast": {"contrast": 0.5},
    "erasing": {"erasing": 1.0},
    "occlusion": {"occlusion": 1.0},
    "noise": {"noise": 1.0},
}


@pytest.mark.parametrize("effect", EFFECTS)
def test_strength_weakens_each_effect(effect: str) -> None:
    augment, batch = BatchAugment(**{**OFF, **EFFECTS[effect]}), images()
    assert torch.allclose(augment(batch, keys(64), strength=0.0), batch, atol=1e-5)
    strong, weak = ((augment(batch, keys(64), strength) - batch).abs().mean() for strength in (1.0, 0.3))
    assert 0 < weak < 0.95 * strong


def test_strength_weakens_how_often_and_not_how_large() -> None:
    batch = images(400, 40)
    weak = BatchAugment(**{**OFF, "occlusion": 1.0})(batch, keys(400), strength=0.3)
    hidden = (weak == 0).float().mean(dim=(1, 2, 3))
    assert float((hidden > 0).float().mean()) == pytest.approx(0.3, abs=0.07)
    assert hidden[hidden > 0].numpy() == pytest.approx(0.0625, abs=0.01)
    flip = BatchAugment(**{**OFF, "flip": 0.5})
    assert torch.equal(flip(batch, keys(400), 0.0), flip(batch, keys(400), 1.0))


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")])
def test_what_lies_outside_is_as_the_padding_says(padding: str, mode: Any) -> None:
    batch = images(3, 8)
    wide = np.pad(batch.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode)
    wanted = wide.reshape(3, 1, 8, 2, 8, 2).mean(axis=(3, 5))  # at half the size, each pixel shows four
    out = BatchAugment(**{**OFF, "scale": (0.5, 0.5), "padding": padding})(batch, keys(3))
    np.testing.assert_allclose(out, wanted, atol=1e-5)


def test_outside_is_the_border_unless_told_otherwise() -> None:
    assert BatchAugment().padding == "border"


def test_contrast_keeps_the_mean_of_each_image_and_goes_both_ways() -> None:
    batch = 0.3 + 0.4 * images(400)
    out = BatchAugment(**{**OFF, "contrast": 0.4})(batch, keys(400))
    assert torch.allclose(out.mean(dim=(1, 2, 3)), batch.mean(dim=(1, 2, 3)), atol=1e-5)
    gain = out.std(dim=(1, 2, 3)) / batch.std(dim=(1, 2, 3))
    quarters = torch.quantile(gain, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert torch.allclose(quarters, torch.linspace(0.6, 1.4, 5), atol=0.08)
    assert quarters[0] >= 0.6 - 1e-4
    assert quarters[4] <= 1.4 + 1e-4


def test_contrast_is_that_of_all_channels_together() -> None:
    still = BatchAugment(0.0, 0.0, (1.0, 1.0), 0.0, brightness=0.0, contrast=0.4, erasing=0.0)
    colours = torch.tensor([0.3, 0.5, 0.7])
    changed = still(colours[None, :, None, None].expand(16, 3, 4, 4), torch.arange(16)).mean(dim=(2, 3))
    gain = (changed[:, 2] - 0.5) / 0.2
    assert gain.std() > 0.1
    torch.testing.assert_close(changed, 0.5 + gain[:, None] * (colours - 0.5))


def test_brightness_moves_all_pixels_of_an_image_alike_and_both_ways() -> None:
    batch = 0.4 + 0.2 * images(400)
    added = BatchAugment(**{**OFF, "brightness": 0.3})(batch, keys(400)) - batch
    assert added.std(dim=(1, 2, 3)).max() < 1e-5
    offset = added.mean(dim=(1, 2, 3))
    quarters = torch.quantile(offset, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert torch.allclose(quarters, torch.linspace(-0.3, 0.3, 5), atol=0.06)
    assert offset.abs().max() <= 0.3 + 1e-5
    gray = 0.5 + 0.1 * (images(400) - 0.5)
    both = BatchAugment(**{**OFF, "brightness": 0.2, "contrast": 0.4})(gray, keys(400))
    offsets, gains = (both - gray).mean(dim=(1, 2, 3)), both.std(dim=(1, 2, 3)) / gray.std(dim=(1, 2, 3))
    assert abs(float(torch.corrcoef(torch.stack([offsets, gains]))[0, 1])) < 0.15


def boxes(changed: Tensor) -> NDArray[np.float64]:
    """Return top, left, height and width of the rectangle that is true in each of ``(N, H, W)``, as shares."""
    found = []
    for mask in changed.numpy():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # a whole rectangle
        found.append([rows[0], columns[0], len(rows), len(columns)])
    return np.array(found) / changed.shape[1]


def test_erased_rectangles_differ_in_place_shape_size_and_gray() -> None:
    batch = images(600, 60)
    out = BatchAugment(**{**OFF, "erasing": 1.0, "erasing_area": (0.05, 0.15)})(batch, keys(600))
    top, left, height, width = boxes((out != batch)[:, 0]).T
    assert np.quantile(height * width, [0.02, 0.5, 0.98]) == pytest.approx([0.052, 0.1, 0.148], abs=0.01)
    assert np.quantile(np.log(height / width) / np.log(3), [0.02, 0.5, 0.98]) == pytest.approx(
        [-0.96, 0, 0.96], abs=0.12
    )
    rows, columns = top / (1 - height), left / (1 - width)
    for place in (rows, columns):
        assert np.quantile(place, [0.02, 0.5, 0.98]) == pytest.approx([0.02, 0.5, 0.98], abs=0.06)
    row = torch.from_numpy((top * 60 + height * 30).astype(np.int64))
    column = torch.from_numpy((left * 60 + width * 30).astype(np.int64))
    gray = out[torch.arange(600), 0, row, column].numpy()
    assert np.quantile(gray, [0.02, 0.5, 0.98]) == pytest.approx([0.02, 0.5, 0.98], abs=0.06)
    together = np.corrcoef([rows, columns, height * width, np.log(height / width), gray])
    assert np.abs(together - np.eye(5)).max() < 0.15


def test_occluded_squares_differ_in_place() -> None:
    out = BatchAugment(**{**OFF, "occlusion": 1.0, "occlusion_size": 0.25})(images(600, 40) + 0.001, keys(600))
    top, left, height, width = boxes((out == 0)[:, 0]).T
    assert set(np.round(np.concatenate([height, width]) * 40)) == {10}
    for place in (top, left):
        assert np.quantile(place, [0.02, 0.5, 0.98]) == pytest.approx([0.015, 0.375, 0.735], abs=0.04)
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.12


def test_noise_is_normal_and_another_in_each_pixel() -> None:
    gray = torch.full((200, 2, 12, 12), 0.5)
    out = BatchAugment(**{**OFF, "noise": 0.5, "noise_std": 0.1})(gray, keys(200)) - 0.5
    noisy = out[out.abs().amax(dim=(1, 2, 3)) > 0] / 0.1
    assert len(noisy) == pytest.approx(100, abs=25)
    cut = torch.quantile(noisy.flatten(), torch.tensor([0.0228, 0.1587, 0.5, 0.8413, 0.9772]))
    assert torch.allclose(cut, torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]), atol=0.06)
    pixels = noisy.flatten(1)
    assert float((pixels[:, :-1] * pixels[:, 1:]).mean()) == pytest.approx(0, abs=0.03)


def test_the_values_of_known_draws_have_not_changed() -> None:
    ramp = torch.linspace(0, 1, 36).reshape(1, 1, 6, 6).expand(4, 1, 6, 6)
    options: dict[str, Any] = {
        "brightness": 0.2,
        "contrast": 0.3,
        "erasing": 0.7,
        "occlusion": 0.5,
        "noise": 0.5,
        "flip": 0.5,
    }
    out = BatchAugment(**options)(ramp, keys(4), strength=0.9)
    assert out[:, 0, 1, 1].tolist() == pytest.approx([0.36635, 0.0016, 0.36306, 0.05582], abs=2e-4)
    assert out.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.46113, 0.36116, 0.5943, 0.43184], abs=2e-4)
    assert out.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.29487, 0.29154, 0.25743, 0.31683], abs=2e-4)
