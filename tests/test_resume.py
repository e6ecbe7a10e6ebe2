"""A run that was stopped and resumed has the weights of the run that was not, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_lightning.runs.lock import LOCK
from tests.helpers.cli import TINY, fer, fit, same_weights
from tests.helpers.parts import Recorder, StoppedError

STEPS = 10  # batches of 8 in an epoch of 84
AUGMENT = ["--data.augment=BatchAugment", "--resume_checkpoint.every_n_steps=2"]
MOMENTUM = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05", "--model.optimizer.momentum=0.9"]
EMA = ["--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
UNFREEZING = [
    "--trainer.callbacks+=fer_lightning.callbacks.unfreezing.GradualUnfreezing",
    "--trainer.callbacks.every=1",
    "--trainer.callbacks.backbone_lr_factor=0.5",
]
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
    in_parts(root, step, *options, resume=resume)


def in_parts(root: Path, step: int, *options: str, resume: tuple[str, ...] = ()) -> None:
    """Train, be stopped at ``step`` and go on to the end."""
    stopped(root, step, *options, name="parts")
    assert fit(root, *AUGMENT, *options, "--ckpt_path=last", *resume, name="parts") == 0


def identical(root: Path) -> bool:
    """Tell whether two runs have the same weights and logged the same."""
    folders = [root / name / "version_0" for name in ("whole", "parts")]
    assert not (root / "parts" / "version_1").exists()
    if folders[0].joinpath("metrics.csv").read_bytes() != folders[1].joinpath("metrics.csv").read_bytes():
        return False
    files = ("checkpoints/resume.ckpt", "checkpoints/best.ckpt")
    return all(same_weights(folders[0] / file, folders[1] / file) for file in files)


@pytest.mark.parametrize("step", [3, STEPS, STEPS + 1, STEPS + 7, 2 * STEPS - 1])
def test_resume_is_exact_wherever_it_stopped(tmp_path: Path, whole_run: Callable[..., Path], step: int) -> None:
    (tmp_path / "whole").symlink_to(whole_run(*AUGMENT, *MOMENTUM).parent)
    in_parts(tmp_path, step, *MOMENTUM)
    assert identical(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ("--model.lr_scheduler=WarmupCosine",),
        ("--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience=0"),
        ("--trainer.accumulate_grad_batches=2",),
        ("--trainer.precision=bf16-mixed",),
        EMA,
        ("--trainer.callbacks=WeightAveraging",),
        ("--data.balance=weighted", "--data.class_multipliers={disgust: 3}", "--data.transform=strong"),
        ("--data.mix=BatchMix", "--data.mix.cutmix=1.0"),
        (*UNFREEZING, "--model.lr_scheduler=WarmupCosine", *MOMENTUM),
    ],
    ids=["cosine", "plateau", "accumulation", "bf16", "ema", "average", "balance", "mix", "unfreezing"],
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


def test_resuming_needs_the_checkpoint_alone(tmp_path: Path, whole_run: Callable[..., Path]) -> None:
    stopped(tmp_path, 13, *MOMENTUM)
    assert fer("fit", f"--ckpt_path={tmp_path}/tiny/version_0") == 0
    assert same_weights(
        tmp_path / "tiny/version_0/checkpoints/resume.ckpt", whole_run(*AUGMENT, *MOMENTUM) / "checkpoints/resume.ckpt"
    )


def flip(path: Path) -> None:
    """Turn a bit inside the weights, which torch.load would not notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


KEEP = "--resume_checkpoint.keep_every_n_epochs=1"


@pytest.mark.parametrize("damage", [flip, cut])
def test_last_goes_on_from_the_newest_whole_checkpoint(
    tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *AUGMENT, KEEP, name="whole", epochs=3) == 0
    stopped(tmp_path, 2 * STEPS + 5, KEEP, name="parts", epochs=3)
    folder = tmp_path / "parts/version_0/checkpoints"
    damage(folder / "resume.ckpt")
    capsys.readouterr()
    assert fit(tmp_path, *AUGMENT, KEEP, "--ckpt_path=last", name="parts", epochs=3) == 0
    told = capsys.readouterr().err
    assert f"going on from {folder}/epoch_0001.ckpt: what was trained after its 20 steps is lost and done again" in told
    assert identical(tmp_path)


def test_last_takes_the_best_where_nothing_else_is_whole_and_never_a_dump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(tmp_path, STEPS + 5)
    folder = tmp_path / "tiny/version_0/checkpoints"
    assert (folder / "dump.ckpt").exists()
    flip(folder / "resume.ckpt")
    assert fit(tmp_path, *AUGMENT, "--ckpt_path=last") == 0
    assert f"going on from {folder}/best.ckpt: what was trained after its {STEPS} steps" in capsys.readouterr().err
    for name in ("resume.ckpt", "best.ckpt"):
        cut(folder / name)
    assert fit(tmp_path, *AUGMENT, "--ckpt_path=last") == 2
    assert "there is no other whole and exact checkpoint" in capsys.readouterr().err


def test_a_damaged_checkpoint_that_is_named_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, KEEP, epochs=1) == 0
    resume = tmp_path / "tiny/version_0/checkpoints/resume.ckpt"
    flip(resume)  # and with it epoch_0000.ckpt, its second name
    for wanted in (str(resume), str(tmp_path / "tiny/version_0")):
        assert fit(tmp_path, f"--ckpt_path={wanted}", epochs=2) == 2
        assert f"{resume} is damaged" in capsys.readouterr().err
    root = f"--trainer.default_root_dir={tmp_path}"
    assert fer("test", "--ckpt_path=last", "--name=tiny", root) == 2  # other weights than asked for are not tested
    assert f"{resume} is damaged" in capsys.readouterr().err


@pytest.mark.slow  # tests/test_kill_grid.py kills with 0 and 2 loader processes, in less time
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


SIGNAL = "--trainer.callbacks+=tests.callbacks.test_graceful_stop.SignalAt"


def run_alone(options: list[str], plan: dict[str, object]) -> int:
    """Train in a process group of its own, with signals sent on the way, and return the exit code."""
    trained = subprocess.run(
        [sys.executable, "-m", "fer_lightning", "fit", *TINY, *options, SIGNAL],
        env={**os.environ, "FER_TEST_SIGNALS": json.dumps(plan), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # may be ignored where tests run
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=200,
        check=False,
    )
    return trained.returncode


@pytest.mark.slow  # tests/test_kill_grid.py sends signals to the group, too, in less time
@pytest.mark.parametrize(
    ("signum", "workers", "options"),
    [
        (signal.SIGTERM, 2, ("--trainer.accumulate_grad_batches=2",)),
        (signal.SIGINT, 2, ()),
        (signal.SIGTERM, 0, ()),
        (signal.SIGINT, 0, ("--trainer.accumulate_grad_batches=2",)),
        (signal.SIGUSR1, 2, tuple(EMA)),
    ],
)
def test_resume_is_exact_after_a_signal_to_the_group(
    tmp_path: Path, signum: int, workers: int, options: tuple[str, ...]
) -> None:
    arguments = [*AUGMENT[:1], "--resume_checkpoint.every_n_steps=0", *MOMENTUM, *options]
    arguments += [f"--data.num_workers={workers}", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=2"]
    parts = [*arguments, "--name=parts"]
    assert run_alone(parts, {"group": True, str(STEPS + 3): [signum]}) == 128 + signum
    assert not (tmp_path / "parts/version_0" / LOCK).exists()
    assert fer("fit", *TINY, *arguments, "--name=whole") == 0
    assert fer("fit", *TINY, *parts, "--ckpt_path=last") == 0
    assert identical(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]])
def test_resume_is_exact_on_two_processes_after_a_signal_to_some(tmp_path: Path, ranks: list[int]) -> None:
    arguments = [*AUGMENT[:1], "--resume_checkpoint.every_n_steps=0", *MOMENTUM, "--trainer.max_epochs=2"]
    arguments += ["--trainer.devices=2", "--trainer.strategy=ddp", f"--trainer.default_root_dir={tmp_path}"]
    parts = [*arguments, "--name=parts"]
    assert run_alone(parts, {"ranks": ranks, "8": [signal.SIGTERM]}) == 143
    assert not (tmp_path / "parts/version_0" / LOCK).exists()
    assert run_alone([*arguments, "--name=whole"], {}) == 0
    assert run_alone([*parts, "--ckpt_path=last"], {}) == 0
    assert identical(tmp_path)
