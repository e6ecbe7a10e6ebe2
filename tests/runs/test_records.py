from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fer_lightning.errors import CheckpointError, ConfigError, DataError
from fer_lightning.files import file_digest
from fer_lightning.runs.checkpoint import BEST
from fer_lightning.runs.lineage import Node, Parent, lineage_text
from fer_lightning.runs.records import Run, RunRecord, read_record


def test_a_run_that_has_just_begun_is_empty(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert (run.exists, run.status, run.history, run.config, run.lineage) == (False, "unknown", [], {}, [])
    assert not run.has_report("val")
    with pytest.raises(DataError, match=r"val/report\.json cannot be read: No such file.*; a run has it after"):
        run.report("val")
    with pytest.raises(CheckpointError, match=r"holds no best\.ckpt"):
        run.checkpoint(BEST)


def test_what_a_run_left_is_read(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / f"config{'' if number == 1 else f'_{number}'}.yaml").write_text(f"name: start {number}\n")
    (tmp_path / "config_x.yaml").write_text("name: of somebody\n")
    (tmp_path / "metrics.csv").write_text("epoch,val_acc,val_loss\n0,0.5,\n1,0.25,2\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/report.json").write_text(json.dumps({"accuracy": 0.5}))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / BEST).touch()
    run = Run(tmp_path)
    assert run.exists
    assert run.config == {"name": "start 10"}
    assert run.history == [{"epoch": 0.0, "val_acc": 0.5}, {"epoch": 1.0, "val_acc": 0.25, "val_loss": 2.0}]
    assert run.has_report("test")
    assert run.report("test") == {"accuracy": 0.5}
    assert run.checkpoint(BEST) == tmp_path / "checkpoints" / BEST
    (tmp_path / "config_10.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"config_10\.yaml is no configuration"):
        _ = run.config


def test_the_line_of_a_run_is_of_its_first_start_or_its_last_or_of_all(tmp_path: Path) -> None:
    folder = tmp_path / "a/version_0"
    (folder / "val").mkdir(parents=True)
    starts = [
        Node(
            f"n{number}", f"2026-01-0{number}T10:00:00+0000", status, ended="x", wall_s=10.26 * number,
            parent=Parent(f"c{number}", "0", run=f"r{number}"), end={"epochs": 3 * number},
            device={"hardware": f"d{number}"}, monitor={"name": f"m{number}", "mode": "max", "best": number / 10},
        )
        for number, status in ((1, "failed"), (2, "stopped"))
    ]  # fmt: skip
    (folder / "lineage.json").write_text(lineage_text(starts))
    (folder / "config.yaml").write_text("model: {backbone: fer_a}\n")
    report = {"f1_macro": 0.3, "accuracy": 0.4, "context": {"model": "fer_b"}}
    (folder / "val/report.json").write_text(json.dumps(report))
    record = read_record(folder, tmp_path)
    assert record == RunRecord(
        run="a/version_0", status="stopped", backbone="fer_b", epochs=6, monitor="m2", best=0.2, f1_macro=0.3,
        accuracy=0.4, device="d2", started="2026-01-01T10:00:00+0000", wall_s=30.8, size=record.size, parent="r1",
    )  # fmt: skip
    assert record.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("mode", "best"), [("max", 0.9), ("min", 0.3)])
def test_without_a_lineage_the_metrics_tell(tmp_path: Path, mode: str, best: float) -> None:
    folder = tmp_path / "a/version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,val_loss\n0,0.3\n1,0.9\n2,0.4\n")
    (folder / "config.yaml").write_text(
        f"model: {{backbone: fer_a}}\ncheckpoint: {{monitor: val_loss, mode: {mode}}}\n"
    )
    record = read_record(folder, tmp_path)
    assert (record.epochs, record.monitor, record.best, record.backbone) == (3, "val_loss", best, "fer_a")
    assert (record.status, record.wall_s, record.parent) == ("unknown", None, "")


@pytest.mark.parametrize("module", ["checkpoint", "folder", "lineage", "lock", "records", "tree"])
def test_readers_do_not_import_torch(module: str) -> None:
    code = f"import sys, fer_lightning.runs.{module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_evaluation_of_a_checkpoint_as_it_is_now_is_found(tmp_path: Path) -> None:
    run, best = Run(tmp_path), tmp_path / "best.ckpt"
    best.write_text("second")

    def write(name: str, **context: object) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps({"context": context}))

    sha256 = file_digest(best, "sha256")
    assert run.evaluation("test", best) is None
    write("test", sha256="of the first")
    write("test-0b", sha256=sha256, settings={"model.tau": "0.5"})
    (tmp_path / "test-0c").mkdir()
    (tmp_path / "test-0c/report.json").write_text("{")
    write("testing", sha256=sha256)
    assert run.evaluation("test", best) is None
    write("test-0d", sha256=sha256, settings={})
    assert run.evaluation("test", best) == "test-0d"
    assert run.evaluation("test", tmp_path / "gone.ckpt") == "test"
