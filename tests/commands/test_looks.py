from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from fer_lightning.runs.looks import LOG, Look, append_look
from tests.helpers.cli import fer

SPLIT, OTHER = "0123456789abcdef", "fedcba9876543210"


def noted(
    root: Path,
    number: int,
    weights: str,
    fingerprint: str = SPLIT,
    n: int = 1234,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Note a look of the model ``weights``."""
    time = f"2026-03-0{number}T1{number}:0{number}:59+0000"
    append_look(
        root, Look(time, "test", "test", fingerprint, n, f"c{number}.ckpt", "aa", weights, dict(settings), "n", "c")
    )


def reported(root: Path, place: str, weights: str, accuracy: float, **more: Any) -> None:
    """Write the report of a test, or what ``more`` says."""
    folder = root / place
    folder.mkdir(parents=True)
    context = {"weights": weights, "data": {"fingerprints": {"test": SPLIT, "val": OTHER}}, **more.pop("context", {})}
    report = {"split": "test", "accuracy": accuracy, "context": context, **more}
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two models, one under two settings, looked at five times, and a look at another split."""
    noted(tmp_path, 1, "w1")
    noted(tmp_path, 2, "w2")
    noted(tmp_path, 3, "w1")
    noted(tmp_path, 4, "w1", settings={"model.tau": "0.5", "data.size": "64"})
    noted(tmp_path, 5, "w3", OTHER, 7)
    noted(tmp_path, 6, "w1")
    reported(tmp_path, "a/version_0/test", "w1", 0.61234)
    reported(tmp_path, "a/version_0/test-tau", "w1", 0.7, context={"settings": {"data.size": "64", "model.tau": "0.5"}})
    reported(tmp_path, "a/version_0/val", "w9", 0.8, split="val")  # not a test: no look is lacking
    return tmp_path


def test_each_look_is_a_line_with_what_was_known_then(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("runs", "looks", "--root", str(root)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "split          images  look  repeats  time              accuracy  checkpoint  settings",
        "test 01234567   1,234     1        -  2026-03-01 11:01    0.6123  c1.ckpt     -",
        "test 01234567   1,234     2        -  2026-03-02 12:02         -  c2.ckpt     -",
        "test 01234567   1,234     1        1  2026-03-03 13:03    0.6123  c3.ckpt     -",
        "test 01234567   1,234     3        -  2026-03-04 14:04    0.7000  c4.ckpt     model.tau 0.5, data.size 64",
        "test fedcba98       7     1        -  2026-03-05 15:05         -  c5.ckpt     -",
        "test 01234567   1,234     1        2  2026-03-06 16:06    0.6123  c6.ckpt     -",
        "",
        f"{root / LOG}: 6 lines, none changed or removed",
    ]


def test_json_has_the_same_and_nothing_else(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("runs", "looks", "--root", str(root), "--json") == 0
    looks = json.loads(capsys.readouterr().out)
    assert [(look["weights"], look["number"], look["repeats"]) for look in looks] == [
        *(("w1", 1, 0), ("w2", 2, 0), ("w1", 1, 1), ("w1", 3, 0), ("w3", 1, 0), ("w1", 1, 2)),
    ]
    assert looks[3]["settings"] == {"model.tau": "0.5", "data.size": "64"}


def test_a_look_that_is_lacking_is_named_by_its_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reported(root, "b/version_1/test", "w7", 0.5)
    reported(root, "a/version_0/test-flip", "w1", 0.5, context={"settings": {"model.views": "flip"}})
    reported(root, "a/version_1/test", "w8", 0.5, context={"weights": None})
    report = root / "a/version_1/test/report.json"  # as older versions wrote it
    report.write_text(report.read_text().replace('"weights": null', '"model": "a"'))
    for options in ([], ["--json"]):
        assert fer("runs", "looks", "--root", str(root), *options) == 2
        said = capsys.readouterr()
        assert said.err == (
            f"fer: error: {root / LOG} is not as it was written: the look of a/version_0/test-flip, b/version_1/test "
            "is not in it\n"
        )
        assert "none changed" not in said.out
        assert "c6.ckpt" in said.out
    (root / LOG).write_bytes(b"\n".join((root / LOG).read_bytes().splitlines()[1:]))
    assert fer("runs", "looks", "--root", str(root)) == 2
    assert "line 1 does not follow the line before it" in capsys.readouterr().err


def test_one_look_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("runs", "looks", "--root", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"no look at a test split is noted in {tmp_path / LOG}\n"
    noted(tmp_path, 1, "w1")
    assert fer("runs", "looks", "--root", str(tmp_path)) == 0
    assert capsys.readouterr().out.endswith(f"\n\n{tmp_path / LOG}: 1 line, none changed or removed\n")
    assert fer("runs", "looks", "--root", str(tmp_path / "none")) == 2
    assert f"there is no folder {tmp_path / 'none'}: give the folder of all runs with --root" in capsys.readouterr().err
