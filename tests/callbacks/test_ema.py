from __future__ import annotations

import copy

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging

from fer_lightning.callbacks.ema import EMA
from fer_lightning.errors import ConfigError
from fer_lightning.models.task import EmotionTask
from tests.helpers.data import StripesDataModule
from tests.helpers.parts import TinyBackbone


def averaged(callback: WeightAveraging, network: EmotionTask, steps: int = 5) -> dict[str, torch.Tensor]:
    """Return the average of a network that moves at random, its running statistics included."""
    network = copy.deepcopy(network)
    callback.setup(None, network, "fit")  # type: ignore[arg-type]  # needs neither trainer nor task
    assert callback._average_model is not None
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        network(torch.randn(4, 1, 16, 16, generator=generator))
        callback._average_model.update_parameters(network)
    return callback._average_model.module.state_dict()


def test_it_averages_as_lightnings() -> None:
    data = StripesDataModule()
    network = EmotionTask(
        TinyBackbone(), class_names=list(data.class_names), num_classes=7, preprocessing=data.preprocessing
    )
    own, theirs = averaged(EMA(0.7), network), averaged(EMAWeightAveraging(decay=0.7), network)
    assert own.keys() == theirs.keys()
    for name, value in theirs.items():
        if value.is_floating_point():
            torch.testing.assert_close(own[name], value, msg=name)


def test_when_it_updates() -> None:
    callback = EMA(update_every_n_steps=2, update_starting_at_step=3)
    assert [step for step in range(8) if callback.should_update(step_idx=step)] == [4, 6]
    assert not callback.should_update(epoch_idx=3)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_is_below_one(decay: float) -> None:
    with pytest.raises(ConfigError, match="EMA: decay must be at least 0 and below 1"):
        EMA(decay)
    with pytest.raises(ConfigError, match="update_every_n_steps must be at least 1, not 0"):
        EMA(update_every_n_steps=0)
