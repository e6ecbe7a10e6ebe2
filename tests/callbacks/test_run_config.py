from __future__ import annotations

from pathlib import Path

import torch
import yaml

from fer_lightning.callbacks.run_config import CONFIG_KEY
from tests.helpers.cli import fer, fit, same_weights, written_config


def test_the_written_config_runs_again_unchanged(tmp_path: Path) -> None:
    assert fit(tmp_path, "--data.augment=BatchAugment") == 0
    first = tmp_path / "tiny/version_0"
    assert fer("fit", f"--config={first}/config.yaml") == 0
    second = tmp_path / "tiny/version_1"
    assert written_config(second) == written_config(first)
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    assert same_weights(first / "checkpoints/resume.ckpt", second / "checkpoints/resume.ckpt")


def test_checkpoints_hold_the_config_and_the_classes(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    checkpoint = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    stored, written = checkpoint[CONFIG_KEY], yaml.safe_load((folder / "config.yaml").read_text())
    assert stored == {key: value for key, value in written.items() if key != "ckpt_path"}
    assert checkpoint["fer_task"]["class_names"][3] == "happy"
    assert checkpoint["fer_task"]["preprocessing"]["image_size"] == 16


def test_a_resumed_run_numbers_its_config(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    before = (folder / "config.yaml").read_text()
    assert fit(tmp_path, "--ckpt_path=last", epochs=2) == 0
    assert (folder / "config.yaml").read_text() == before
    assert yaml.safe_load((folder / "config_2.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert yaml.safe_load((folder / "config_2.yaml").read_text())["ckpt_path"] is None
