"""A run that was stopped and resumed has the weights of the run that was not, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import TINY, fer, fit, same_weights
from tests.helpers.parts import Recorder, StoppedError

STEPS = 10  # batches of 8 in an epoch of 84
AUGMENT = ["--data.augment=BatchAugment", "--resume_checkpoint.every_n_steps=2"]
MOMENTUM = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05", "--model.optimizer.momentum=0.9"]
EMA = ["--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
STOP = "--trainer.callbacks+=tests.helpers.parts.StopAt"


def stopped(root: Path, step: int, *options: str, name: str = "tiny", epochs: int = 2) -> None:
    """Train and be stopped after ``step`` batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_TEST_STOP_AT", str(step))
        with pytest.raises(StoppedError):
            fit(root, *AUGMENT, *options, STOP, name=name, epochs=epochs)


def stopped_and_resumed(root: Path, step: int, *options: str, resume: tuple[str, ...] = ()) -> None:
    """Train twice: straight through into ``whole``, and stopped at ``step`` and resumed into ``parts``."""
    assert fit(root, *AUGMENT, *options, name="whole") == 0
    stopped(root, step, *options, name="parts")
    assert fit(root, *AUGMENT, *options, "--ckpt_path=last", *resume, name="parts") == 0


def identical(root: Path) -> bool:
    folders = [root / name / "version_0" / "checkpoints" for name in ("whole", "parts")]
    assert not (root / "parts" / "version_1").exists()
    return all(same_weights(folders[0] / file, folders[1] / file) for file in ("resume.ckpt", "best.ckpt"))


@pytest.mark.parametrize("step", [3, STEPS, STEPS + 1, STEPS + 7, 2 * STEPS - 1])
def test_resume_is_exact_wherever_it_stopped(tmp_path: Path, step: int) -> None:
    stopped_and_resumed(tmp_path, step, *MOMENTUM)
    assert identical(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ("--model.lr_scheduler=WarmupCosine",),
        ("--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience=0"),
        ("--trainer.accumulate_grad_batches=2",),
        ("--trainer.precision=bf16-mixed",),
        EMA,
        ("--data.balance=weighted", "--data.class_multipliers={disgust: 3}", "--data.transform=strong"),
    ],
    ids=["cosine", "plateau", "accumulation", "bf16", "ema", "balance"],
)
def test_resume_is_exact_with(tmp_path: Path, options: tuple[str, ...]) -> None:
    stopped_and_resumed(tmp_path, STEPS + 5, *options)
    assert identical(tmp_path)


def test_worker_count_may_change(tmp_path: Path) -> None:
    stopped_and_resumed(tmp_path, STEPS + 5, "--data.num_workers=2", resume=("--data.num_workers=0",))
    assert identical(tmp_path)


def test_a_resumed_epoch_visits_each_row_once(tmp_path: Path) -> None:
    Recorder.rows.clear()
    record = "--trainer.callbacks+=tests.helpers.parts.Recorder"
    stopped(tmp_path, 6, record, epochs=1)
    del Recorder.rows[4:]  # the checkpoint was written after the fourth batch
    assert fit(tmp_path, *AUGMENT, record, "--ckpt_path=last", epochs=1) == 0
    drawn = [row for batch in Recorder.rows for row in batch]
    assert len(drawn) == len(set(drawn)) == 8 * STEPS


def test_resuming_needs_the_checkpoint_alone(tmp_path: Path) -> None:
    stopped(tmp_path, 13, *MOMENTUM)
    assert fit(tmp_path, *AUGMENT, *MOMENTUM, name="whole") == 0
    assert fer("fit", f"--ckpt_path={tmp_path}/tiny/version_0") == 0
    assert same_weights(
        tmp_path / "tiny/version_0/checkpoints/resume.ckpt", tmp_path / "whole/version_0/checkpoints/resume.ckpt"
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact_after_a_kill(tmp_path: Path, workers: int) -> None:
    options = [*AUGMENT, *MOMENTUM, f"--data.num_workers={workers}", f"--trainer.default_root_dir={tmp_path}"]
    options += ["--trainer.max_epochs=2"]
    killed = subprocess.run(
        [sys.executable, "-m", "fer_lightning", "fit", *TINY, *options, "--name=parts", STOP],
        env={**os.environ, "FER_TEST_STOP_AT": "16", "FER_TEST_KILL": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    assert fer("fit", *TINY, *options, "--name=whole") == 0
    assert fer("fit", *TINY, *options, "--name=parts", "--ckpt_path=last") == 0
    assert identical(tmp_path)
