from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.runs.lineage import LINEAGE, Change, Node, Parent, lineage_text
from fer_lightning.runs.lock import LOCK, Holder
from fer_lightning.runs.records import Run, RunRecord, find_run, read_records, sorted_records
from tests.helpers.cli import fer, fit
from tests.runs.test_lock import dead_process


def written(root: Path, run: str, *nodes: Node, f1: float | None = None, **files: str) -> Path:
    """Write a run folder as a run would leave it."""
    folder = root / run
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {backbone: fer_a}\ncheckpoint: {monitor: val_acc, mode: max}\n")
    if nodes:
        (folder / LINEAGE).write_text(lineage_text(list(nodes)))
    if f1 is not None:
        (folder / "val").mkdir()
        report = {"f1_macro": f1, "accuracy": f1 + 0.01, "context": {"model": "fer_b", "hardware": "a CPU"}}
        (folder / "val/report.json").write_text(json.dumps(report))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def a_node(number: int, parent: Node | None = None, run: str = "a/version_0", **values: Any) -> Node:
    origin = None if parent is None else Parent(f"{run}/checkpoints/resume.ckpt", "0" * 64, 1, 10, run, parent.id)
    fields: dict[str, Any] = {
        "status": "finished",
        "parent": origin,
        "end": {"epochs": number},
        "start": {"epochs": 0, "steps": 0},
        "monitor": {"name": "val_acc", "mode": "max", "best": number / 10, "epoch": 0},
        "wall_s": 60.0,
        "device": {"hardware": "a CPU"},
    }
    return Node(id=f"node{number}", started=f"2026-01-0{number}T10:00:00+0000", **{**fields, **values})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three related runs, one without lineage, and folders that are none."""
    first, second = a_node(1), a_node(2, a_node(1))
    written(tmp_path, "a/version_0", first, second, f1=0.5)
    branch = a_node(3, second, changed=[Change("model.optimizer.lr", 2e-5, 1e-5)])
    written(tmp_path, "a/version_10", branch, f1=0.7)
    written(tmp_path, "b/deep/version_2", a_node(4, branch, run="a/version_10", status="failed", reason="E: x"))
    written(tmp_path, "old/version_0", metrics_csv="epoch,val_acc\n0,0.3\n1,0.9\n2,0.4\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "b" / "version_x").mkdir()
    (tmp_path / "b" / "version_7").mkdir()
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert fer("runs", *args) == 0
    return capsys.readouterr().out


def test_a_line_for_each_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "list", "--root", str(root)).splitlines()
    assert lines[0].split()[:3] == ["run", "status", "backbone"]
    assert [line.split()[0] for line in lines[1:]] == [
        "a/version_0",
        "a/version_10",
        "b/deep/version_2",
        "old/version_0",
    ]
    assert lines[1].split()[1:6] == ["finished", "fer_b", "2", "0.2000", "0.5000"]
    assert "  2m " in lines[1]  # of both starts
    assert lines[3].split()[1] == "failed"
    assert lines[4].split()[1:5] == ["unknown", "fer_a", "3", "0.9000"]
    assert "\033" not in "".join(lines)


def test_runs_are_sorted_best_or_newest_first_and_those_without_a_value_last(root: Path) -> None:
    records = list(read_records(root))

    def order(key: str) -> list[str]:
        return [record.run for record in sorted_records(records, key)]

    assert order("val_acc")[0] == "old/version_0"
    assert order("-val_acc")[:2] == ["a/version_0", "a/version_10"]
    assert order("f1_macro")[:2] == ["a/version_10", "a/version_0"]
    assert order("-f1_macro")[-2:] == ["b/deep/version_2", "old/version_0"]
    assert order("run")[0] == "a/version_0"
    newest_first = [run for run in order("started") if run != "old/version_0"]  # which says when its file was written
    assert newest_first == ["b/deep/version_2", "a/version_10", "a/version_0"]
    with pytest.raises(ConfigError, match=r"sorted by 'colour'; known: accuracy.*wall_s"):
        order("colour")


def test_names_and_forms(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads(listed(capsys, "list", "--root", str(root), "--json"))
    assert len(values) == 4
    assert values[2]["parent"] == "a/version_10"
    rows = list(csv.DictReader(io.StringIO(listed(capsys, "list", "--root", str(root), "--csv", "--name", "b"))))
    assert [row["run"] for row in rows] == ["b/deep/version_2"]
    assert "no runs in" in listed(capsys, "list", "--root", str(root), "--name", "none")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (LINEAGE, "{", "lineage.json is damaged"),
        (LINEAGE, '{"schema": 99, "nodes": []}', "newer fer_lightning"),
        (LINEAGE, '{"schema": 1, "nodes": [{"id": 3}]}', "damaged"),
        (LINEAGE, "[]", "damaged"),
        (LINEAGE, "\xff", "damaged"),
        ("val/report.json", "{", "report.json is damaged"),
        ("val/report.json", "[1]", "is no report"),
        ("val/report.json", '{"context": 3}', "unreadable"),
        ("metrics.csv", "epoch,val_acc\n0,much\n", "metrics.csv is damaged"),
        ("metrics.csv", "epoch\n0,1,2\n", "metrics.csv is damaged"),
    ],
)
def test_a_damaged_run_is_one_line_and_the_others_are_listed(
    root: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, said: str
) -> None:
    path = root / "a/version_0" / file
    path.write_text(content)
    lines = listed(capsys, "list", "--root", str(root)).splitlines()
    assert len(lines) == 5
    (line,) = [line for line in lines if line.startswith("a/version_0 ")]
    assert "unreadable: " in line
    assert said in line
    assert "a/version_0" in listed(capsys, "show", "a/version_0", "--root", str(root))


def test_a_damaged_config_matters_where_it_is_needed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "old/version_0/config.yaml").write_text("a: [")
    assert "old/version_0  unreadable: config.yaml is damaged" in listed(capsys, "list", "--root", str(root))


def test_a_run_is_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = listed(capsys, "show", "a", "--root", str(root))
    assert "a/version_10  finished" in out
    assert "from a/version_0/checkpoints/resume.ckpt" in out
    assert "model.optimizer.lr 2e-5 -> 1e-5" in out
    assert "model.backbone" in out
    assert "val/report.json" in out
    values = json.loads(listed(capsys, "show", "b/deep/version_2", "--root", str(root), "--json"))
    assert values["status"] == "failed"
    assert values["nodes"][0]["reason"] == "E: x"
    assert values["config"]["model"]["backbone"] == "fer_a"


def test_all_that_is_shown_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: dict[str, Any] = {
        "environment": {"python": "3.11"},
        "seed": 3,
        "command": "fer fit",
        "data": {"datamodule": "Faces"},
    }
    first = a_node(1, status="stopped", wall_s=59.4, reason="SIGTERM", code={"package": "0.1", "commit": "a" * 40})
    second = a_node(2, first, wall_s=3899.0, code={"package": "0.2", "commit": "b" * 40, "dirty": True}, **said)
    second.data = {"datamodule": "Faces", "counts": {"train": 1234}, "fingerprints": {"train": "f0", "val": "f1"}}
    second.changed = [Change("model.optimizer.lr", 2e-5, 1e-5)]
    second.parent = replace(second.parent, sha256="0123456789abcdef", weights_only=True) if second.parent else None
    folder = written(tmp_path, "a/version_0", first, second, f1=0.5)
    (folder / "big.ckpt").write_bytes(bytes(1_500_000))
    out = listed(capsys, "show", "a", "--root", str(tmp_path))
    shown = [" ".join(line.split()) for line in out.partition("\nfiles")[0].splitlines()]
    assert shown == [
        f"{folder} finished",
        *["network fer_b", "best val_acc 0.2000", "accuracy 0.5100", "macro F1 0.5000", "epochs 2", "time 1h06m"],
        *["device a CPU", "size 1.5 MB", "", "starts"],
        "node1 2026-01-01T10:00:00+0000 stopped (SIGTERM), epochs 0 to 1, 59s",
        "node2 2026-01-02T10:00:00+0000 finished, epochs 0 to 2, 1h05m",
        "weights of a/version_0/checkpoints/resume.ckpt (sha256 0123456789ab)",
        *["model.optimizer.lr 2e-5 -> 1e-5", "", "code, data, packages (of the last start)"],
        "fer_lightning 0.2, commit bbbbbbbbbbbb, changed since",
        "Faces: train 1,234 (f0), val 0 (f1)",
        *["python 3.11", "seed 3, fer fit", "", "configuration (what is off is left out)"],
        *["model.backbone fer_a", "checkpoint.monitor val_acc", "checkpoint.mode max"],
    ]
    assert next(line.split() for line in out.partition("\nfiles\n")[2].splitlines()) == ["big.ckpt", "1.5", "MB"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.4, "59s"), (60, "1m"), (3569, "59m"), (3570, "1h00m"), (90000, "25h00m")]
)
def test_times_are_short(seconds: float, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "a/version_0", a_node(1, wall_s=float(seconds)))
    assert f" {text} " in listed(capsys, "list", "--root", str(tmp_path))


@pytest.mark.parametrize(("size", "text"), [(2_000_000, "2.0 MB"), (999_999, "1000 kB"), (12_345, "12 kB")])
def test_sizes_are_decimal(size: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, "a/version_0", a_node(1))
    (folder / "one").write_bytes(bytes(size - next(read_records(tmp_path)).size))
    assert f" {text}  " in listed(capsys, "list", "--root", str(tmp_path))


def test_off_is_what_is_none_false_zero_or_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, "a/version_0", a_node(1))
    (folder / "config.yaml").write_text("a: {zero: 0, off: false, no: null, text: '', list: [], one: 1, word: none}\n")
    shown = listed(capsys, "show", "a", "--root", str(tmp_path)).partition("left out)\n")[2].partition("\nfiles")[0]
    assert [line.split() for line in shown.splitlines() if line] == [["a.one", "1"]]


@pytest.mark.parametrize(
    ("status", "colour"),
    [("finished", 32), ("failed", 31), *((status, 33) for status in ("killed", "stopped", "incomplete"))],
)
def test_a_terminal_shows_the_status_in_its_colour(
    status: str, colour: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "a/version_0", a_node(1, status="running" if status == "killed" else status))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    head, line = listed(capsys, "list", "--root", str(tmp_path)).splitlines()
    assert line.startswith(f"a/version_0  \033[{colour}m{status}\033[0m  ")
    assert len(head) == 60
    (tmp_path / "a/version_0" / LINEAGE).write_text("{")
    assert "\033[31munreadable\033[0m: " in listed(capsys, "list", "--root", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in listed(capsys, "list", "--root", str(tmp_path))


def test_every_cell_of_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "a/version_0", a_node(1), f1=0.25)
    watched = {"name": "val_loss", "mode": "min", "best": 0.75, "epoch": 0}
    folder = written(tmp_path, "b/version_12", a_node(2, monitor=watched, status="failed", device={}, wall_s=7e3))
    (folder / "config.yaml").write_text("model: {backbone: mine.nets.Wide}\n")
    with (folder / "huge").open("wb") as file:
        file.truncate(1_230_000_000)  # takes no room
    lines = listed(capsys, "list", "--root", str(tmp_path)).splitlines()
    small = f"{next(read_records(tmp_path)).size / 1e3:.0f} kB".rjust(6)
    assert lines == [
        "run           status    backbone  epochs             best  macro F1  started            time    size  device",
        f"a/version_0   finished  fer_b          1   val_acc 0.1000    0.2500  2026-01-01 10:00     1m  {small}  a CPU",
        "b/version_12  failed    Wide           2  val_loss 0.7500         -  2026-01-02 10:00  1h57m  1.2 GB  -",
    ]
    lines = listed(capsys, "list", "--root", str(tmp_path), "--name", "b").splitlines()
    assert [line.split()[4:6] for line in lines] == [["best", "val_loss"], ["0.7500", "-"]]
    assert listed(capsys, "list", "--root", str(tmp_path), "--name", "c") == f"no runs in {tmp_path} of the name 'c'\n"
    (tmp_path / "none").mkdir()
    assert listed(capsys, "list", "--root", str(tmp_path / "none")) == f"no runs in {tmp_path / 'none'}\n"


def test_a_run_elsewhere_is_named_as_in_its_own_folder_of_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, "other/a/version_4", a_node(1))
    (tmp_path / "runs").mkdir()
    shown = json.loads(listed(capsys, "show", str(folder), "--root", str(tmp_path / "runs"), "--json"))
    assert shown["run"] == "a/version_4"
    shown = json.loads(listed(capsys, "show", str(folder), "--root", str(tmp_path / "other"), "--json"))
    assert shown["run"] == "a/version_4"
    shown = json.loads(listed(capsys, "show", str(folder), "--root", str(tmp_path), "--json"))
    assert shown["run"] == "other/a/version_4"


def test_what_is_damaged_is_said_beside_what_is_shown(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "old/version_0" / LINEAGE).write_text("{")
    assert fer("runs", "lineage", "a/version_10", "--root", str(root)) == 0
    said = capsys.readouterr()
    assert said.err.startswith("fer: ")
    assert "old/version_0/lineage.json is damaged" in said.err
    assert said.out.count("node") == 4
    assert fer("runs", "show", "old", "--root", str(root)) == 0
    assert capsys.readouterr().err.startswith("fer: ")
    (root / "a/version_10" / LOCK).write_text(json.dumps(asdict(Holder.myself())))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert listed(capsys, "show", "a", "--root", str(root)).startswith(
        f"{root / 'a/version_10'}  \033[36mrunning\033[0m\n"
    )


def test_the_tree_goes_up_and_down(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "lineage", "a/version_10", "--root", str(root)).splitlines()
    assert [line.split("version_")[0].lstrip("└─├│ ") for line in lines if "version_" in line and "node" in line] == [
        "a/",
        "a/",
        "a/",
        "b/deep/",
    ]
    assert [line for line in lines if line.endswith("*")] == [line for line in lines if "a/version_10" in line]
    assert sum("model.optimizer.lr 2e-5 -> 1e-5" in line for line in lines) == 1
    depths = [len(line) - len(line.lstrip("└─├│ ")) for line in lines if "node" in line]
    assert depths == sorted(set(depths))


def test_branches_of_one_run_stand_beside_each_other(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(root, "c/version_0", a_node(5, a_node(2)))
    lines = listed(capsys, "lineage", "c", "--root", str(root)).splitlines()
    starts = [line for line in lines if "a/version_10" in line or "c/version_0" in line]
    assert [line.lstrip()[:2] for line in starts] == ["├─", "└─"]


def test_the_graph_is_for_graphviz(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = listed(capsys, "lineage", "b/deep", "--root", str(root), "--dot")
    assert out.startswith("digraph runs {")
    assert '"node3" -> "node4"' in out
    assert out.count("->") == 3 + out.count(" 2e-5 -> 1e-5")


def test_a_parent_that_is_gone_is_still_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "a/version_0", replace(a_node(1), parent=Parent("/else/where.ckpt", "0" * 64)))
    assert "/else/where.ckpt" in listed(capsys, "lineage", "a", "--root", str(tmp_path))


@pytest.mark.parametrize("wanted", ["a", "a/version_10", "PATH"])
def test_a_run_is_found_by_name_version_or_path(root: Path, wanted: str) -> None:
    assert find_run(wanted.replace("PATH", str(root / "a/version_10")), root) == root / "a/version_10"


def test_mistakes_are_one_line(root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for args, said in [
        (["lsit"], "did you mean 'list'"),
        (["show", "zz", "--root", str(root)], "there is no run 'zz' in"),
        (["show"], "required: RUN"),
        (["list", "--root", str(root / "zz")], "there is no folder"),
        (["list", "--root", str(root), "--colour"], "unrecognized arguments: --colour"),
        (["list", "--json", "--csv"], "not allowed with"),
        (["lineage", "old", "--root", str(root)], "has no lineage.json"),
    ]:
        assert fer("runs", *args) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("fer: error: ")
        assert said in line
    assert "a, b/deep, old" in find_error(root)


def find_error(root: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        find_run("zz", root)
    return str(caught.value)


def test_the_lock_tells_running_from_killed(root: Path) -> None:
    folder = root / "a/version_0"
    assert Run(folder).status == "finished"
    (folder / LOCK).write_text(json.dumps(asdict(Holder.myself())))
    assert Run(folder).status == "running"
    (folder / LINEAGE).write_text(lineage_text([replace(a_node(1), status="running")]))
    assert Run(folder).status == "running"
    (folder / LOCK).write_text(json.dumps(asdict(replace(Holder.myself(), pid=dead_process()))))
    assert Run(folder).status == "killed"
    (folder / LINEAGE).write_text(lineage_text([a_node(1)]))
    assert Run(folder).status == "finished"  # it was killed when it had nothing left to do
    (folder / LINEAGE).unlink()
    assert Run(folder).status == "killed"
    (folder / LOCK).write_text("{")
    assert Run(folder).status == "unknown"


def test_files_that_are_linked_twice_count_once(tmp_path: Path) -> None:
    folder = written(tmp_path, "a/version_0", a_node(1))
    before = next(read_records(tmp_path)).size
    (folder / "one").write_bytes(b"0" * 5000)
    os.link(folder / "one", folder / "two")
    assert next(read_records(tmp_path)).size == before + 5000


def test_listing_imports_neither_torch_nor_the_parser(root: Path) -> None:
    code = (
        "import sys; from fer_lightning.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'jsonargparse', 'numpy', 'matplotlib'} & set(sys.modules); sys.exit(code)"
    )
    for verb in (["list"], ["show", "a"], ["lineage", "a"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "runs", *verb, "--root", str(root)], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


def test_a_real_run_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path) == 0
    capsys.readouterr()
    (record,) = read_records(tmp_path)
    report = json.loads((tmp_path / "tiny/version_0/val/report.json").read_text())
    assert isinstance(record, RunRecord)
    assert (record.status, record.epochs, record.monitor) == ("finished", 2, "val_acc")
    assert record.f1_macro == report["f1_macro"]
    assert record.best == pytest.approx(report["accuracy"], abs=1e-6)
    assert "TinyBackbone" in listed(capsys, "list", "--root", str(tmp_path))
