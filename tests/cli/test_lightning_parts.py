"""Every public callback and profiler of Lightning works in a run, or is refused with what to take instead."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import callbacks, profilers
from lightning.pytorch.accelerators import cpu

from fer_lightning.cli.lightning_parts import CALLBACKS, OPTIONS, PROFILERS, Part
from tests.helpers.cli import fer, fit, same_weights
from tests.helpers.parts import KeepsPredictions, StoppedError

DOCS = Path(__file__).parents[2] / "docs/callbacks.md"
ADD = "--trainer.callbacks+="
FOCUS = ("--data.train=105", "--data.focus_fraction=0.2", f"{ADD}ClassFocus")
BARS = {"ProgressBar", "RichProgressBar", "TQDMProgressBar"}  # a trainer takes one
AVERAGES = {"EMAWeightAveraging", "WeightAveraging"}  # test_resume has them: they change the weights
ELSEWHERE = {"EarlyStopping"}  # test_ends
WATCHING: dict[str, list[str]] = {
    "Callback": [],
    "Checkpoint": [],
    "DeviceStatsMonitor": ["--trainer.callbacks.cpu_stats=true"],
    "LambdaCallback": ["--trainer.callbacks.on_train_epoch_end=tests.helpers.parts.note_epoch"],
    "LearningRateMonitor": [],
    "ModelSummary": [],
    "RichModelSummary": [],
    "ThroughputMonitor": ["--trainer.callbacks.batch_size_fn=tests.helpers.parts.samples_in"],
}


def works(parts: dict[str, Part]) -> set[str]:
    return {name for name, part in parts.items() if part.instead is None}


def test_each_public_part_is_said_to_work_or_not() -> None:
    assert set(CALLBACKS) == set(callbacks.__all__)
    assert set(PROFILERS) == set(profilers.__all__)
    assert works(CALLBACKS) == {*WATCHING, *BARS, *AVERAGES, *ELSEWHERE}


@pytest.mark.parametrize("parts", [CALLBACKS, PROFILERS, OPTIONS], ids=["callbacks", "profilers", "options"])
def test_the_docs_say_the_same(parts: dict[str, Part]) -> None:
    rows = [
        f"| `{name}` | works | {part.does} |"
        if part.instead is None
        else f"| `{name}` | refused | {part.does}; instead: {part.instead} |"
        for name, part in parts.items()
    ]
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("bar", sorted(BARS))
def test_what_only_watches_changes_nothing(
    tmp_path: Path, whole_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, bar: str
) -> None:
    if bar.startswith("Rich"):
        pytest.importorskip("rich")
    monkeypatch.setattr(cpu, "get_cpu_stats", lambda: {"cpu_percent": 1.0})  # which needs psutil
    whole = whole_run(*FOCUS)
    watching = {bar: ["--trainer.enable_progress_bar=true", "--trainer.log_every_n_steps=1"]}
    if bar == "TQDMProgressBar":
        watching |= {
            name: flags for name, flags in WATCHING.items() if importlib.util.find_spec("rich") or name[0] != "R"
        }
    options = [*FOCUS, *(flag for name, flags in watching.items() for flag in (f"{ADD}{name}", *flags))]
    if bar == "TQDMProgressBar":  # all at once, and going on inside an epoch
        monkeypatch.setenv("FER_TEST_STOP_AT", "17")
        with pytest.raises(StoppedError):
            fit(tmp_path, *options, "--resume_checkpoint.every_n_steps=2", f"{ADD}tests.helpers.parts.StopAt")
        options.append("--ckpt_path=last")
    assert fit(tmp_path, *options) == 0
    run = tmp_path / "tiny/version_0"
    assert all(same_weights(whole / file, run / file) for file in ("checkpoints/best.ckpt", "checkpoints/resume.ckpt"))
    assert (whole / "class_focus.csv").read_text() == (run / "class_focus.csv").read_text()
    assert (run / "val/report.json").exists()


REFUSED = {f"{ADD}{name}": part for name, part in CALLBACKS.items() if part.instead is not None}
REFUSED |= {f"--trainer.profiler={name}": part for name, part in PROFILERS.items() if part.instead is not None}
REFUSED |= {
    "--trainer." + option.replace(" ", "=").replace("N", "2"): part
    for option, part in OPTIONS.items()
    if part.instead is not None
}


@pytest.mark.parametrize("flag", REFUSED)
def test_what_is_refused_names_what_works_instead(
    tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, part = tmp_path / "runs", REFUSED[flag]
    assert part.instead is not None
    assert fit(root, flag) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"does not go with a run: {part.does}; instead: {part.instead}\n" in error
    assert not root.exists()
    if part.instead.startswith("--"):
        assert fit(root, *shlex.split(part.instead.partition(" (")[0]), "--trainer.fast_dev_run=true") == 0


def test_a_config_file_is_refused_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "swa.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n    - class_path: StochasticWeightAveraging\n      init_args: {swa_lrs: 0.1}\n"
    )
    assert fit(tmp_path / "runs", f"--config={config}") == 2
    assert "--trainer.callbacks+=EMA" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([f"{ADD}DeviceStatsMonitor", "--trainer.logger=false"], "leave out --trainer.logger false"),
        ([f"{ADD}TQDMProgressBar"], "leave out --trainer.enable_progress_bar false"),
        (["--trainer.strategy=ddp_spawn", "--trainer.devices=2"], "--trainer.strategy ddp"),
    ],
)
def test_what_contradicts_each_other_is_refused(
    tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "runs", *options) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "options",
    [
        *([f"--trainer.profiler={name}"] for name in ("simple", "advanced", "pytorch", "PassThroughProfiler")),
        ["--trainer.logger=false"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=LOGS"],
    ],
    ids=lambda options: options[0].partition("=")[2],
)
def test_profilers_and_loggers_work(tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = [option.replace("LOGS", str(tmp_path / "logs")) for option in options]
    assert fit(tmp_path / "runs", *given, "--trainer.limit_train_batches=2", epochs=1) == 0
    assert ("tensorboard --logdir" in capsys.readouterr().out) is ("logger" not in options[0])
    assert (tmp_path / "logs").exists() is (len(options) > 1)


def test_a_prediction_writer_of_ones_own_gets_all_predictions(tmp_path: Path, whole_run: Callable[..., Path]) -> None:
    KeepsPredictions.seen.clear()
    writer = f"{ADD}tests.helpers.parts.KeepsPredictions"
    assert fer("predict", f"--ckpt_path={whole_run(*FOCUS)}", writer, "--trainer.enable_progress_bar=false") == 0
    assert len(KeepsPredictions.seen) == 28


@pytest.mark.skipif(importlib.util.find_spec("psutil") is not None, reason="the package is here")
def test_a_package_that_is_missing_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "runs", f"{ADD}DeviceStatsMonitor") == 2
    error = capsys.readouterr().err
    assert "`psutil` is not installed" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_error_before_training_leaves_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError):
        fit(tmp_path / "runs", f"{ADD}tests.helpers.parts.FailsEarly")
    assert not (tmp_path / "runs").exists()
