from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fer_lightning.cli import begin, end_watch, tracking
from fer_lightning.cli.end_watch import EndWatch
from fer_lightning.cli.tracking import tracking_uri
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.errors import ConfigError, MissingExtraError
from fer_lightning.runs.lineage import read_lineage
from fer_lightning.runs.lock import LOCK
from tests.helpers.cli import fit, same_weights
from tests.helpers.parts import StoppedError
from tests.kill_grid import COMMON, child

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")

LOG = "--trainer.log_every_n_steps=3"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database, whose tables take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def the_run(folder: Path) -> Any:
    """Return the MLflow run of a run folder."""
    known = read_lineage(folder)[-1].mlflow
    assert known is not None
    return mlflow.MlflowClient(known["uri"]).get_run(known["run_id"])


def history(folder: Path, name: str) -> list[tuple[int, float]]:
    known = read_lineage(folder)[-1].mlflow
    assert known is not None
    points = mlflow.MlflowClient(known["uri"]).get_metric_history(known["run_id"], name)
    return sorted((point.step, point.value) for point in points)


def files(folder: Path) -> set[str]:
    known = read_lineage(folder)[-1].mlflow
    assert known is not None
    client = mlflow.MlflowClient(known["uri"])

    def below(path: str | None) -> Iterator[str]:
        for one in client.list_artifacts(known["run_id"], path):
            yield from below(one.path) if one.is_dir else [one.path]

    return set(below(None))


def columns(folder: Path, name: str) -> list[float]:
    rows = (folder / "metrics.csv").read_text().splitlines()
    return [float(row.split(",")[rows[0].split(",").index(name)]) for row in rows[1:]]


@pytest.mark.parametrize(
    ("wanted", "uri"),
    [
        (None, None),
        (False, None),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql+psycopg2://a@b/c", "postgresql+psycopg2://a@b/c"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_addresses(wanted: bool | str | None, uri: str | None) -> None:
    assert tracking_uri(wanted, Path("runs")) == uri


def test_the_usual_place_is_with_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(True, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert tracking_uri(True, tmp_path) == "http://there"


@pytest.mark.parametrize("wanted", ["mlruns", "./mlruns", "file:///tmp/mlruns", "ftp://a", ""])
def test_what_is_no_address_is_told(wanted: str) -> None:
    with pytest.raises(ConfigError, match=r"mlflow must be true, .*not '"):
        tracking_uri(wanted, Path("runs"))


def test_a_run_is_tracked_and_goes_on_after_a_resume(tmp_path: Path, store: str) -> None:
    assert fit(tmp_path, f"--mlflow={store}", LOG, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    run = the_run(folder)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny/version_0"
    assert run.data.params["data.batch_size"] == "8"
    assert run.data.params["trainer.max_epochs"] == "1"
    node = read_lineage(folder)[0]
    assert run.data.tags["fer.node"] == node.id
    assert run.data.tags["fer.data.train"] == node.data["fingerprints"]["train"]
    assert run.data.tags["fer.status"] == "finished"
    assert [step for step, _ in history(folder, "train_loss_step")] == [2, 5, 8]
    assert {"config.yaml", "lineage.json", "metrics.csv", "val/report.json"} <= files(folder)
    assert not any(name.endswith(".ckpt") for name in files(folder))
    # the resume asks for nothing: what was tracked stays tracked
    assert fit(tmp_path, "--ckpt_path=last", "--mlflow_checkpoints=true", epochs=3) == 0
    assert the_run(folder).info.run_id == run.info.run_id
    assert [value for _, value in history(folder, "val_acc")] == pytest.approx(columns(folder, "val_acc"), rel=1e-5)
    assert the_run(folder).data.params["trainer.max_epochs"] == "1"  # MLflow lets no parameter change
    assert {"checkpoints/best.ckpt", "config_2.yaml"} <= files(folder)


def test_tracking_changes_no_weight(tmp_path: Path, store: str) -> None:
    assert fit(tmp_path, f"--mlflow={store}", LOG, name="tracked") == 0
    assert fit(tmp_path, LOG, name="plain") == 0
    last = "version_0/checkpoints/resume.ckpt"
    assert same_weights(tmp_path / "tracked" / last, tmp_path / "plain" / last)


def test_a_branch_is_a_run_of_its_own_that_names_its_parent(tmp_path: Path, store: str) -> None:
    assert fit(tmp_path, f"--mlflow={store}", epochs=1) == 0
    assert fit(tmp_path, "--ckpt_path=last", "--seed_everything=4") == 0
    first, second = the_run(tmp_path / "tiny/version_0"), the_run(tmp_path / "tiny/version_1")
    assert first.info.run_id != second.info.run_id
    assert second.data.tags["fer.parent"] == first.data.tags["fer.node"]
    assert second.data.params["seed_everything"] == "4"


def test_a_failed_run_is_failed_there_too(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_TEST_STOP_AT", "13")
    with pytest.raises(StoppedError):
        fit(tmp_path, f"--mlflow={store}", "--trainer.callbacks+=tests.helpers.parts.StopAt")
    run = the_run(tmp_path / "tiny/version_0")
    assert (run.info.status, run.data.tags["fer.status"]) == ("FAILED", "failed")
    assert "val/report.json" in files(tmp_path / "tiny/version_0")


def test_a_run_that_was_deleted_there_is_begun_anew(
    tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, f"--mlflow={store}", epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    gone = the_run(folder).info.run_id
    mlflow.MlflowClient(store).delete_run(gone)
    assert fit(tmp_path, "--ckpt_path=last", epochs=2) == 0
    assert f"MLflow has no run {gone} any more" in capsys.readouterr().err
    second = the_run(folder).info.run_id
    assert second != gone
    assert fit(tmp_path, "--ckpt_path=last", epochs=3) == 0
    assert the_run(folder).info.run_id == second
    assert "has no run" not in capsys.readouterr().err


def test_a_store_that_cannot_be_used_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert fit(tmp_path, f"--mlflow=http://127.0.0.1:{free_port()}") == 2
    assert "the server does not answer" in capsys.readouterr().err
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 50)
    assert fit(tmp_path, f"--mlflow=sqlite:///{tmp_path}/text.db") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fer: error:")]
    assert len(errors) == 1
    assert "cannot be used" in errors[0]
    assert "file is not a database" in errors[0]
    assert not (tmp_path / "tiny").exists()


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert fit(tmp_path, "--mlflow=true") == 2
    assert "pip install 'fer_lightning[track]'" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(("uri", "missing"), [("sqlite:///a.db", "alembic"), ("http://127.0.0.1:1", "")])
def test_what_a_database_needs_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, missing: str
) -> None:
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("fer_lightning.extras.find_spec", lambda name: None if name == "alembic" else found(name))
    monkeypatch.setattr(tracking, "MLflowTracker", lambda *given: SimpleNamespace(start=lambda: None))
    if missing:
        with pytest.raises(MissingExtraError, match=f"--mlflow needs {missing}: pip"):
            tracking.start_tracking(uri, tmp_path, tmp_path, "a", False)
    else:
        assert tracking.start_tracking(uri, tmp_path, tmp_path, "a", False) is not None


@pytest.mark.parametrize(
    ("status", "there"),
    [("finished", "FINISHED"), ("failed", "FAILED"), ("stopped", "KILLED"), ("incomplete", "KILLED")],
)
def test_a_run_is_closed_once_in_the_words_of_mlflow(status: str, there: str) -> None:
    sent: list[Any] = []
    own: Any = SimpleNamespace(ended=False, run_id="1", experiment=SimpleNamespace(set_tag=None))
    own.send = lambda what, function, *arguments: sent.append(arguments)
    own.finalize = lambda: setattr(own, "ended", True)
    for _ in range(2):
        tracking.RunTracking(own).close(status)
    assert own.status == there
    assert sent == [("1", "fer.status", status)]


class Hangs(Callback):
    """Waits in the main thread and hears no signal; meanwhile signals come, or another process of the run fails."""

    watches: ClassVar[list[EndWatch]] = []

    def __init__(self, place: str, signals: list[int] | None = None) -> None:
        self.place, self.signals = place, signals or []

    def _hang(self, place: str) -> None:
        if place == self.place:
            signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
            threading.Thread(target=self._strike, daemon=True).start()
            threading.Event().wait(60)

    def _strike(self) -> None:
        time.sleep(0.1)  # now the main thread waits
        for signum in self.signals:
            os.kill(os.getpid(), signum)
            time.sleep(0.1)
        if not self.signals:
            failed = subprocess.Popen(["false"])
            failed.wait()
            self.watches[-1].processes = [failed]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._hang("setup")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._hang(str(trainer.global_step))


@pytest.mark.parametrize(
    ("place", "signals", "code", "statuses", "reason"),
    [
        ("setup", [signal.SIGTERM], 143, ("KILLED", "stopped"), None),
        pytest.param("5", 3 * [signal.SIGINT], 130, ("KILLED", "stopped"), "SIGINT", marks=pytest.mark.slow),
        ("5", [], 1, ("FAILED", "failed"), "FERError: process 1 has ended with exit code 1"),
    ],
)
def test_a_run_whose_process_has_to_be_ended_is_not_left_running(
    tmp_path: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    signals: list[int],
    code: int,
    statuses: tuple[str, str],
    reason: str | None,
) -> None:
    monkeypatch.setattr(end_watch, "_UNHEARD_S", 0.2)
    monkeypatch.setattr(end_watch, "_ENDING_S", 0.2)
    monkeypatch.setattr(end_watch, "_SAME_S", 0.05)
    monkeypatch.setattr(begin, "watch_processes", lambda strategy, watch: Hangs.watches.append(watch))
    hangs = ["--trainer.callbacks+=tests.cli.test_tracking.Hangs", f"--trainer.callbacks.place={place}"]
    hangs += [f"--trainer.callbacks.signals={[int(signum) for signum in signals]}"]
    arguments = [*COMMON, f"--name={tmp_path.name}", f"--mlflow={store}", *hangs]
    assert child(["fit", *arguments, f"--trainer.default_root_dir={tmp_path}/runs"], tmp_path / "log") == code
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(tmp_path.name).experiment_id
    (run,) = client.search_runs([experiment])
    assert (run.info.status, run.data.tags["fer.status"]) == statuses
    folder = tmp_path / "runs" / tmp_path.name / "version_0"
    assert folder.exists() is (reason is not None)
    if reason is not None:
        assert [(node.status, node.reason) for node in read_lineage(folder)] == [(statuses[1], reason)]
        assert not (folder / LOCK).exists()


def test_a_run_that_is_stopped_before_the_trainer_begins_is_not_left_running(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FERCLI, "execute", lambda cli: signal.raise_signal(signal.SIGTERM))
    assert fit(tmp_path / "runs", f"--mlflow={store}", name=tmp_path.name) == 143
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    assert run.info.status == "KILLED"
    assert not (tmp_path / "runs").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server; the slim package has none, ``FER_TEST_MLFLOW`` may name a program of the full one."""
    program = os.environ.get("FER_TEST_MLFLOW") or shutil.which("mlflow", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("there is no program `mlflow`")
    port = free_port()
    line = [program, "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1"]
    line += ["--artifacts-destination", str(tmp_path / "artifacts"), "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        for _ in range(240):
            if process.poll() is not None:
                said = (tmp_path / "server.log").read_text().strip().splitlines()
                pytest.skip(f"no server can be started: {said[-1] if said else 'it says nothing'}")
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.skip("the server does not come up in two minutes")
        yield uri, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_real_server_keeps_a_run(tmp_path: Path, server: tuple[str, subprocess.Popen[bytes]]) -> None:
    assert fit(tmp_path, f"--mlflow={server[0]}", LOG) == 0
    folder = tmp_path / "tiny/version_0"
    run = the_run(folder)
    assert run.info.status == "FINISHED"
    assert [value for _, value in history(folder, "val_acc")] == pytest.approx(columns(folder, "val_acc"), rel=1e-5)
    assert {"config.yaml", "val/report.json"} <= files(folder)


class KillsServer(Callback):
    """Ends the process group that the environment names after some batches."""

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == 5:
            os.killpg(int(os.environ["FER_TEST_KILL_GROUP"]), signal.SIGKILL)


@pytest.mark.slow
def test_a_server_that_goes_away_does_not_end_a_run(
    tmp_path: Path,
    server: tuple[str, subprocess.Popen[bytes]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # a busy machine; a server that is gone is known at once
    monkeypatch.setenv("FER_TEST_KILL_GROUP", str(server[1].pid))
    assert fit(tmp_path, f"--mlflow={server[0]}", LOG, "--trainer.callbacks+=tests.cli.test_tracking.KillsServer") == 0
    assert capsys.readouterr().err.count("failed (") == 1
    assert json.loads((tmp_path / "tiny/version_0/lineage.json").read_text())["nodes"][0]["status"] == "finished"
    assert torch.load(tmp_path / "tiny/version_0/checkpoints/resume.ckpt", weights_only=True)["global_step"] == 20
