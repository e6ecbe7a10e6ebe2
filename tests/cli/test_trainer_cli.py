from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers.cli import QUICK, TINY, fer, fit, weights, written_config

USER_CODE = '''
import numpy as np
import torch
from lightning.pytorch import Callback
from torch import nn

from fer_lightning.data import EmotionDataModule, SamplesTable
from fer_lightning.data.table.samples import content_digests


class TwoShades(EmotionDataModule):
    """Dark and light squares.

    Args:
        count: samples in a split.
        **options: of the base class.
    """

    class_names = ("dark", "light")
    native_size = 8

    def __init__(self, count: int = 16, **options) -> None:
        super().__init__(**options)
        self.count = count

    def scan(self) -> SamplesTable:
        labels = np.arange(3 * self.count) % 2
        noise = np.random.default_rng(0).integers(0, 60, (len(labels), 1, 8, 8))
        images = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
        splits = np.repeat(["train", "val", "test"], self.count)
        files = np.array([f"square {i}" for i in range(len(labels))])
        sources = np.full(len(labels), "shades")
        return SamplesTable(self.class_names, images, labels, splits, sources, files, content_digests(images))


class Means(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return self.scale * images.flatten(1).float()


class Scaled(nn.Module):
    def __init__(self, in_features: int, num_classes: int, gain: float = 2.0) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes)
        self.gain = gain

    def forward(self, features):
        return self.gain * self.layer(features)


class Squared(nn.Module):
    def forward(self, logits, target):
        return (logits.softmax(1) - nn.functional.one_hot(target, logits.shape[1])).square().sum(1).mean()


class Witness(Callback):
    def on_train_end(self, trainer, pl_module):
        with open("witness.txt", "w") as file:
            file.write(f"{type(pl_module.criterion).__name__} {type(pl_module.classifier.head).__name__}")
'''


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line on standard error that starts with ``fer: error:``."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer: error:")]
    assert len(lines) == 1
    return lines[0]


def test_a_users_own_parts_work_by_class_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_shades.py").write_text(USER_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    config = {
        "data": {"class_path": "my_shades.TwoShades", "init_args": {"count": 32, "batch_size": 8}},
        "model": {
            "backbone": {"class_path": "my_shades.Means", "init_args": {"scale": 0.5}},
            "head": {"class_path": "my_shades.Scaled", "init_args": {"gain": 3.0}},
            "loss": {"class_path": "my_shades.Squared"},
        },
        "trainer": {
            "accelerator": "cpu",
            "precision": "32-true",
            "max_epochs": 3,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "my_shades.Witness"}],
        },
    }
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    assert fer("fit", "--config=mine.yaml", "--name=mine") == 0
    assert Path("witness.txt").read_text() == "Squared Scaled"
    assert fer("test", "--ckpt_path=best", "--name=mine", *QUICK) == 0
    report = json.loads(Path("runs/mine/version_0/test/report.json").read_text())
    assert report["class_names"] == ["dark", "light"]
    assert report["scheme"] == "custom"
    assert report["accuracy"] > 0.9


def test_evaluation_from_the_checkpoint_alone_repeats_the_run(tmp_path: Path) -> None:
    ema = ["--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.8"]
    assert fit(tmp_path, *ema, "--trainer.precision=bf16-mixed", epochs=3) == 0
    folder = tmp_path / "tiny/version_0"
    as_trained = "--trainer.precision=bf16-mixed"
    assert fer("validate", f"--ckpt_path={folder}/checkpoints/best.ckpt", as_trained, *QUICK) == 0
    run, again = (json.loads((folder / part / "report.json").read_text()) for part in ("val", "validate"))
    for key in ("accuracy", "f1_macro", "ece", "confusion_matrix", "per_class"):
        assert run[key] == again[key]
    assert again["context"]["precision"] == "bf16-mixed"
    assert again["context"]["settings"] == {"trainer.precision": "bf16-mixed"}


def test_flags_beat_the_checkpoint_and_each_difference_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path) == 0
    capsys.readouterr()
    assert fer("test", f"--ckpt_path={tmp_path}/tiny/version_0", "--data.test=14", *QUICK) == 0
    out = capsys.readouterr().out
    assert "changed against the checkpoint: data.test 28 -> 14" in out
    assert out.count("changed against") == 1
    assert json.loads((tmp_path / "tiny/version_0/test/report.json").read_text())["n"] == 14


def test_config_files_beat_the_checkpoint_and_flags_beat_both(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    over = tmp_path / "over.yaml"
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}}
    over.write_text(yaml.safe_dump({"model": {"optimizer": sgd}, "trainer": {"max_epochs": 3}}))
    path = f"--ckpt_path={tmp_path}/tiny/version_0"
    assert fer("fit", path, f"--config={over}", "--trainer.max_epochs=2") == 0
    config = yaml.safe_load((tmp_path / "tiny/version_1/config.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.5
    assert config["trainer"]["max_epochs"] == 2


def test_pretrained_weights_are_not_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "start.pth"
    assert fit(tmp_path, epochs=1) == 0
    state = weights(tmp_path / "tiny/version_0/checkpoints/best.ckpt")
    torch.save({k.removeprefix("classifier.backbone."): v for k, v in state.items() if ".backbone." in k}, file)
    assert fit(tmp_path, f"--model.weights={file}", name="tuned", epochs=1) == 0
    file.unlink()
    assert fer("test", f"--ckpt_path={tmp_path}/tuned/version_0", *QUICK) == 0


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_without_a_checkpoint_is_an_error(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer(verb, *TINY) == 2
    assert f"fer {verb} needs --ckpt_path" in error_of(capsys)


def test_last_with_nothing_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--ckpt_path=last") == 2
    assert "no run in" in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    path = tmp_path / "tiny/version_0/checkpoints/best.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    assert fer("test", f"--ckpt_path={path}") == 2
    assert "best.ckpt" in error_of(capsys)


MISTAKES = {
    "abbreviation": (["--trainer.max_epoch=3"], "no option --trainer.max_epoch; did you mean --trainer.max_epochs 3?"),
    "type": (["--data.batch_size=eight"], "data.batch_size must be a whole number, not 'eight'"),
    "value": (["--data.batch_size=0"], "data.batch_size must be at least 1, not 0"),
    "missing config": (["--config=nowhere.yaml"], "nowhere.yaml"),
    "forbidden import": (["--model.loss=subprocess.Popen"], "subprocess.Popen"),
    "forbidden callback": (["--trainer.callbacks=http.server.HTTPServer"], "http.server.HTTPServer"),
    "unknown backbone": (["--model.backbone=resnet81"], "resnet18"),
    "unknown class": (["--data=FERDataModule"], "FERDataModule"),
    "linked": (["--model.num_classes=3"], "model.num_classes"),
    "devices": (["--trainer.devices=0"], "devices"),
    "accelerator": (["--trainer.accelerator=tpus"], "tpus"),
    "precision": (["--trainer.precision=12"], "precision"),
    "size": (["--model.backbone=fer_b_fast", "--data.image_size=20"], "must be a multiple of 8, got 20"),
    "schedule": (["--model.lr_scheduler=WarmupCosine", "--model.lr_scheduler.warmup=3"], "warmup"),
    "endless": (["--model.lr_scheduler=WarmupCosine", "--trainer.max_epochs=-1"], "trainer.max_epochs"),
    "monitor": (["--report.mode=up"], "report.mode"),
    "augment": (["--data.augment=BatchAugment", "--data.augment.flip=2"], "flip must be in 0..1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = MISTAKES[name]
    assert fit(tmp_path, *arguments) == 2
    assert expected in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


CONFIGS = {
    "not yaml": ("model: [", "config"),
    "a list": ("- 1\n- 2\n", "config"),
    "unknown section": ("modell: {backbone: fer_a}\n", "modell"),
    "unknown key": ("model: {backbonne: fer_a}\n", "backbonne"),
    "nested config": ("config: other.yaml\n", "pass several --config"),
    "no class": ("data: {class_path: Nowhere}\n", "Nowhere"),
    "unknown argument": ("model: {loss: {class_path: torch.nn.CrossEntropyLoss, init_args: {gama: 2}}}\n", "gama"),
    "binary": ("\x00\x01", "config"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_malformed_config_is_one_line_and_leaves_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = CONFIGS[name]
    config, root = tmp_path / "bad.yaml", tmp_path / "runs"
    config.write_text(text)
    assert fit(root, f"--config={config}") == 2
    assert expected in error_of(capsys)
    assert not root.exists()


def test_bad_data_leaves_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv = tmp_path / "fer2013.csv"
    csv.write_text("emotion,pixels,Usage\n9,1 2 3,Training\n")
    root = tmp_path / "runs"
    assert fer("fit", "--data=FER2013DataModule", f"--data.root={csv}", f"--trainer.default_root_dir={root}") == 2
    assert "line 2" in error_of(capsys)
    assert not root.exists()


@pytest.mark.slow  # tests/callbacks/test_graceful_stop.py interrupts runs in its own process
def test_ctrl_c_exits_130(tmp_path: Path) -> None:
    (tmp_path / "my_interrupt.py").write_text(
        "import os, signal\nfrom lightning.pytorch import Callback\n"
        "class Press(Callback):\n"
        "    def on_train_batch_end(self, *args):\n        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    tiny = [
        "--data=SketchDataModule",
        "--data.train=14",
        "--data.val=7",
        "--data.test=7",
        "--model.backbone=fer_b_fast",
    ]
    pressed = subprocess.run(
        [sys.executable, "-m", "fer_lightning", "fit", *tiny, "--trainer.callbacks=my_interrupt.Press"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert pressed.returncode == 128 + signal.SIGINT, pressed.stderr.decode()[-2000:]


def test_print_config_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, "--print_config")
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] == 2


def test_runs_of_one_name_are_versions(tmp_path: Path) -> None:
    for seed in (1, 2):
        assert fit(tmp_path, f"--seed_everything={seed}", epochs=1) == 0
    assert [written_config(tmp_path / f"tiny/version_{v}")["seed_everything"] for v in (0, 1)] == [1, 2]
