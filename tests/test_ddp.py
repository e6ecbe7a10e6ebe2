"""Several processes: the same numbers as one, one set of files, exact resuming, one line for an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_lightning.runs.looks import read_looks
from tests.helpers.cli import TINY, fer, fit, same_weights, weights
from tests.helpers.processes import (
    FIXED,
    REPOSITORY,
    TWO,
    children,
    command,
    environment,
    free_port,
    metrics,
    slurm,
    start,
    torchrun,
)
from tests.test_ends import everything

STOP = "--trainer.callbacks+=tests.helpers.parts.StopAt"
UNEVEN = ["--data.train=87", "--data.val=29", "--data.test=27"]  # nothing of it can be halved
SMOOTH = ["--model.backbone=tests.helpers.parts.SmoothBackbone", "--data.augment=BatchAugment"]
SGD = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05"]
HALF = "--data.batch_size=4"
PATIENCE_S = 280
FILES = {"best.ckpt", "config.yaml", "metrics.csv", "per_class.csv", "predictions.csv", "report.json", "resume.ckpt"}


def run(line: list[str], **variables: str) -> tuple[int, str]:
    """Run a Python process and return its exit code and all that it printed."""
    done = subprocess.run(
        [sys.executable, *line],
        env=environment(**variables),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def one_set_of_files(name: Path) -> bool:
    """Tell whether a name has one run folder, with each file once."""
    assert [folder.name for folder in name.iterdir()] == ["version_0"]
    found = sorted(path.name for path in name.rglob("*") if path.is_file())
    assert sum(file.startswith("events.") for file in found) == 1
    assert set(found) >= FILES
    assert not [file for file in found if file.startswith("run.lock")]
    return len(found) == len(set(found))


def differences(first: Path, second: Path) -> tuple[float, float]:
    """Return the largest differences of two runs, in a metric and in a weight."""
    one, two = metrics(first), metrics(second)
    assert one.keys() == two.keys()
    assert {"train_loss", "train_acc", "val_loss", "val_ece"} <= one.keys()
    of_metrics = max(abs(one[name] - two[name]) for name in one if name != "train_loss_step")  # that of process 0 alone
    ones, twos = (weights(folder / "checkpoints/resume.ckpt") for folder in (first, second))
    return of_metrics, max(float((ones[name] - twos[name]).abs().max()) for name in ones)


def test_two_processes_train_as_one_with_both_their_batches(tmp_path: Path) -> None:
    options = [*UNEVEN, *SMOOTH, *SGD, "--trainer.num_sanity_val_steps=0"]
    root = f"--trainer.default_root_dir={tmp_path}"
    code, printed = run(command("fit", *options, *TWO, HALF, root, "--trainer.max_epochs=2", "--name=two"))
    assert code == 0, printed[-2000:]
    assert "sync_dist" not in printed
    assert fit(tmp_path, *options, name="one") == 0
    of_metrics, of_weights = differences(tmp_path / "one/version_0", tmp_path / "two/version_0")
    assert of_metrics < 1e-5
    assert of_weights < 1e-6
    assert one_set_of_files(tmp_path / "two")
    reports = [json.loads((tmp_path / name / "version_0/val/report.json").read_text()) for name in ("one", "two")]
    assert [report["n"] for report in reports] == [29, 29]
    assert reports[0]["confusion_matrix"] == reports[1]["confusion_matrix"]


def test_torchrun_makes_one_run(tmp_path: Path) -> None:
    root = f"--trainer.default_root_dir={tmp_path}"
    code, printed = run(torchrun(*command("fit", *UNEVEN, *TWO, *FIXED, HALF, root), port=free_port()))
    assert code == 0, printed[-2000:]
    assert one_set_of_files(tmp_path / "default")
    assert printed.count("Best validation") == 1


@pytest.mark.slow  # tests/cli/test_peers.py lets threads be the processes
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([*TWO, "--data.batch_size=0"], "data.batch_size must be at least 1"),
        (["--trainer.devices=1"], "torchrun started 2 processes, but the trainer takes 1"),
    ],
)
def test_a_mistake_is_told_once_by_all_processes_together(tmp_path: Path, options: list[str], told: str) -> None:
    root = f"--trainer.default_root_dir={tmp_path}"
    code, printed = run(torchrun(*command("fit", *FIXED, root, *options), port=free_port()))
    assert code != 0
    assert printed.count("fer: error:") == printed.count(told) == 1
    assert "exitcode  : 2" in printed
    assert list(tmp_path.iterdir()) == []


def together(lines: list[list[str]], logs: Path, *variables: dict[str, str]) -> tuple[list[int], str]:
    """Run processes at once and return how each ended and all that they printed."""
    given = [variables[rank] if variables else {} for rank in range(len(lines))]
    started = [start(line, logs / f"{rank}.log", **given[rank]) for rank, line in enumerate(lines)]
    codes = [process.wait(PATIENCE_S) for process in started]
    return codes, "".join((logs / f"{rank}.log").read_text() for rank in range(len(lines)))


@pytest.mark.slow
def test_slurm_makes_one_run(tmp_path: Path) -> None:
    line = command("fit", *UNEVEN, *TWO, *FIXED, HALF, f"--trainer.default_root_dir={tmp_path}/runs")
    places = [{**slurm(rank, os.getpid()), "MASTER_PORT": str(port)} for port in [free_port()] for rank in (0, 1)]
    codes, printed = together([line, line], tmp_path, *places)
    assert codes == [0, 0], printed[-2000:]
    assert one_set_of_files(tmp_path / "runs/default")
    wrong = [*line, "--data.batch_size=0"]
    codes, printed = together([wrong, wrong], tmp_path, *places)
    assert codes == [2, 2]
    assert printed.count("fer: error:") == 1


@pytest.mark.slow
def test_two_machines_make_one_run(tmp_path: Path) -> None:
    nodes = ["--trainer.devices=1", "--trainer.num_nodes=2", "--trainer.strategy=ddp"]
    line = command("fit", *UNEVEN, *nodes, *FIXED, HALF, f"--trainer.default_root_dir={tmp_path}/runs")
    port = free_port()
    codes, printed = together([torchrun(*line, nodes=2, node=node, port=port) for node in (0, 1)], tmp_path)
    assert codes == [0, 0], printed[-2000:]
    assert one_set_of_files(tmp_path / "runs/default")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_two_processes_evaluate_as_one(tmp_path: Path, verb: str) -> None:
    assert fit(tmp_path, *UNEVEN, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    quiet = "--trainer.enable_progress_bar=false"
    written = []
    for devices in ([], TWO):
        code, printed = run(
            ["-m", "fer_lightning", verb, f"--ckpt_path={folder}", "--trainer.accelerator=cpu", quiet, *devices]
        )
        assert code == 0, printed[-2000:]
        report = folder / verb / "report.json"
        written.append(
            [
                (folder / verb / "predictions.csv").read_text(),
                {**json.loads(report.read_text()), "context": None, "looks": None} if report.exists() else None,
            ]
        )
    assert written[0] == written[1]
    looks = [] if verb == "validate" else [(verb, 27)] * 2
    assert [(look.verb, look.n) for look in read_looks(tmp_path)] == looks


def alive(pids: list[int]) -> list[int]:
    """Return which processes still run."""
    stats = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [
        pid for pid, stat in stats.items() if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_the_run_goes_on_exactly(tmp_path: Path, rank: int) -> None:
    options = [*UNEVEN, *SGD, *TWO, HALF, "--trainer.max_epochs=2", "--resume_checkpoint.every_n_steps=3"]
    line = command("fit", *options, f"--trainer.default_root_dir={tmp_path}")
    kill = {"FER_TEST_STOP_AT": "17", "FER_TEST_KILL": "1", "FER_TEST_RANK": str(rank)}
    process = start([*line, "--name=parts", STOP], tmp_path / "log", **kill)
    seen: set[int] = set()
    while process.poll() is None:
        seen |= set(children(process.pid))
        time.sleep(0.05)
    assert process.returncode in (1, -signal.SIGKILL)
    until = time.monotonic() + 20
    while alive(list(seen)) and time.monotonic() < until:
        time.sleep(0.1)
    assert seen
    assert alive(list(seen)) == []
    for name, more in (("parts", ["--ckpt_path=last"]), ("whole", [])):
        code, printed = run([*line, f"--name={name}", *more])
        assert code == 0, printed[-2000:]
    folders = [tmp_path / name / "version_0/checkpoints" for name in ("whole", "parts")]
    assert all(same_weights(folders[0] / file, folders[1] / file) for file in ("resume.ckpt", "best.ckpt"))
    assert metrics(folders[0].parent) == metrics(folders[1].parent)


@pytest.mark.slow
def test_a_run_goes_on_on_another_number_of_devices_with_the_same_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    even = "--data.train=83"  # 20 whole batches of 4: Lightning would make a step of half an accumulation window
    options = [*UNEVEN, even, *SMOOTH, *SGD]
    more = [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1", "--resume_checkpoint.every_n_steps=3"]
    kill = {"FER_TEST_STOP_AT": "5", "FER_TEST_KILL": "1", "FER_TEST_RANK": "0"}
    code, _ = run(command("fit", *options, *TWO, HALF, *more, "--name=parts", STOP), **kill)
    assert code != 0
    checkpoint = f"--ckpt_path={tmp_path}/parts/version_0"
    alone = ["--trainer.devices=1", "--trainer.strategy=auto"]
    assert fer("fit", checkpoint, *alone) == 2
    error = capsys.readouterr().err
    assert "was 2 x 4 x 1 = 8 samples in a step and is 1 x 4 x 1 = 4; pass --data.batch_size 8 or" in error
    assert fer("fit", checkpoint, *alone, "--trainer.accumulate_grad_batches=2", "--name=parts") == 0
    assert "the run goes on with the same samples" in capsys.readouterr().out
    assert fer("fit", *TINY, *options, *more, "--name=whole") == 0
    ends = [sorted((tmp_path / name).glob("version_*"))[-1] / "checkpoints/resume.ckpt" for name in ("whole", "parts")]
    one, two = map(weights, ends)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6


def test_fsdp_on_a_cpu_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--trainer.strategy=fsdp") == 2
    assert "fsdp" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_several_machines_need_a_launcher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--trainer.num_nodes=2", "--trainer.strategy=ddp") == 2
    assert "start with torchrun or srun" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_command_starts_goes_on_after_a_kill_of_all_processes_and_then_does_nothing(tmp_path: Path) -> None:
    options = [*UNEVEN, *SGD, HALF, "--trainer.devices=2", "--trainer.max_epochs=4", "--ckpt_path=auto"]
    line = command("fit", *options, "--resume_checkpoint.every_n_steps=3")
    parts, log = [*line, f"--trainer.default_root_dir={tmp_path}/parts", "--name=run"], tmp_path / "log"
    process = start(parts, log)
    until = time.monotonic() + 200
    while "epoch 2/4" not in log.read_text() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    seen = children(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, log.read_text()
    assert seen
    code, printed = run(parts)
    assert code == 0, printed[-2000:]
    assert printed.count("took over ") == 1
    assert run([*line, f"--trainer.default_root_dir={tmp_path}/whole", "--name=run"])[0] == 0
    folders = [tmp_path / name / "run/version_0" for name in ("whole", "parts")]
    files = [[folder / "checkpoints" / file for folder in folders] for file in ("resume.ckpt", "best.ckpt")]
    assert all(same_weights(*pair) for pair in files)
    assert len({(folder / "metrics.csv").read_text() for folder in folders}) == 1
    before = everything(tmp_path / "parts")
    code, printed = run(parts)
    assert (code, printed.count("already complete: 4 of 4 epochs")) == (0, 1)
    assert everything(tmp_path / "parts") == before
