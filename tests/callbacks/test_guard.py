from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.cli import fit, weights


def test_a_non_finite_loss_stops_the_run_with_good_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loss = ["--model.loss=tests.helpers.parts.NaNLoss", "--model.loss.after=13"]
    assert fit(tmp_path, *loss, "--resume_checkpoint.every_n_steps=1") == 1
    folder = tmp_path / "tiny/version_0"
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the training loss is nan at epoch 1, batch 3" in message
    assert str(folder / "checkpoints/resume.ckpt") in message
    dump = json.loads((folder / "non_finite_rank0.json").read_text())
    assert (dump["epoch"], dump["batch"]) == (1, 3)
    assert len(dump["index"]) == 8
    assert all(torch.isfinite(value).all() for value in weights(folder / "checkpoints/resume.ckpt").values())
