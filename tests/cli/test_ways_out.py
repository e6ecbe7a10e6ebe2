"""What a message proposes works when it is pasted."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import EarlyStopping

from fer_lightning.cli import begin
from fer_lightning.cli.known_options import EXAMPLES, OPTIMIZER
from fer_lightning.cli.quick_checks import SCORES, check_monitor_name
from fer_lightning.cli.run_checks import check_accelerator, check_monitors
from fer_lightning.emotions import EIGHT
from fer_lightning.errors import ConfigError
from fer_lightning.models.epoch_scores import score_names
from fer_lightning.models.task import _default_optimizer
from tests.helpers.cli import QUICK, fer, fit
from tests.helpers.folders import write_folders, write_table

THREE = {"angry": 8, "happy": 8, "sad": 8}
SMALL = ["--data=ImageFolderDataModule", "--data.image_size=16", "--data.channels=1", "--data.num_workers=0"]
SHORT = ["--trainer.limit_train_batches=1", "--resume_checkpoint.every_n_steps=0"]


def proposal(capsys: pytest.CaptureFixture[str], pattern: str) -> list[str]:
    """Return the arguments that the last error proposes, those that a pattern finds in it."""
    said = capsys.readouterr().err
    found = re.search(pattern, said)
    assert found, said
    return shlex.split(found[0])


def test_fewer_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def is_late(*args: object) -> None:
        raise AssertionError("the precision was measured first")

    monkeypatch.setattr(begin, "_choose_precision", is_late)
    data = [*SMALL, f"--data.root={write_folders(tmp_path / 'own', THREE)}"]
    assert fit(tmp_path / "runs", *data, "--trainer.precision=null") == 2
    pasted = proposal(capsys, r"--data.class_names '\[angry, happy, sad\]'")
    assert not (tmp_path / "runs").exists()
    capsys.readouterr()
    assert (
        fit(tmp_path / "runs", *data, *pasted, "--trainer.fast_dev_run=true", "--trainer.enable_model_summary=null")
        == 0
    )
    assert "3 classes" in capsys.readouterr().out
    assert fer("data", "balance", str(tmp_path / "own"), f"--out={tmp_path / 'out'}") == 2
    assert proposal(capsys, r"--data.class_names '\[angry, happy, sad\]'") == pasted


def test_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "own", 4)
    (root / "happy/bad.jpg").write_text("hello\n")
    data = [*SMALL, f"--data.root={root}", "--trainer.fast_dev_run=true"]
    assert fit(tmp_path / "runs", *data) == 2
    assert fit(tmp_path / "runs", *data, *proposal(capsys, r"--data\.on_error skip")) == 0
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.[pj]*g"))
    kept = write_table(tmp_path / "keep.csv", [{"path": path} for path in files if path != "happy/bad.jpg"])
    assert fit(tmp_path / "runs", *data, f"--data.keep={kept}") == 0  # which does not name it
    named = write_table(tmp_path / "named.csv", [{"path": path} for path in files])
    assert fit(tmp_path / "runs", *data, f"--data.keep={named}") == 2
    assert "bad.jpg: expected an image" in capsys.readouterr().err


def test_no_test_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = [*SMALL, f"--data.root={write_folders(tmp_path / 'own', 10)}", *SHORT]
    assert fit(tmp_path, *data, epochs=1) == 0
    run = str(tmp_path / "tiny/version_0")
    capsys.readouterr()
    assert fer("test", f"--ckpt_path={run}") == 2
    said = capsys.readouterr().err
    assert "fer validate scores the validation split; train with --data.test_fraction 0.2 to set a test part" in said
    assert fer("validate", f"--ckpt_path={run}", *QUICK) == 0
    assert fit(tmp_path, *data, "--data.test_fraction", "0.2", epochs=1) == 0
    assert fer("test", f"--ckpt_path={tmp_path}/tiny/version_1", *QUICK) == 0


def test_what_is_watched_is_known_before_a_run_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    assert fit(runs, "--checkpoint.monitor=val_accuracy") == 2
    assert "checkpoint.monitor: no metric is called 'val_accuracy'; did you mean 'val_acc'?" in capsys.readouterr().err
    stopping = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_los"]
    assert fit(runs, *stopping) == 2
    assert "EarlyStopping.monitor: no metric is called 'val_los'; did you mean 'val_loss'?" in capsys.readouterr().err
    assert not runs.exists()


def test_metrics_of_own_callbacks_may_be_watched() -> None:
    names = ("happy", "sad")
    check_monitors({"a": "val_f1_happy", "b": "train_loss"}, [EarlyStopping("focus_acc")], names)
    with pytest.raises(ConfigError, match="EarlyStopping.monitor: no metric is called 'speed'; there are val_loss"):
        check_monitors({}, [EarlyStopping("speed")], names)

    class Own(Callback):
        pass

    check_monitors({"a": "speed"}, [Own()], names)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    for name in ("auto", "cpu"):
        check_accelerator(name)
    with pytest.raises(ConfigError, match="gpu: there is no GPU that torch can use; .*--trainer.accelerator cpu"):
        check_accelerator("gpu")
    with pytest.raises(ConfigError, match="there is no 'cuda0'; did you mean 'cuda'?"):
        check_accelerator("cuda0")


def test_shared_images_are_counted_among_the_scored_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folders(tmp_path / "own", 4, ("train", "val"))
    for name in ("angry", "sad"):  # the first class and the fifth
        shutil.copy(min((root / "train" / name).iterdir()), min((root / "val" / name).iterdir()))
    data = [*SMALL, f"--data.root={root}", "--data.eval_batch_size=8", *SHORT]
    assert fit(tmp_path, *data, "--trainer.limit_val_batches=1", epochs=1) == 0
    report = json.loads((tmp_path / "tiny/version_0/val/report.json").read_text())
    assert report["context"]["overlap_with_train"] == 1
    assert report["context"]["data"]["overlap_with_train"] == {"val": 2}
    assert "The model was trained on 1 of them" in capsys.readouterr().out
    files = [path.relative_to(root).as_posix() for path in root.rglob("*.png") if "val/sad" not in path.as_posix()]
    kept = write_table(tmp_path / "keep.csv", [{"path": path} for path in files])
    assert fit(tmp_path, *data, f"--data.keep={kept}", "--trainer.fast_dev_run=true") == 0
    assert "data.keep: val has 24 of 28 images: scores are not comparable with those of all of them" in caplog.text


def test_many_copies_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"angry": 2, "disgust": 24, "fear": 24, "happy": 24, "sad": 24, "surprise": 24, "neutral": 24}
    root = write_folders(tmp_path / "own", counts, ("train",))
    line = ["data", "balance", str(root), *SMALL[1:], "--data.val_fraction=0"]
    assert fer(*line, f"--out={tmp_path / 'a'}") == 0
    said = capsys.readouterr()
    assert "24 images of 'angry' are 11 copies of each of its 2: a network may learn these by heart" in said.err
    assert "22 of them are synthetic" in said.out
    assert fer(*line, f"--out={tmp_path / 'b'}", "--at_least=110") == 2
    said = capsys.readouterr()
    assert "pass --copies 54 to make them, or --at_least 102 for fewer" in said.err
    assert not (tmp_path / "b").exists()
    assert fer(*line, f"--out={tmp_path / 'b'}", *shlex.split("--at_least 102")) == 0


# What Lightning alone can know, and what is said of it: each proposal is pasted.
LATE = {
    "--trainer.val_check_interval=100": "is more than an epoch's 10 batches; pass --trainer.val_check_interval 10",
    "--trainer.limit_train_batches=0.001": "of 10 batches is less than one; pass --trainer.limit_train_batches 0.1",
    "--trainer.strategy=fsdp": "trainer.strategy fsdp needs a GPU; pass --trainer.strategy ddp",
    "--trainer.callbacks=EMA --trainer.callbacks.decay=2": "EMA: decay must be at least 0 and below 1, not 2.0",
    "--model.lr_scheduler=ReduceLROnPlateau": "did you mean --model.lr_scheduler torch.optim.lr_scheduler.ReduceLROn",
}


@pytest.mark.parametrize("line", LATE)
def test_what_a_run_shows_is_said_in_our_words(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [*line.split(), *SHORT[1:]]
    assert fit(tmp_path, *args, epochs=1) == 2
    said = capsys.readouterr().err
    assert LATE[line] in said
    assert "FER_DEBUG" not in said
    assert list(tmp_path.iterdir()) == []
    found = re.search(r"(?:pass|mean) (--.*?)\??$", said.strip())
    if found is not None and "strategy" not in line:  # which would start another process
        assert fit(tmp_path, *SHORT[1:], *found[1].split(), epochs=1) == 0


def test_devices_of_a_cpu_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--trainer.devices=[0,1]") == 2
    said = capsys.readouterr().err
    assert "processes on a CPU are counted, not listed; pass for example --trainer.devices 2" in said


def test_the_default_optimizer_gets_a_name_when_a_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *SHORT, epochs=1) == 0
    run = f"--ckpt_path={tmp_path}/tiny/version_0"
    capsys.readouterr()
    assert fer("fit", run, "--model.optimizer.lr", "0.5", "--trainer.max_epochs=2") == 2
    pasted = proposal(capsys, r"--model.optimizer AdamW --model.optimizer.lr 0.5 --model.optimizer.weight_decay 0.05")
    assert fer("fit", run, *pasted, "--trainer.max_epochs=2") == 0
    goes_on = f"--ckpt_path={tmp_path}/tiny/version_1"
    capsys.readouterr()
    assert fer("fit", goes_on, "--model.lr_scheduler.warmup=0.5", "--trainer.max_epochs=3") == 2
    pasted = proposal(capsys, r"--model.lr_scheduler WarmupCosine --model.lr_scheduler.warmup 0.5")
    assert fer("fit", goes_on, *pasted, "--model.optimizer.lr=0.25", "--trainer.max_epochs=3") == 0


def test_the_arguments_of_the_default_optimizer() -> None:
    made = _default_optimizer([torch.zeros(1, requires_grad=True)])
    assert type(made).__name__ == EXAMPLES["model.optimizer"]
    assert {name: made.defaults[name] for name in OPTIMIZER} == {name: float(text) for name, text in OPTIMIZER.items()}


def test_print_config_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        fer("fit", "--print_config")
    assert yaml.safe_load(capsys.readouterr().out)["model"]["backbone"] == "fer_a"


def test_what_is_logged_is_known_without_torch() -> None:
    names = EIGHT.class_names
    for score in score_names(names):
        check_monitor_name(f"val_{score}", "monitor")
    check_monitor_name("val_f1_bored", "monitor")  # a class of the user's
    for metric in SCORES:
        check_monitors({"a": f"val_{metric}"}, [], names)


def test_a_name_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, *SHORT, name="faces/small", epochs=1) == 0
    capsys.readouterr()
    assert fer("runs", "show", "faces/small", f"--root={tmp_path}") == 0
    assert "faces/small/version_0" in capsys.readouterr().out
    assert fer("test", "--ckpt_path=best", "--name=faces/small", f"--trainer.default_root_dir={tmp_path}", *QUICK) == 0
