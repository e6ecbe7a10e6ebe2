from __future__ import annotations

import json
import math
import os
import posix
import time
from pathlib import Path

import pytest

from fer_lightning.files import (
    csv_text,
    file_digest,
    flush,
    json_text,
    listing_digest,
    parts_in,
    remove_stale_parts,
    replacing,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "deep" / "file.txt", "alt → neu")
    assert path.read_text(encoding="utf-8") == "alt → neu"

    def fail(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"other")
    assert path.read_text(encoding="utf-8") == "alt → neu"
    assert list(path.parent.iterdir()) == [path]


def test_files_and_the_names_in_folders_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", posix.fsync)  # other tests do not wait for the disk
    flush(write_atomically(tmp_path / "file.txt", "text"))
    flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "none.txt")


def test_a_file_digest_is_about_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"x" * 3_000_000)
    second.write_bytes(b"x" * 3_000_000)
    os.utime(second, (0, 0))
    assert file_digest(first) == file_digest(second)
    assert len(file_digest(first)) == 32
    second.write_bytes(b"x" * 2_999_999 + b"y")
    assert file_digest(first) != file_digest(second)


def test_a_listing_digest_is_about_names_sizes_and_times(tmp_path: Path) -> None:
    (tmp_path / "angry").mkdir()
    (tmp_path / "angry" / "a.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"22")
    digests = [listing_digest(tmp_path)]
    (tmp_path / ".DS_Store").write_bytes(b"3")
    assert listing_digest(tmp_path) == digests[0]
    (tmp_path / "angry" / "a.png").rename(tmp_path / "angry" / "c.png")
    digests.append(listing_digest(tmp_path))
    os.utime(tmp_path / "b.png", (1, 1))
    digests.append(listing_digest(tmp_path))
    (tmp_path / "b.png").write_bytes(b"333")
    os.utime(tmp_path / "b.png", (1, 1))
    digests.append(listing_digest(tmp_path))
    assert len(set(digests)) == 4


def test_a_digest_can_be_that_of_sha256(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a", "abc")  # FIPS 180-2, appendix B.1
    assert file_digest(path, "sha256") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "file.txt", "old")

    def fail() -> None:
        with replacing(path) as part:
            part.write_text("half")
            assert parts_in(tmp_path, "file.txt") == [part]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_never_finished_is_removed_after_a_day(tmp_path: Path) -> None:
    names = [".a.0123456789ab.part", ".b.0123456789ab.part", ".a.0123456789ab.part.txt", ".a.01234.part", "c.part"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 90_000,) * 2)
    younger = tmp_path / ".a.00000000000a.part"
    younger.touch()
    os.utime(younger, (time.time() - 86_000,) * 2)
    fresh = tmp_path / ".a.ba9876543210.part"
    (fresh / "deep").mkdir(parents=True)
    os.utime(fresh, (0, 0))
    assert sorted(parts_in(tmp_path)) == sorted([tmp_path / names[0], tmp_path / names[1], younger, fresh])
    remove_stale_parts(tmp_path, "a")
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], younger.name, fresh.name}
    remove_stale_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names[2:], younger.name, fresh.name}
    assert parts_in(tmp_path / "nowhere") == []


def test_json_is_for_people_too() -> None:
    values = {"name": "[\n 1,\n 2\n]", "rows": [[1, 2], [3.5, None]], "texts": ["ä"]}
    assert json.loads(json_text(values)) == values
    assert '"ä"' in json_text(values)
    assert json_text(values).splitlines()[3:5] == ["    [1, 2],", "    [3.5, null]"]
    assert json_text({"path": Path("a")}, default=str) == '{\n  "path": "a"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"loss": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text([-math.inf])
    assert (
        json_text({"a": [], "b": [[]], "c": ["x", 1]})
        == '{\n  "a": [],\n  "b": [\n    []\n  ],\n  "c": [\n    "x",\n    1\n  ]\n}\n'
    )


def test_a_table_is_csv_with_line_feeds() -> None:
    assert csv_text(["a", "b"], [[1, "x, y"], [None, 'z"']]) == 'a,b\n1,"x, y"\n,"z"""\n'


def test_a_listing_digest_tells_folders_apart_and_leaves_hidden_ones_out(tmp_path: Path) -> None:
    def digest(*names: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
            os.utime(folder / name, ns=(1, 1))
        return listing_digest(folder)

    assert digest("a/b", "c") == digest("c", "a/b", ".d/e", "a/.f") == digest("a/b", "c", "d/.e")
    assert len({digest("a/b", "c"), digest("ab", "c"), digest("a/b", "a/c"), digest("b", "c")}) == 4


def test_a_file_is_on_the_disk_before_its_name_and_the_name_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename = os.replace
    monkeypatch.setattr("fer_lightning.files.flush", lambda path: done.append(path.suffix or path.name))

    def renamed(*paths: Path) -> None:
        done.append("renamed")
        rename(*paths)

    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(tmp_path / "folder" / "a.txt", "x")
    assert done == [".part", "renamed", "folder"]
