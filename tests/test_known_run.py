"""A small run with much switched on: its numbers are those of the day on which this was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.runs.records import Run
from tests.helpers.cli import fit

KNOWN = {
    "lr": [0.0994415, 0.0462637, 4e-07],
    "train_loss": [1.37882, 1.08713, 1.05897],
    "val_loss": [1.38738, 0.871448, 0.30181],
}


def test_a_run_gives_the_numbers_that_it_always_gave(tmp_path: Path) -> None:
    # Whoever changes them changes every result: name it in the changelog, and why.
    options = ["--seed_everything=3", "--data.train=70", "--data.augment=BatchAugment", "--data.mix=BatchMix"]
    options += ["--data.class_multipliers={disgust: 2.0}", "--model.prior_correction=true", "--model.head=MLPHead"]
    options += ["--model.loss=FocalLoss", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
    options += ["--model.optimizer.momentum=0.9", "--model.lr_scheduler=OneCycle", "--model.backbone_lr_factor=0.5"]
    options += ["--trainer.callbacks+=EMA", "--trainer.callbacks.decay=0.8", "--trainer.gradient_clip_val=1"]
    assert fit(tmp_path, *options, epochs=3) == 0
    history = Run(tmp_path / "tiny/version_0").history
    for name, values in KNOWN.items():
        assert [row[name] for row in history] == pytest.approx(values, rel=1e-3, abs=1e-9), name
