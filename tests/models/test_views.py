"""Views of an image: what they show, and that their probabilities are averaged, not their logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fer_lightning.errors import ConfigError
from fer_lightning.models.architecture import architecture_of, described
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.models.views import Views, mean_logits, views_of


def test_the_views_are_the_image_its_mirror_image_and_both_moved_to_four_sides() -> None:
    images = torch.arange(2 * 48 * 48.0).reshape(2, 1, 48, 48)
    mirrored = images.flip(-1)
    assert [view is images for view in views_of(images, "none")] == [True]
    assert [torch.equal(*pair) for pair in zip(views_of(images, "flip"), (images, mirrored), strict=True)] == [True] * 2
    found = list(views_of(images, "flip_shift"))
    assert len(found) == 10
    for first, image in ((2, images), (6, mirrored)):
        down, up, right, left = found[first : first + 4]
        assert torch.equal(down[:, :, 2:], image[:, :, :-2])
        assert torch.equal(down[:, :, :2], image[:, :, :1].expand(-1, -1, 2, -1))  # the border goes on
        assert torch.equal(up[:, :, :-2], image[:, :, 2:])
        assert torch.equal(right[..., 2:], image[..., :-2])
        assert torch.equal(left[..., :-2], image[..., 2:])


@pytest.mark.parametrize(("views", "count"), [("none", 1), ("flip", 2), ("flip_shift", 10)])
def test_probabilities_of_the_views_are_averaged_outside_of_training(views: Views, count: int) -> None:
    torch.manual_seed(0)
    network = EmotionClassifier(nn.Flatten(), nn.Linear(36, 3), 3, views)
    network.set_shift(torch.tensor([0.5, 0.0, -0.5]))
    images = torch.randn(4, 1, 6, 6)
    plain = network.decided(network.logits(images))
    assert torch.equal(network.train()(images), plain)
    wanted = torch.stack([network.decided(network.logits(view)).softmax(1) for view in views_of(images, views)])
    assert len(wanted) == count
    torch.testing.assert_close(network.eval()(images).softmax(1), wanted.mean(0))
    if views != "none":
        torch.testing.assert_close(network(images).exp().sum(1), torch.ones(4))


def test_a_probability_of_zero_stays_finite() -> None:
    network = EmotionClassifier(nn.Flatten(), nn.Identity(), 2, "flip").eval()
    assert torch.isfinite(network(torch.tensor([[[[0.0, 500.0]]], [[[0.0, 0.0]]]]))).all()


def test_the_views_are_part_of_the_architecture() -> None:
    architecture = architecture_of({"backbone": "fer_b_fast", "views": "flip"})
    assert architecture["views"] == "flip"
    assert "views" not in architecture_of({"backbone": "fer_b_fast", "views": "none"})
    preprocessing = {"image_size": 48, "channels": 1, "mean": [0.5], "std": [0.5], "interpolation": "area"}
    assert described(architecture, 7, preprocessing).views == "flip"  # type: ignore[arg-type]  # a plain dict
    with pytest.raises(ConfigError, match="model.views must be one of none, flip, flip_shift, not rotate"):
        EmotionClassifier(nn.Flatten(), nn.Linear(4, 2), 2, "rotate")  # type: ignore[arg-type]  # which is the point


def test_each_axis_has_its_own_shift_of_a_pixel_at_least() -> None:
    for height, width, down, right in ((48, 96, 2, 4), (8, 10, 1, 1)):
        picture = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
        moved = list(views_of(picture, "flip_shift"))[2:6]
        wanted = [
            picture[..., : height - down, :],
            picture[..., down:, :],
            picture[..., : width - right],
            picture[..., right:],
        ]
        found = [
            moved[0][..., down:, :],
            moved[1][..., : height - down, :],
            moved[2][..., right:],
            moved[3][..., : width - right],
        ]
        assert all(map(torch.equal, found, wanted))


def test_an_impossible_class_stays_a_number() -> None:
    assert torch.isfinite(mean_logits([torch.tensor([[300.0, -300.0]])] * 2)).all()
