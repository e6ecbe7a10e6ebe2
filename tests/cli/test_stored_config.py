from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from fer_lightning.cli.stored_config import as_file, peek, stored_config
from fer_lightning.errors import ConfigError
from tests.helpers.cli import fit


def test_peek_reads_flags_and_files(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("name: a\nckpt_path: best\ntrainer: {default_root_dir: r}\n")
    assert peek([]) == (None, "default", "runs")
    assert peek(["--config", str(config)]) == ("best", "a", "r")
    assert peek([f"-c={config}", "--name", "b", "--ckpt_path=last"]) == ("last", "b", "r")
    config.write_text("config: x.yaml\n")
    with pytest.raises(ConfigError, match="several --config"):
        peek(["--config", str(config)])


def test_a_part_is_given_in_one_place_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model: fer_b.yaml\nmodel.backbone: resnet18\n")
    with pytest.raises(ConfigError, match="'model.backbone' beside 'model' would drop all else of it"):
        peek(["--config", str(config)])
    config.write_text("model.backbone: resnet18\nmodel.tau: 0.5\nname: a\n")
    assert peek(["--config", str(config)])[1] == "a"


def test_a_checkpoint_gives_each_verb_what_it_needs(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    path = tmp_path / "tiny/version_0/checkpoints/best.ckpt"
    resumed, tested = stored_config(path, "fit"), stored_config(path, "test")
    assert resumed["trainer"]["max_epochs"] == 1
    assert tested["trainer"] == {"precision": "32-true"}
    assert tested["data"] == resumed["data"]
    assert "checkpoint" not in tested


def test_a_foreign_checkpoint_has_none(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert stored_config(tmp_path / "foreign.ckpt", "test") == {}


def test_a_file_holds_the_values_for_a_while() -> None:
    with as_file({"name": "a"}) as path:
        assert yaml.safe_load(Path(path).read_text()) == {"name": "a"}
    assert not Path(path).exists()
