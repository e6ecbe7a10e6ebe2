"""Maps during training: pictures of the right epochs, and a training that does not notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fer_lightning.callbacks.explanation_maps import ExplanationMaps
from fer_lightning.errors import ConfigError
from tests.helpers.cli import same_weights

EVERY_SECOND = ["--trainer.callbacks.every_n_epochs=2", "--trainer.callbacks.per_class=1"]


def test_training_goes_on_bit_for_bit_as_without_it(whole_run: Callable[..., Path]) -> None:
    plain, explained = whole_run(epochs=3), whole_run("--trainer.callbacks+=ExplanationMaps", *EVERY_SECOND, epochs=3)
    for name in ("best.ckpt", "resume.ckpt"):
        assert same_weights(plain / "checkpoints" / name, explained / "checkpoints" / name)
    assert (plain / "metrics.csv").read_text() == (explained / "metrics.csv").read_text()
    assert [path.name for path in (explained / "explanations").iterdir()] == ["epoch_0001.png"]
    with Image.open(explained / "explanations/epoch_0001.png") as picture:
        assert picture.width > 7 * 96
    events = EventAccumulator(str(explained), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("val/explanations")] == [20]


def test_epochs_are_counted_from_one() -> None:
    assert [epoch for epoch in range(12) if ExplanationMaps().due(epoch)] == [4, 9]
    assert all(map(ExplanationMaps(every_n_epochs=1).due, range(3)))


@pytest.mark.parametrize("name", ["every_n_epochs", "per_class"])
def test_a_number_below_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"ExplanationMaps: {name} must be at least 1, not 0"):
        ExplanationMaps(**{name: 0})
