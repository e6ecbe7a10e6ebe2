"""What each option of a verb of ``fer data`` reaches, and what is used where it is not given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fer_lightning.data.table.synthesis import Recipe
from tests.helpers.cli import fer
from tests.helpers.spy import Spy

STRIPES = ["--data=tests.helpers.data.StripesDataModule", "--data.train=21", "--data.val=7", "--data.test=7"]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def test_inspect(spy: Spy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spy.on("inspection.page.inspect_table", {"findings": ["found"]})
    line = ["data", "inspect", *STRIPES, f"--out={tmp_path / 'out'}"]
    assert fer(*line) == 0
    given = {"name": "StripesDataModule", "notes": ()}
    shown = {"tsne": False, "tsne_samples": 3000, "mirrored": False, "seed": 0}
    assert spy.options("inspect_table") == {**given, **shown}
    table, folder = spy.calls["inspect_table"][0]
    assert (len(table), folder) == (35, tmp_path / "out")
    out = capsys.readouterr().out
    assert f"- found\npage: {tmp_path / 'out' / 'index.html'}\n" in out
    assert out.splitlines()[-3].split() == ["all", "21", "7", "7"]
    assert fer(*line, "--tsne", "--tsne-samples=5", "--mirrored", "--seed=3") == 0
    assert spy.options("inspect_table") == {**given, "tsne": True, "tsne_samples": 5, "mirrored": True, "seed": 3}


def test_dedupe(spy: Spy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spy.on("data.splitting.dedupe.find_duplicates", "duplicates")
    spy.on("data.splitting.dedupe.clean", "cleaning")
    spy.on("data.splitting.dedupe.without_blank", "without blank")
    spy.on("inspection.dedupe_report.write_dedupe_report", "written")
    spy.on("inspection.dedupe_report.dedupe_text", "a text")
    line = ["data", "dedupe", *STRIPES, f"--out={tmp_path / 'out'}"]
    assert fer(*line) == 0
    assert spy.options("find_duplicates") == {"near": True, "mirrored": False}
    assert spy.calls["clean"][0][1:] == ("duplicates",)
    assert spy.options("clean") == {"conflicts": "majority", "near": True}
    assert spy.calls["without_blank"][0] == ("cleaning", "duplicates")
    options = {"near": True, "mirrored": False, "conflicts": "majority", "blank": False}
    assert spy.calls["write_dedupe_report"][0][1:] == ("duplicates", "without blank", tmp_path / "out")
    assert spy.options("write_dedupe_report") == {"name": "StripesDataModule", "options": options}
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "a text",
        f"cleaned manifest: {tmp_path / 'out/manifest.csv'} (train on it: fer fit ... --data.keep "
        f"{tmp_path / 'out/manifest.csv'})",
    ]
    assert fer(*line, "--near=no", "--mirrored", "--conflicts=keep", "--blank") == 0
    assert spy.options("find_duplicates") == {"near": False, "mirrored": True}
    assert spy.options("clean") == {"conflicts": "keep", "near": False}
    assert spy.calls["write_dedupe_report"][0][2] == "cleaning"  # with the images of one colour


def test_convert(spy: Spy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spy.on("data.storage.convert.convert_table", {"left_out": 3, "images": 1234, "bytes": 5_250_000})
    spy.on("data.detect.detect_datamodule", ("AModule", Path("root")))
    line = ["data", "convert", *STRIPES, "--to=arrow", f"--out={tmp_path / 'out'}"]
    assert fer(*line) == 0
    assert spy.calls["convert_table"][0][1:] == (tmp_path / "out", "arrow")
    form = {"size": None, "channels": None, "encoding": "png", "quality": 92}
    described = spy.options("convert_table").pop("description")
    assert described["counts"] == {"train": 21, "val": 7, "test": 7}
    assert spy.options("convert_table") == form
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"arrow: {tmp_path / 'out'} (1,234 images, 5.2 MB, 3 left out)",
        "train on it: fer fit ... --data AModule --data.root root",
    ]
    assert fer(*line, "--size=32", "--channels=3", "--encoding=webp", "--quality=7") == 0
    spy.options("convert_table").pop("description")
    assert spy.options("convert_table") == {"size": 32, "channels": 3, "encoding": "webp", "quality": 7}


def test_balance(spy: Spy, tmp_path: Path) -> None:
    spy.on("data.table.synthesis.synthesise", "made")
    spy.on("data.table.synthesis.with_kinds", SimpleNamespace(columns={"parent": np.array([""])}))
    spy.on("data.storage.convert.convert_table", {})
    spy.on("commands.data_sets.counts_text", "counts")
    line = ["data", "balance", *STRIPES, f"--out={tmp_path / 'out'}"]
    assert fer(*line) == 0
    assert spy.calls["synthesise"][0][1:] == (3,)  # as many as the largest class has
    assert spy.options("synthesise") == {"seed": 0, "recipe": Recipe(15.0, 0.1, 0.1, True)}
    assert spy.calls["convert_table"][0] == ("made", tmp_path / "out", "folders")
    assert spy.options("convert_table")["encoding"] == "png"
    more = ["--at_least=9", "--rotation=1", "--shift=0.2", "--zoom=0.3", "--flip=no", "--seed=4"]
    assert fer(*line, *more) == 0
    assert spy.calls["synthesise"][0][1:] == (9,)
    assert spy.options("synthesise") == {"seed": 4, "recipe": Recipe(1.0, 0.2, 0.3, False)}
    assert fer(*line, "--at_least=153") == 0  # 50 copies of each of three
    assert fer(*line, "--at_least=154") == 2
    assert fer(*line, "--at_least=154", "--copies=51") == 0
