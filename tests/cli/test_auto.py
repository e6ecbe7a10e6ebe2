"""``--ckpt_path auto``: the same command starts a run and goes on with it, whatever has ended it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.cli import auto as auto_module
from fer_lightning.cli.auto import StartOrGoOn, with_decided
from fer_lightning.cli.slurm import requeue_job, requeue_signal
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs import lock as lock_module
from fer_lightning.runs.folder import Claim, claim_run_folder
from fer_lightning.runs.lineage import read_lineage
from fer_lightning.runs.lock import LOCK, Holder, lock_run_folder
from fer_lightning.runs.records import Run
from tests.callbacks.test_graceful_stop import signalled, state
from tests.helpers.cli import TINY, fer, fit, same_weights
from tests.helpers.data import StripesDataModule, stripes_table
from tests.runs.test_lock import dead_process, elsewhere, held_by, refreshed_ago, soon
from tests.test_ends import everything
from tests.test_resume import AUGMENT, MOMENTUM, cut, flip, stopped

AUTO = "--ckpt_path=auto"
RUN = [*AUGMENT, *MOMENTUM, AUTO]


def auto(root: Path, *options: str, epochs: int = 2) -> int:
    return fit(root, *RUN, *options, epochs=epochs)


def version(root: Path, number: int = 0) -> Path:
    return root / f"tiny/version_{number}"


def versions(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "tiny").iterdir())


class StripesAt(StripesDataModule):
    """Stripes whose number lies in a file, as the data of a job that copies them to a disk of its machine."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def scan(self) -> SamplesTable:
        return stripes_table(self.counts, seed=int((Path(self.root) / "seed.txt").read_text()))


def data_at(folder: Path, seed: int) -> list[str]:
    folder.mkdir()
    (folder / "seed.txt").write_text(str(seed))
    return ["--data=tests.cli.test_auto.StripesAt", "--data.batch_size=8", f"--data.root={folder}"]


def test_the_same_command_starts_goes_on_and_does_nothing_when_all_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *AUGMENT, *MOMENTUM, name="whole") == 0
    stopped(tmp_path, 13, *MOMENTUM, AUTO)
    assert auto(tmp_path) == 0
    for file in ("resume.ckpt", "best.ckpt"):
        parts, whole = (tmp_path / name / "version_0/checkpoints" / file for name in ("tiny", "whole"))
        assert same_weights(parts, whole)
    nodes = read_lineage(version(tmp_path))
    assert [node.status for node in nodes] == ["failed", "finished"]
    assert nodes[1].parent is not None
    assert nodes[1].start["steps"] == 12
    capsys.readouterr()
    before = everything(tmp_path)
    assert auto(tmp_path) == 0
    assert "already complete: 2 of 2 epochs; --trainer.max_epochs 4 goes on" in capsys.readouterr().out
    assert everything(tmp_path) == before
    assert auto(tmp_path, epochs=3) == 0
    assert "changed beside what is learned: trainer.max_epochs 2 -> 3" in capsys.readouterr().out
    assert versions(tmp_path) == ["version_0"]
    assert len((version(tmp_path) / "metrics.csv").read_text().splitlines()) == 4


def test_a_start_that_left_no_checkpoint_is_begun_again_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signalled(tmp_path, {"1": [signal.SIGTERM]}, *RUN, "--resume_checkpoint.every_n_steps=0") == 143
    (version(tmp_path) / "checkpoints/resume.ckpt").unlink()  # as if it had been SIGKILL
    held_by(version(tmp_path), replace(Holder.myself(), pid=dead_process()))
    part = version(tmp_path) / ".lineage.json.0123456789ab.part"
    part.touch()
    assert auto(tmp_path, epochs=1) == 0
    said = capsys.readouterr().out
    assert f"begins again in {version(tmp_path)}, where an earlier start has left no checkpoint" in said
    assert f"took over {version(tmp_path)}" in said
    assert versions(tmp_path) == ["version_0"]
    assert [node.parent for node in read_lineage(version(tmp_path))] == [None, None]
    assert not part.exists()


@pytest.mark.parametrize("left", ["nothing", "a lock", "a part"])
def test_a_start_that_was_killed_while_it_made_its_folder_is_begun_again(tmp_path: Path, left: str) -> None:
    version(tmp_path).mkdir(parents=True)
    if left == "a lock":
        held_by(version(tmp_path), replace(Holder.myself(), pid=dead_process()))
    if left == "a part":
        (version(tmp_path) / ".config.yaml.0123456789ab.part").touch()
    assert auto(tmp_path, epochs=1) == 0
    assert versions(tmp_path) == ["version_0"]


def test_a_process_that_has_just_made_its_folder_is_waited_for(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path)
    soon((tmp_path / "config.yaml").touch)
    auto_module._wait_for_configuration(tmp_path)
    assert (tmp_path / "config.yaml").exists()
    (tmp_path / "config.yaml").unlink()
    lock.release()
    began = time.monotonic()
    auto_module._wait_for_configuration(tmp_path)  # nobody is there
    assert time.monotonic() - began < 5


def test_what_a_run_decides_for_itself_is_taken_from_it_only_if_nothing_was_said() -> None:
    stored = {"trainer": {"precision": "bf16-mixed"}, "seed_everything": 4}
    for given, seed in ((True, 4), (3, 3), (False, False)):
        for precision, decided in ((None, "bf16-mixed"), ("32-true", "32-true")):
            used = {"trainer": {"precision": precision}, "seed_everything": given}
            assert with_decided(used, stored) == {"trainer": {"precision": decided}, "seed_everything": seed}
            assert used == {"trainer": {"precision": precision}, "seed_everything": given}


def test_a_run_that_was_trained_meanwhile_is_not_begun_again(tmp_path: Path) -> None:
    (version(tmp_path) / "checkpoints").mkdir(parents=True)
    (version(tmp_path) / "checkpoints/resume.ckpt").write_text("damaged")
    (version(tmp_path) / "config.yaml").write_text("{model: {a: 1}, trainer: {precision: 32-true}}")
    used = {"model": {"a": 1}, "trainer": {"precision": "32-true"}}
    with pytest.raises(ConfigError, match=f"the same run was trained in {version(tmp_path)} meanwhile; start again"):
        StartOrGoOn(tmp_path, "tiny", used).take_folder()
    own = StartOrGoOn(tmp_path, "tiny", used)
    assert own.checkpoint() is None  # it has seen the damage
    folder, _, lock = own.take_folder()
    lock.release()
    assert folder == version(tmp_path, 1)


def test_three_differences_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version(tmp_path).mkdir(parents=True)
    (version(tmp_path) / "config.yaml").write_text("{model: {a: 1, b: 1, c: 1, d: 1}, trainer: {}}")
    used = {"model": {"a": 2, "b": 2, "c": 2, "d": 2}, "trainer": {}}
    assert StartOrGoOn(tmp_path, "tiny", used).checkpoint() is None
    told = f"{version(tmp_path)}: model.a 1 -> 2, model.b 1 -> 2, model.c 1 -> 2\n"
    assert capsys.readouterr().out == f"begins a new run: no run 'tiny' has these settings; {told}"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    version(tmp_path).mkdir(parents=True)
    (version(tmp_path) / "notes.txt").touch()
    assert auto(tmp_path, epochs=1) == 0
    assert versions(tmp_path) == ["version_0", "version_1"]
    assert [path.name for path in version(tmp_path).iterdir()] == ["notes.txt"]


def test_other_settings_begin_another_run_and_each_goes_on_with_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert auto(tmp_path, epochs=1) == 0
    first = everything(version(tmp_path))
    capsys.readouterr()
    assert auto(tmp_path, "--model.optimizer.lr=0.01", epochs=1) == 0
    assert f"{version(tmp_path)}: model.optimizer.lr 0.05 -> 0.01" in capsys.readouterr().out
    assert read_lineage(version(tmp_path, 1))[0].parent is None
    assert everything(version(tmp_path)) == first
    assert auto(tmp_path, "--model.optimizer.lr=0.01") == 0
    assert auto(tmp_path, epochs=1) == 0
    assert f"{version(tmp_path)} is already complete" in capsys.readouterr().out
    assert versions(tmp_path) == ["version_0", "version_1"]
    assert everything(version(tmp_path)) == first


def test_damage_is_told_and_what_is_whole_is_gone_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = "--resume_checkpoint.keep_every_n_epochs=1"
    stopped(tmp_path, 15, *MOMENTUM, AUTO, keep)
    folder = version(tmp_path) / "checkpoints"
    flip(folder / "resume.ckpt")
    assert auto(tmp_path, keep) == 0
    assert f"going on from {folder}/epoch_0000.ckpt" in capsys.readouterr().err
    for path in folder.glob("*.ckpt"):
        cut(path)
    broken = everything(version(tmp_path))
    assert auto(tmp_path, keep) == 0
    assert "there is no other whole and exact checkpoint" in capsys.readouterr().err
    assert everything(version(tmp_path)) == broken
    assert versions(tmp_path) == ["version_0", "version_1"]


def test_a_checkpoint_that_cannot_be_read_just_now_is_no_reason_to_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "checkpoints"
    place.mkdir()
    (place / "resume.ckpt").touch()
    original = Path.open

    def refused(path: Path, *args: Any, **options: Any) -> Any:
        if path.suffix == ".ckpt":
            raise PermissionError(13, "Permission denied")
        return original(path, *args, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(CheckpointError, match=r"resume\.ckpt cannot be read: Permission denied"):
        auto_module._newest_whole(tmp_path)


def test_of_two_that_are_started_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert auto(tmp_path, epochs=1) == 0
    lock = lock_run_folder(version(tmp_path))
    assert auto(tmp_path) == 2
    assert f"another run writes into {version(tmp_path)}" in capsys.readouterr().err
    assert auto(tmp_path, "--model.optimizer.lr=0.01", epochs=1) == 0  # another run of this name
    lock.release()
    assert versions(tmp_path) == ["version_0", "version_1"]


def test_a_run_that_was_killed_on_another_machine_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert auto(tmp_path, epochs=1) == 0
    gone = elsewhere(beat_s=0.05)
    held_by(version(tmp_path), gone)
    assert Run(version(tmp_path)).status == "running"
    assert auto(tmp_path) == 0
    assert (
        f"took over {version(tmp_path)} from process {gone.pid} on elsewhere, which is gone" in capsys.readouterr().out
    )
    assert [node.status for node in read_lineage(version(tmp_path))] == ["finished", "finished"]
    assert versions(tmp_path) == ["version_0"]
    refreshed_ago(version(tmp_path), elsewhere(), 1000)
    assert Run(version(tmp_path)).status == "finished"  # of the one that is gone only the lock is left


def test_two_that_make_their_folders_at_the_same_moment_do_not_both_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auto(tmp_path / "old", epochs=1) == 0
    config = (version(tmp_path / "old") / "config.yaml").read_text()
    own = StartOrGoOn(tmp_path, "tiny", Run(version(tmp_path / "old")).config)

    def late(root: Path, name: str) -> Claim:
        faster = claim_run_folder(root, name)  # another process has just made version_0 ...
        held_by(faster.folder, replace(Holder.myself(), host="elsewhere", beat_s=0.0))
        (faster.folder / "config.yaml").write_text(config)
        return claim_run_folder(root, name)

    monkeypatch.setattr(auto_module, "claim_run_folder", late)
    with pytest.raises(ConfigError, match=r"another run writes into .*version_0: process .* on elsewhere"):
        own.take_folder()
    assert versions(tmp_path) == ["version_0"]


def test_a_folder_that_another_locks_first_stays_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faster = replace(Holder.myself(), host="elsewhere", beat_s=0.0)

    def late(folder: Path) -> Any:
        held_by(folder, faster)
        return lock_run_folder(folder)

    monkeypatch.setattr("fer_lightning.cli.place.lock_run_folder", late)
    assert fit(tmp_path, epochs=1) == 2
    assert json.loads((version(tmp_path) / LOCK).read_text()) == asdict(faster)


def test_data_in_another_place_are_compared_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, copy, other = (data_at(tmp_path / name, seed) for name, seed in (("here", 1), ("copy", 1), ("other", 2)))
    root, rest = tmp_path / "runs", [option for option in TINY if not option.startswith("--data")]
    common = ["fit", *rest, *RUN, f"--trainer.default_root_dir={root}", "--name=tiny"]
    assert fer(*common, *here, "--trainer.max_epochs=1") == 0
    assert fer(*common, *copy, "--trainer.max_epochs=2") == 0
    assert versions(root) == ["version_0"]
    capsys.readouterr()
    assert fer(*common, *other, "--trainer.max_epochs=1") == 0
    assert f"begins a new run: {version(root)} has other data: train 84 -> 84" in capsys.readouterr().out
    assert fer(*common, *other, "--trainer.max_epochs=2") == 0
    assert fer(*common, *here, "--trainer.max_epochs=2") == 0
    assert f"{version(root)} is already complete" in capsys.readouterr().out
    assert versions(root) == ["version_0", "version_1"]


def test_what_a_run_decided_for_itself_and_weights_it_began_from_are_not_asked_for_again(tmp_path: Path) -> None:
    assert fit(tmp_path, name="before", epochs=1) == 0
    start = tmp_path / "start.ckpt"
    (tmp_path / "before/version_0/checkpoints/best.ckpt").rename(start)
    options = ["--seed_everything=true", f"--model.weights={start}"]
    assert auto(tmp_path, *options, epochs=1) == 0
    seed = read_lineage(version(tmp_path))[0].seed
    start.unlink()
    assert auto(tmp_path, *options) == 0
    assert [node.seed for node in read_lineage(version(tmp_path))] == [seed, seed]
    assert versions(tmp_path) == ["version_0"]


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_other_verbs_refuse_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer(verb, AUTO) == 2
    said = capsys.readouterr().err
    assert said == (
        f"fer: error: fer {verb} needs --ckpt_path: a file, a run folder, or 'best' or 'last' of a --name "
        "('auto' is for fit)\n"
    )


def slurm(monkeypatch: pytest.MonkeyPatch, folder: Path, code: int) -> Path:
    """Pretend to be a job of one task; return the file that says how ``scontrol`` was called."""
    called = folder / "scontrol.txt"
    (folder / "bin").mkdir()
    script = folder / "bin/scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> {called}\necho no such job >&2\nexit {code}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    for name in ("JOB_ID", "NTASKS", "NTASKS_PER_NODE", "NNODES"):
        monkeypatch.setenv(f"SLURM_{name}", "4711" if name == "JOB_ID" else "1")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.setenv("SLURM_NODELIST", "localhost")
    return called


@pytest.mark.parametrize("code", [0, 1])
def test_slurm_requeues_from_the_exact_checkpoint_and_the_requeued_job_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    called = slurm(monkeypatch, tmp_path, code)
    runs, never = tmp_path / "runs", "--resume_checkpoint.every_n_steps=0"
    assert signalled(runs, {"13": [signal.SIGUSR1]}, *AUGMENT, *MOMENTUM, never) == 138
    assert called.read_text() == "requeue 4711\n"
    said = capsys.readouterr().err
    assert ("SLURM requeues job 4711" if code == 0 else "SLURM does not requeue job 4711: no such job") in said
    assert state(runs)["global_step"] == 13
    assert not list(runs.rglob("hpc_ckpt*"))
    if code == 0:
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        monkeypatch.setenv("FER_TEST_SIGNALS", "{}")
        again = [*AUGMENT, *MOMENTUM, never, "--trainer.callbacks+=tests.callbacks.test_graceful_stop.SignalAt"]
        assert fit(runs, *again) == 0
        assert "SLURM has started this job again: as with --ckpt_path auto" in capsys.readouterr().out
        assert read_lineage(version(runs))[1].start["steps"] == 13
        assert versions(runs) == ["version_0"]


class SignalInSetup(Callback):
    """Sends SIGUSR1 to this process when the trainer sets up."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        signal.raise_signal(signal.SIGUSR1)


def sent_by_scan(datamodule: Any) -> SamplesTable:
    signal.raise_signal(signal.SIGUSR1)
    raise AssertionError


IN_SETUP = "--trainer.callbacks+=tests.cli.test_auto.SignalInSetup"
OFF = (
    "--trainer.plugins=lightning.fabric.plugins.environments.SLURMEnvironment",
    "--trainer.plugins.auto_requeue=false",
)


@pytest.mark.parametrize(
    ("when", "options", "calls"),
    [
        ("data", ("--trainer.precision=null",), "requeue 4711\n"),  # before there is a trainer
        ("data", ("--trainer.precision=null", *OFF), ""),
        ("data", (), "requeue 4711\n"),
        ("data", OFF, ""),
        ("setup", (IN_SETUP,), "requeue 4711\n"),
        ("setup", (IN_SETUP, *OFF), ""),
        ("sanity check", (), "requeue 4711\n"),
    ],
)
def test_slurm_requeues_a_job_that_is_warned_before_it_trains(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: str,
    options: tuple[str, ...],
    calls: str,
) -> None:
    called = slurm(monkeypatch, tmp_path, 0)
    called.touch()
    if when == "data":
        monkeypatch.setattr(StripesDataModule, "scan", sent_by_scan)
    plan = {"sanity": [signal.SIGUSR1]} if when == "sanity check" else {}
    assert signalled(tmp_path / "runs", plan, *options) == 138
    assert called.read_text() == calls
    assert ("SLURM requeues job 4711: its next start goes on" in capsys.readouterr().err) is bool(calls)
    assert not (tmp_path / "runs").exists()


def test_another_signal_before_training_requeues_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = slurm(monkeypatch, tmp_path, 0)
    assert signalled(tmp_path / "runs", {"sanity": [signal.SIGTERM]}) == 143
    assert not called.exists()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("exit 0", "SLURM requeues job 4700_3: its next start goes on from the newest checkpoint, if there is one"),
        ("echo no; exit 1", "SLURM does not requeue job 4700_3: no. Submit it again; --ckpt_path auto goes on"),
        ("exit 7", "SLURM does not requeue job 4700_3: scontrol ended with 7. Submit it again"),
        (None, "SLURM does not requeue job 4700_3: [Errno 2] No such file or directory: 'scontrol'"),
    ],
)
def test_a_task_of_an_array_is_requeued_by_its_own_number_or_it_is_said_why_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str | None,
    told: str,
) -> None:
    slurm(monkeypatch, tmp_path, 0)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    script = tmp_path / "bin/scontrol"
    if body is None:
        script.unlink()
        monkeypatch.setenv("PATH", str(script.parent))
    else:
        script.write_text(f"#!/bin/sh\n{body}\n")
    requeue_job()
    assert capsys.readouterr().err.startswith(f"fer: {told}")


@pytest.mark.parametrize("variable", ["", "TORCHELASTIC_RUN_ID"])
def test_only_srun_makes_slurm_requeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    if variable:
        slurm(monkeypatch, tmp_path, 0)
        monkeypatch.setenv(variable, "1")  # torchrun inside of a job
    assert requeue_signal(None, []) is None


def test_the_lock_of_a_job_that_slurm_has_started_again_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    held_by(tmp_path, replace(Holder.myself(), host="elsewhere", beat_s=0.0))
    with pytest.raises(ConfigError, match="on elsewhere"):  # another task of this very start
        lock_run_folder(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "4712")
    with pytest.raises(ConfigError, match="on elsewhere"):
        lock_run_folder(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    lock_run_folder(tmp_path).release()


def test_a_kill_while_a_lock_is_made_leaves_none_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(path: Path) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "flush", killed)
        with pytest.raises(KilledError):
            lock_run_folder(tmp_path)
    assert not (tmp_path / LOCK).exists()
    lock_run_folder(tmp_path).release()


def test_where_there_are_no_hard_links_a_lock_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Any, target: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    lock = lock_run_folder(tmp_path)
    with pytest.raises(ConfigError, match="another run writes into"):
        lock_run_folder(tmp_path)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_whoever_was_killed_while_it_took_over_is_taken_over_from(tmp_path: Path) -> None:
    gone = replace(Holder.myself(), pid=dead_process())
    held_by(tmp_path, gone)
    (tmp_path / f"{LOCK}.takeover").write_text(json.dumps(asdict(gone)))
    (tmp_path / f"{LOCK}.takeover.{gone.pid}").write_text(json.dumps(asdict(gone)))
    assert lock_run_folder(tmp_path).took_over == gone
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def sample(language: str, page: str = "resume.md") -> str:
    """Return the script of a language in a page of docs/."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    return text.partition(f"```{language}\n")[2].partition("```")[0]


def shell(script: str, folder: Path, *codes: int) -> tuple[int, list[str]]:
    """Run a script with a ``fer`` that ends with these codes; return its own code and the command lines of ``fer``."""
    (folder / "codes").write_text("\n".join(map(str, codes)) + "\n")
    fake = 'echo "$@" >> calls; code=$(head -n 1 codes); sed -i 1d codes; exit "$code"'
    for name, body in (("fer", fake), ("sleep", "exit 0"), ("srun", 'exec "$@"')):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", script], cwd=folder, env=environment, timeout=20, check=False)
    return done.returncode, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((137, 143, 138, 0), 0), ((2,), 2), ((137, 1), 1), ((130,), 130)],
    ids=["signals", "a mistake", "an error", "Ctrl-C"],
)
def test_the_loop_of_the_documentation_starts_again_after_signals_only(
    tmp_path: Path, codes: tuple[int, ...], expected: int
) -> None:
    code, calls = shell(sample("sh"), tmp_path, *codes)
    assert code == expected
    assert calls == ["fit --config FILE --name NAME --ckpt_path auto"] * len(codes)


def test_the_job_script_of_the_documentation_runs(tmp_path: Path) -> None:
    script = sample("bash")
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    assert "#SBATCH --requeue\n" in script
    assert shell(script, tmp_path, 0) == (0, ["fit --config FILE --name NAME --ckpt_path auto"])


def test_of_several_runs_that_fit_the_newest_goes_on(tmp_path: Path) -> None:
    assert auto(tmp_path, epochs=1) == 0
    shutil.copytree(version(tmp_path), version(tmp_path, 1))
    before = everything(version(tmp_path))
    assert auto(tmp_path, epochs=2) == 0
    assert everything(version(tmp_path)) == before
    assert len(Run(version(tmp_path, 1)).history) == 2
