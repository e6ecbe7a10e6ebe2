"""The end of a run is a state: started again it does nothing, unless it is given more."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.runs.lineage import lineage_text, read_lineage
from fer_lightning.runs.lock import LOCK, Holder
from tests.helpers.cli import fer, fit
from tests.runs.test_lock import dead_process, held_by

STOPS = [
    *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_acc", "--trainer.callbacks.mode=max"),
    *("--trainer.callbacks.min_delta=0.9", "--trainer.callbacks.patience=1"),
]
"""Nothing is ever better: it stops after the second epoch."""


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    """Return digest and time of every file in a folder, and the times of folders."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in (folder, *sorted(folder.rglob("*")))
    }


def epochs(root: Path) -> int:
    return len((root / "tiny/version_0/metrics.csv").read_text().splitlines()) - 1


def goes_on_by(said: str) -> list[str]:
    """Return the options that the line of a complete run proposes."""
    proposed = shlex.split(said.partition("; ")[2].removesuffix(" goes on"))
    return proposed[2:] if proposed[:2] == ["fer", "fit"] else proposed


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (("--trainer.max_epochs=1",), "1 of 1 epochs; --trainer.max_epochs 2 goes on"),
        (("--trainer.max_steps=4",), "4 of 4 steps; --trainer.max_steps 8 goes on"),
        ((*STOPS, "--trainer.max_epochs=5"), "early stopping: val_acc did not get better for 1 validations (after 2"),
    ],
    ids=["max_epochs", "max_steps", "early stopping"],
)
def test_a_complete_run_stays_as_it_is_and_says_what_goes_on(
    tmp_path: Path, limits: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*limits, "--data.num_workers=0"]
    assert fit(tmp_path, *run, epochs=-1) == 0
    folder, before, done = tmp_path / "tiny/version_0", everything(tmp_path), epochs(tmp_path)
    assert fer("runs", "list", f"--root={tmp_path}") == 0
    listed = capsys.readouterr().out.splitlines()[-1]
    for again in (
        [*run, "--ckpt_path=last"],
        ["--ckpt_path", str(folder)],
        ["--ckpt_path=last", "--data.num_workers=2"],
    ):
        given = again if "--ckpt_path" in again else [f"--trainer.default_root_dir={tmp_path}", "--name=tiny", *again]
        assert fer("fit", *given) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[-1].startswith(f"{folder} is already complete: {reason}")
        assert everything(tmp_path) == before
    assert fer("runs", "list", f"--root={tmp_path}") == 0
    assert capsys.readouterr().out.splitlines()[-1] == listed
    more = goes_on_by(said[-1])
    where = [] if "--ckpt_path" in more else ["--ckpt_path", str(folder)]
    assert fer("fit", *where, *more) == 0
    assert "already complete" not in capsys.readouterr().out
    assert epochs(tmp_path) > done or read_lineage(folder)[-1].end["steps"] == 8
    assert not (tmp_path / "tiny/version_1").exists()


@pytest.mark.parametrize("limits", [("--trainer.max_epochs=1",), (*STOPS, "--trainer.max_epochs=5")])
def test_a_run_that_was_killed_while_it_wrote_its_end_is_finished_without_another_epoch(
    tmp_path: Path, limits: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *limits) == 0
    folder, done = tmp_path / "tiny/version_0", epochs(tmp_path)
    (node,) = read_lineage(folder)
    (folder / "lineage.json").write_text(lineage_text([replace(node, status="running", ended="")]))
    held_by(folder, replace(Holder.myself(), pid=dead_process()))
    assert fit(tmp_path, *limits, "--ckpt_path=last") == 0
    assert "already complete" not in capsys.readouterr().out
    assert [node.status for node in read_lineage(folder)] == ["killed", "finished"]
    assert read_lineage(folder)[-1].reason == node.reason
    assert epochs(tmp_path) == done
    assert not (folder / LOCK).exists()
    before = everything(tmp_path)
    assert fit(tmp_path, *limits, "--ckpt_path=last") == 0
    assert everything(tmp_path) == before


def test_a_stopped_run_that_has_more_than_the_new_limit_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, "--data.num_workers=0", epochs=2) == 0
    lineage = tmp_path / "tiny/version_0/lineage.json"
    nodes = [replace(node, status="stopped") for node in read_lineage(lineage.parent)]
    lineage.write_text(lineage_text(nodes))
    before = everything(tmp_path)
    assert fit(tmp_path, "--data.num_workers=0", "--ckpt_path=last", epochs=1) == 0
    assert "2 of 1 epochs; --trainer.max_epochs 4 goes on" in capsys.readouterr().out
    assert everything(tmp_path) == before
