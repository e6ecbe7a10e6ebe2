"""The log of looks; ``tests/evaluation/test_seen.py`` has what it counts."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.runs.checkpoint import CONFIG_KEY, LINEAGE_KEY, weights_digest
from fer_lightning.runs.looks import (
    LOG,
    Look,
    Standing,
    append_look,
    broken_links,
    look_at,
    look_key,
    read_looks,
    root_of_runs,
)

LOOK = Look("t", "test", "val", "f0", 10, "c.ckpt", "aa", "w0", {"b": "1", "a": "2"}, "n1", "c0ffee")


def a_checkpoint(path: Path, name: str) -> Path:
    path.parent.mkdir(parents=True)
    state = {"classifier.weight": torch.arange(3.0)}
    torch.save({"state_dict": state, LINEAGE_KEY: {"node": "n7"}, CONFIG_KEY: {"name": name}}, path)
    return path


def test_a_look_says_of_what_it_was(tmp_path: Path) -> None:
    path = a_checkpoint(tmp_path / "runs/deep/a/version_3/checkpoints/best.ckpt", "deep/a")
    root, look = look_at(path, "explain", ("val", "f0", 12), tmp_path / "else", {"model.tau": "0.5"}, "c0ffee")
    assert root == tmp_path / "runs"
    assert look == Look(
        time=look.time, verb="explain", split="val", fingerprint="f0", n=12,
        checkpoint="deep/a/version_3/checkpoints/best.ckpt", sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        weights=weights_digest({"weight": torch.arange(3.0)}), settings={"model.tau": "0.5"}, node="n7",
        commit="c0ffee",
    )  # fmt: skip
    assert abs(datetime.strptime(look.time, "%Y-%m-%dT%H:%M:%S%z").timestamp() - time.time()) < 100


def test_a_checkpoint_of_no_run_is_named_in_full_and_noted_where_the_runs_are(tmp_path: Path) -> None:
    path = a_checkpoint(tmp_path / "mine/best.ckpt", "deep/a")
    root, look = look_at(path, "test", ("test", "f0", 12), tmp_path / "runs")
    assert (root, look.checkpoint, look.settings, look.commit) == (tmp_path / "runs", str(path), {}, "")
    assert look_at(path, "test", ("test", "f0", 12), tmp_path)[1].checkpoint == "mine/best.ckpt"


@pytest.mark.parametrize(
    ("folder", "name", "root"),
    [
        *(("r/a/version_0", "a", "r"), ("r/a/b/version_0", "a/b", "r"), ("r/a/b/version_0", "b", "r/a")),
        *(("r/x/version_0", "a", "r"), ("r/x/b/version_0", "a/b", "r/x")),
    ],
)
def test_the_folder_of_all_runs_is_found_by_the_name(folder: str, name: str, root: str, tmp_path: Path) -> None:
    assert root_of_runs(tmp_path / folder, name) == tmp_path / root


def test_what_tells_looks_apart() -> None:
    assert LOOK.key == look_key("f0", "w0", {"a": "2", "b": "1"}) == ("f0", "w0", '{"a": "2", "b": "1"}')
    apart: list[dict[str, Any]] = [{"fingerprint": "f1"}, {"weights": "w1"}, {"settings": {"a": "2"}}]
    alike: list[dict[str, Any]] = [{"verb": "explain"}, {"time": "u"}, {"checkpoint": "d"}, {"sha256": "bb"}, {"n": 3}]
    assert not any(replace(LOOK, **other).key == LOOK.key for other in apart)
    assert all(replace(LOOK, **other).key == LOOK.key for other in alike)


def test_each_line_holds_the_digest_of_the_line_before(tmp_path: Path) -> None:
    root = tmp_path / "deep/runs"
    assert append_look(root, LOOK) == Standing(1, 0)
    assert append_look(root, replace(LOOK, weights="É")) == Standing(2, 0)
    assert append_look(root, LOOK) == Standing(1, 1)
    lines = (root / LOG).read_bytes().splitlines()
    assert [json.loads(line)["previous"] for line in lines] == [
        *("", hashlib.sha256(lines[0]).hexdigest(), hashlib.sha256(lines[1]).hexdigest()),
    ]
    assert json.loads(lines[0]) == asdict(LOOK)
    assert "É".encode() in lines[1]
    assert [replace(look, previous="") for look in read_looks(root)] == [LOOK, replace(LOOK, weights="É"), LOOK]
    told = "line {} does not follow the line before it: that was changed, or lines were taken out"
    for kept, broken in (
        *(((0, 1, 2), []), ((1, 2), [told.format(1)]), ((0, 2), [told.format(2)]), ((0, 1), [])),
        ((1, 0, 2), [told.format(1), told.format(2), told.format(3)]),
    ):
        (root / LOG).write_bytes(b"\n".join(lines[place] for place in kept))
        assert broken_links(root) == broken
    (root / LOG).write_bytes(b"\n".join([lines[0].replace(b'"n": 10', b'"n": 11'), *lines[1:]]))
    assert broken_links(root) == [told.format(2)]


def test_lines_of_later_versions_and_damaged_ones(tmp_path: Path) -> None:
    lines = [{**asdict(LOOK), "mood": "good"}, {**asdict(LOOK), "settings": "x"}, {"time": "t"}, [1], 3]
    (tmp_path / LOG).write_text("\n".join(json.dumps(line) for line in lines))
    assert read_looks(tmp_path) == [LOOK]
    assert [text for text in broken_links(tmp_path) if "damaged" in text] == [
        f"line {number} is damaged" for number in (2, 3, 4, 5)
    ]
    assert (read_looks(tmp_path / "none"), broken_links(tmp_path / "none")) == ([], [])


def test_a_log_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir()
    with pytest.raises(DataError) as read:
        read_looks(tmp_path)
    assert str(read.value) == f"{tmp_path / LOG} cannot be read: Is a directory"
    with pytest.raises(ConfigError) as written:
        append_look(tmp_path, LOOK)
    assert str(written.value) == f"the look at the test split cannot be noted in {tmp_path / LOG}: Is a directory"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_does_without(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        assert operation == fcntl.LOCK_EX
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refuse)
    if number == errno.EIO:
        with pytest.raises(ConfigError, match="refused"):
            append_look(tmp_path, LOOK)
    else:
        assert append_look(tmp_path, LOOK) == Standing(1, 0)
    assert len(read_looks(tmp_path)) == (number != errno.EIO)
