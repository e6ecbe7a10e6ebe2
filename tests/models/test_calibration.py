from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.models.calibration import (
    CALIBRATION,
    Calibration,
    calibration_in,
    calibration_of,
    plain_calibration,
)

FILE = Path("m.json")
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.1, 0.2, 0.3]])
WHOLE = Calibration(
    0.8, ((1.0, 0.1, 0.0), (0.0, 1.2, 0.0), (0.0, -0.3, 0.9)), (0.1, 0.0, -0.4), 0.5, {"0.9": (0.2, 0.3, 0.4)}
)


def test_probabilities_are_those_of_the_formula() -> None:
    assert torch.equal(Calibration().probabilities(LOGITS), LOGITS.softmax(dim=1))
    assert torch.equal(Calibration(1.7).probabilities(LOGITS), (LOGITS / 1.7).softmax(dim=1))
    logs = (LOGITS.double() / 0.8).log_softmax(dim=1)
    wanted = (logs @ torch.tensor(WHOLE.weight).double() + torch.tensor(WHOLE.bias).double()).softmax(dim=1)
    assert torch.allclose(WHOLE.probabilities(LOGITS).double(), wanted, atol=1e-6)
    assert torch.allclose(WHOLE.probabilities(LOGITS + 5), WHOLE.probabilities(LOGITS), atol=1e-6)


def test_sets_hold_what_is_probable_enough() -> None:
    shares = {"a": 0.25, "b": 0.5, "c": 0.25}
    assert WHOLE.prediction_set(shares, 0.9) == ("b", "a")
    assert WHOLE.prediction_set({"a": 0.1, "b": 0.2, "c": 0.3}, 0.9) == ()
    WHOLE.check_coverage(0.9)
    with pytest.raises(ConfigError, match=r"coverage of 0.95 \(this model has them for 0.9\): fer calibrate RUN --cov"):
        WHOLE.check_coverage(0.95)
    with pytest.raises(ConfigError, match=r"must be between 0 and 1, such as 0.9, not 90"):
        WHOLE.check_coverage(90)
    with pytest.raises(ConfigError, match="this model has none"):
        Calibration().check_coverage(0.9)
    assert (WHOLE.is_uncertain([0.49, 0.4]), WHOLE.is_uncertain([0.5, 0.4])) == (True, False)


def test_it_comes_back_from_a_file_as_it_was() -> None:
    plain = json.loads(json.dumps(plain_calibration(WHOLE)))
    assert calibration_in(plain, 3, FILE) == WHOLE
    assert calibration_in(None, 3, FILE) == Calibration()
    of_older_folders = {"temperature": 1.3, "threshold": 0.5}
    assert calibration_in(of_older_folders, 3, FILE) == Calibration(1.3, threshold=0.5)


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0},
        {"temperature": "warm"},
        {"temperature": float("nan")},
        {"weight": [[1.0]], "bias": [0.0]},
        {"bias": []},
        {"weight": []},
        {"sets": {"0.9": [0.1]}},
        {"sets": [0.1]},
        {"other": 1},
        {"threshold": None},
    ],
)
def test_damaged_values_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="m.json: the calibration is damaged"):
        calibration_in({**plain_calibration(WHOLE), **changed}, 3, FILE)


def test_a_run_knows_for_which_weights_it_was_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, file = tmp_path / "checkpoints" / "best.ckpt", tmp_path / CALIBRATION
    content = {"global_step": 7, "fer_task": {"class_names": ["a", "b", "c"]}}
    assert calibration_of(checkpoint, content) == Calibration()
    file.write_text(json.dumps({"step": 7, "calibration": plain_calibration(WHOLE)}))
    assert calibration_of(checkpoint, content) == WHOLE
    assert calibration_of(tmp_path / "elsewhere" / "best.ckpt", content) == Calibration()
    assert calibration_of(checkpoint, {"global_step": 7}) == Calibration()  # not one of ours
    assert capsys.readouterr().err == ""
    assert calibration_of(checkpoint, {**content, "global_step": 9}) == Calibration()
    assert f"of other weights of the run and not used here: fer calibrate {tmp_path}" in capsys.readouterr().err
    for damaged in ("{", "[]", '{"step": 7}', '{"step": 7, "calibration": {"temperature": -1}}'):
        file.write_text(damaged)
        with pytest.raises(CheckpointError, match=rf"damaged: delete it, or fer calibrate {tmp_path}"):
            calibration_of(checkpoint, content)
