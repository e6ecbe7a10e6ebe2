from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fer_lightning.errors import CheckpointError, ConfigError, DataError
from fer_lightning.runs.checkpoint import BEST
from fer_lightning.runs.records import Run


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


@pytest.mark.parametrize("module", ["checkpoint", "folder", "lineage", "lock", "records", "tree"])
def test_readers_do_not_import_torch(module: str) -> None:
    code = f"import sys, fer_lightning.runs.{module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
