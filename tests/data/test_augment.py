from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
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
        ({"padding": "mirror"}, "padding must be one of"),
    ],
)
def test_bad_values_are_named(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchAugment(**argument)
