from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fer_lightning.errors import ConfigError
from fer_lightning.models import precision
from fer_lightning.models.precision import check_precision, decide, has_bfloat16, measure_precision
from tests.helpers.cli import fit
from tests.helpers.parts import TinyBackbone


def test_bf16_must_gain_a_tenth() -> None:
    assert decide(full=0.2, half=0.1).precision == "bf16-mixed"
    assert decide(full=0.2, half=0.1).ratio == pytest.approx(2)
    assert decide(full=1.1, half=1.0).precision == "bf16-mixed"
    assert decide(full=0.105, half=0.1).precision == "32-true"
    assert "0.50 times" in decide(full=0.1, half=0.2).reason


def test_hardware_without_bf16_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    choice = measure_precision(TinyBackbone(), torch.zeros(4, 1, 16, 16), F.cross_entropy)
    assert (choice.precision, choice.ratio) == ("32-true", None)


def test_measuring_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    network = TinyBackbone().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(4, 1, 16, 16)
    state = torch.get_rng_state()
    choice = measure_precision(network, images, F.cross_entropy, seconds=0.01)
    assert choice.ratio is not None
    assert choice.precision == decide(choice.ratio, 1.0).precision
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_devices_without_autocast_have_none() -> None:
    assert not has_bfloat16(torch.device("meta"))


def test_float64_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("64-true", "64"):
        assert fit(tmp_path, f"--trainer.precision={given}") == 2
        assert "; did you mean --trainer.precision 32-true?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    for wrong in ("64-true", 64, "bf16-true", "16-true", "transformer-engine"):
        with pytest.raises(ConfigError, match=f"trainer.precision {wrong} is not supported: choose 32-true"):
            check_precision(wrong)
    for right in (None, 32, "32-true", "bf16", "16-mixed"):
        check_precision(right)


def test_both_precisions_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    network, seen = TinyBackbone(), list[bool]()
    network.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    measure_precision(network, torch.zeros(4, 1, 16, 16), F.cross_entropy, seconds=0.0)
    assert seen == [False, True] * 2  # once for nothing, once timed
