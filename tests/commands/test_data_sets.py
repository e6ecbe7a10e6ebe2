from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.commands.data_sets import (
    check_copies,
    checked_folder,
    checked_place,
    counts_text,
    name_of,
    names_data,
    opened_for,
)
from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.runs.checkpoint import CONFIG_KEY
from tests.helpers.data import StripesDataModule, stripes_table

DATA: Any = SimpleNamespace()


@pytest.mark.parametrize(
    ("counts", "at_least", "most", "said"),
    [
        ({"a": 10, "b": 2}, 10, 4, ""),
        (
            {"a": 10, "b": 2},
            10,
            3,
            "10 images of 'b' are 4 copies of each of its 2; pass --copies 4 to make them, or --a",
        ),
        ({"a": 10, "b": 2}, 11, 4, "11 images of 'b' are 5 copies of each of its 2; .*, or --at_least 10 for fewer"),
        (
            {"a": 3, "b": 1, "c": 0},
            3,
            1,
            "3 images of 'b' are 2 copies of each of its 1; .*, or --at_least 2 for fewer",
        ),
        ({"a": 3}, 3, 0, ""),
        ({"a": 2000}, 4001, 1, "4,001 images of 'a' are 2 copies of each of its 2,000; .* --at_least 4000 for fewer"),
    ],
)
def test_copies_are_counted_beside_the_images_that_there_are(
    counts: dict[str, int], at_least: int, most: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if said:
        with pytest.raises(ConfigError, match=said):
            check_copies(counts, at_least, most)
    else:
        check_copies(counts, at_least, most)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("at_least", "told"), [(22, False), (23, True)])  # 10 copies, and 11
def test_more_than_ten_copies_are_told(at_least: int, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    check_copies({"a": 2}, at_least, 50)
    assert ("23 images of 'a' are 11 copies of each of its 2" in capsys.readouterr().err) is told


def test_where_nothing_can_be_written_is_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked_place(str(tmp_path / "new/deep"), DATA) == tmp_path / "new/deep"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_place("~/out", DATA) == tmp_path / "out"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/out: cannot be written, .*file is a file"):
        checked_place(str(tmp_path / "file/out"), DATA)
    with pytest.raises(ConfigError, match="file: expected a folder to write into, found a file"):
        checked_folder(str(tmp_path / "file"), DATA)
    for root in (tmp_path / "set", str(tmp_path / "set")):
        (tmp_path / "set").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match="set/out: lies inside of the data set .*set; pass another --out"):
            checked_place(str(tmp_path / "set/out"), SimpleNamespace(root=root))  # type: ignore[arg-type]  # has a root
        beside: Any = SimpleNamespace(root=root)
        assert checked_folder(str(tmp_path / "set2"), beside) == tmp_path / "set2"
    modes: list[int] = []

    def refused(path: Path, mode: int) -> bool:
        modes.append(mode)
        return False

    monkeypatch.setattr("os.access", refused)  # root may write anywhere
    with pytest.raises(ConfigError, match="out: cannot be written, .* is read-only"):
        checked_place(str(tmp_path / "out"), DATA)
    assert modes == [2 | 1]  # to write, and to enter


def test_counts_are_those_of_each_split_and_of_no_split() -> None:
    table = stripes_table({"train": 15, "test": 7, "": 1402})
    lines = [line.split() for line in counts_text(table).splitlines()]
    assert lines[:2] == [["train", "test", "unused"], ["angry", "3", "1", "200"]]
    assert lines[-1] == ["all", "15", "7", "1,402"]
    assert len(lines) == 9
    assert np.array([line[1:3] for line in lines[1:]], np.int64).sum(axis=0).tolist() == [30, 14]


def test_counts_stand_in_columns_in_the_order_of_the_labels() -> None:
    table = stripes_table({"train": 8, "test": 7})
    table = replace(table, class_names=table.class_names[::-1])
    shown = counts_text(table).splitlines()
    assert shown[0].split() == ["train", "test"]
    assert [line.split()[0] for line in shown[1:]] == [*table.class_names, "all"]
    assert shown[1] == f"{table.class_names[0]:<8}{'2':>10}{'1':>10}"
    assert shown[-1] == f"{'all':<8}{'8':>10}{'7':>10}"


def test_a_data_set_that_is_named_goes_before_that_of_the_training(tmp_path: Path) -> None:
    assert names_data(["--data.root", "a", "--data=B"])
    assert names_data(["--data.root", "a", "--data", "B"])
    assert not names_data(["--data.root", "--data.help"])
    checkpoint = tmp_path / "best.ckpt"
    stored = {"class_path": "tests.helpers.data.StripesDataModule", "init_args": {"batch_size": 5, "seed": 3}}
    torch.save({CONFIG_KEY: {"data": stored}}, checkpoint)
    named = ["--data=tests.helpers.data.StripesDataModule", "--data.batch_size=9"]
    with opened_for("fer embed", checkpoint, None, ["--data.batch_size=7"]) as data:
        assert (data.batch_size, data.seed) == (7, 3)
    with opened_for("fer embed", checkpoint, None, named) as data:
        assert (data.batch_size, data.seed) == (9, StripesDataModule().seed)
    torch.save({CONFIG_KEY: {"model": {}}}, checkpoint)
    with pytest.raises(CheckpointError, match=r"best.ckpt does not say which data it was trained with: name it"):
        opened_for("fer embed", checkpoint, None, []).__enter__()
    with opened_for("fer embed", checkpoint, None, named) as data:
        assert data.batch_size == 9


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left", "faces"), FERError, "faces: No space left"),
        (OSError("out of paper"), FERError, "fer embed: out of paper"),
        (BrokenPipeError(), BrokenPipeError, ""),
    ],
)
def test_a_system_that_refuses_is_one_line(error: OSError, kind: type[Exception], said: str) -> None:
    data = ["--data=tests.helpers.data.StripesDataModule"]
    with pytest.raises(kind) as caught, opened_for("fer embed", None, None, data):
        raise error
    assert str(caught.value) == said


def test_a_data_set_is_named_with_its_place() -> None:
    data: Any = StripesDataModule()
    assert name_of(data) == "StripesDataModule"
    data.root = Path("faces")
    assert name_of(data) == "faces"
