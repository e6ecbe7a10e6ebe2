from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping

from fer_lightning.callbacks.checkpoints import BestCheckpoint
from fer_lightning.callbacks.lineage_writer import Lineage, data_changes, how_it_ended, how_it_failed
from fer_lightning.callbacks.provenance import code_state
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.runs.checkpoint import LINEAGE_KEY, STOPPED_KEY
from fer_lightning.runs.lineage import LINEAGE, Node, read_lineage
from fer_lightning.runs.records import Run
from fer_lightning.signals import TIME_IS_UP, Stopped
from tests.helpers.cli import fit, same_weights
from tests.helpers.data import StripesDataModule, stripes_table
from tests.helpers.parts import StoppedError

SGD = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05"]
STOP = "--trainer.callbacks+=tests.helpers.parts.StopAt"


def run(root: Path, version: int = 0, name: str = "tiny") -> Path:
    return root / name / f"version_{version}"


def nodes(root: Path, version: int = 0, name: str = "tiny") -> list[Node]:
    return read_lineage(run(root, version, name))


def test_a_fresh_run_is_one_node_without_a_parent(tmp_path: Path) -> None:
    assert fit(tmp_path, "--trainer.num_sanity_val_steps=0", "--seed_everything=3") == 0
    (node,) = nodes(tmp_path)
    assert (node.status, node.reason, node.parent, node.changed) == ("finished", "", None, [])
    assert (node.start, node.end) == ({"epochs": 0, "steps": 0}, {"epochs": 2, "steps": 20})
    assert datetime.fromisoformat(node.started[:19]) <= datetime.fromisoformat(node.ended[:19])
    assert datetime.strptime(node.started, "%Y-%m-%dT%H:%M:%S%z").tzinfo is not None
    assert node.wall_s > 0
    assert node.seed == 3
    assert node.data["counts"] == {"train": 84, "val": 28, "test": 28}
    assert set(node.data["fingerprints"]) == {"train", "val", "test"}
    assert node.environment["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (node.device["count"], node.device["precision"]) == (1, "32-true")
    rows = (run(tmp_path) / "metrics.csv").read_text().splitlines()
    accuracies = [float(row.split(",")[rows[0].split(",").index("val_acc")]) for row in rows[1:]]
    assert node.monitor["name"] == "val_acc"
    assert node.monitor["best"] == pytest.approx(max(accuracies), rel=1e-5)
    assert node.monitor["epoch"] == accuracies.index(max(accuracies))
    assert Run(run(tmp_path)).status == "finished"
    for file in ("best.ckpt", "resume.ckpt"):
        written = torch.load(run(tmp_path) / "checkpoints" / file, weights_only=True)[LINEAGE_KEY]
        assert written["node"] == node.id
        assert written["data"]["fingerprints"] == node.data["fingerprints"]


def test_a_resume_is_a_second_node_in_the_same_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    digest = hashlib.sha256((run(tmp_path) / "checkpoints/resume.ckpt").read_bytes()).hexdigest()
    capsys.readouterr()
    assert fit(tmp_path, "--ckpt_path=last", "--data.num_workers=0") == 0
    assert "changed beside what is learned: data.num_workers none -> 0, trainer.max_epochs 1 -> 2" in (
        capsys.readouterr().out
    )
    first, second = nodes(tmp_path)
    assert not run(tmp_path, 1).exists()
    assert second.parent is not None
    assert (second.parent.node, second.parent.run) == (first.id, "tiny/version_0")
    assert second.parent.checkpoint == "tiny/version_0/checkpoints/resume.ckpt"
    assert second.parent.sha256 == digest
    assert (second.parent.epoch, second.parent.step) == (1, 10)
    assert (second.start, second.end) == ({"epochs": 1, "steps": 10}, {"epochs": 2, "steps": 20})
    assert {change.key for change in second.changed} == {"data.num_workers", "trainer.max_epochs"}


def test_changed_settings_start_a_new_run_and_leave_the_old_one_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *SGD, epochs=1) == 0
    before = {path: path.read_bytes() for path in run(tmp_path).rglob("*") if path.is_file()}
    capsys.readouterr()
    assert fit(tmp_path, *SGD[:1], "--model.optimizer.lr=2e-5", "--ckpt_path=last") == 0
    out = capsys.readouterr().out
    assert "changed against the checkpoint: model.optimizer.lr 0.05 -> 2e-5" in out
    assert "because model.optimizer.lr changed" in out
    assert {path: path.read_bytes() for path in run(tmp_path).rglob("*") if path.is_file()} == before
    (node,) = nodes(tmp_path, 1)
    assert node.parent is not None
    assert (node.parent.node, node.parent.run) == (nodes(tmp_path)[0].id, "tiny/version_0")
    assert [(change.before, change.after) for change in node.changed if not change.harmless] == [(0.05, 2e-5)]
    # its best is its own, although the parent's is better
    assert (run(tmp_path, 1) / "checkpoints/best.ckpt").exists()
    assert (run(tmp_path, 1) / "val/report.json").exists()
    assert node.monitor["epoch"] == 1


def test_a_changed_run_with_nothing_left_to_train_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *SGD, epochs=1) == 0
    assert fit(tmp_path, *SGD, "--seed_everything=5", "--ckpt_path=last", epochs=1) == 2
    assert "the checkpoint has 1 epochs done; raise --trainer.max_epochs" in capsys.readouterr().err
    assert not run(tmp_path, 1).exists()


def test_another_name_is_another_run(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    assert fit(tmp_path, f"--ckpt_path={run(tmp_path)}", name="deep/er") == 0
    (node,) = nodes(tmp_path, name="deep/er")
    assert node.parent is not None
    assert node.parent.run == "tiny/version_0"
    assert len(nodes(tmp_path)) == 1


def test_other_data_is_refused_unless_it_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    assert fit(tmp_path, "--ckpt_path=last", "--data.train=77") == 2
    error = capsys.readouterr().err
    assert "train 84 -> 77 samples (fingerprint " in error
    assert "--allow_changed_data true" in error
    assert not run(tmp_path, 1).exists()
    assert len(nodes(tmp_path)) == 1
    allow = ["--data.train=77", "--allow_changed_data=true"]
    assert fit(tmp_path, "--ckpt_path=last", *allow) == 0
    assert "changed data: train 84 -> 77 samples" in capsys.readouterr().out
    assert nodes(tmp_path, 1)[0].data["counts"]["train"] == 77
    # the permission is not inherited
    assert fit(tmp_path, "--ckpt_path=last", "--data.train=70", epochs=3) == 2


def test_data_that_changed_on_the_disk_makes_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit(tmp_path, epochs=1) == 0
    monkeypatch.setattr(StripesDataModule, "scan", lambda data: stripes_table(data.counts, seed=1))
    assert fit(tmp_path, "--ckpt_path=last") == 2
    assert fit(tmp_path, "--ckpt_path=last", "--allow_changed_data=true") == 0
    assert len(nodes(tmp_path)) == len(nodes(tmp_path, 1)) == 1


def test_weights_of_another_run_are_a_parent(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    best = run(tmp_path) / "checkpoints/best.ckpt"
    assert fit(tmp_path, f"--model.weights={best}", "--data.batch_size=12", name="tuned", epochs=1) == 0
    (node,) = nodes(tmp_path, name="tuned")
    assert node.parent is not None
    assert node.parent.weights_only
    assert (node.parent.node, node.parent.epoch) == (nodes(tmp_path)[0].id, 1)
    assert node.start == {"epochs": 0, "steps": 0}
    assert {change.key for change in node.changed} == {"data.batch_size", "name"}


def test_an_error_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_TEST_STOP_AT", "13")
    with pytest.raises(StoppedError):
        fit(tmp_path, STOP)
    (node,) = nodes(tmp_path)
    assert (node.status, node.reason) == ("failed", "StoppedError")
    assert node.end == {"epochs": 1, "steps": 13}
    assert Run(run(tmp_path)).status == "failed"


def test_time_that_is_up_leaves_the_run_incomplete(tmp_path: Path) -> None:
    assert fit(tmp_path, "--trainer.max_time=00:00:00:01", epochs=5000) == 0
    (node,) = nodes(tmp_path)
    assert (node.status, node.reason) == ("incomplete", "trainer.max_time was up")
    assert 0 < node.end["steps"] < 50000


def test_a_node_that_was_left_running_is_told_as_killed(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    path = run(tmp_path) / LINEAGE
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    assert Run(run(tmp_path)).status == "killed"
    assert fit(tmp_path, "--ckpt_path=last") == 0
    assert [node.status for node in nodes(tmp_path)] == ["killed", "finished"]


def test_a_damaged_lineage_stops_a_resume_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, epochs=1) == 0
    (run(tmp_path) / LINEAGE).write_text("{")
    assert fit(tmp_path, "--ckpt_path=last") == 2
    assert f"{LINEAGE} is damaged" in capsys.readouterr().err
    assert (run(tmp_path) / LINEAGE).read_text() == "{"
    assert Run(run(tmp_path)).status == "unknown"


def test_a_rehearsal_writes_no_lineage(tmp_path: Path) -> None:
    assert fit(tmp_path, "--trainer.fast_dev_run=true") == 0
    assert not list(tmp_path.rglob(LINEAGE))


def test_a_resume_after_a_resume_is_still_exact(tmp_path: Path) -> None:
    assert fit(tmp_path, name="whole", epochs=3) == 0
    for epochs in (1, 2, 3):
        assert fit(tmp_path, *(["--ckpt_path=last"] if epochs > 1 else []), epochs=epochs) == 0
    assert same_weights(
        run(tmp_path) / "checkpoints/resume.ckpt", run(tmp_path, 0, "whole") / "checkpoints/resume.ckpt"
    )
    chain = nodes(tmp_path)
    assert [node.parent and node.parent.node for node in chain] == [None, chain[0].id, chain[1].id]


@pytest.mark.parametrize("name", ["a", "a/b"])
def test_a_parent_is_named_from_the_folder_of_all_runs(name: str, tmp_path: Path) -> None:
    experiment = tmp_path / "runs" / name
    file = experiment / "version_0/checkpoints/resume.ckpt"
    file.parent.mkdir(parents=True)
    file.touch()
    trainer: Any = SimpleNamespace(default_root_dir=str(experiment / "version_1"), ckpt_path=str(file))
    lineage = Lineage()
    lineage._from = {"epoch": 1, "step": 20, "node": "n1"}
    parent = lineage._parent(trainer, {"name": name})
    assert parent is not None
    assert parent.checkpoint == f"{name}/version_0/checkpoints/resume.ckpt"
    assert (parent.run, parent.epoch, parent.step, parent.node) == (f"{name}/version_0", 1, 20, "n1")
    assert not parent.weights_only
    trainer.ckpt_path = None
    weights = lineage._parent(trainer, {"name": name, "model": {"weights": str(file)}})
    assert weights is not None
    assert weights.weights_only
    assert lineage._parent(trainer, {"name": name, "model": {"weights": "nowhere"}}) is None


def test_how_a_run_ends() -> None:
    assert how_it_ended(5, 5, "early stopping") == ("finished", "")
    assert how_it_ended(3, 5, "early stopping") == ("finished", "early stopping")
    assert how_it_ended(3, None, "") == ("finished", "")
    assert how_it_ended(3, -1, "a callback stopped it") == ("finished", "a callback stopped it")
    assert how_it_ended(0, 0, "") == ("finished", "")
    assert how_it_failed(Stopped(signal.SIGTERM)) == ("stopped", "SIGTERM")
    assert how_it_failed(Stopped(TIME_IS_UP)) == ("incomplete", "trainer.max_time was up")
    assert how_it_failed(KeyboardInterrupt()) == ("stopped", "SIGINT")
    assert how_it_failed(SystemExit(3)) == ("stopped", "exit 3")
    assert how_it_failed(ValueError()) == ("failed", "ValueError")
    assert how_it_failed(ValueError("first\nsecond")) == ("failed", "ValueError: first")


def test_early_stopping_is_the_reason(tmp_path: Path) -> None:
    options = [
        "--trainer.callbacks=EarlyStopping",
        "--trainer.callbacks.monitor=val_acc",
        "--trainer.callbacks.mode=min",
    ]
    assert fit(tmp_path, *options, "--trainer.callbacks.patience=1", "--model.optimizer=torch.optim.SGD", epochs=9) == 0
    (node,) = nodes(tmp_path)
    assert node.status == "finished"
    assert node.reason.startswith("early stopping: val_acc")


def test_data_is_compared_by_fingerprint() -> None:
    before = {"counts": {"train": 1000, "val": 5}, "fingerprints": {"train": "a" * 16, "val": "b"}}
    now = {"counts": {"train": 999, "val": 5}, "fingerprints": {"train": "c" * 16, "val": "b"}}
    assert data_changes(before, before) == []
    assert data_changes(before, now) == [f"train 1,000 -> 999 samples (fingerprint {'a' * 12} -> {'c' * 12})"]
    assert data_changes({}, now) == []
    assert data_changes(before, now, ("val",)) == []


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_is_that_of_the_packages_own_repository(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    assert code_state(package)["commit"] is None
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("package/\n")
    git(tmp_path, "add", ".gitignore")
    git(tmp_path, "commit", "-m", "another's")
    assert code_state(package)["commit"] is None  # installed into another's tree
    git(tmp_path, "add", "-f", "package/__init__.py")
    git(tmp_path, "commit", "-m", "own")
    state = code_state(package)
    assert state["commit"] is not None
    assert state["dirty"] is False
    (package / "__init__.py").write_text("changed\n")
    assert code_state(package) == {**state, "dirty": True}


@pytest.mark.parametrize(("split", "refused"), [("train", True), ("val", True), ("test", False)])
def test_training_and_validation_images_must_be_those_of_the_checkpoint(
    split: str, refused: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {"fingerprints": dict.fromkeys(("train", "val", "test"), "a"), "counts": {}}
    lineage = Lineage()
    lineage._data = {**before, "fingerprints": {**before["fingerprints"], split: "b"}}
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"), is_global_zero=True, max_epochs=3)
    checkpoint = {LINEAGE_KEY: {"data": before, "node": "n"}, "epoch": 1, "global_step": 20}
    if refused:
        with pytest.raises(DataError, match=f"the data is not what the checkpoint was trained with: {split} "):
            lineage.on_load_checkpoint(trainer, LightningModule(), checkpoint)
        lineage.allow_changed_data = True
    lineage.on_load_checkpoint(trainer, LightningModule(), checkpoint)
    assert f"changed data: {split} " in capsys.readouterr().out
    assert (lineage.first_step, lineage._from) == (20, {"epoch": 1, "step": 20, "node": "n"})


def test_a_split_that_was_not_there_before_is_a_change() -> None:
    before, now = {"fingerprints": {"train": "a"}}, {"fingerprints": {"train": "a", "val": "b"}, "counts": {"val": 7}}
    assert data_changes(before, now) == ["val 0 -> 7 samples (fingerprint none -> b)"]
    assert data_changes({}, now) == []


def begun(tmp_path: Path, status: str = "running") -> tuple[Lineage, Any]:
    """Return the callback of a run of 2 whole epochs, which is in its third, and its trainer."""
    lineage = Lineage()
    lineage.node = Node("n2", "then", status)
    lineage._earlier = [Node("n1", "before", "stopped")]
    best = BestCheckpoint("val_loss", "min")
    best.best = {"best": 0.5, "epoch": 1}
    current = {"ready": 3, "started": 3, "processed": 2, "completed": 2}
    trainer: Any = SimpleNamespace(
        default_root_dir=str(tmp_path), global_step=25, current_epoch=9, max_epochs=5, checkpoint_callbacks=[best],
        fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(state_dict=lambda: {"current": current})),
        should_stop=False, early_stopping_callbacks=[],
    )  # fmt: skip
    return lineage, trainer


def test_a_node_tells_how_far_it_is_while_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    lineage, trainer = begun(tmp_path)
    lineage._begun = time.monotonic() - 34.26
    lineage.on_better_validation(trainer, LightningModule())
    earlier, running = read_lineage(tmp_path)
    assert (earlier.id, earlier.status) == ("n1", "stopped")
    assert (running.status, running.ended, running.end) == ("running", "", {"epochs": 2, "steps": 25})
    assert running.monitor == {"name": "val_loss", "mode": "min", "best": 0.5, "epoch": 1}
    assert 34.3 <= running.wall_s < 36
    lineage.on_fit_end(trainer, LightningModule())  # which Lightning calls alone where nothing was left
    lineage.teardown(trainer, LightningModule(), "fit")
    assert (lineage.node and lineage.node.status, read_lineage(tmp_path)[1].status) == ("finished", "finished")
    assert read_lineage(tmp_path)[1].ended


@pytest.mark.parametrize(
    ("before", "error", "how", "after"),
    [
        ("running", Stopped(signal.SIGTERM), "on_exception", ("stopped", "SIGTERM")),
        ("running", ValueError("bad"), "on_exception", ("failed", "ValueError: bad")),
        ("finished", Stopped(signal.SIGTERM), "on_exception", ("finished", "SIGTERM")),
        ("finished", ValueError("bad"), "on_exception", ("failed", "ValueError: bad")),
        ("running", Stopped(signal.SIGTERM), "close", ("stopped", "SIGTERM")),
        ("running", ValueError("bad"), "close", ("failed", "ValueError: bad")),
        ("finished", ValueError("bad"), "close", ("finished", "")),
    ],
)
def test_what_has_ended_well_is_not_called_stopped(
    before: str, error: BaseException, how: str, after: tuple[str, str], tmp_path: Path
) -> None:
    lineage, trainer = begun(tmp_path, before)
    if how == "close":
        lineage.close(trainer, error)
    else:
        lineage.on_exception(trainer, LightningModule(), error)
    assert lineage.node is not None
    assert (lineage.node.status, lineage.node.reason) == after
    lineage.on_fit_end(trainer, LightningModule())
    assert (lineage.node.status, lineage.node.reason) == after


def test_why_a_callback_has_ended_a_run(tmp_path: Path) -> None:
    lineage, trainer = begun(tmp_path)
    patient, other = EarlyStopping("val_acc", patience=3, mode="max"), EarlyStopping("val_loss", patience=3)
    trainer.early_stopping_callbacks = [patient, other]

    def why() -> str:
        checkpoint: dict[str, Any] = {}
        lineage.on_save_checkpoint(trainer, LightningModule(), checkpoint)
        return str(checkpoint[LINEAGE_KEY][STOPPED_KEY])

    other.wait_count = 3
    assert why() == ""
    trainer.should_stop = True
    assert why() == "early stopping: val_loss did not get better for 3 validations"
    patient.wait_count = 5  # of a run that went on after it
    assert why() == "early stopping: val_acc did not get better for 5 validations"
    patient.wait_count, other.wait_count = 2, 1
    assert why() == "a callback stopped it"
    other.stopped_epoch, other.stopping_reason_message = 4, "val_loss is\n  NaN"
    assert why() == "early stopping: val_loss is NaN"


@pytest.mark.parametrize(
    ("branched", "limit", "refused"),
    [(True, 2, True), (True, 1, True), (True, 3, False), (True, -1, False), (True, None, False), (False, 2, False)],
)
def test_a_changed_run_needs_more_epochs_than_are_done(branched: bool, limit: int | None, refused: bool) -> None:
    lineage = Lineage()
    lineage.branched = branched
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"), is_global_zero=True, max_epochs=limit)
    current = {"processed": 2, "ready": 2, "started": 2, "completed": 1}
    checkpoint = {"epoch": 1, "global_step": 20, "loops": {"fit_loop": {"epoch_progress": {"current": current}}}}
    if refused:
        with pytest.raises(ConfigError, match=f"has 2 epochs done; raise --trainer.max_epochs, which is {limit}"):
            lineage.on_load_checkpoint(trainer, LightningModule(), checkpoint)
    else:
        lineage.on_load_checkpoint(trainer, LightningModule(), checkpoint)


def test_each_start_has_an_id_of_its_own() -> None:
    lineage, ids = Lineage(), set()
    trainer: Any = SimpleNamespace(datamodule=StripesDataModule())
    for _ in range(3):
        lineage.setup(trainer, LightningModule(), "fit")
        ids.add(lineage._id)
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{8}", each) for each in ids)
