from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from fer_lightning.callbacks.global_batch import BatchPlan, GlobalBatch, _plan, may_go_on
from tests.helpers.cli import fit
from tests.helpers.parts import Recorder, StoppedError

STOP = "--trainer.callbacks+=tests.helpers.parts.StopAt"
RECORD = "--trainer.callbacks+=tests.helpers.parts.Recorder"


@pytest.mark.parametrize("inside", [True, False])
def test_the_same_plan_needs_no_word(inside: bool) -> None:
    assert may_go_on(BatchPlan(2, 64, 1), BatchPlan(2, 64, 1), inside) == (True, "")


@pytest.mark.parametrize("now", [(1, 128, 1), (1, 64, 2), (4, 32, 1), (2, 32, 2), (128, 1, 1)])
def test_the_same_samples_in_a_step_are_allowed_anywhere_and_said(now: tuple[int, int, int]) -> None:
    for inside in (True, False):
        allowed, reason = may_go_on(BatchPlan(2, 64, 1), BatchPlan(*now), inside)
        assert allowed
        assert "was 2 x 64 x 1 = 128 samples in a step and is" in reason
        assert "same samples, but not bit for bit" in reason


@pytest.mark.parametrize(
    ("before", "now", "advice"),
    [
        ((2, 64, 1), (1, 64, 1), "pass --data.batch_size 128 or --trainer.accumulate_grad_batches 2"),
        ((1, 64, 1), (2, 64, 1), "pass --data.batch_size 32"),
        ((1, 64, 3), (2, 48, 3), "pass --data.batch_size 32 or --trainer.accumulate_grad_batches 2"),
        ((1, 10, 1), (2, 3, 2), "pass --data.batch_size 5 --trainer.accumulate_grad_batches 1"),
        ((2, 64, 1), (3, 64, 1), "128 samples cannot be shared out evenly: train on 2 devices"),
    ],
)
def test_other_samples_in_a_step_are_refused_with_the_arithmetic(
    before: tuple[int, int, int], now: tuple[int, int, int], advice: str
) -> None:
    allowed, reason = may_go_on(BatchPlan(*before), BatchPlan(*now), True)
    assert not allowed
    assert reason.endswith(advice)
    assert f"was {BatchPlan(*before)} samples" in reason


def test_between_epochs_a_batch_may_be_changed_but_devices_alone_may_not() -> None:
    allowed, reason = may_go_on(BatchPlan(1, 64, 1), BatchPlan(1, 32, 1), False)
    assert allowed
    assert "from this epoch on" in reason
    assert not may_go_on(BatchPlan(1, 64, 1), BatchPlan(2, 64, 1), False)[0]


def stopped(root: Path, *options: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_TEST_STOP_AT", "6")
        with pytest.raises(StoppedError):
            fit(root, "--resume_checkpoint.every_n_steps=4", STOP, *options, epochs=1)


def test_a_checkpoint_says_what_a_step_was(tmp_path: Path) -> None:
    assert fit(tmp_path, "--trainer.accumulate_grad_batches=2", epochs=1) == 0
    stored = torch.load(tmp_path / "tiny/version_0/checkpoints/resume.ckpt", weights_only=True)["fer"]
    assert {name: stored[name] for name in ("world", "batch", "accumulate")} == {
        "world": 1,
        "batch": 8,
        "accumulate": 2,
    }


def test_the_wrong_batch_is_refused_inside_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped(tmp_path)
    assert fit(tmp_path, "--ckpt_path=last", "--data.batch_size=4", epochs=1) == 2
    error = capsys.readouterr().err
    assert "was 1 x 8 x 1 = 8 samples in a step and is 1 x 4 x 1 = 4; pass" in error


@pytest.mark.parametrize(
    ("began", "goes_on", "size"),
    [
        (("--data.batch_size=8",), ("--data.batch_size=4", "--trainer.accumulate_grad_batches=2"), 4),
        (
            ("--data.batch_size=4", "--trainer.accumulate_grad_batches=2"),
            ("--data.batch_size=8", "--trainer.accumulate_grad_batches=1"),
            8,
        ),
    ],
    ids=["smaller batches", "larger batches"],
)
def test_an_epoch_that_goes_on_in_other_batches_visits_each_row_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], began: tuple[str, ...], goes_on: tuple[str, ...], size: int
) -> None:
    Recorder.rows.clear()
    stopped(tmp_path, RECORD, *began)
    del Recorder.rows[4:]  # the checkpoint was written after the fourth batch
    assert fit(tmp_path, RECORD, "--ckpt_path=last", *goes_on, epochs=1) == 0
    assert "the run goes on with the same samples" in capsys.readouterr().out
    drawn = [row for batch in Recorder.rows for row in batch]
    assert {len(batch) for batch in Recorder.rows[4:]} == {size}
    assert len(drawn) == len(set(drawn)) == 84 // size * size
    assert len(Recorder.rows) > 4


def test_a_schedule_of_accumulation_is_known() -> None:
    """The command line refuses it; a trainer made in Python may have it."""
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=8), accumulate_grad_batches=1, world_size=1,
        callbacks=[GradientAccumulationScheduler({0: 1, 1: 2})],
    )  # fmt: skip
    assert [_plan(trainer, epoch) for epoch in (0, 1)] == [BatchPlan(1, 8, 1), BatchPlan(1, 8, 2)]


def counted(before: BatchPlan, now: BatchPlan, inside_epoch: bool) -> dict[str, dict[str, int]]:
    """Return the counters of batches with which a run goes on whose checkpoint counts 6 in the epoch, 26 in all."""
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), datamodule=SimpleNamespace(batch_size=now.batch), callbacks=[],
        accumulate_grad_batches=now.accumulate, world_size=now.world, is_global_zero=False,
    )  # fmt: skip
    progress = {
        "total": {"ready": 26, "started": 26, "processed": 26, "completed": 25},
        "current": {"ready": 6, "started": 6, "processed": 6, "completed": 5},
    }
    epochs = {"current": {"ready": 3, "processed": 2 if inside_epoch else 3}}
    loops = {"fit_loop": {"epoch_progress": epochs, "epoch_loop.batch_progress": progress}}
    GlobalBatch().on_load_checkpoint(trainer, LightningModule(), {"epoch": 2, "fer": asdict(before), "loops": loops})
    return progress


@pytest.mark.parametrize(
    ("now", "ready"), [((1, 4, 2), 12), ((2, 2, 2), 12), ((4, 2, 1), 6), ((2, 1, 4), 24), ((1, 8, 1), 6)]
)
def test_batches_are_counted_again_for_the_same_samples_whoever_computes_them(
    now: tuple[int, int, int], ready: int
) -> None:
    current = counted(BatchPlan(2, 4, 1), BatchPlan(*now), inside_epoch=True)["current"]
    assert current == {"ready": ready, "started": ready, "processed": ready, "completed": ready - 1}


def test_batches_of_epochs_that_are_done_stay_counted_as_they_were() -> None:
    progress = counted(BatchPlan(1, 8, 1), BatchPlan(1, 8, 2), inside_epoch=False)
    assert progress["total"] == {"ready": 26, "started": 26, "processed": 26, "completed": 25}
