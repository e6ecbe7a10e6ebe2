from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import yaml
from lightning.pytorch import Trainer

from fer_lightning.callbacks.run_config import RunConfig
from fer_lightning.runs.checkpoint import CONFIG_KEY
from fer_lightning.runs.folder import config_files
from fer_lightning.runs.records import Run
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


def test_the_highest_number_is_that_of_the_last_start(tmp_path: Path) -> None:
    writer = RunConfig.__new__(RunConfig)
    for writer.text in ("a: 1\n", "a: 2\n", "a: 2\n", "a: 1\n"):
        writer.save_config(cast(Trainer, SimpleNamespace(default_root_dir=tmp_path)), cast(Any, None), "fit")
    assert [path.name for path in config_files(tmp_path).values()] == ["config.yaml", "config_2.yaml", "config_3.yaml"]
    assert Run(tmp_path).config == {"a": 1}
