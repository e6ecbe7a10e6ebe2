from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.cli.early_check import check_command_line
from fer_lightning.cli.option_order import classes_first
from fer_lightning.errors import ConfigError
from tests.helpers.cli import fer
from tests.helpers.folders import write_folders

THREE = {"angry": 8, "happy": 8, "sad": 8}


@pytest.mark.parametrize(
    ("args", "ordered"),
    [
        ("--data.root a --data.fold 1 --name x --data=C", "--data=C --data.root a --data.fold 1 --name x"),
        ("--data.augment.flip -1 --data.augment B --data C", "--data C --data.augment B --data.augment.flip -1"),
        ("--model.optimizer.lr .1 --model.optimizer SGD", "--model.optimizer SGD --model.optimizer.lr .1"),
        ("--model.optimizer.x -.1 --model.optimizer SGD", "--model.optimizer SGD --model.optimizer.x -.1"),
        ("--data.a 1 --config f --data.b 2 --data C", "--data.a 1 --config f --data C --data.b 2"),
        ("--data.a 1 -c f --data C", "--data.a 1 -c f --data C"),
        ("--data A --data.a 1 --data B", "--data A --data.a 1 --data B"),
        ("--trainer.max_epochs 1 --trainer f", "--trainer.max_epochs 1 --trainer f"),
        ("--trainer.logger.name a --trainer.logger CSVLogger", "--trainer.logger.name a --trainer.logger CSVLogger"),
        ("--model.pretrained --model.backbone.x 1", "--model.pretrained --model.backbone.x 1"),
        ("--database.x 1 --data C", "--database.x 1 --data C"),
        ("stray --data C", "stray --data C"),
    ],
)
def test_a_class_is_put_before_its_arguments(args: str, ordered: str) -> None:
    assert classes_first(args.split()) == ordered.split()
    assert classes_first(ordered.split()) == ordered.split()


def test_an_argument_is_known_by_the_class_behind_it() -> None:
    options = ["--data", "SketchDataModule", "--model.backbone", "fer_b_fast"]
    check_command_line("fit", ["--model.optimizer.momentum", "0.9", *options, "--model.optimizer", "SGD"])
    with pytest.raises(ConfigError, match="--data.val_fraction: SketchDataModule has no argument 'val_fraction'"):
        check_command_line("fit", ["--data.val_fraction", "0.3", *options])


def test_arguments_before_their_class_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "own", THREE)
    data = [f"--data.root={root}", "--data.class_names=[angry,happy,sad]", "--data", "ImageFolderDataModule"]
    small = ["--data.image_size=16", "--data.channels=1", "--data.num_workers=0", "--data.batch_size=8"]
    fitted = ["--data.val_fraction", "0.5", *small, *data, "--model.optimizer.lr=0.01", "--model.optimizer", "SGD"]
    tiny = ["--model.backbone=tests.helpers.parts.TinyBackbone", "--trainer.accelerator=cpu"]
    run = ["--trainer.precision=32-true", "--trainer.fast_dev_run=true", f"--trainer.default_root_dir={tmp_path}"]
    assert fer("fit", *fitted, *tiny, *run) == 0
    assert "ImageFolderDataModule: train 12, val 12; 3 classes, 16x16 gray" in capsys.readouterr().out
    assert fer("data", "dedupe", "--data.val_fraction=0.25", *data, f"--out={tmp_path / 'out'}") == 0
