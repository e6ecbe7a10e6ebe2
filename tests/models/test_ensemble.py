"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_lightning.evaluation.predictions import PREDICTIONS, read_predictions
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.looks import read_looks
from tests.helpers.cli import fer, fit

SMALL = json.dumps({"stem": [4, 4], "stages": [[4, 1], [8, 1], [8, 1]]})
NETWORK = ("--model.backbone=fer_b_fast", f"--model.backbone_args={SMALL}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with three members: two alike, and one of larger images and other mean and std."""
    root = tmp_path_factory.mktemp("runs")
    for seed, more in enumerate(((), ("--model.views=flip",), ("--data.image_size=40", "--data.mean=[0.2]"))):
        size = [] if any("image_size" in each for each in more) else ["--data.image_size=32"]
        assert fit(root, *NETWORK, f"--seed_everything={seed}", *size, *more, name=f"m{seed}", epochs=1) == 0
    return root


def member(root: Path, number: int) -> Path:
    return root / f"m{number}/version_0"


def test_an_evaluation_averages_probabilities(root: Path) -> None:
    both = f"{member(root, 0)},{member(root, 1)}"
    single = []
    for number in (0, 1):
        assert fer("test", f"--ckpt_path={member(root, number)}") == 0
        single.append(read_predictions(member(root, number) / "test" / PREDICTIONS))
    assert fer("test", f"--ckpt_path={both}", f"--trainer.default_root_dir={root}") == 0
    made = read_predictions(root / "ensemble/version_0" / PREDICTIONS)
    assert np.allclose(made.probs, np.mean([each.probs for each in single], axis=0), atol=2e-6)
