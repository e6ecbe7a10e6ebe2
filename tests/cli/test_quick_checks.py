"""What is refused without torch, in whole sentences."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.cli import quick_checks
from fer_lightning.cli.quick_checks import check_accelerator_name, check_monitor_name, check_run_name
from fer_lightning.errors import ConfigError

NAME = "--name: '{}' cannot be the name of an experiment: "
PLAIN = NAME + "expected a name, or names of folders in each other as a/b"
ROOT = " (another folder for all runs: --trainer.default_root_dir PATH)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *(
            (good, "")
            for good in ("a", "a/b", "a.b-c", "Zoë", "version_x", "my_version_3", "a=1+b@c", "...", "with space")
        ),
        ("a//b", PLAIN + "; did you mean --name a/b?"),
        ("../a", PLAIN + "; did you mean --name a?" + ROOT),
        ("./a", PLAIN + "; did you mean --name a?" + ROOT),
        ("a/./b", PLAIN + "; did you mean --name a/b?"),
        ("/tmp/a", PLAIN + "; did you mean --name tmp/a?" + ROOT),
        ("", PLAIN),
        ("..", PLAIN + ROOT),
        ("a\\b  c", PLAIN + "; did you mean --name a_b_c?"),
        ("a/version_3", NAME + "version_3 is a folder of one run; did you mean --name a?"),
        ("version_12", NAME + "version_12 is a folder of one run"),
    ],
)
def test_the_name_of_an_experiment_is_that_of_folders(name: str, said: str) -> None:
    if not said:
        check_run_name(name, "--name")
        return
    with pytest.raises(ConfigError) as caught:
        check_run_name(name, "--name")
    assert str(caught.value) == said.format(name)


@pytest.mark.parametrize(
    ("metric", "near"),
    [
        *(("accuracy", "val_acc"), ("val/acc", "val_acc"), ("f1", "val_f1_macro"), ("val_f1", "val_f1_macro")),
        *(
            ("valid_loss", "val_loss"),
            ("eval_accuracy", "val_acc"),
            ("loss", "val_loss"),
            ("train/f1", "train_f1_macro"),
        ),
        *(("focus_los", "focus_loss"), ("ece", "val_ece")),
    ],
)
def test_a_metric_of_another_name_is_told_ours(metric: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_monitor_name(metric, "--checkpoint.monitor")
    assert str(caught.value) == (
        f"--checkpoint.monitor: no metric is called '{metric}'; did you mean --checkpoint.monitor {near}?"
    )


def test_all_that_is_logged_may_be_watched_and_what_is_near_to_nothing_is_told_the_usual() -> None:
    for split in ("train", "val", "focus"):
        for score in ("loss", "acc", "balanced_acc", "f1_macro", "f1_weighted", "ece", "recall_contempt", "f1_of_mine"):
            check_monitor_name(f"{split}_{score}", "x")
    for step in ("train_loss_step", "train_loss_epoch"):
        check_monitor_name(step, "x")
    for other in ("test_acc", "val_loss_step"):
        with pytest.raises(ConfigError):
            check_monitor_name(other, "x")
    with pytest.raises(ConfigError) as caught:
        check_monitor_name("xyzzy", "--model.monitor")
    said = "--model.monitor: no metric is called 'xyzzy'; there are val_loss, val_acc, val_f1_macro and more"
    assert str(caught.value) == said


def machine(monkeypatch: pytest.MonkeyPatch, gpu: bool, mps: bool = False) -> None:
    monkeypatch.setattr(quick_checks, "_has_gpu", lambda: gpu)
    monkeypatch.setattr(quick_checks, "_has_mps", lambda: mps)


@pytest.mark.parametrize(
    ("gpu", "mps", "good"),
    [
        *((True, False, {"auto", "cpu", "gpu", "cuda"}), (False, True, {"auto", "cpu", "gpu", "cuda", "mps"})),
        (False, False, {"auto", "cpu"}),
    ],
)
def test_a_device_that_is_certainly_not_there_is_refused(
    gpu: bool, mps: bool, good: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu, mps)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, device in (
        *(("auto", ""), ("cpu", ""), ("gpu", "GPU"), ("cuda", "GPU"), ("mps", "MPS"), ("tpu", "TPU")),
    ):
        if name in good:
            check_accelerator_name(name, "x", own=False)
            continue
        with pytest.raises(ConfigError) as caught:
            check_accelerator_name(name, "x", own=False)
        assert str(caught.value) == (
            f"trainer.accelerator {name}: there is no {device} that torch can use; leave it out, or pass "
            "--trainer.accelerator cpu (fer doctor looks for the cause)"
        )


def test_an_accelerator_that_does_not_exist_is_told_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, True)
    where, listed = "--trainer.accelerator", " (there are auto, cpu, cuda, gpu, mps, tpu)"
    for name, near in (("cuda:1", "cuda"), ("gpu0", "gpu"), ("gpus", "gpu"), ("cud", "cuda"), ("xyz", "")):
        with pytest.raises(ConfigError) as caught:
            check_accelerator_name(name, where, own=False)
        hint = f"; did you mean {where} {near}?" if near else ""
        assert str(caught.value) == f"{where}: there is no '{name}'{hint}{listed}"
        check_accelerator_name(name, where, own=True)
    check_accelerator_name("my.Accelerator", where, own=False)


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(found: bool) -> Any:
        def load(name: str) -> None:
            assert name == "libcuda.so.1"
            if not found:
                raise OSError

        return load

    has_gpu = quick_checks._has_gpu
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for found in (True, False):
        monkeypatch.setattr(ctypes, "CDLL", library(found))
        assert has_gpu() is found
    monkeypatch.setattr(ctypes, "CDLL", library(True))
    for visible, there in (("", False), ("0", True)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert has_gpu() is there
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/kfd")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert has_gpu() is True  # AMD's
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (has_gpu(), quick_checks._has_mps()) == (True, True)
