from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader, TensorDataset

from fer_lightning.callbacks import graceful_stop
from fer_lightning.callbacks.checkpoints import may_stop_after
from fer_lightning.callbacks.graceful_stop import GracefulStop, _LoaderStart
from fer_lightning.errors import NonFiniteError, StorageError
from fer_lightning.runs.checkpoint import SAVED_KEY, find_checkpoint
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO
from fer_lightning.runs.lock import LOCK
from fer_lightning.signals import TIME_IS_UP, Stopped, exit_code, stopping_at_once
from tests.helpers.cli import QUICK, fer, fit, same_weights
from tests.helpers.parts import StoppedError

STEPS = 10  # batches of 8 in an epoch of 84
NEVER = "--resume_checkpoint.every_n_steps=0"
SIGNAL = "--trainer.callbacks+=tests.callbacks.test_graceful_stop.SignalAt"
STOP = "--trainer.callbacks+=tests.helpers.parts.StopAt"
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class SignalAt(Callback):
    """Sends signals to this process, or to its whole group, where the environment says: ``{place: [signal, ...]}``.

    A place is a number of batches begun, ``validation``, ``sanity`` or ``end``. With ``group`` the whole process group
    gets the signal; with ``ranks`` only these processes send it.
    """

    def __init__(self) -> None:
        plan: dict[str, Any] = json.loads(os.environ.get("FER_TEST_SIGNALS", "{}"))
        self.ranks = plan.pop("ranks", None)
        self.group = plan.pop("group", False)
        self.plan: dict[str, list[int]] = plan
        self.seen = 0

    def _send(self, trainer: Trainer, place: str) -> None:
        if self.ranks is not None and trainer.global_rank not in self.ranks:
            return
        for signum in self.plan.pop(place, []):
            if self.group:
                os.killpg(os.getpgid(0), signum)
            else:
                signal.raise_signal(signum)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen += 1
        self._send(trainer, str(self.seen))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._send(trainer, "sanity" if trainer.sanity_checking else "validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send(trainer, "end")


def signalled(root: Path, plan: dict[str, Any], *options: str, name: str = "tiny", epochs: int = 2) -> int:
    """Train with signals sent on the way and return the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_TEST_SIGNALS", json.dumps(plan))
        return fit(root, *options, SIGNAL, name=name, epochs=epochs)


def state(root: Path, file: str = "resume.ckpt", name: str = "tiny") -> dict[str, Any]:
    """Return a checkpoint of the only run of a name."""
    return AtomicCheckpointIO().load_checkpoint(root / name / "version_0/checkpoints" / file)


@pytest.mark.parametrize(
    ("batch", "accumulate", "epoch_ends", "validates", "expected"),
    [
        (3, 1, False, False, True),
        (3, 2, False, False, False),
        (4, 2, False, False, True),
        (4, 2, True, False, False),
        (4, 2, False, True, False),
    ],
)
def test_where_a_run_may_stop(batch: int, accumulate: int, epoch_ends: bool, validates: bool, expected: bool) -> None:
    assert may_stop_after(batch, accumulate, epoch_ends, validates) is expected


@pytest.mark.parametrize(
    ("signum", "code", "name"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGUSR1, 138, "SIGUSR1"), (signal.SIGINT, 130, "SIGINT")],
)
def test_a_signal_ends_the_run_after_its_batch(
    tmp_path: Path, signum: int, code: int, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in HANDLED]
    assert signalled(tmp_path, {"13": [signum]}, NEVER) == code
    assert [signal.getsignal(number) for number in HANDLED] == before
    assert state(tmp_path)["global_step"] == 13
    errors = capfd.readouterr().err
    assert f"stopped by {name} after 13 steps; go on with --ckpt_path {tmp_path}" in errors
    assert ("stopping after this batch; Ctrl-C again to stop at once" in errors) is (signum == signal.SIGINT)
    folder = tmp_path / "tiny/version_0"
    assert not (folder / LOCK).exists()
    assert not (folder / "checkpoints/dump.ckpt").exists()


@pytest.mark.parametrize(
    ("place", "options", "stops_at"),
    [
        ("1", (), 1),
        ("3", ("--trainer.accumulate_grad_batches=2",), 2),  # after batch 4
        (str(STEPS), (), STEPS),
        ("5", ("--trainer.val_check_interval=5",), 6),  # the validation behind batch 5 is not left out
        ("validation", (), STEPS),
        (str(2 * STEPS), (), 2 * STEPS),
    ],
    ids=["first", "accumulation", "last", "before validation", "in validation", "very last"],
)
def test_it_stops_only_where_going_on_is_exact(
    tmp_path: Path, whole_run: Callable[..., Path], place: str, options: tuple[str, ...], stops_at: int
) -> None:
    assert signalled(tmp_path, {place: [signal.SIGTERM]}, NEVER, *options) == 143
    assert state(tmp_path)["global_step"] == stops_at
    assert fit(tmp_path, NEVER, *options, "--ckpt_path=last") == 0
    for file in ("resume.ckpt", "best.ckpt"):
        assert same_weights(
            *(run / "checkpoints" / file for run in (whole_run(NEVER, *options), tmp_path / "tiny/version_0"))
        )


def test_the_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    assert signalled(tmp_path, {"13": [signal.SIGINT, signal.SIGINT]}, NEVER) == 130
    assert state(tmp_path)["global_step"] == STEPS  # the end of the first epoch
    assert not (tmp_path / "tiny/version_0/checkpoints/dump.ckpt").exists()


def test_a_signal_before_the_first_batch_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert signalled(tmp_path, {"sanity": [signal.SIGTERM]}) == 143
    assert "stopped by SIGTERM before the first step" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_signal_when_all_is_done_is_told_and_nothing_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert signalled(tmp_path, {"end": [signal.SIGTERM]}, epochs=1) == 143
    assert "the run is complete" in capfd.readouterr().err
    assert state(tmp_path)["global_step"] == STEPS


class Clock:
    """The clock of ``GracefulStop``, which ``Slow`` can put on."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


CLOCK = Clock()


class Slow(Callback):
    """Lets an hour pass during the n-th batch, so that it outlasts ``trainer.max_time``."""

    def __init__(self) -> None:
        self.batch = int(os.environ.get("FER_TEST_SLOW_BATCH", "0"))
        self.seen = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen += 1
        if self.seen == self.batch:
            CLOCK.passed += 3600


@pytest.mark.parametrize(
    ("batch", "options", "stops_at"),
    [(3, (), 3), (3, ("--trainer.accumulate_grad_batches=2",), 2), (STEPS, (), STEPS), (STEPS + 1, (), STEPS + 1)],
    ids=["middle", "accumulation", "epoch end", "second epoch"],
)
def test_when_the_time_is_up_the_run_stops_and_goes_on_exactly(
    tmp_path: Path,
    whole_run: Callable[..., Path],
    batch: int,
    options: tuple[str, ...],
    stops_at: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = "--trainer.callbacks+=tests.callbacks.test_graceful_stop.Slow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graceful_stop, "time", CLOCK)
        patch.setenv("FER_TEST_SLOW_BATCH", str(batch))
        assert fit(tmp_path, NEVER, *options, slow, "--trainer.max_time=00:01:00:00") == 0
    assert f"stopped by trainer.max_time, incomplete after {stops_at} steps; go on with" in capsys.readouterr().err
    assert state(tmp_path)["global_step"] == stops_at
    assert fit(tmp_path, NEVER, *options, slow, "--trainer.max_time=00:01:00:00", "--ckpt_path=last") == 0
    runs = [whole_run(NEVER, *options), tmp_path / "tiny/version_0"]
    for file in ("resume.ckpt", "best.ckpt"):
        assert same_weights(*(run / "checkpoints" / file for run in runs))
    assert runs[0].joinpath("metrics.csv").read_bytes() == runs[1].joinpath("metrics.csv").read_bytes()


def test_a_time_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--trainer.max_time=tomorrow") == 2
    assert "DD:HH:MM:SS" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_time_that_is_up_when_all_is_done_changes_nothing(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graceful_stop, "time", CLOCK)
        patch.setenv("FER_TEST_SLOW_BATCH", str(STEPS))
        slow = "--trainer.callbacks+=tests.callbacks.test_graceful_stop.Slow"
        assert fit(tmp_path, slow, "--trainer.max_time=00:01:00:00", epochs=1) == 0
    assert (tmp_path / "tiny/version_0/val/report.json").exists()


@pytest.mark.parametrize(("signum", "code"), [(0, 0), (TIME_IS_UP, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_exit_codes(signum: int, code: int) -> None:
    assert exit_code(signum) == code
    assert Stopped(signum).code == code


def test_a_stop_whose_checkpoint_cannot_be_written_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(checkpoint: dict[str, Any], file: Any) -> None:
        if checkpoint["global_step"] == 13:
            raise OSError(28, "No space left on device")
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", full)
    assert signalled(tmp_path, {"13": [signal.SIGTERM]}, NEVER) == 143
    told = capfd.readouterr().err
    assert "stopped by SIGTERM after 13 steps, which are lost; go on from the steps before with --ckpt_path" in told
    assert state(tmp_path)["global_step"] == STEPS


@pytest.mark.parametrize("options", [(), ("--trainer.num_sanity_val_steps=0",)], ids=["sanity check", "none"])
def test_all_loaders_are_hardened_before_their_first_process(tmp_path: Path, options: tuple[str, ...]) -> None:
    seen: list[Any] = []

    def note(loader: Any, *_: Any) -> None:
        seen.append(loader.worker_init_fn)
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data.DataLoader, "_get_iterator", note)
        with pytest.raises(StoppedError):
            fit(tmp_path, "--data.num_workers=2", *options)
    assert [type(function) for function in seen] == [_LoaderStart]


def test_a_rehearsal_and_other_threads_keep_their_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Look(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(any(getattr(signal.getsignal(s), "__name__", "") == "_handle" for s in HANDLED))

    def run(**options: Any) -> None:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
        trainer = Trainer(callbacks=[Look(), GracefulStop()], **quiet, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(trainer, "save_checkpoint", lambda *_, **__: None)
        trainer.fit(BoringModel())

    run(fast_dev_run=True)
    other = threading.Thread(target=run, kwargs={"max_steps": 1})
    other.start()
    other.join()
    run(max_steps=1)
    assert seen == [False, False, True]


def test_evaluation_keeps_its_handlers(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    (folder / LOCK).write_text("held by nobody: evaluation does not look")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GracefulStop, "install", lambda *_: pytest.fail("installed"))
        assert fer("validate", f"--ckpt_path={folder}", *QUICK) == 0


def handlers(environment: object, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return which signals are taken over in a cluster environment."""
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
    monkeypatch.setattr(trainer._accelerator_connector, "cluster_environment", environment)
    stop = GracefulStop()
    stop.setup(trainer, BoringModel(), "fit")
    stop.install(trainer)
    taken: set[int] = {number for number in HANDLED if signal.getsignal(number) == stop._handle}
    stop.restore()
    return taken


def test_the_signal_of_slurm_requeueing_is_taken_over_from_lightning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in HANDLED]
    assert handlers(LightningEnvironment(), monkeypatch) == set(HANDLED)
    assert handlers(SLURMEnvironment(auto_requeue=False), monkeypatch) == set(HANDLED)
    assert "SLURM" not in capsys.readouterr().err
    slurm = SLURMEnvironment()
    assert handlers(slurm, monkeypatch) == set(HANDLED)
    assert not slurm.auto_requeue  # Lightning's handler would write an inexact checkpoint
    assert "at SIGUSR1 the run stops and SLURM starts this job again" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in HANDLED] == before


def test_a_signal_that_is_ignored_on_purpose_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert handlers(LightningEnvironment(), monkeypatch) == {signal.SIGTERM, signal.SIGUSR1}
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_training_sigterm_clears_away_and_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, stopping_at_once():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def forked(work: Callable[[], None]) -> int:
    """Run something in a forked process, as loaders do, and return how it ended."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_loaders_process_survives_a_signal_to_the_group_but_not_the_loader() -> None:
    def told(*signals: int) -> Callable[[], None]:
        def work() -> None:
            _LoaderStart(None)(0)
            for signum in signals:
                os.kill(os.getpid(), signum)

        return work

    assert forked(told(signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGUSR1)) == 0
    assert forked(told(signal.SIGTERM, signal.SIGTERM)) == -signal.SIGTERM


def crash(root: Path, *options: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_TEST_STOP_AT", "13")
        with pytest.raises(StoppedError):
            fit(root, *options, STOP)


def test_an_error_leaves_a_dump_that_last_never_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crash(tmp_path, NEVER)
    folder = tmp_path / "tiny/version_0/checkpoints"
    assert f"the state at the error is in {folder}/dump.ckpt, which is not exact" in capsys.readouterr().err
    dump = state(tmp_path, "dump.ckpt")
    assert dump["fer"]["exact"] is False
    assert "StoppedError" in dump["fer"]["error"]
    assert dump["global_step"] == 13
    assert state(tmp_path).get("fer", {}).get("exact", True) is True
    assert find_checkpoint("last", tmp_path, "tiny", "resume.ckpt") == folder / "resume.ckpt"
    (folder / "resume.ckpt").unlink()
    assert fit(tmp_path, "--ckpt_path=last") == 2  # not even where nothing else is left
    assert fit(tmp_path, f"--ckpt_path={folder}/dump.ckpt") == 0
    assert "going on from it is not exact" in capsys.readouterr().err


def test_an_error_before_the_first_batch_leaves_no_dump(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoringModel, "training_step", lambda *_: 1 / 0)
        trainer = Trainer(callbacks=[GracefulStop()], default_root_dir=tmp_path, logger=False, accelerator="cpu")
        with pytest.raises(ZeroDivisionError):
            trainer.fit(BoringModel())
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64")])
def test_a_dump_that_fails_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    save = torch.save

    def full(checkpoint: dict[str, Any], file: Any) -> None:
        if not checkpoint.get("fer", {}).get("exact", True):
            raise error
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", full)
    crash(tmp_path)
    told = capsys.readouterr().err
    assert "the state at the error could not be kept: cannot write checkpoint" in told
    assert not (tmp_path / "tiny/version_0/checkpoints/dump.ckpt").exists()
    assert state(tmp_path)["global_step"] == STEPS


def test_a_non_finite_loss_leaves_no_dump(tmp_path: Path) -> None:
    assert fit(tmp_path, "--model.loss=tests.helpers.parts.NaNLoss", "--model.loss.after=13") == 1
    assert not (tmp_path / "tiny/version_0/checkpoints/dump.ckpt").exists()


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGUSR1), (signal.SIGUSR1, signal.SIGTERM)])
def test_of_two_signals_the_larger_number_is_told_whichever_came_first(signals: tuple[int, int]) -> None:
    stop = GracefulStop()
    for signum in signals:
        stop._handle(signum, None)
    assert stop._request() == max(signals)


def test_another_run_of_the_same_callback_knows_nothing_of_the_first() -> None:
    stop = GracefulStop()
    stop._handle(signal.SIGINT, None)
    stop.signum, stop._trained, stop._ending, stop._written, stop._deadline = 2, True, True, True, 0.0
    stop.setup(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1), BoringModel(), "fit")
    assert (stop.signum, stop._trained, stop._ending, stop._written) == (0, False, False, False)
    assert stop._request() == 0
    stop._handle(signal.SIGINT, None)  # the first Ctrl-C of this run
    assert stop._request() == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        stop._handle(signal.SIGINT, None)


def test_a_process_that_was_forked_does_not_stop_the_run() -> None:
    stop = GracefulStop()
    stop._owner = os.getpid() + 1
    stop._handle(signal.SIGTERM, None)
    assert stop._request() == 0


def test_the_time_is_up_from_its_second_on_until_training_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    stop, trainer = GracefulStop(), cast(Any, SimpleNamespace(world_size=1))
    stop._deadline = time.monotonic() + 1000
    assert stop._request() == 0
    stop._deadline = time.monotonic() - 1
    assert stop._request() == TIME_IS_UP
    stop.on_train_end(trainer, BoringModel())
    assert (stop.signum, capsys.readouterr().err) == (0, "")
    stop._handle(signal.SIGTERM, None)
    stop.on_train_end(trainer, BoringModel())
    assert capsys.readouterr().err == "fer: SIGTERM came when training was done: the run is complete\n"


def test_processes_agree_on_the_largest_signal_and_on_whether_one_is_blocked() -> None:
    def reduce(state: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return torch.maximum(state, torch.tensor([12, 1])) if reduce_op == "max" else state

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device="cpu", reduce=reduce))
    stop = GracefulStop()
    assert stop._agreed(trainer) == (12, True)
    stop._handle(signal.SIGTERM, None)
    assert stop._agreed(trainer) == (signal.SIGTERM, True)
    assert stop.signum == signal.SIGTERM


def test_the_signal_of_a_cluster_is_taken_over_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
    slurm = SLURMEnvironment(requeue_signal=signal.SIGUSR2)
    monkeypatch.setattr(trainer._accelerator_connector, "cluster_environment", slurm)
    before, stop = signal.getsignal(signal.SIGUSR2), GracefulStop()
    stop.setup(trainer, BoringModel(), "fit")
    stop.install(trainer)
    assert signal.getsignal(signal.SIGUSR2) == stop._handle
    assert stop.installed
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by somebody else
    stop.restore()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    assert not stop.installed
    signal.signal(signal.SIGUSR2, before)


def test_the_first_work_of_a_loader_is_kept_and_hardened_once() -> None:
    workers: list[int] = []
    data = TensorDataset(torch.zeros(1))
    one, none = (DataLoader[Any](data, num_workers=count, worker_init_fn=workers.append) for count in (1, 0))
    graceful_stop._harden([one, none, "no loader"])
    first = one.worker_init_fn
    assert isinstance(first, _LoaderStart)
    assert none.worker_init_fn == workers.append
    graceful_stop._harden(one)
    assert one.worker_init_fn is first
    before = [signal.getsignal(number) for number in HANDLED]
    first(3)
    for number, handler in zip(HANDLED, before, strict=True):
        signal.signal(number, handler)
    assert workers == [3]


@pytest.mark.parametrize(
    ("error", "trained", "rank", "file"),
    [
        (ValueError(), True, 0, "dump.ckpt"),
        (ValueError(), True, 2, "dump_rank2.ckpt"),
        (ValueError(), False, 0, None),
        (NonFiniteError(), True, 0, None),
        (StorageError(), True, 0, None),
        (KeyboardInterrupt(), True, 0, None),
        (Stopped(signal.SIGTERM), True, 0, None),
    ],
)
def test_which_errors_leave_a_dump(
    error: BaseException, trained: bool, rank: int, file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumped: list[Path] = []
    monkeypatch.setattr(graceful_stop, "_dump", lambda trainer, path, exception: dumped.append(path))
    stop = GracefulStop()
    stop._trained = trained
    trainer: Any = SimpleNamespace(global_rank=rank, default_root_dir=str(tmp_path))
    stop.on_exception(trainer, BoringModel(), error)
    assert dumped == ([] if file is None else [tmp_path / "checkpoints" / file])


@pytest.mark.parametrize(
    ("saved", "told"), [({"exact": False}, True), ({"exact": True}, False), ({}, False), (None, False)]
)
def test_only_a_dump_is_told_when_a_run_goes_on_from_it(
    saved: dict[str, Any] | None, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True)
    GracefulStop().on_load_checkpoint(trainer, BoringModel(), {} if saved is None else {SAVED_KEY: saved})
    assert ("this checkpoint is the dump of an error" in capsys.readouterr().err) is told


@pytest.mark.parametrize(
    ("there", "trained", "ending", "written", "said"),
    [
        (False, False, False, False, "before the first step"),
        (False, True, False, False, "after 7 steps, without any checkpoint"),
        (True, True, True, True, "after 7 steps; go on with --ckpt_path {file}"),
        (True, True, True, False, "after 7 steps, which are lost; go on from the steps before with --ckpt_path {file}"),
        (True, False, False, False, "after 7 steps; go on with --ckpt_path {file}"),
    ],
)
def test_what_is_said_of_a_stop(
    there: bool,
    trained: bool,
    ending: bool,
    written: bool,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "checkpoints/resume.ckpt"
    if there:
        file.parent.mkdir()
        file.touch()
    stop = GracefulStop()
    stop.signum, stop._trained, stop._ending, stop._written = signal.SIGTERM, trained, ending, written
    trainer: Any = SimpleNamespace(default_root_dir=str(tmp_path), global_step=7)
    with pytest.raises(Stopped) as stopped:
        stop._stop(trainer)
    assert stopped.value.signum == signal.SIGTERM
    assert capsys.readouterr().err == f"fer: stopped by SIGTERM {said.format(file=file)}\n"
