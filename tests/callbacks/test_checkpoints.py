from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.callbacks import checkpoints
from fer_lightning.callbacks.checkpoints import (
    BestCheckpoint,
    FollowsBest,
    ResumeCheckpoint,
    _NotWrittenError,
    _prepare,
    improved,
    may_stop_here,
)
from fer_lightning.errors import ConfigError
from fer_lightning.runs.checkpoint import SAVED_KEY
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from tests.helpers.cli import fit, same_weights


def test_what_counts_as_better() -> None:
    assert improved(0.1, None, "max")
    assert not improved(float("nan"), None, "max")
    assert improved(0.2, 0.1, "max")
    assert not improved(0.1, 0.1, "max")
    assert improved(0.1, 0.2, "min")
    assert not improved(0.1, 0.1, "min")
    assert not improved(0.2, 0.1, "min")
    assert not improved(float("nan"), 0.1, "max")


class Followed(FollowsBest):
    """Notes the epochs whose validation was the best so far."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_better_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(trainer.current_epoch)


def test_a_bad_mode_is_named() -> None:
    with pytest.raises(ConfigError, match="checkpoint.mode"):
        BestCheckpoint(mode="up")


def test_an_unknown_monitor_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--checkpoint.monitor=val_accuracy", epochs=1) == 2
    assert "checkpoint.monitor: no metric is called 'val_accuracy'; did you mean 'val_acc'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("every", "batch", "expected"), [(10, 10, True), (10, 9, False), (10, 20, True), (0, 10, False)]
)
def test_when_a_resume_checkpoint_is_due(every: int, batch: int, expected: bool) -> None:
    assert ResumeCheckpoint(every_n_steps=every).due(batch) is expected


@pytest.mark.parametrize(
    ("every", "epoch", "name"),
    [(0, 4, None), (1, 0, "epoch_0000.ckpt"), (5, 4, "epoch_0004.ckpt"), (5, 5, None), (5, 12344, "epoch_12344.ckpt")],
)
def test_which_epochs_are_kept(every: int, epoch: int, name: str | None) -> None:
    assert ResumeCheckpoint(keep_every_n_epochs=every).kept(epoch) == name


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"every_n_steps": -1}, "every_n_steps must not be negative, not -1"),
        ({"keep_every_n_epochs": -2}, "keep_every_n_epochs must not be negative, not -2"),
        ({"every_n_steps": 0, "keep_steps": True}, "keep_steps needs resume_checkpoint.every_n_steps"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ResumeCheckpoint(**options)


class Steps(Callback):
    """Notes at which steps ``resume.ckpt`` was written."""

    written: ClassVar[list[int]] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.written.append(checkpoint["global_step"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [3, 6, 9, 10]),
        (("--trainer.accumulate_grad_batches=2",), [2, 3, 5]),  # after batches 4, 6 and 10; 10 is the epoch's last
        (
            ("--trainer.val_check_interval=3",),
            [4, 7, 10],
        ),  # behind the validations of 3 and 6
    ],
    ids=["each", "accumulation", "validation"],
)
def test_a_checkpoint_that_would_not_be_exact_comes_after_the_next_batch(
    tmp_path: Path, options: tuple[str, ...], expected: list[int]
) -> None:
    Steps.written.clear()
    record = "--trainer.callbacks+=tests.callbacks.test_checkpoints.Steps"
    assert (
        fit(tmp_path, "--resume_checkpoint.every_n_steps=3", "--checkpoint.save_top_k=0", record, *options, epochs=1)
        == 0
    )
    assert Steps.written == expected


def test_kept_checkpoints_are_exact_and_cost_no_second_file(tmp_path: Path) -> None:
    keep = ["--resume_checkpoint.every_n_steps=4", "--resume_checkpoint.keep_steps=true"]
    keep += ["--resume_checkpoint.keep_every_n_epochs=2"]
    assert fit(tmp_path, *keep, epochs=5) == 0
    folder = tmp_path / "tiny/version_0/checkpoints"
    names = {path.name for path in folder.glob("*.ckpt")}
    steps = {f"step_{10 * epoch + batch:08d}.ckpt" for epoch in range(5) for batch in (4, 8)}
    assert names == {"best.ckpt", "resume.ckpt", "epoch_0001.ckpt", "epoch_0003.ckpt", *steps}
    assert AtomicCheckpointIO().load_checkpoint(folder / "epoch_0001.ckpt")["global_step"] == 20
    assert AtomicCheckpointIO().load_checkpoint(folder / "step_00000024.ckpt")["global_step"] == 24
    for number, kept in enumerate(("epoch_0001.ckpt", "step_00000024.ckpt")):
        other = tmp_path / f"copy{number}" / "tiny/version_0"
        shutil.copytree(folder.parent, other)
        assert fit(other.parents[1], *keep, f"--ckpt_path={other}/checkpoints/{kept}", epochs=5) == 0
        assert same_weights(other / "checkpoints/resume.ckpt", folder / "resume.ckpt")
        assert (other / "metrics.csv").read_bytes() == (folder.parent / "metrics.csv").read_bytes()


def test_a_kept_checkpoint_shares_its_content_with_resume(tmp_path: Path) -> None:
    assert fit(tmp_path, "--resume_checkpoint.keep_every_n_epochs=1", epochs=2) == 0
    folder = tmp_path / "tiny/version_0/checkpoints"
    assert (folder / "resume.ckpt").samefile(folder / "epoch_0001.ckpt")
    assert not (folder / "resume.ckpt").samefile(folder / "epoch_0000.ckpt")


def test_without_hard_links_a_copy_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    assert fit(tmp_path, "--resume_checkpoint.keep_every_n_epochs=1", epochs=1) == 0
    folder = tmp_path / "tiny/version_0/checkpoints"
    assert not (folder / "resume.ckpt").samefile(folder / "epoch_0000.ckpt")
    assert (folder / "resume.ckpt").read_bytes() == (folder / "epoch_0000.ckpt").read_bytes()


def test_the_best_checkpoint_goes_on_exactly_too(tmp_path: Path) -> None:
    worse = ["--checkpoint.monitor=val_loss", "--checkpoint.mode=max"]  # the first epoch stays the best
    assert fit(tmp_path, *worse, epochs=3) == 0
    run = tmp_path / "tiny/version_0"
    whole = (run / "metrics.csv").read_bytes()
    assert AtomicCheckpointIO().load_checkpoint(run / "checkpoints/best.ckpt")["global_step"] == 10
    shutil.copy(run / "checkpoints/resume.ckpt", tmp_path / "whole.ckpt")
    assert fit(tmp_path, *worse, "--ckpt_path=best", epochs=3) == 0
    assert same_weights(run / "checkpoints/resume.ckpt", tmp_path / "whole.ckpt")
    assert (run / "metrics.csv").read_bytes() == whole


def test_a_folder_that_cannot_be_written_stops_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    assert fit(tmp_path) == 2
    assert "checkpoints cannot be written to" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_read_only_folder_is_named_to_a_user_who_is_not_root() -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "checkpoints"
        folder.mkdir()
        os.chmod(root, 0o755)
        os.chmod(folder, 0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)  # root may write everywhere
        try:
            with pytest.raises(ConfigError, match=f"cannot be written to {folder}: Permission denied"):
                _prepare(folder)
        finally:
            os.seteuid(before)
        assert list(folder.iterdir()) == []


def test_leftovers_of_a_killed_writer_are_cleared_at_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, epochs=1) == 0
    part = tmp_path / "tiny/version_0/checkpoints/.best.ckpt.0123456789ab.part"
    part.write_bytes(b"half")
    assert fit(tmp_path, "--ckpt_path=last", epochs=2) == 0
    assert not part.exists()
    assert f"removed {part}, which a killed run had not finished" in capsys.readouterr().err


def test_the_state_of_an_older_checkpoint_gives_the_best_validation() -> None:
    older = {**BestCheckpoint().state_dict(), "best_model_score": torch.tensor(0.5)}
    del older["best"]
    callback = BestCheckpoint()
    callback.load_state_dict(older)
    assert callback.best == {"best": 0.5}


def test_a_validation_whose_checkpoint_was_not_written_is_not_the_best() -> None:
    callback, followed = BestCheckpoint(), Followed()

    def validated(epoch: int, value: float, writes: bool) -> None:
        def write(trainer: Any, task: Any) -> None:
            callback.best_model_score = torch.tensor(value)  # Lightning notes this before it writes
            callback._last_global_step_saved = epoch
            if not writes:
                raise _NotWrittenError

        metrics = {"val_acc": torch.tensor(value, dtype=torch.float64)}
        trainer: Any = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch, callbacks=[callback, followed])
        callback._decide(trainer, LightningModule(), write)

    validated(0, 0.5, True)
    validated(1, 0.9, False)
    assert callback.best == {"best": 0.5, "epoch": 0}
    assert callback.best_model_score == 0.5
    assert callback._last_global_step_saved == 0
    validated(2, 0.7, True)  # worse than what was lost, and better than what is on the disk
    validated(3, 0.7, True)  # no better
    assert callback.best == {"best": 0.7, "epoch": 2}
    assert followed.epochs == [0, 2]


@pytest.mark.parametrize("moved", [True, False])
def test_the_best_so_far_goes_with_its_file(tmp_path: Path, moved: bool) -> None:
    old, new = tmp_path / "old" / "best.ckpt", tmp_path / "new" / "best.ckpt"
    new.parent.mkdir()
    state = {
        **BestCheckpoint().state_dict(), "best": {"best": 0.5, "epoch": 3}, "dirpath": str(old.parent),
        "current_score": torch.tensor(0.4),
        "best_model_path": str(old), "best_k_models": {str(old): torch.tensor(0.5)}, "kth_best_model_path": str(old),
    }  # fmt: skip
    if moved:
        new.touch()
    callback = BestCheckpoint()
    callback.dirpath = str(new.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, of a branch
        callback.load_state_dict(state)
    assert callback.best == ({"best": 0.5, "epoch": 3} if moved else {})
    assert callback.current_score == torch.tensor(0.4)
    assert callback.best_k_models == ({str(new): torch.tensor(0.5)} if moved else {})
    assert (callback.kth_best_model_path, callback.last_model_path) == ((str(new), "") if moved else ("", ""))


@pytest.mark.parametrize("blocks", ["", "is_last_batch", "_is_training_done", "should_stop", "validates", "inside"])
def test_a_run_stops_neither_at_an_end_nor_inside_a_step(blocks: str) -> None:
    def is_blocked(name: str) -> bool:
        return name == blocks

    loop = SimpleNamespace(
        batch_progress=SimpleNamespace(is_last_batch=is_blocked("is_last_batch")),
        _is_training_done=is_blocked("_is_training_done"), _should_check_val_fx=lambda fetcher: is_blocked("validates"),
    )  # fmt: skip
    trainer: Any = SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=loop, _data_fetcher=object()), should_stop=is_blocked("should_stop"),
        accumulate_grad_batches=3,
    )  # fmt: skip
    assert may_stop_here(trainer, 5 + is_blocked("inside")) is not bool(blocks)


def test_a_checkpoint_says_that_it_is_exact_and_when_it_was_written() -> None:
    before, checkpoint = time.time(), {SAVED_KEY: {"world": 2}}
    ResumeCheckpoint().on_save_checkpoint(SimpleNamespace(), LightningModule(), checkpoint)  # type: ignore[arg-type]
    saved: dict[str, Any] = checkpoint[SAVED_KEY]
    assert (saved["world"], saved["exact"]) == (2, True)
    assert before <= saved["written"] <= time.time()


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_owed_is_written_as_soon_as_it_is_exact_and_once(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, str | None]] = []
    monkeypatch.setattr(checkpoints, "may_stop_here", lambda trainer, batch: batch % 5 == 4)
    monkeypatch.setattr(checkpoints, "write_resume", lambda trainer, name: written.append((trainer.batch, name)))
    callback = ResumeCheckpoint(every_n_steps=6, keep_steps=kept)
    trainer: Any = SimpleNamespace(current_epoch=0)

    def train(batches: int) -> None:
        for batch in range(batches):
            trainer.batch, trainer.global_step = batch, 100 + batch
            callback.on_train_batch_end(trainer, LightningModule(), None, None, batch)

    train(14)
    assert written == [(9, "step_00000109.ckpt" if kept else None)]
    callback.on_train_epoch_end(trainer, LightningModule())  # which writes what was owed since batch 12
    assert written.pop() == (13, None)
    train(5)
    assert len(written) == 1
    train(7)  # owed again
    callback.setup(trainer, LightningModule(), "validate")  # another run begins
    train(5)
    assert len(written) == 1


def test_a_run_without_validation_and_one_validated_elsewhere_decide_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decided: list[str] = []
    monkeypatch.setattr(BestCheckpoint, "_decide", lambda self, trainer, task, write: decided.append(write.__name__))
    progress = SimpleNamespace(is_last_batch=True)
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), sanity_checking=False, callback_metrics={"val_acc": 1}, num_val_batches=[3],
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )  # fmt: skip
    callback, task = BestCheckpoint(), LightningModule()

    def epoch(*validations: bool) -> list[str]:
        decided.clear()
        for progress.is_last_batch in validations:
            callback.on_validation_end(trainer, task)
        callback.on_train_epoch_end(trainer, task)
        return list(decided)

    assert epoch(False, True) == ["on_validation_end", "on_train_epoch_end"]
    assert epoch() == []
    assert epoch(False) == ["on_validation_end"]
    trainer.num_val_batches = [0]
    assert epoch() == ["on_train_epoch_end"]
    trainer.sanity_checking, trainer.callback_metrics = True, {}
    callback.on_validation_end(trainer, task)
    trainer.sanity_checking = False
    with pytest.raises(ConfigError, match="checkpoint.monitor 'val_acc' is not logged"):
        callback.on_validation_end(trainer, task)


def test_several_of_the_best_do_not_overwrite_each_other() -> None:
    assert BestCheckpoint(save_top_k=3)._enable_version_counter
    assert not BestCheckpoint()._enable_version_counter
