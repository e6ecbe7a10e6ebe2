from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from fer_lightning.errors import CheckpointError, ConfigError, DataError
from fer_lightning.files import file_digest
from fer_lightning.runs.checkpoint import BEST
from fer_lightning.runs.lineage import Node, Parent, lineage_text
from fer_lightning.runs.records import Run, RunRecord, find_run, read_record, read_records, read_report, sorted_records


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


def test_an_evaluation_of_an_older_version_is_taken_if_it_is_younger_than_the_checkpoint(tmp_path: Path) -> None:
    run, best = Run(tmp_path), tmp_path / "best.ckpt"
    best.write_text("second")
    for name, seconds in (("test", 90), ("test-0b", 100), ("validate", 300)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text('{"context": {"settings": {}}}')
        os.utime(tmp_path / name / "report.json", (seconds, seconds))
    for changed, found in ((80, "test"), (90, "test"), (95, "test-0b"), (100, "test-0b"), (101, None)):
        os.utime(best, (changed, changed))
        assert run.evaluation("test", best) == found
    assert run.evaluation("validate", best) == "validate"
    assert run.evaluation("explain", tmp_path / "gone.ckpt") is None


def test_all_evaluations_of_a_run_are_read(tmp_path: Path) -> None:
    for name, text in (("val", '{"n": 1}'), ("test-0b", '{"n": 2}'), ("test", "{"), ("val/deeper", '{"n": 3}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(text)
    assert Run(tmp_path).evaluations == {"test-0b": {"n": 2}, "val": {"n": 1}}
    (tmp_path / "report.json").write_text('{"n": 4}')
    assert Run(tmp_path).evaluations == {".": {"n": 4}, "test-0b": {"n": 2}, "val": {"n": 1}}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        *(([1], "is no report of an evaluation"), ({"context": 3}, "is damaged: 'context' is no JSON object")),
        ({"context": {"data": [1]}}, "is damaged: 'data' is no JSON object"),
        ({"context": {"data": {"fingerprints": "x"}}}, "is damaged: 'fingerprints' is no JSON object"),
        *(({"seen": 7}, "is damaged: 'seen' is no JSON object"), ({"seen": {"train": None, "val": None}}, "")),
        *(({}, ""), ({"seen": None}, ""), ({"seen": {"train": 3}}, "")),
        ({"seen": {"val": 3}}, "is damaged: seen.train is 'None', not a number of images"),
        ({"seen": {"train": "x", "val": 3}}, "is damaged: seen.train is 'x', not a number of images"),
        ({"seen": {"train": 3, "val": 0.5}}, "is damaged: seen.val is '0.5', not a number of images"),
    ],
)
def test_a_report_whose_values_are_of_another_kind_is_damaged(tmp_path: Path, values: object, wrong: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(values))
    if wrong:
        with pytest.raises(DataError) as caught:
            read_report(path)
        assert str(caught.value) == f"{path} {wrong}"
    else:
        assert read_report(path) == values


def test_each_trace_makes_a_folder_a_run(tmp_path: Path) -> None:
    for trace in ("lineage.json", "config.yaml", "metrics.csv", "checkpoints", "run.lock"):
        folder = tmp_path / trace.partition(".")[0] / "version_0"
        folder.mkdir(parents=True)
        assert not Run(folder).exists
        (folder / trace).touch()
        assert Run(folder).exists


def test_first_and_last_configuration(tmp_path: Path) -> None:
    for number in ("", "_2", "_11"):
        (tmp_path / f"config{number}.yaml").write_text(f"name: start{number}\n")
    assert (Run(tmp_path).first_config, Run(tmp_path).config) == ({"name": "start"}, {"name": "start_11"})


def a_run(root: Path, name: str, **node: object) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "lineage.json").write_text(lineage_text([Node(**{"id": name, "started": "t", "ended": "t", **node})]))  # type: ignore[arg-type]
    return folder


def test_epochs_are_those_of_the_end_or_of_the_metrics_or_of_the_start(tmp_path: Path) -> None:
    first = a_run(tmp_path, "a/version_0", start={"epochs": 4})
    assert read_record(first, tmp_path).epochs == 4
    (first / "metrics.csv").write_text("epoch,val_acc\n4,0.5\n5,0.75\n")
    (first / "config.yaml").write_text("checkpoint: {}\nmodel: {backbone: {class_path: pkg.Net}}\n")
    record = read_record(first, tmp_path)
    assert (record.epochs, record.monitor, record.best, record.backbone) == (6, "val_acc", 0.75, "pkg.Net")
    assert read_record(a_run(tmp_path, "b/version_0"), tmp_path).epochs == 0
    assert read_record(a_run(tmp_path, "c/version_0", end={"epochs": 9}, start={"epochs": 4}), tmp_path).epochs == 9
    bare = tmp_path / "d/version_0"
    bare.mkdir(parents=True)
    (bare / "config_2.yaml").write_text("name: d\n")
    (bare / "config_3.yaml").write_text("name: d\n")
    for number, seconds in ((2, 1_700_000_000), (3, 1_800_000_000)):
        os.utime(bare / f"config_{number}.yaml", (seconds, seconds))
    record = read_record(bare, tmp_path)
    assert (record.epochs, record.monitor, record.best, record.backbone, record.device) == (None, "", None, "", "")
    assert datetime.strptime(record.started, "%Y-%m-%dT%H:%M:%S%z").timestamp() == 1_700_000_000


def test_a_parent_without_a_run_is_named_by_its_file(tmp_path: Path) -> None:
    parent = Parent("else/best.ckpt", "0")
    assert read_record(a_run(tmp_path, "a/version_0", parent=parent), tmp_path).parent == "else/best.ckpt"


def test_runs_of_a_name_are_those_in_it_too(tmp_path: Path) -> None:
    for name in ("a/version_0", "a/deep/version_1", "ab/version_0", "b/a/version_0"):
        a_run(tmp_path, name)
    (tmp_path / "a/version_5").mkdir()

    def names(name: str | None) -> list[str]:
        return [record.run for record in read_records(tmp_path, name)]

    assert names("a") == ["a/version_0", "a/deep/version_1"]
    assert names("a/deep") == ["a/deep/version_1"]
    assert names(None) == ["a/version_0", "a/deep/version_1", "ab/version_0", "b/a/version_0"]
    with pytest.raises(ConfigError) as caught:
        next(read_records(tmp_path / "zz"))
    assert str(caught.value) == f"there is no folder {tmp_path / 'zz'}: give the folder of all runs with --root"


RECORDS = [
    RunRecord("c", "failed", best=0.5, monitor="val_loss", started="2026-01-02", wall_s=3.0, epochs=2, size=7),
    RunRecord("a", "stopped", best=0.9, monitor="val_acc", started="2026-01-03", wall_s=1.0, accuracy=0.7, size=9),
    RunRecord("b", "failed", best=0.0, started="2026-01-01", epochs=0, accuracy=0.8, size=8),
    RunRecord("d", "unreadable"),
]


@pytest.mark.parametrize(
    ("key", "order"),
    [
        *(("run", "abcd"), ("-run", "dcba"), ("best", "acbd"), ("-best", "bcad"), ("val_loss", "acbd")),
        *(("started", "acbd"), ("-started", "bcad"), ("wall_s", "cabd"), ("-wall_s", "acbd"), ("epochs", "cbad")),
        *(("val_acc", "acbd"), ("accuracy", "bacd"), ("size", "abcd"), ("f1_macro", "cabd"), ("parent", "cabd")),
    ],
)
def test_runs_are_sorted_by_any_value(key: str, order: str) -> None:
    assert "".join(record.run for record in sorted_records(RECORDS, key)) == order


def test_a_run_is_the_newest_of_its_name_and_others_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (2, 10, 9):
        a_run(tmp_path, f"x/version_{number}")
    (tmp_path / "x/version_11").mkdir()
    a_run(tmp_path, "x/deep/version_20")
    assert find_run("x", tmp_path) == tmp_path / "x/version_10"
    assert find_run("x/version_2", tmp_path) == tmp_path / "x/version_2"
    monkeypatch.chdir(tmp_path)
    assert find_run("x/deep", Path("else")) == Path("x/deep/version_20")
    for letter in "abcdef":
        a_run(tmp_path, f"{letter}/version_0")
    with pytest.raises(ConfigError) as caught:
        find_run("z", tmp_path)
    assert str(caught.value) == f"there is no run 'z' in {tmp_path}; there is a, b, c, d, e, f, x, x/deep"
    a_run(tmp_path, "g/version_0")
    with pytest.raises(ConfigError, match=r"; there is a, b, c, d, e, f, g, x \.\.\.$"):
        find_run("z", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        find_run("z", tmp_path / "empty")
    assert str(caught.value) == f"there is no run 'z' in {tmp_path / 'empty'}"
